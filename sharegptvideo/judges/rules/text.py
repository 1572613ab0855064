"""Texts as comparable words: case, punctuation, spelling, number words and endings taken away.

>>> plain("The two Flowers.")
'2 flowers'
>>> [token.stem for token in parse("She isn't holding flowers").tokens]
['she', 'is', 'not', 'hold', 'flower']
"""

from __future__ import annotations

import functools
import re
import unicodedata
from dataclasses import dataclass
from typing import NamedTuple

from sharegptvideo.judges.rules import lexicon

__all__ = ["EXCLUSIVE_SET", "Text", "Token", "kinds_of", "near", "parse", "plain", "stem"]

_WORD = re.compile(r"\w+(?:'\w+)?|[,.;:!?/]")
_NEGATIONS = frozenset({"not", "no", "never", "without", "nor", "neither"})
_CLAUSE_ENDS = frozenset(",.;:!?/") | {"and", "but", "while", "whereas", "then", "or"}
_VOWEL = re.compile(r"[aeiouy]")
_NEGATION_REACH = 4
_ARTICLES = frozenset({"a", "an", "the"})
_COUNTER = re.compile(r"\b(?:counter|anti)[- ]clockwise\b")


class Token(NamedTuple):
    """One word: as written, its stem, whether it is content, and where it stands.

    `negated` is true within a few words after "not", "no", "never" or "without" in one clause;
    `clause` counts clauses from 0 in reading order, `sentence` sentences.
    """

    word: str
    stem: str
    content: bool
    negated: bool
    clause: int
    sentence: int
    position: int


@dataclass(frozen=True, slots=True)
class Text:
    """A parsed text: its words (marks left out), its content words, and the stems of those."""

    tokens: tuple[Token, ...]
    content: tuple[Token, ...]
    stems: frozenset[str]


def _undouble(word: str) -> str:
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "aeiou":
        return word[:-1]
    return word


def _strip_ending(word: str) -> str:
    """Take off a plural, -ing, -ed or -ly; a light stemmer, not a lemmatiser."""
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith(("sses", "shes", "ches", "xes", "zes", "oes")) and len(word) > 4:
        word = word[:-2]
    elif word.endswith("s") and len(word) > 3 and word[-2] not in "sui":
        word = word[:-1]
    for ending in ("ing", "ed", "ly"):
        trunk = word[: -len(ending)]
        if word.endswith(ending) and len(trunk) > 2 and _VOWEL.search(trunk):
            return trunk
    return word


@functools.lru_cache(maxsize=65536)
def _base(word: str) -> str:
    """Return the stem of one lower-case word before synonyms are brought together."""
    if word in lexicon.NUMBERS:
        return lexicon.NUMBERS[word]
    if word.isdecimal():
        return str(int(word)) if len(word) < 10 else word
    word = lexicon.IRREGULAR.get(word, word)
    if word in lexicon.FUNCTION_WORDS:
        return word
    stripped = _strip_ending(word)
    stripped = lexicon.IRREGULAR.get(stripped, stripped)
    if len(stripped) > 3 and stripped.endswith("e"):
        stripped = stripped[:-1]
    if len(stripped) > 2 and stripped.endswith("y") and stripped[-2] not in "aeiou":
        stripped = stripped[:-1] + "i"
    return _undouble(stripped)


_GROUP: dict[str, str] = {}
for _line in lexicon.SYNONYMS:
    _words = [_base(word) for word in _line.split()]
    for _each in _words:
        _GROUP.setdefault(_each, _words[0])


@functools.lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """Return the stem that stands for a word, its endings and its synonyms."""
    base = _base(word)
    return _GROUP.get(base, base)


EXCLUSIVE_SET: dict[str, str] = {
    stem(word): name for name, words in lexicon.EXCLUSIVE.items() for word in words.split()
}
_NEAR = frozenset(
    pair for a, b in lexicon.NEAR for pair in ((stem(a), stem(b)), (stem(b), stem(a)))
)
_MOVE, _STILL = stem("move"), stem("still")
_KINDS = {stem(word): frozenset(map(stem, kinds.split())) for word, kinds in lexicon.KINDS.items()}


def near(a: str, b: str) -> bool:
    """Whether two stems are close enough for a lenient reader (girl and woman)."""
    return (a, b) in _NEAR


def kinds_of(general: str) -> frozenset[str]:
    """Return the stems that are kinds of a general one (animal: dog, cat ...)."""
    return _KINDS.get(general, frozenset())


@functools.lru_cache(maxsize=8192)
def _split(text: str) -> tuple[str, ...]:
    """Words and marks in reading order, contractions taken apart."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).replace("’", "'")
    text = text.lower().replace("_", " ")
    if "clockwise" in text:
        text = _COUNTER.sub("anticlockwise", text)
    matches = _WORD.findall(text)
    if "'" not in text and "cannot" not in text and "gonna" not in text:
        return tuple(matches)
    pieces: list[str] = []
    for piece in matches:
        if piece in lexicon.CONTRACTIONS:
            pieces += lexicon.CONTRACTIONS[piece].split()
        elif piece.endswith("n't"):
            pieces += [piece[:-3], "not"]
        else:
            pieces.append(piece.split("'", 1)[0])
    return tuple(piece for piece in pieces if piece)


@functools.lru_cache(maxsize=8192)
def parse(text: str) -> Text:
    """Parse a text; the result is cached, since questions and captions come again and again."""
    tokens: list[Token] = []
    clause = sentence = reach = 0
    for piece in _split(text):
        if piece in _CLAUSE_ENDS:
            clause += 1
            # "without a hat or a coat": the negation goes on over "or".
            reach = reach if piece == "or" else 0
            sentence += piece in ".!?"
            if not piece.isalpha():
                continue
        root, negated = stem(piece), reach > 0
        if negated and root == _MOVE:
            # "does not move" says the same as "stays still".
            root, negated = _STILL, False
        content = piece not in lexicon.FUNCTION_WORDS
        tokens.append(Token(piece, root, content, negated, clause, sentence, len(tokens)))
        reach = _NEGATION_REACH if piece in _NEGATIONS else max(0, reach - 1)
    kept = tuple(token for token in tokens if token.content)
    return Text(tuple(tokens), kept, frozenset(token.stem for token in kept))


@functools.lru_cache(maxsize=8192)
def plain(text: str) -> str:
    """Return a text to compare: lower case, no punctuation or articles, digits for number words."""
    words = (piece for piece in _split(text) if piece[0].isalnum())
    return " ".join(lexicon.NUMBERS.get(word, word) for word in words if word not in _ARTICLES)

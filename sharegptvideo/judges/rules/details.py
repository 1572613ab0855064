"""Details of a prediction that its caption does not support."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from sharegptvideo.judges.rules import lexicon
from sharegptvideo.judges.rules.lexicon import words
from sharegptvideo.judges.rules.normalise import (
    EXCLUSIVE_SET,
    Text,
    Token,
    kinds_of,
    near,
    parse,
    stem,
)
from sharegptvideo.judges.rules.values import attributed

__all__ = ["GENERIC_STEMS", "Unsupported", "unsupported"]

GENERIC_STEMS = frozenset(map(stem, lexicon.GENERIC))
_OPENERS = frozenset(
    words("""
    a an the its his her their our my your some several many few another more each every any
    with of in on near by behind beside under above between against inside outside
    like wearing holding
    """)
)
_PRONOUNS = frozenset({"it", "they", "he", "she", "them", "him", "her"})
_RELATIONS = frozenset(
    map(
        stem,
        words("""
        near next behind beside between front around close away along side together alone
        out off back toward opposite across past far still again once continuously
        steadily gradually slowly gently smoothly simply clearly likely probably also
        straight same different whole both several many few lot various other
        begin end first last halfway before after finally later afterwards
        """),
    )
)


@dataclass(frozen=True, slots=True)
class Unsupported:
    """What the caption does not show: things and attributes (`named`), other words (`loose`)."""

    named: tuple[str, ...]
    loose: tuple[str, ...]


def unsupported(prediction: Text, caption: str, question: Text, reference: Text) -> Unsupported:
    """Find the content words of `prediction` that caption, question and reference lack.

    A word counts as named if it stands as a thing ("a small dog", "with trees"), or is a colour,
    or contradicts the caption's only value of its kind; denied words ("no dog") claim nothing.
    """
    shown = parse(caption)
    known = shown.stems | question.stems | reference.stems
    named: list[str] = []
    loose: list[str] = []
    missing = {t.position for t in prediction.content if not t.negated and _is_new(t, known)}
    for token in prediction.content:
        if token.position not in missing:
            continue
        if _is_named(token, prediction, missing, shown):
            named.append(token.word)
        else:
            loose.append(token.word)
    named += _misattributed(prediction, shown, question, reference)
    return Unsupported(tuple(dict.fromkeys(named)), tuple(dict.fromkeys(loose)))


def _is_new(token: Token, known: frozenset[str]) -> bool:
    if token.stem in known or token.stem in GENERIC_STEMS or token.stem in _RELATIONS:
        return False
    return not _related(token.stem, known)


@functools.lru_cache(maxsize=65536)
def _related(word: str, known: frozenset[str]) -> bool:
    """Whether a known word is nearly this one, or a kind of it ("animal" where a dog is shown)."""
    return bool(kinds_of(word) & known) or any(near(word, other) for other in known)


def _is_named(token: Token, text: Text, missing: set[int], shown: Text) -> bool:
    name = EXCLUSIVE_SET.get(token.stem)
    if name == "color":
        return True
    if name is not None and name not in {"shape", "sex", "youth"}:
        # "to the left" where the caption only ever says "right" contradicts it.
        return name != "number" and any(EXCLUSIVE_SET.get(s) == name for s in shown.stems)
    back = token.position - 1
    while back >= 0 and (back in missing or _is_quality(text.tokens[back])):
        back -= 1
    if back < 0 or text.tokens[back].sentence != token.sentence:
        return False
    opener = text.tokens[back]
    if opener.word in {"is", "are"} and back and text.tokens[back - 1].word == "there":
        return True
    if opener.clause != token.clause:
        # ", fence.": a word alone between marks is a thing, unless it looks like a verb.
        return not token.word.endswith(("s", "ing", "ed", "ly"))
    return opener.word in _OPENERS or EXCLUSIVE_SET.get(opener.stem) == "number"


def _is_quality(token: Token) -> bool:
    return EXCLUSIVE_SET.get(token.stem) in {"color", "size", "brightness", "length", "speed"}


def _misattributed(
    prediction: Text, shown: Text, question: Text, reference: Text
) -> list[str]:  # fmt: skip
    """Attributes given to a thing that has another one in the caption ("a red square")."""
    claimed, _ = attributed(prediction)
    if not claimed:
        return []
    heads, free = attributed(shown)
    others = [attributed(text)[0] for text in (question, reference)]
    found: list[str] = []
    for value, things in claimed.items():
        name = EXCLUSIVE_SET[value]
        if name not in {"color", "size"} or not (value in heads or value in free):
            continue
        for thing in things - heads.get(value, set()):
            if any(thing in other.get(value, ()) for other in others):
                continue
            company = free.get(value, set())
            if thing in company or company & _PRONOUNS:
                continue  # "the square turns blue": a blue square; "it turns blue": who knows
            rivals = (v for v, known in heads.items() if thing in known and v != value)
            if any(EXCLUSIVE_SET[v] == name for v in rivals):
                found.append(f"{_word(prediction, value)} {_word(prediction, thing)}")
    return found


def _word(text: Text, root: str) -> str:
    return next(token.word for token in text.tokens if token.stem == root)

"""What a made text shows by itself: a refusal instead of an answer, or another language.

Both are rules over lists of words, and say no more than these can. Refusals: the usual openings of
models that decline, in English. Languages: another script where more than a third of the letters
are of one that is not Latin; German, French, Spanish, Italian, Portuguese, Dutch, Polish, Turkish
and Indonesian by their commonest words, where these outnumber the English ones; any other language
in Latin letters only from `LONG` words on, by the lack of English words. A text of a few words
without any of these is taken for English.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from itertools import chain

from sharegptvideo.judges.rules.lexicon import FUNCTION_WORDS

__all__ = ["LONG", "SCRIPT_SHARE", "language_problem", "refusal", "says_unknown", "words_of"]

SCRIPT_SHARE = 1 / 3
"""Share of letters of another script from which a text is in it: a sign that is quoted is less."""

LONG = 20
"""Words from which English shows by its function words: of real captions and descriptions with as
many, every one has more than `_ENGLISH_SHARE` of them (tests/build/test_made_questions.py)."""

_ENGLISH_SHARE = 0.1
_OPENING = 300  # characters: a model that declines says so at once
_WORD = re.compile(r"[^\W_]+(?:['\-][^\W_]+)*")
_PIECE = re.compile(r"[^\W\d_]+")
_QUOTED = re.compile(r'"[^"]{0,300}"|“[^”]{0,300}”')

_REFUSALS = re.compile(
    r"\b(?:"
    r"(?:i'm|i am|we're|we are) (?:(?:very|so|really) )?sorry\b"
    r"|i apologi[sz]e\b|my apologies\b"
    r"|as an? (?:ai|artificial intelligence|(?:large )?language model|text-based)\b"
    r"|i(?:'m| am) (?:just |only )?an? (?:ai|language model|text-based)\b"
    r"|i(?:'m| am) (?:currently )?(?:unable|not able|not allowed|not permitted) to\b"
    r"|i (?:can't|cannot|can not|couldn't|could not|won't|will not|am not going to) "
    r"(?:actually |directly |really )?(?:assist|help|provide|describe|see|view|watch|identify|"
    r"access|fulfil|fulfill|comply|answer|determine|generate|create|process|analy[sz]e|open|offer|"
    r"continue|give|make|do|discuss|say)\b"
    r"|i (?:don't|do not) (?:have (?:access|the ability|enough|any (?:access|information|video))|"
    r"see (?:any|a|the) (?:video|image|frame|clip|picture|caption|attachment))"
    r"|(?:no|without any) (?:video|image|frame|clip|picture|caption|content)s? "
    r"(?:is|are|was|were|has been|have been)?\s?(?:provided|attached|given|available|uploaded)\b"
    r"|please (?:provide|upload|share|attach|send|give me)\b"
    r")"
)

_UNKNOWN = re.compile(
    r"\b(?:"
    r"(?:caption|description|text|passage|video|clip|information|context)s?(?: \w+){0,2} "
    r"(?:does not|doesn't|do not|don't) (?:explicitly |directly |clearly )?"
    r"(?:mention|specify|state|say|provide|indicate|describe|reveal|give|disclose|contain|include)"
    r"|(?:is|are|was|were)(?: not|n't) (?:explicitly |directly |clearly )?"
    r"(?:mentioned|specified|stated|provided|described|given|indicated|disclosed|known)\b"
    r"|(?:cannot|can't|can not|could not) be (?:determined|inferred|known|answered|established)\b"
    r"|not enough (?:information|context|detail)|insufficient (?:information|context|detail)"
    r"|(?:there is|there's) no (?:information|mention|indication)\b"
    r"|no information (?:is|about|on)\b"
    r"|it is (?:unclear|unknown|not clear|impossible to (?:say|know|determine))"
    r"|(?:unknown|unspecified|not (?:specified|mentioned|stated|given|provided)|n/a)\W*$"
    r")"
)

# The commonest words of each language that are not English words as well.
_WORDS_OF = {
    "German": "der das und ist nicht ein eine einen einem einer mit auf dem den sich auch von zu "
    "im für sind wird wie aus bei nach über zum zur ich sie er es wir was wer welche hat trägt",
    "French": "le la les des est une dans qui que sur pour pas avec il elle au aux du ce cette "
    "ces sont et ou où plus puis par quel quelle leur son sa",
    "Spanish": "el la los las de en y que una por con para del se su al es está están como más "
    "pero qué cuál quién dónde sus luego mientras un hombre mujer",
    "Italian": "il lo la gli di che è una con per del della nel nella si sono sul sulla alla poi "
    "mentre anche come uomo donna cosa quale dove chi ed",
    "Portuguese": "o os um uma de em que e é com para por da do das dos na no nas está são ao se "
    "mais como seu sua depois enquanto homem mulher qual onde quem",
    "Dutch": "de het een en van is op te met dat zijn voor niet aan er om dan ook naar bij uit wat "
    "wie waar welke draagt zit staat wordt",
    "Polish": "i w na z do się jest nie że to jak co przez ale po od kobieta mężczyzna który która",
    "Turkish": "ve bir bu için ile da de çok ne olarak gibi daha sonra var kadın adam olan nerede",
    "Indonesian": "yang dan di dengan ini itu untuk dari pada dalam adalah seorang sedang tidak ke "
    "akan kemudian ada apa pria wanita",
}


def _lists() -> dict[str, tuple[str, ...]]:
    """Return the languages that each of these words is of; words that English has are left out."""
    table: dict[str, tuple[str, ...]] = {}
    for language, words in _WORDS_OF.items():
        for word in words.split():
            if word not in _ENGLISH:
                table[word] = (*table.get(word, ()), language)
    return table


# "s", "t", "d" are rests of English contractions, and words of their own elsewhere.
_ENGLISH = frozenset(word for word in FUNCTION_WORDS if len(word) > 1)
_LISTED = _lists()
_SCRIPTS = {"CJK": "Chinese", "HIRAGANA": "Japanese", "KATAKANA": "Japanese", "HANGUL": "Korean"}
_LEAST = 2  # one word of a language may be a name


def words_of(text: str) -> list[str]:
    """Return a text's words in lower case: letters and digits, with inner marks."""
    return _WORD.findall(text.replace("’", "'").lower())


def refusal(text: str) -> str | None:
    """Return the words with which a text declines to answer, or None; what it quotes is left out.

    Only the opening counts: a description may end with what it cannot say.
    """
    return _match(_REFUSALS, text[:_OPENING])


def says_unknown(text: str) -> str | None:
    """Return the words with which an answer says that it is not known, or None."""
    return _match(_UNKNOWN, text)


def _match(pattern: re.Pattern[str], text: str) -> str | None:
    plain = " ".join(_QUOTED.sub(" ", text).replace("’", "'").lower().split())
    match = pattern.search(plain)
    return match.group().strip() if match else None


def language_problem(text: str) -> str | None:
    """Return what a text looks like if it is not English, such as "German"; see the module."""
    words = _PIECE.findall(text.lower())
    if not words:
        return None
    other = None if text.isascii() else _script("".join(words))
    if other is not None:
        return f"{other} script"
    english = sum(map(_ENGLISH.__contains__, words))
    counts = Counter(chain.from_iterable(_LISTED[word] for word in words if word in _LISTED))
    if counts:
        language, hits = max(counts.items(), key=lambda pair: (pair[1], pair[0]))
        if hits >= _LEAST and hits > english:
            return language
    if len(words) >= LONG and english < _ENGLISH_SHARE * len(words):
        return "hardly a word of it is common English"
    return None


def _script(letters: str) -> str | None:
    """Return the script of more than a third of the letters, if it is not Latin."""
    names = Counter(
        unicodedata.name(letter, "UNKNOWN").split(" ")[0].split("-")[0]
        for letter in letters
        if letter.isalpha() and not letter.isascii()
    )
    names.pop("LATIN", None)
    if sum(names.values()) <= SCRIPT_SHARE * len(letters):
        return None
    name = names.most_common(1)[0][0]
    return _SCRIPTS.get(name, name.capitalize())

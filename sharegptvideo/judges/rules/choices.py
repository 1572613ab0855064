"""Answers from a few that are given: yes or no, and one of several options.

An answer is read by the rules here, or it is unscored, and says why; nothing is guessed. Text after
the answer proper ("Yes, he is dancing.") is not looked at. Of 13,308 answers of models that
TempCompass and EventHallusion publish, the rules read all but 100, and all but 6 of these as their
authors' rules and judges do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sharegptvideo.judges.base import JudgeItem, Mark, RulesJudge
from sharegptvideo.judges.rules.text import plain

__all__ = ["RULES_VERSION", "Choice", "YesNo", "lettered", "read_choice", "read_yes_no"]

RULES_VERSION = 1
"""Raise it when tests/golden/choices.json changes."""

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_MARKUP = re.compile(r"[*_`#\"“”{}]+")
_SHOWN = 60  # characters of an answer that a reason repeats

_YES_NO = {"yes": True, "yeah": True, "yep": True, "no": False, "nope": False}
_WORD = "|".join(_YES_NO)
_FIRST = re.compile(rf"\W*({_WORD})\b(?!\s+(?:doubt|problem|question|matter))", re.IGNORECASE)
_BOTH = re.compile(r"\W*(?:yes|no)\s*(?:/|,?\s*(?:or|and)\b)\s*(?:yes|no)\b", re.IGNORECASE)
_STATED = re.compile(
    rf"\banswer\b(?:\s+\w+){{0,5}}?\W+({_WORD})\b(?!\s+(?:or|and)\b)", re.IGNORECASE
)
_ALONE = re.compile(rf"(?:^|[\n.!?])\W*({_WORD})\W*(?=[\n.!?]|$)", re.IGNORECASE)

_MARK_AFTER = r"(?:\s*[.):\]]|\s*\n|\s*$)"
_LEADING = re.compile(
    rf"(?:option\s+)?(?:[(\[]\s*([A-Z])\s*[)\]]|([A-Z]){_MARK_AFTER})(.*)",
    re.IGNORECASE | re.DOTALL,
)
_SEVERAL = re.compile(r"\W*\(?[A-Z]\)?(?:\s*(?:,|/|&|\band\b|\bor\b)\s*\(?[A-Z]\)?)+\W*$")
_SENTENCE = re.compile(r"(?<=[.!?])\s|\n")
_DENIES = re.compile(r"\b(?:not|no|never|neither|nor|without|than|instead|unlike)\b|n['’]t\b")
_NAMED = re.compile(
    r"\b(?:[Aa]nswer|[Oo]ption|[Cc]hoice)\b(?:\s+(?:is|would be))?\s*:?\s*(?:[Oo]ption\s+)?"
    rf"[(\[]?([A-Z])(?=[)\],;?!]|{_MARK_AFTER})"
)


def lettered(options: Sequence[str]) -> str:
    """Return options a line each, with their letters.

    >>> print(lettered(["a dog", "a cat"]))
    A. a dog
    B. a cat
    """
    return "\n".join(f"{_LETTERS[at]}. {option}" for at, option in enumerate(options))


def read_yes_no(answer: str) -> bool:
    """Return whether an answer says yes.

    It does by its first word, by "the answer is yes", or by a sentence of this one word.

    Raises:
        ValueError: it says neither, or both; says so.

    >>> read_yes_no("**No**, there is a dog.")
    False
    """
    text = _MARKUP.sub("", answer).strip()
    if not text:
        raise ValueError("the answer has no words")
    if _BOTH.match(text):
        raise ValueError("the answer says yes and no")
    alone = {_YES_NO[word.lower()] for word in _ALONE.findall(text)}
    stated = {_YES_NO[word.lower()] for word in _STATED.findall(text)}
    first = _FIRST.match(text)
    said = alone | stated | ({_YES_NO[first[1].lower()]} if first else set())
    if len(said) > 1:
        raise ValueError("the answer says yes and no")
    if not said:
        raise ValueError("the answer says neither yes nor no")
    return said.pop()


def read_choice(answer: str, options: Sequence[str]) -> int:
    """Return the place of the option that an answer names, from 0.

    It names one by its letter ("B", "(B)", "B. a dog", "The answer is B."), by being its text and
    nothing more, whatever case and articles, or by a first sentence that has the text of one
    option, of no other, and no denial ("The animal is a dog.").

    Raises:
        ValueError: it names none, several, a letter that no option has, or a letter and the text
            of another option; says so.

    >>> read_choice("b) a cat", ["a dog", "a cat"])
    1
    """
    text = _MARKUP.sub("", answer).strip()
    if not text:
        raise ValueError("the answer has no words")
    if _SEVERAL.match(text):
        raise ValueError(f"the answer names several options: {text[:_SHOWN]}")
    texts = [plain(option) for option in options]
    leading = _LEADING.match(text)
    if not leading and texts.count(plain(text)) == 1:
        return texts.index(plain(text))
    letters = set(_NAMED.findall(text))
    if leading:
        letters.add((leading[1] or leading[2]).upper())
    if len(letters) > 1:
        raise ValueError(f"the answer names several options: {', '.join(sorted(letters))}")
    if not letters:
        # "B a cat": the letter without a mark, before the text of its own option.
        spaced = re.match(r"([A-Za-z])\s+(.+)", text, re.DOTALL)
        if spaced and plain(spaced[2]) in texts:
            leading, letters = spaced, {spaced[1].upper()}
        else:
            return _only_option_in(_SENTENCE.split(text)[0], texts)
    place = _LETTERS.index(letters.pop())
    if place >= len(options):
        raise ValueError(f"the answer names {_LETTERS[place]}, of {len(options)} options")
    after = plain(leading[leading.lastindex or 0]) if leading else ""
    others = {text for text in texts if text and text != texts[place]}
    if after in others:
        raise ValueError(f"the answer names {_LETTERS[place]} with the text of another option")
    return place


def _only_option_in(sentence: str, texts: Sequence[str]) -> int:
    """Return the place of the only option whose text a sentence has.

    Raises:
        ValueError: it has none, or several of which none holds the others, or denies something.
    """
    said = f" {plain(sentence)} "
    at = [place for place, text in enumerate(texts) if text and f" {text} " in said]
    longest = [
        place
        for place in at
        if not any(f" {texts[place]} " in f" {texts[other]} " for other in at if other != place)
    ]
    if len(longest) != 1 or _DENIES.search(sentence.lower()):
        raise ValueError("the answer names no option")
    return longest[0]


class YesNo(RulesJudge):
    """Score 5 where the answer says what the reference does, yes or no, else 1."""

    name = "yes-no"
    version = RULES_VERSION

    def mark(self, item: JudgeItem) -> Mark:
        """Compare the two; see `RulesJudge.mark`."""
        right, said = read_yes_no(item.reference), read_yes_no(item.prediction)
        return Mark(5 if said == right else 1, f"says {'yes' if said else 'no'}")


class Choice(RulesJudge):
    """Score 5 where the answer names the option that is the reference, else 1."""

    name = "choice"
    version = RULES_VERSION

    def mark(self, item: JudgeItem) -> Mark:
        """Read the letter; see `RulesJudge.mark`."""
        if item.reference not in item.options:
            raise ValueError("the question has no options, or the reference is none of them")
        chosen = read_choice(item.prediction, item.options)
        right = item.options[chosen] == item.reference
        return Mark(5 if right else 1, f"names {_LETTERS[chosen]}")

"""What is wrong with questions that a model made of a caption, and with their answers.

Pure rules over the texts, by the words and stems of `answer-match`; thresholds are constants with
their reasons, and `tests/build/test_made_questions.py` prints the share of real questions that
each rule would drop.

What they cannot see: a question whose answer is in the caption and whose subject is not ("What
color is the elephant's hat?" of a caption with a red ball and the answer "Red"), and a wrong "no",
since what a caption leaves out it does not deny.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sharegptvideo._text import plural, shortened
from sharegptvideo.build.texts import language_problem, refusal, says_unknown
from sharegptvideo.data.stats.answerability import question_kind
from sharegptvideo.judges.rules.answer_match import polarity_of_reference
from sharegptvideo.judges.rules.case import Case, make_case, recall, reference_words
from sharegptvideo.judges.rules.claims import GENERIC_STEMS
from sharegptvideo.judges.rules.lexicon import words
from sharegptvideo.judges.rules.text import stem

__all__ = [
    "LEAST_FOOTING",
    "MAX_ANSWER_WORDS",
    "MAX_COUNTED",
    "MAX_QUESTION_WORDS",
    "QUESTION_GATES",
    "Cause",
    "Signature",
    "question_causes",
    "question_problems",
    "signature",
]

LEAST_FOOTING = 0.5
"""Share of an answer's key words that the caption has to hold, weighted as in `answer-match`.

A model answers in words of its own, so not all are there word by word. Of real questions made of
captions, under 0.1 % (TGIF-QA) and none of 15 (the release in miniature) fall below; against the
caption of another video 92 % and 87 % do. Half is the lowest mark that needs most of what is said.
"""

MAX_COUNTED = 4
"""Up to this number, what a caption lists without a number may have been counted."""

MAX_QUESTION_WORDS = 60
"""The longest of 41,278 real questions has 26 words; a longer text says more than it asks."""

MAX_ANSWER_WORDS = 190
"""Candidate answers are cut at 256 tokens, about 190 words: none could match a longer one."""

QUESTION_GATES: dict[str, str] = {
    "empty": "a question or an answer without a word",
    "not-a-question": "a text that asks nothing",
    "too-long": f"a question of more than {MAX_QUESTION_WORDS} words, or an answer of more than "
    f"{MAX_ANSWER_WORDS}",
    "refusal": "the model declined, or says that the answer is not known",
    "language": "a question or an answer that does not look like English",
    "gives-answer-away": "every content word of the answer stands in the question",
    "not-in-caption": "an answer whose words the caption does not hold",
    "repeats": "a question that asks what another of the same clip asks",
}
"""The rules for questions by name, in the order in which they are tried."""

_AUXILIARIES = frozenset(
    words("is are was were am do does did has have had can could will would should may might must")
)
_ASKING = frozenset(words("what who whom whose which when where why how"))
_REQUESTS = frozenset(
    words("describe explain name list identify summarize summarise compare mention count")
)
_MEDIUM = frozenset(
    stem(word) for word in words("video clip footage scene film recording show see visible depict")
)
_DO = frozenset(words("do does did doing done"))
_SHOWN = 60
_REACH = 3  # words from a number to what it counts: "two small brown dogs"
_WORD = re.compile(r"[^\W_]")

Signature = tuple[str, frozenset[str]]
"""Kind of question, and the stems of its words."""


class Cause(NamedTuple):
    """Why a row is flagged: the gate's name, and the reason in a few words."""

    gate: str
    reason: str

    def __str__(self) -> str:
        """Return both, as one line."""
        return f"{self.gate}: {self.reason}"


def question_problems(caption: str, questions: Sequence[tuple[str, str]]) -> list[Cause | None]:
    """Return, for each (question, answer) made of one clip's caption, the first cause against it.

    A question that repeats one with a cause against it is no repetition: the other is not kept.
    """
    causes: list[Cause | None] = []
    asked: dict[Signature, int] = {}
    for number, (question, answer) in enumerate(questions, start=1):
        cause = next(question_causes(caption, question, answer), None)
        if cause is None:
            first = asked.setdefault(signature(question, answer), number)
            if first != number:
                cause = Cause("repeats", f"asks what question {first} of the clip asks")
        causes.append(cause)
    return causes


def question_causes(caption: str | None, question: str, answer: str) -> Iterator[Cause]:
    """Yield what is wrong with one question by itself, in the order of `QUESTION_GATES`.

    Without a caption, nothing is said about what that holds.
    """
    empty = [
        name
        for name, text in (("question", question), ("answer", answer))
        if not _WORD.search(text)
    ]
    if empty:
        yield Cause("empty", f"the {' and the '.join(empty)}: no words")
        return
    case = make_case(question, answer, caption or "", None)
    if not _asks(question, case):
        yield Cause("not-a-question", shortened(question, _SHOWN))
    for name, length, most in (
        ("question", len(case.question.tokens), MAX_QUESTION_WORDS),
        ("answer", len(case.reference.tokens), MAX_ANSWER_WORDS),
    ):
        if length > most:
            yield Cause("too-long", f"the {name} has {plural(length, 'word')}")
    readable = True
    for name, text in (("question", question), ("answer", answer)):
        declined = refusal(text) or (says_unknown(text) if name == "answer" else None)
        if declined:
            yield Cause("refusal", f"the {name} says {declined!r}")
        language = language_problem(text)
        if language:
            yield Cause("language", f"the {name} looks like: {language}")
        readable = readable and not declined and not language
    if not readable:
        return  # such words have no footing in a caption anyway
    polarity = polarity_of_reference(case)
    if polarity is None and _gives_away(case):
        yield Cause("gives-answer-away", f"{reference_words(case, case.reference.stems)!r}")
    if caption:
        missing = _missing(case, polarity)
        if missing:
            yield Cause("not-in-caption", missing)


def _asks(question: str, case: Case) -> bool:
    """Return whether a text asks: by its mark, a word that asks, or as a request."""
    words = [token.word for token in case.question.tokens]
    return (
        "?" in question
        or not _ASKING.isdisjoint(words)
        or words[0] in _AUXILIARIES
        or words[0] in _REQUESTS
    )


def _gives_away(case: Case) -> bool:
    """Return whether the question holds every content word of the answer.

    Not where it offers a choice ("small or large"), nor by the word after "how", of which an
    answer is a value: "How big is it?" - "It is large."
    """
    tokens = case.question.tokens
    if not case.reference.stems or any(token.word == "or" for token in tokens):
        return False
    held = {
        token.stem
        for before, token in zip((None, *tokens), tokens, strict=False)
        if token.content and (before is None or before.word != "how")
    }
    return case.reference.stems <= held


def _missing(case: Case, polarity: bool | None) -> str | None:
    """Return which key words of the answer the caption lacks, if too few have a footing in it.

    The keys are those of `answerability`, with these differences. What the answer denies ("does
    not bark") need not stand there, nor the object of a "no"; what it says beside the "no" does.
    A number stands there, or is small and what it counts stands there, unless the caption gives
    another number of the same thing.
    """
    denied = {token.stem for token in case.reference.tokens if token.negated}
    if polarity is None:
        keys = case.keys - denied
    elif polarity:
        keys = (case.question.stems | case.reference.stems) - GENERIC_STEMS - denied
    else:
        keys = case.reference.stems - case.question.stems - GENERIC_STEMS - denied
    held = case.prediction.stems
    numbers = {key for key in keys if key.isdecimal() and key not in held}
    for key in sorted(numbers):
        other = _counted_otherwise(case)
        if other:
            return f"{key!r}; the caption has {other!r}"
        if int(key) > MAX_COUNTED or not _has_counted(case):
            return f"{key!r}; nothing in the caption can be counted to it"
    keys -= numbers
    if not keys or recall(case, keys)[0] >= LEAST_FOOTING:
        return None
    absent = frozenset(key for key in keys if recall(case, frozenset({key}))[0] < LEAST_FOOTING)
    named = {t.stem: t.word for t in (*case.reference.tokens, *case.question.tokens)}
    return repr(" and ".join(word for key, word in named.items() if key in absent))


def _counted_otherwise(case: Case) -> str | None:
    """Return a number that the caption gives of something in the question, such as "3 dogs"."""
    tokens = case.prediction.tokens
    for number, token in enumerate(tokens):
        if not token.stem.isdecimal():
            continue
        for after in tokens[number + 1 : number + 1 + _REACH]:
            if after.clause != token.clause:
                break
            if after.content and after.stem in case.question.stems - GENERIC_STEMS:
                return f"{token.word} {after.word}"
    return None


def _has_counted(case: Case) -> bool:
    """Return whether the caption has what a "how many" asks for, so that it may be counted."""
    asked = case.question.tokens
    many = next((number for number, token in enumerate(asked) if token.word == "many"), None)
    if many is None:
        return True
    counted = next((token.stem for token in asked[many + 1 :] if token.content), None)
    return counted is None or recall(case, frozenset({counted}))[0] >= LEAST_FOOTING


def signature(question: str, answer: str) -> Signature:
    """Return what a question asks, for comparison: its kind, and the stems of what it speaks of.

    >>> signature("What color is the dog?", "red") == signature("What is the dog's colour?", "red")
    True
    """
    case = make_case(question, answer, "", None)
    tokens = case.question.tokens
    kind = question_kind(question, polarity_of_reference(case))
    stems = {token.stem for token in tokens if token.content} - _MEDIUM
    doing = [token.word for token in tokens if token.word in _DO]
    if "doing" in doing or "done" in doing or len(doing) > 1:
        stems.add("do")  # the verb; once, it only helps another one
    if tokens and not tokens[-1].content and tokens[-1].word not in _DO:
        stems.add(tokens[-1].stem)  # "Who is he with?"
    return "what" if kind == "which" else kind, frozenset(stems)

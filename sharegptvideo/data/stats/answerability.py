"""Answerability: how much of a question's answer its caption supports, word by word.

The caption is what the reward model reads in place of the video (it never sees the frames), so an
answer that the caption does not support cannot be rewarded for being right. What is asked of the
caption are the answer's key words: those that carry content and that the question does not give
away, as `sharegptvideo.judges` defines them, weighted as there; synonyms and kinds count ("dog"
for "animal"), a key that the caption only denies does not. Of a "yes", it is the question's own
content words; of a "no", nothing: what a caption leaves out, it does not deny.

Chance: the same answer against the caption of another video, since common words are in most.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sharegptvideo.judges.rules.answer_match import polarity_of_reference
from sharegptvideo.judges.rules.case import Case, make_case, recall
from sharegptvideo.judges.rules.claims import GENERIC_STEMS
from sharegptvideo.judges.rules.text import parse

__all__ = [
    "QUESTIONS",
    "Answerability",
    "AnswerabilityTotals",
    "Question",
    "answerability",
    "answerability_of_batch",
    "question_kind",
]

_FULL = 0.99

QUESTIONS = ("what", "who", "where", "when", "why", "which", "how many", "how", "yes or no")
"""Kinds of question by their wording; any other is "other"."""


class Question(NamedTuple):
    """A question with its answer, the caption it is held against, and where it comes from."""

    source: str
    video: str
    question: str
    answer: str
    caption: str


class Answerability(NamedTuple):
    """The share of an answer's key words in the caption; None where there is none to look for.

    `polarity` is True for a "yes", False for a "no", None for any other answer.
    """

    share: float | None
    polarity: bool | None


class Score(NamedTuple):
    """One question's answerability, kind and chance (None: no other video in its batch)."""

    source: str
    kind: str
    share: float | None
    polarity: bool | None
    chance: float | None


def answerability(question: str, answer: str, caption: str) -> Answerability:
    """Look for the answer's key words in the caption."""
    if not parse(answer).tokens:
        return Answerability(None, None)
    case = make_case(question, answer, caption, None)
    polarity = polarity_of_reference(case)
    keys = case.keys
    if polarity is not None:
        keys = _asserted(case) if polarity else frozenset()
    return Answerability(recall(case, keys)[0] if keys else None, polarity)


def _asserted(case: Case) -> frozenset[str]:
    return (case.question.stems | case.reference.stems) - GENERIC_STEMS


def question_kind(question: str, polarity: bool | None) -> str:
    """Return one of `QUESTIONS`, or "other"."""
    if polarity is not None:
        return "yes or no"
    words = [token.word for token in parse(question).tokens]
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word == "how" and after == "many":
            return "how many"
        if word in QUESTIONS:
            return word
    return "other"


def answerability_of_batch(questions: Sequence[Question]) -> list[Score]:
    """Score each question, and its chance by a caption half a batch further on."""
    scores = []
    for number, one in enumerate(questions):
        share, polarity = answerability(one.question, one.answer, one.caption)
        other = _other_caption(questions, number)
        chance = None
        if other is not None:
            chance = answerability(one.question, one.answer, other).share
        kind = question_kind(one.question, polarity)
        scores.append(Score(one.source, kind, share, polarity, chance))
    return scores


def _other_caption(questions: Sequence[Question], number: int) -> str | None:
    size = len(questions)
    for step in range(size):
        other = questions[(number + size // 2 + step) % size]
        if other.video != questions[number].video:
            return other.caption
    return None


@dataclass(slots=True)
class _Sums:
    rows: int = 0
    full: int = 0
    none: int = 0
    total: float = 0.0
    chance_rows: int = 0
    chance: float = 0.0

    def add(self, share: float, chance: float | None) -> None:
        self.rows += 1
        self.total += share
        self.full += share >= _FULL
        self.none += share == 0
        if chance is not None:
            self.chance_rows += 1
            self.chance += chance

    def figures(self) -> dict[str, Any]:
        rows = self.rows
        if not rows:
            return {"questions": 0}
        return {
            "questions": rows,
            "mean": self.total / rows,
            "full": self.full / rows,
            "part": (rows - self.full - self.none) / rows,
            "none": self.none / rows,
            "chance": self.chance / self.chance_rows if self.chance_rows else None,
        }


@dataclass(slots=True)
class AnswerabilityTotals:
    """Sums over the questions of one config."""

    without_caption: int = 0
    _left: Counter[str] = field(default_factory=Counter)
    _whole: _Sums = field(default_factory=_Sums)
    _sources: dict[str, _Sums] = field(default_factory=dict)
    _kinds: dict[str, _Sums] = field(default_factory=dict)

    def add(self, scores: Sequence[Score]) -> None:
        """Add a batch."""
        for one in scores:
            if one.share is None:
                self._left["answered_no" if one.polarity is False else "without_key_words"] += 1
                continue
            for sums in (
                self._whole,
                self._sources.setdefault(one.source, _Sums()),
                self._kinds.setdefault(one.kind, _Sums()),
            ):
                sums.add(one.share, one.chance)

    def figures(self) -> dict[str, Any]:
        """Return shares in [0, 1] as JSON values; what could not be measured is counted."""
        return {
            **self._whole.figures(),
            "not_measured": {
                "without_caption": self.without_caption,
                "answered_no": self._left["answered_no"],
                "without_key_words": self._left["without_key_words"],
            },
            "by_source": {name: self._sources[name].figures() for name in sorted(self._sources)},
            "by_question": {
                kind: self._kinds[kind].figures()
                for kind in (*QUESTIONS, "other")
                if kind in self._kinds
            },
        }

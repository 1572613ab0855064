"""The answers that are put to a judge, and the questions they are given to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from sharegptvideo._io import parse_yaml
from sharegptvideo.errors import UserError
from sharegptvideo.judges.rules.text import plain
from sharegptvideo.models.types import Question

__all__ = ["Attack", "Case", "attacks_version", "cases_of", "list_attacks", "own_cases"]

_PLACE = re.compile(r"\{(reference|wrong|question)\}")
_OPPOSITE = {"yes": "no", "no": "yes"}


class Attack(BaseModel):
    """One kind of answer; `fill`: its text is repeated up to so many characters."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["control", "null", "injection"]
    text: str
    fill: Annotated[int, Field(ge=1)] | None = None

    def answer(self, case: Case) -> str:
        """The answer to put to the judge for one case."""
        values = {"reference": case.reference, "wrong": case.wrong, "question": case.question}
        text = _PLACE.sub(lambda place: values[place[1]], self.text)
        if self.fill is None:
            return text
        return (text * (self.fill // len(text) + 1))[: self.fill]


class _OwnCase(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    question: str
    reference: str
    wrong: str
    caption: str


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int
    attacks: dict[str, Attack]
    cases: tuple[_OwnCase, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """A question with its reference, a wrong answer to it, and the caption if there is one."""

    id: str
    video: str
    question: str
    reference: str
    wrong: str
    caption: str | None


@cache
def _file() -> _File:
    text = (files(__package__) / "attacks.yaml").read_text(encoding="utf-8")
    return _File.model_validate(parse_yaml("attacks.yaml", text))


def attacks_version() -> int:
    """Goes up with any change of the answers or of the cases that come along."""
    return _file().version


def list_attacks() -> dict[str, Attack]:
    """All answers by name, the controls first."""
    return dict(_file().attacks)


def own_cases() -> list[Case]:
    """The cases that come along: ten questions, made up, of the common kinds."""
    return [
        Case(str(n), f"v{n}", c.question, c.reference, c.wrong, c.caption)
        for n, c in enumerate(_file().cases, start=1)
    ]


def cases_of(questions: Sequence[Question], limit: int) -> list[Case]:
    """The first `limit` questions of a task as cases.

    The wrong answer to a yes-or-no question is the other one, else the reference of the next
    question that has no word in common with the right one.

    Raises:
        UserError: no question has such a wrong answer.
    """
    cases: list[Case] = []
    for number, question in enumerate(questions):
        if len(cases) == limit:
            break
        wrong = _wrong(question, [*questions[number + 1 :], *questions[:number]])
        if wrong is not None:
            cases.append(
                Case(
                    question.id,
                    question.video,
                    question.question,
                    question.answer,
                    wrong,
                    question.caption,
                )
            )
    if not cases:
        raise UserError(
            "the task has too few different answers to make wrong ones from; leave --task out to"
            " use the cases that come along"
        )
    return cases


def _wrong(question: Question, others: Sequence[Question]) -> str | None:
    right = plain(question.answer)
    if right in _OPPOSITE:
        return _OPPOSITE[right]
    words = set(right.split())
    for other in others:
        text = plain(other.answer)
        if words and text and text not in _OPPOSITE and not words & set(text.split()):
            return other.answer
    return None

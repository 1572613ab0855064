"""Judges and what they take and give: an item to judge, the verdict on it, and its row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from sharegptvideo._io import dumps, sha256_text
from sharegptvideo.endpoint import Estimate

__all__ = [
    "ACCEPTABLE",
    "MOST_CHARACTERS",
    "Judge",
    "JudgeItem",
    "Mark",
    "RulesJudge",
    "Verdict",
    "is_judged",
    "judge_items",
    "verdict_row",
]

ACCEPTABLE = 3
"""The lowest score, of 1 to 5, of an answer that counts as right."""

MOST_CHARACTERS = 50_000
"""How much of an answer rules read: a model in a loop can write megabytes."""


@dataclass(frozen=True, slots=True)
class JudgeItem:
    """An answer to judge: a judge sees these texts and nothing else, above all no exact state.

    `id` is unique within a call; `caption` is None for sets that have none (MSVD-QA). `clip` is
    the path of the clip, for judges that see it (`needs_frames`) and for no other; None where
    there is none.
    """

    id: str
    task: str
    video: str
    question: str
    reference: str
    prediction: str
    caption: str | None = None
    clip: str | None = None

    @property
    def hash(self) -> str:
        """Hash of the texts a verdict is given on: it holds for these alone."""
        texts = [self.question, self.reference, self.prediction, self.caption]
        return sha256_text(dumps(texts))[:16]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge said about one item.

    `unscored` means that no verdict could be read: `correct` and `score` are then None and
    `reason` says why. `reply` is the judge's own text where it has one, kept word for word.
    `judge` says which judge answered (see DESIGN.md, run folders); `tokens` is what it cost;
    `repaired` that its first reply could not be read and the second, asked for once, could.
    `contradiction` is whether the answer contradicts itself; None where the judge does not check.
    """

    id: str
    status: Literal["scored", "unscored"]
    correct: bool | None = None
    score: float | None = None
    reason: str | None = None
    reply: str | None = None
    judge: dict[str, Any] = field(default_factory=dict)
    tokens: int = 0
    repaired: bool = False
    contradiction: bool | None = None


_FIELDS = tuple(each.name for each in fields(Verdict))


class Judge(ABC):
    """Anything that turns items into verdicts: subclasses say how, and what it needs."""

    name: str

    needs_frames: bool = False
    """Whether it sees clips: its items then carry their paths."""

    scale: tuple[int, int] = (1, 5)
    """The lowest and the highest score that it gives; a failed answer counts with the lowest."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return what run.json records: name, kind, prompt or rule version and hash, endpoint."""

    @abstractmethod
    def check(self) -> None:
        """Check, before anything is written, that the judge can work.

        Raises:
            UserError: it cannot (no endpoint, unknown model, no key); names the fix.
        """

    @abstractmethod
    def judge(self, items: Sequence[JudgeItem]) -> Iterator[Verdict]:
        """Yield one verdict for each item, as they are done, in any order."""

    def estimate(self, items: Iterable[JudgeItem]) -> Estimate:  # noqa: ARG002 - for those that cost
        """Return what verdicts on these items will take; asks nothing."""
        return Estimate()

    def keep_in(self, folder: Path) -> None:  # noqa: B027 - for judges that have partial verdicts
        """Keep partial verdicts, where it has any, in a folder of its own, and use those there."""


def judge_items(judge: Judge, items: Sequence[JudgeItem]) -> Iterator[tuple[JudgeItem, Verdict]]:
    """Yield each item with its verdict, as they are done; those without one last, as unscored."""
    waiting = {item.id: item for item in items}
    for verdict in judge.judge(items) if items else ():
        yield waiting.pop(verdict.id), verdict
    for item in waiting.values():
        yield item, Verdict(item.id, "unscored", reason="the judge gave no verdict")


def verdict_row(item: JudgeItem, verdict: Verdict) -> dict[str, Any]:
    """Return the row of judgements.jsonl for a verdict, with the hash of the texts it is on."""
    row = {"id": item.id, "task": item.task}
    # Not `asdict`, which would copy the judge's description for every verdict.
    row |= {name: getattr(verdict, name) for name in _FIELDS}
    return row | {"item_hash": item.hash}


def is_judged(row: Mapping[str, Any]) -> bool:
    """Return whether the verdict in a row is kept, rather than asked for again.

    An unscored one with a reply is kept: it was paid for, and would come again. One without is of
    a call that failed.
    """
    return row["status"] == "scored" or row["reply"] is not None


@dataclass(frozen=True, slots=True)
class Mark:
    """A score from 1 to 5 and one short sentence that says why.

    `contradiction` is whether the answer says both yes and no; None where neither was asked for.
    """

    score: int
    reason: str
    contradiction: bool | None = None


class RulesJudge(Judge):
    """A judge that computes its marks; a mark of at least `ACCEPTABLE` is a right answer."""

    version: int

    @abstractmethod
    def mark(self, item: JudgeItem) -> Mark:
        """Score one item.

        Raises:
            ValueError: the reference answer has no words.
        """

    def describe(self) -> dict[str, Any]:
        """Return name, kind and rule version."""
        return {"name": self.name, "kind": "rules", "version": self.version}

    def check(self) -> None:
        """Do nothing: rules need nothing that could be missing."""

    def judge(self, items: Sequence[JudgeItem]) -> Iterator[Verdict]:
        """Yield a verdict for each item in order; one without a reference is unscored.

        An answer is read up to `MOST_CHARACTERS`; `answer_cut` in the verdict's `judge` says so.
        """
        for item in items:
            about = self.describe()
            answer = item.prediction
            if len(answer) > MOST_CHARACTERS:
                item = replace(item, prediction=answer[:MOST_CHARACTERS])
                about["answer_cut"] = True
            try:
                mark = self.mark(item)
            except ValueError as error:
                yield Verdict(item.id, "unscored", reason=str(error), judge=about)
                continue
            yield Verdict(
                item.id,
                "scored",
                correct=mark.score >= ACCEPTABLE,
                score=float(mark.score),
                reason=mark.reason,
                judge=about,
                contradiction=mark.contradiction,
            )

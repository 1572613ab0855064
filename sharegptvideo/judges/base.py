"""Judges and what they take and give: an item to judge, the verdict on it, and its row."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from sharegptvideo._io import dumps, sha256_text
from sharegptvideo.endpoint import Estimate, Reply, ReplyStore

__all__ = [
    "ACCEPTABLE",
    "CLAIM_COUNTS",
    "MOST_CHARACTERS",
    "VERDICT_FIELDS",
    "Claims",
    "Judge",
    "JudgeItem",
    "Mark",
    "RulesJudge",
    "Verdict",
    "is_judged",
    "judge_items",
    "known_sum",
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
    there is none. `options` are those that the question lists, in their order there. `other` is
    the other question of a pair and the answer to it, where the two answers are judged together.
    """

    id: str
    task: str
    video: str
    question: str
    reference: str
    prediction: str
    caption: str | None = None
    clip: str | None = None
    other: tuple[str, str] | None = None
    options: tuple[str, ...] = ()

    @property
    def hash(self) -> str:
        """Hash of the texts a verdict is given on: it holds for these alone."""
        texts = [self.question, self.reference, self.prediction, self.caption, *(self.other or ())]
        return sha256_text(dumps(texts))[:16]


@dataclass(frozen=True, slots=True)
class Claims:
    """How many claims a description makes, and how many of the reference's it covers.

    Attributes:
        claimed: claims of the description.
        supported: of those, how many the reference bears out.
        expected: claims of the reference, one or more.
        covered: of those, how many the description makes.
    """

    claimed: int
    supported: int
    expected: int
    covered: int

    @property
    def precision(self) -> float:
        """Share of the description's claims that are supported; 0 where it makes none."""
        return self.supported / self.claimed if self.claimed else 0.0

    @property
    def recall(self) -> float:
        """Share of the reference's claims that are covered."""
        return self.covered / self.expected

    @property
    def f1(self) -> float:
        """The harmonic mean of both; 0 where both are 0.

        >>> Claims(claimed=4, supported=3, expected=6, covered=3).f1
        0.6
        """
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0

    def __str__(self) -> str:
        """Say it in a line.

        >>> print(Claims(4, 3, 6, 3))
        3 of 4 claims are supported, 3 of 6 of the reference are covered
        """
        return (
            f"{self.supported} of {self.claimed} claims are supported,"
            f" {self.covered} of {self.expected} of the reference are covered"
        )


CLAIM_COUNTS = tuple(each.name for each in fields(Claims))
"""What a verdict's row has under `claims`."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge said about one item.

    `unscored` means that no verdict could be read: `correct` and `score` are then None and
    `reason` says why. `reply` is the judge's own text where it has one, kept word for word.
    `judge` says which judge answered (see DESIGN.md, run folders); `tokens` is what it cost, and
    `dollars` the same in US dollars at the prices of the time, None where no price is known;
    `repaired` that its first reply could not be read and the second, asked for once, could.
    `contradiction` is whether the answer contradicts itself; None where the judge does not check.
    `claims` are those of a description, which is neither right nor wrong: `correct` is then None
    and `score` their F1. `replies` are what a server was paid for it, and no part of its row.
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
    dollars: float | None = None
    claims: Claims | None = None
    replies: tuple[Reply, ...] = field(default=(), repr=False, compare=False)

    def as_row(self) -> dict[str, Any]:
        """Return what is kept of it, by name; `claims` only where there are any."""
        # Not `asdict`, which would copy the judge's description for every verdict.
        row = {name: getattr(self, name) for name in VERDICT_FIELDS}
        return row if self.claims is None else row | {"claims": asdict(self.claims)}


VERDICT_FIELDS = tuple(
    each.name for each in fields(Verdict) if each.name not in ("claims", "replies")
)
"""What the row of every verdict has of it."""


# Of judges that know no coroutines: they may not be safe for threads.
_ONE_AT_A_TIME = threading.Lock()


class Judge(ABC):
    """Anything that turns items into verdicts: subclasses say how, and what it needs."""

    name: str

    needs_frames: bool = False
    """Whether it sees clips: its items then carry their paths."""

    needs_reference: bool = True
    """Whether it holds an answer against a reference."""

    scale: tuple[int, int] = (1, 5)
    """The lowest and the highest score that it gives; a failed answer counts with the lowest."""

    headline: Literal["accuracy", "score", "f1"] = "accuracy"
    """The main figure of a task that it judges; with f1 it counts claims, neither right nor wrong.
    """

    compares_pairs: bool = False
    """Whether it judges the two answers of a pair together: its items then have an `other`."""

    width: int = 1
    """How many calls of `verdicts` to have under way, so that it is never idle."""

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

    async def verdicts(self, items: Sequence[JudgeItem]) -> list[Verdict]:
        """Return a verdict for each of a few items, in their order; for coroutines of one loop.

        Here by `judge`, in a thread, for one caller after the other.

        Raises:
            UserError: no verdict can be given any more.
        """

        def given() -> dict[str, Verdict]:
            with _ONE_AT_A_TIME:
                return {item.id: verdict for item, verdict in judge_items(self, items)}

        by_id = await asyncio.to_thread(given)
        return [by_id[item.id] for item in items]

    def prefetch(self, items: Iterable[JudgeItem]) -> None:  # noqa: B027 - for those that can
        """Ask about all items at once, where that is cheaper, for the calls that follow.

        Raises:
            UserError: no verdict can be given.
        """

    def keep_replies(self, store: ReplyStore) -> None:  # noqa: B027 - for those that are served
        """Take replies from a store, and keep there what is asked."""

    async def close(self) -> None:  # noqa: B027 - most have nothing to do
        """Free what `verdicts` opened in the running event loop."""

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
    return row | verdict.as_row() | {"item_hash": item.hash}


def known_sum(amounts: Iterable[float | None]) -> float | None:
    """Return the sum of amounts, 0 of none; None where one of them is not known.

    >>> known_sum([0.25, 0.5]), known_sum([]), known_sum([0.25, None])
    (0.75, 0.0, None)
    """
    total = 0.0
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total


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
    def mark(self, item: JudgeItem) -> Mark | Claims:
        """Score one item, or count its claims.

        Raises:
            ValueError: nothing can be held against its reference (it has no words).
        """

    def describe(self) -> dict[str, Any]:
        """Return name, kind and rule version."""
        return {"name": self.name, "kind": "rules", "version": self.version}

    def check(self) -> None:
        """Do nothing: rules need nothing that could be missing."""

    async def verdicts(self, items: Sequence[JudgeItem]) -> list[Verdict]:
        """Return them at once: rules take less time than a thread."""
        return list(self.judge(items))

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
                yield Verdict(item.id, "unscored", reason=str(error), judge=about, dollars=0.0)
                continue
            if isinstance(mark, Claims):
                yield Verdict(
                    item.id,
                    "scored",
                    score=mark.f1,
                    reason=str(mark),
                    judge=about,
                    dollars=0.0,
                    claims=mark,
                )
                continue
            yield Verdict(
                item.id,
                "scored",
                correct=mark.score >= ACCEPTABLE,
                score=float(mark.score),
                reason=mark.reason,
                judge=about,
                contradiction=mark.contradiction,
                dollars=0.0,
            )

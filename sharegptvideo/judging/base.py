"""What a judge is given, what it returns, and what makes a judge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

__all__ = ["Judge", "JudgeItem", "Verdict"]


@dataclass(frozen=True, slots=True)
class JudgeItem:
    """One answer to judge. A judge sees these texts and nothing else: no frames, no exact state.

    `id` is unique within a call; `caption` is None for sets that have none (MSVD-QA).
    """

    id: str
    task: str
    video: str
    question: str
    reference: str
    prediction: str
    caption: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge said about one item.

    `unscored` means that no verdict could be read: `correct` and `score` are then None and
    `reason` says why. `reply` is the judge's own text where it has one, kept word for word.
    `judge` says which judge answered (see DESIGN.md, run folders); `tokens` is what it cost.
    """

    id: str
    status: Literal["scored", "unscored"]
    correct: bool | None
    score: float | None
    reason: str | None
    reply: str | None
    judge: dict[str, Any] = field(default_factory=dict)
    tokens: int = 0


@runtime_checkable
class Judge(Protocol):
    """Anything that turns items into verdicts."""

    name: str

    def describe(self) -> dict[str, Any]:
        """What run.json records: name, kind, prompt or rule version and hash, endpoint."""
        ...

    def check(self) -> None:
        """Find out, before anything is written, whether the judge can work.

        Raises:
            UserError: it cannot (no endpoint, unknown model, no key); says how to mend it.
        """
        ...

    def judge(self, items: Sequence[JudgeItem]) -> Iterator[Verdict]:
        """Yield one verdict for each item, as they are done, in any order."""
        ...

"""What a judge is given, what it returns, and what makes a judge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from sharegptvideo._io import dumps, sha256_text

if TYPE_CHECKING:
    from sharegptvideo.endpoint import Estimate

__all__ = ["Costly", "Judge", "JudgeItem", "Verdict", "scale_of"]


@dataclass(frozen=True, slots=True)
class JudgeItem:
    """One answer to judge. A judge sees these texts and nothing else, no exact state above all.

    `id` is unique within a call; `caption` is None for sets that have none (MSVD-QA). `clip` is
    the path of the clip, for judges that look at it (`needs_frames`) and for no other; None where
    there is none, or none was found.
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
    `contradiction` is whether the answer contradicts itself; None where the judge does not look.
    """

    id: str
    status: Literal["scored", "unscored"]
    correct: bool | None
    score: float | None
    reason: str | None
    reply: str | None
    judge: dict[str, Any] = field(default_factory=dict)
    tokens: int = 0
    repaired: bool = False
    contradiction: bool | None = None


@runtime_checkable
class Judge(Protocol):
    """Anything that turns items into verdicts.

    Two attributes are looked up and may be left out: `needs_frames` (True: the items carry
    clips) and `scale` (lowest and highest score, where they are not 1 and 5).
    """

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


def scale_of(judge: Judge) -> tuple[int, int]:
    """The lowest and the highest score that a judge gives; a failed answer counts with the lowest.

    The rules', and that of a judge that does not say, is 1 to 5.
    """
    scale: tuple[int, int] = getattr(judge, "scale", (1, 5))
    return scale


@runtime_checkable
class Costly(Protocol):
    """A judge whose verdicts cost money and time that can be told beforehand."""

    def estimate(self, items: Sequence[JudgeItem]) -> Estimate:
        """What verdicts on these items will take; asks nothing."""
        ...

"""How rows that begin alike become one sequence: the beginning once, then each row's own end.

    rows     [clip question chosen]        flat   clip question | chosen | rejected
             [clip question rejected]

Positions restart at the beginning's end for every row, and a row's end sees the beginning and
itself only, so that each token sees what it sees in its own row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

__all__ = ["Group", "SharedLayout", "shared_layout"]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that share a beginning: where they start in the flat sequence, and their lengths."""

    start: int
    prefix: int
    ends: tuple[int, ...]

    @property
    def stop(self) -> int:
        """The place after the last end."""
        return self.start + self.prefix + sum(self.ends)


@dataclass(frozen=True, slots=True)
class SharedLayout:
    """A padded batch of `rows`×`width` tokens as one flat sequence of T tokens.

    Attributes:
        groups: in the order of the flat sequence.
        source: T indices into the flattened batch.
        columns: T positions in a row, which is where a token stands there.
        scored: the places in the flat sequence whose next token counts.
        scored_at: for each of them, its index in the flattened rows×(width - 1) predictions.
    """

    groups: tuple[Group, ...]
    rows: int
    width: int
    source: torch.Tensor
    columns: torch.Tensor
    scored: torch.Tensor
    scored_at: torch.Tensor

    def __len__(self) -> int:
        return len(self.source)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> SharedLayout:
        """Return the same with its tensors on `device`; data loaders and trainers call it."""
        names = ("source", "columns", "scored", "scored_at")
        return replace(
            self,
            **{name: getattr(self, name).to(device, non_blocking=non_blocking) for name in names},
        )


def shared_layout(
    rows: Sequence[Sequence[int]],
    assistant_masks: Sequence[Sequence[bool]],
    groups: Sequence[Sequence[int]],
    width: int,
) -> SharedLayout:
    """Lay out rows of token ids; what all rows of a group begin with is there once.

    The token before the first learnt one stays with each row, since it is what predicts it.

    Args:
        rows: token ids, without padding.
        assistant_masks: which of them are learnt, of the same lengths.
        groups: numbers of rows that have a clip in common; every row is in one group.
        width: the padded batch's length.
    """
    laid: list[Group] = []
    source: list[int] = []
    scored: list[int] = []
    scored_at: list[int] = []
    for members in groups:
        begin = _common([rows[row] for row in members], [assistant_masks[row] for row in members])
        start = len(source)
        source += range(members[0] * width, members[0] * width + begin)
        for row in members:
            end = len(rows[row])
            for column in range(begin, end):
                if column + 1 < end and assistant_masks[row][column + 1]:
                    scored.append(len(source) + column - begin)
                    scored_at.append(row * (width - 1) + column)
            source += range(row * width + begin, row * width + end)
        laid.append(Group(start, begin, tuple(len(rows[row]) - begin for row in members)))
    indices = torch.tensor(source)
    return SharedLayout(
        groups=tuple(laid),
        rows=len(rows),
        width=width,
        source=indices,
        columns=indices % width,
        scored=torch.tensor(scored, dtype=torch.long),
        scored_at=torch.tensor(scored_at, dtype=torch.long),
    )


def _common(rows: Sequence[Sequence[int]], assistant_masks: Sequence[Sequence[bool]]) -> int:
    """How many tokens all rows begin with, before the one that predicts the first answer's."""
    limit = min(
        (mask.index(True) if True in mask else len(mask)) - 1 for mask in map(list, assistant_masks)
    )
    first = rows[0]
    for column in range(max(limit, 0)):
        if any(row[column] != first[column] for row in rows[1:]):
            return column
    return max(limit, 0)

"""The order of the rows: random, and where asked for with rows of like length in one batch."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from itertools import groupby
from typing import Literal

import torch
from torch.utils.data import Sampler

__all__ = ["ByLength", "EpochSampler", "Shuffled", "row_order"]

_BATCHES = 8

Clips = Sequence[Hashable]


class EpochSampler(Sampler[int]):
    """Rows in an order that depends on seed and epoch alone; the trainer calls `set_epoch`.

    So a resumed training sees the rows that an uninterrupted one would have. (transformers' own
    samplers draw from the global generator: their order is lost at a resume.)
    """

    def __init__(self, rows: int, seed: int) -> None:
        self._rows = rows
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of this epoch, from 0."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._rows


class Shuffled(EpochSampler):
    """Rows in random order.

    Args:
        rows: how many there are.
        clips: of every row, or None where it has none; rows of one clip then stand together, so
            that its tokens pass once for all of them that one batch holds.
    """

    def __init__(self, rows: int, seed: int, *, clips: Clips | None = None) -> None:
        super().__init__(rows, seed)
        units: dict[Hashable, list[int]] = {}
        for row in range(rows):
            clip = None if clips is None else clips[row]
            units.setdefault(row if clip is None else clip, []).append(row)
        self._units = list(units.values())
        self._unit = {row: number for number, unit in enumerate(self._units) for row in unit}

    def __iter__(self) -> Iterator[int]:
        return iter(self._shuffled(self._generator()))

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)

    def _shuffled(self, generator: torch.Generator) -> list[int]:
        drawn: list[int] = torch.randperm(len(self._units), generator=generator).tolist()
        return [row for unit in drawn for row in self._units[unit]]


class ByLength(Shuffled):
    """Rows in random order, sorted by length within every eight batches, batches shuffled.

    Padding then costs little. Rows of one kind make batches of their own, and what is left over of
    all kinds the last ones: a batch of images is not padded to the length of a clip.

    Args:
        lengths: of every row, in tokens.
        batch: rows a batch.
        clips: as `Shuffled` takes them.
        kinds: of every row; None where all are of one.
        processes: so many batches are of one kind and of like length, and stay side by side. Each
            goes to another process, and those wait for the slowest.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch: int,
        seed: int,
        *,
        clips: Clips | None = None,
        kinds: Sequence[str] | None = None,
        processes: int = 1,
    ) -> None:
        super().__init__(len(lengths), seed, clips=clips)
        self._lengths = list(lengths)
        self._kinds = kinds
        # Lengths of one kind differ little: there each process takes the next batch, whichever.
        self._batch = batch * (1 if kinds is None else processes)

    def __iter__(self) -> Iterator[int]:
        draw = self._generator()
        batches: list[list[int]] = []
        rest: list[int] = []
        for order in self._by_kind(self._shuffled(draw)):
            whole = len(order) - len(order) % self._batch
            rest += order[whole:]
            for start in range(0, whole, self._batch * _BATCHES):
                end = min(start + self._batch * _BATCHES, whole)
                batches += self._cut(self._by_length(order[start:end]))
        # The last batch may be short; only whole ones are shuffled, so that it stays the last.
        whole = len(rest) - len(rest) % self._batch
        batches += self._cut(rest[:whole])
        for number in torch.randperm(len(batches), generator=draw).tolist():
            yield from batches[number]
        yield from rest[whole:]

    def _by_kind(self, order: list[int]) -> list[list[int]]:
        if self._kinds is None:
            return [order]
        kinds: dict[str, list[int]] = {kind: [] for kind in sorted(set(self._kinds))}
        for row in order:
            kinds[self._kinds[row]].append(row)
        return list(kinds.values())

    def _cut(self, rows: list[int]) -> list[list[int]]:
        return [rows[start : start + self._batch] for start in range(0, len(rows), self._batch)]

    def _by_length(self, rows: Sequence[int]) -> list[int]:
        """Return the same rows from short to long, a clip's by the longest of them."""
        units = [list(unit) for _, unit in groupby(rows, key=self._unit.__getitem__)]
        units.sort(key=lambda unit: max(self._lengths[row] for row in unit))
        return [row for unit in units for row in unit]


def row_order(
    order: Literal["by_length", "random", "plain"],
    lengths: Sequence[int],
    batch: int,
    seed: int,
    *,
    clips: Clips | None,
    kinds: Sequence[str] | None = None,
    processes: int = 1,
) -> Shuffled:
    """Return the rows in a recipe's `data.order`.

    Args:
        order: `plain` is `random` without a clip's rows together.
        lengths, batch, clips, kinds, processes: as `ByLength` takes them.
    """
    if order == "by_length":
        return ByLength(lengths, batch, seed, clips=clips, kinds=kinds, processes=processes)
    return Shuffled(len(lengths), seed, clips=None if order == "plain" else clips)

"""The order of the rows: random, with rows of like length in one batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from torch.utils.data import Sampler

__all__ = ["ByLength"]

_BATCHES = 8


class ByLength(Sampler[int]):
    """Rows in random order, sorted by length within every eight batches, batches shuffled.

    Padding then costs little, and the order depends on nothing but seed and epoch, so a resumed
    training sees the rows that an uninterrupted one would have. The trainer calls `set_epoch`.
    (transformers' own sampler for this draws from the global generator: its order is lost at a
    resume.)

    Args:
        lengths: of every row, in tokens.
        batch: rows a batch.
        clips: of every row; rows of one clip then stand together, so that its tokens pass once
            for all of them that one batch holds.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch: int,
        seed: int,
        *,
        clips: Sequence[str] | None = None,
    ) -> None:
        self._lengths = list(lengths)
        self._batch = batch
        self._seed = seed
        self._epoch = 0
        rows: dict[str | int, list[int]] = {}
        for row in range(len(self._lengths)):
            rows.setdefault(row if clips is None else clips[row], []).append(row)
        self._units = list(rows.values())
        self._unit = {row: number for number, unit in enumerate(self._units) for row in unit}

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of this epoch, from 0."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        draw = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        drawn: list[int] = torch.randperm(len(self._units), generator=draw).tolist()
        order = [row for unit in drawn for row in self._units[unit]]
        # The last batch may be short; only whole ones are shuffled, so that it stays the last.
        whole = len(order) - len(order) % self._batch
        rest, order = order[whole:], order[:whole]
        batches = []
        for start in range(0, whole, self._batch * _BATCHES):
            pool = self._by_length(order[start : start + self._batch * _BATCHES])
            batches += [pool[i : i + self._batch] for i in range(0, len(pool), self._batch)]
        for number in torch.randperm(len(batches), generator=draw).tolist():
            yield from batches[number]
        yield from rest

    def _by_length(self, rows: Sequence[int]) -> list[int]:
        """Return the same rows from short to long, a clip's by the longest of them."""
        units = [list(unit) for _, unit in groupby(rows, key=self._unit.__getitem__)]
        units.sort(key=lambda unit: max(self._lengths[row] for row in unit))
        return [row for unit in units for row in unit]

"""Captions that say nearly the same: MinHash and banding find them, exact Jaccard confirms them.

Two captions are near-duplicates where the sets of their runs of three words overlap by a Jaccard
index of at least 0.7. MinHash (Broder 1997) with banding (Leskovec, Rajaraman, Ullman, Mining of
Massive Datasets, 3.4) proposes pairs: 150 hash functions in 30 bands of 5 find a pair of Jaccard
J with probability 1 - (1 - J^5)^30: 0.996 at 0.7, 0.99999 at 0.8, 0.61 at 0.5. The index of each
proposed pair is then computed from the sets, so what is reported is no estimate; what is missed is
bounded by the first figure. Groups are closed over chains: A near B near C is one group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from sharegptvideo._concurrency import Progress
from sharegptvideo.data.stats.tokens import Ints, TokenBatch, Words, distinct, hashes, mixed

__all__ = [
    "BANDS",
    "ROWS",
    "SHINGLE",
    "THRESHOLD",
    "ShingleFile",
    "Shingles",
    "TextIndex",
    "groups",
    "jaccard",
    "shingles",
]


SHINGLE = 3
"""Words of a run."""

THRESHOLD = 0.7
"""Jaccard index from which two captions are near-duplicates."""

BANDS, ROWS = 30, 5

_PAIRS = 1 << 13
# How far apart in a bucket two captions may stand and still be compared, so that captions of one
# mould cannot make the work quadratic. Within a bucket they stand by the next band's key, the
# nearest beside each other, and groups are closed over chains: a larger bucket of true duplicates
# is one group all the same.
_REACH = 8

_SEED = 1


@dataclass(frozen=True, slots=True)
class Shingles:
    """The sets and band keys of captions.

    Attributes:
        values: uint32 (sum of sizes,), the set of each caption, sorted.
        sizes: int64 (captions,).
        bands: uint32 (captions, BANDS); two that agree by chance cost a comparison, no more.
    """

    values: NDArray[np.uint32]
    sizes: Ints
    bands: NDArray[np.uint32]

    @classmethod
    def joined(cls, parts: Sequence[Shingles]) -> Shingles:
        """Concatenate all parts, in order."""
        return cls(
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.sizes for part in parts]),
            np.concatenate([part.bands for part in parts]),
        )

    def taken(self, places: Ints) -> Shingles:
        """Return the captions at some places, in that order."""
        starts = np.cumsum(self.sizes) - self.sizes
        parts = [self.values[starts[at] : starts[at] + self.sizes[at]] for at in places.tolist()]
        values = np.concatenate([np.empty(0, np.uint32), *parts])
        return Shingles(values, self.sizes[places], self.bands[places])


class ShingleFile:
    """Shingles of very many captions, added in order; they wait in two files.

    In memory are 128 bytes a caption once they are `joined`, and what is read of the sets then.
    """

    def __init__(self, values: BinaryIO, bands: BinaryIO) -> None:
        """Take two empty files, open to be written and read."""
        self._values, self._bands = values, bands
        self._sizes: list[Ints] = []

    def add(self, part: Shingles) -> None:
        """Add the next captions."""
        self._sizes.append(part.sizes)
        self._values.write(part.values.tobytes())
        self._bands.write(part.bands.tobytes())

    def joined(self) -> Shingles:
        """Return all of them; the sets are read from their file, which has to stay open."""
        self._values.flush()
        self._bands.seek(0)
        sizes = np.concatenate([np.empty(0, np.int64), *self._sizes])
        bands = np.fromfile(self._bands, np.uint32).reshape(-1, BANDS)
        if not sizes.sum():  # nothing can be mapped of an empty file
            return Shingles(np.empty(0, np.uint32), sizes, bands)
        return Shingles(np.memmap(self._values, np.uint32, "r"), sizes, bands)


def shingles(batch: TokenBatch) -> Shingles:
    """Return the sets of word runs of a batch's captions, and their band keys.

    A caption of one or two words has the run of these; those without words have one set.
    """
    size = len(batch.starts) - 1
    values, places = hashes(batch, SHINGLE)
    captions = batch.captions[places]
    lone = np.flatnonzero(batch.lengths < SHINGLE)
    if len(lone):
        captions = np.concatenate([captions, lone])
        values = np.concatenate([values, _of_few(batch, lone)])
    short = values >> np.uint64(32)
    keys = distinct((captions.astype(np.uint64) << np.uint64(32)) | short)
    owner = (keys >> np.uint64(32)).astype(np.int64)
    sizes = np.bincount(owner, minlength=size)
    kept = (keys & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    starts = np.concatenate(([0], np.cumsum(sizes)))[:-1]
    return Shingles(kept, sizes, _bands(kept, starts))


def _of_few(batch: TokenBatch, lone: Ints) -> Words:
    word = batch.keys[batch.ids]
    totals = np.zeros(len(lone), np.uint64)
    for step in range(SHINGLE - 1):
        there = batch.lengths[lone] > step
        totals[there] = mixed(totals[there]) + word[batch.starts[lone[there]] + step]
    return mixed(totals)


def _bands(values: NDArray[np.uint32], starts: Ints) -> NDArray[np.uint32]:
    ends = np.append(starts, len(values)).astype(np.uint64)
    minima = RMinHash.digest_matrix_from_flat_token_hashes(
        values.astype(np.uint64), ends, BANDS * ROWS, _SEED
    )
    signatures = np.array(minima.to_rows(), np.uint32)
    keys = np.tile(np.arange(BANDS, dtype=np.uint64), (len(starts), 1))
    for row in range(ROWS):
        keys = mixed(keys + signatures[:, row::ROWS])
    return (keys >> np.uint64(32)).astype(np.uint32)


def groups(
    captions: Shingles, progress: Progress | None = None, *, among: Ints | None = None
) -> Ints:
    """Return which group each caption is in: the place of its first caption, int64 (captions,).

    A caption without near-duplicate is a group of its own, and so is each that is not `among`
    those to compare: their places, rising; default: all.
    """
    group = np.arange(len(captions.sizes))
    among = group if among is None else among
    ends = np.cumsum(captions.sizes)
    for band in range(BANDS):
        if progress:
            progress(band + 1, BANDS, "near-duplicates")
        first, second = captions.bands[among, band], captions.bands[among, (band + 1) % BANDS]
        order = among[np.lexsort((second, first))]
        keys = captions.bands[order, band]
        for step in range(1, min(_REACH, len(order))):
            same = np.flatnonzero(keys[step:] == keys[:-step])
            if not len(same):
                break
            left, right = order[same], order[same + step]
            apart = group[left] != group[right]
            left, right = left[apart], right[apart]
            near = jaccard(captions.values, ends, captions.sizes, left, right) >= THRESHOLD
            if near.any():
                group = _joined(group, left[near], right[near])
    return group


def _joined(group: Ints, left: Ints, right: Ints) -> Ints:
    """Bring the groups of each pair together, under the first caption of all."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = len(group)
    edges = (np.ones(len(left), np.bool_), (group[left], group[right]))
    _, labels = connected_components(coo_array(edges, shape=(size, size)), directed=False)
    _, first = np.unique(labels, return_index=True)
    # Groups are joined by their first members, so every member follows its own.
    return np.asarray(first[labels[group]], np.int64)


class TextIndex:
    """Texts among which near-duplicates of others are searched; 250 bytes each and the sets."""

    def __init__(self, texts: Shingles) -> None:
        self._texts = texts
        self._orders = [
            np.argsort(texts.bands[:, band], kind="stable").astype(np.uint32)
            for band in range(BANDS)
        ]
        self._keys = [texts.bands[order, band] for band, order in enumerate(self._orders)]

    def find(self, others: Shingles) -> Ints:
        """Return the place of a text near to each other one, -1 where none is; int64 (others,)."""
        size = len(self._texts.sizes)
        met = []
        for band in range(BANDS):
            low = np.searchsorted(self._keys[band], others.bands[:, band], side="left")
            high = np.searchsorted(self._keys[band], others.bands[:, band], side="right")
            for step in range(_REACH):
                other = np.flatnonzero(low + step < high)
                if not len(other):
                    break
                met.append(other * size + self._orders[band][low[other] + step])
        nearest = np.full(len(others.sizes), -1, np.int64)
        if not met:
            return nearest
        pairs = np.unique(np.concatenate(met))
        other, text = pairs // size, pairs % size
        used, place = np.unique(text, return_inverse=True)
        both = Shingles.joined([self._texts.taken(used), others])
        ends = np.cumsum(both.sizes)
        near = jaccard(both.values, ends, both.sizes, place, other + len(used)) >= THRESHOLD
        # Written backwards, so that of several texts the first one stays.
        nearest[other[near][::-1]] = text[near][::-1]
        return nearest


def jaccard(
    values: NDArray[np.uint32], ends: Ints, sizes: Ints, left: Ints, right: Ints
) -> NDArray[np.float64]:
    """Return shared over all members of the sets `left[i]` and `right[i]`, float64 (pairs,)."""
    parts = [
        _jaccard(values, ends, sizes, left[at : at + _PAIRS], right[at : at + _PAIRS])
        for at in range(0, len(left), _PAIRS)
    ]
    return np.concatenate(parts) if parts else np.empty(0)


def _jaccard(
    values: NDArray[np.uint32], ends: Ints, sizes: Ints, left: Ints, right: Ints
) -> NDArray[np.float64]:
    members = np.concatenate([left, right])
    counts = sizes[members]
    pair = np.repeat(np.tile(np.arange(len(left)), 2), counts)
    inside = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    taken = values[np.repeat(ends[members] - counts, counts) + inside]
    # Both halves are sorted already, and the stable sort merges what it finds sorted.
    keys = np.sort((pair.astype(np.uint64) << np.uint64(32)) | taken, kind="stable")
    twice = keys[1:][keys[1:] == keys[:-1]] >> np.uint64(32)
    shared = np.bincount(twice.astype(np.int64), minlength=len(left))
    return np.asarray(shared / (sizes[left] + sizes[right] - shared), np.float64)

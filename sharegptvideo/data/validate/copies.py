"""Copies of clips: candidates by a table of frames, proof by the order in time.

A pair is the same clip if, with one shifted against the other by some time, enough of the shifted
clips overlap, nearly all samples there have alike light, and the colours agree. Cutting off a
beginning or an end shifts; coding and scaling keep the samples alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sharegptvideo.data.validate.fingerprint import BITS, MIRROR, VIDEO_FPS, Fingerprint

__all__ = ["Gallery", "Match"]

Words = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

ALIKE = 56
"""Two samples are alike if at most this many of 255 signs differ (0.22).

By `tests/benchmarks/bench_leakage.py`: copies at 160×120 pixels and a quality hardly worth
watching differ in 0.04 to 0.18; frames of different real clips in 0.39 and more.
"""
SHARE = 0.75
"""Samples of the overlap that have to be alike."""
OVERLAP = 0.5
"""The overlap has to be this much of the shorter clip ..."""
LEAST = 3
"""... and this many samples, or all of a shorter clip; one sample is never enough."""
COLOUR = 8.0
"""Largest mean difference of colour in one of 16 cells, in halves of 255; copies stay below 4."""
SURE = 0.95, 0.16
"""A match with at least this share alike and at most this mean distance leaves no doubt. Others
are clips cut out of shaky motion, or different ones drawn very much alike."""

_BANDS = 4
_CHUNK = 1 << 21
_OFFSETS = 6
_NEAR = 2  # ticks; two folders of two pictures a second may be a quarter of a second apart


@dataclass(frozen=True, slots=True)
class Match:
    """A clip of the gallery that shows the same.

    Attributes:
        place: its number in the gallery.
        seconds: how much later than the gallery's clip the other begins.
        overlap: samples compared.
        alike: share of them that are alike.
        distance: mean share of signs that differ.
        mirrored: whether it is the mirror image.
    """

    place: int
    seconds: float
    overlap: int
    alike: float
    distance: float
    mirrored: bool

    @property
    def sure(self) -> bool:
        """Whether the clips need no viewing; see `SURE`."""
        return self.alike >= SURE[0] and self.distance <= SURE[1]


class Gallery:
    """Clips whose copies are searched; 64 bytes a sample, and 24 more for the tables.

    Clips with fewer than two samples that show something cannot be distinguished; they are in no
    match, and `blank` counts them.
    """

    def __init__(self, fingerprints: Sequence[Fingerprint]) -> None:
        self.fingerprints = list(fingerprints)
        usable = [(n, one) for n, one in enumerate(self.fingerprints) if len(one.ticks) >= 2]
        self.blank = len(self.fingerprints) - len(usable)
        self._clip = np.repeat(
            np.array([n for n, _ in usable], np.int64), [len(one.ticks) for _, one in usable]
        )
        self._place = np.concatenate(
            [np.arange(len(one.ticks)) for _, one in usable] or [np.empty(0, np.int64)]
        )
        self._light: Words = np.concatenate(
            [one.light for _, one in usable] or [np.empty((0, BITS // 64), np.uint64)]
        )
        bands = self._light[:, :1].copy().view(np.uint16)
        self._orders = [np.argsort(bands[:, band], kind="stable") for band in range(_BANDS)]
        self._sorted = [bands[order, band] for band, order in enumerate(self._orders)]

    def find(self, fingerprint: Fingerprint) -> list[Match]:
        """Return the gallery's clips that show what the fingerprint's clip shows, nearest first."""
        if len(fingerprint.ticks) < 2:
            return []
        matches: dict[int, Match] = {}
        for mirrored in (False, True):
            ours = _mirrored(fingerprint) if mirrored else fingerprint
            for clip, shifts in self._candidates(ours):
                match = _aligned(self.fingerprints[clip], ours, shifts, clip, mirrored)
                if match and (clip not in matches or match.distance < matches[clip].distance):
                    matches[clip] = match
        return sorted(matches.values(), key=lambda match: (match.distance, match.place))

    def _candidates(self, fingerprint: Fingerprint) -> Iterator[tuple[int, list[int]]]:
        """Yield (clip, the shifts that most of its alike samples ask for) for each that has any."""
        ours, theirs = self._alike(fingerprint.light)
        if not ours.size:
            return
        clips = self._clip[theirs]
        for clip in np.unique(clips).tolist():
            mine = clips == clip
            there = self.fingerprints[clip].ticks[self._place[theirs[mine]]]
            apart = _distance(self._light[theirs[mine]], fingerprint.light[ours[mine]])
            shifts, which = np.unique(there - fingerprint.ticks[ours[mine]], return_inverse=True)
            # Nearer samples weigh more: in a still picture all are alike, and the time it was
            # taken shows in the last few signs.
            votes = np.bincount(which, weights=ALIKE + 1 - apart)
            best = np.argsort(-votes, kind="stable")[:_OFFSETS]
            yield clip, shifts[best].tolist()

    def _alike(self, light: Words) -> tuple[Ints, Ints]:
        """Return (our samples, samples of the gallery) that are alike and meet in the table.

        The 64 lowest frequencies are cut into four bands; two samples meet if one band is equal.
        With 8 of 64 signs turned that happens for a third of the samples, and of a clip one
        sample is enough.
        """
        bands = np.ascontiguousarray(light[:, :1]).view(np.uint16)
        met: list[Ints] = []
        size = len(self._light)
        for band in range(_BANDS):
            low = np.searchsorted(self._sorted[band], bands[:, band], side="left")
            high = np.searchsorted(self._sorted[band], bands[:, band], side="right")
            for sample in np.flatnonzero(high > low).tolist():
                for start in range(int(low[sample]), int(high[sample]), _CHUNK):
                    theirs = self._orders[band][start : min(start + _CHUNK, int(high[sample]))]
                    near = _distance(self._light[theirs], light[sample]) <= ALIKE
                    met.append(sample * size + theirs[near])
        pairs = np.unique(np.concatenate(met)) if met else np.empty(0, np.int64)
        return pairs // max(size, 1), pairs % max(size, 1)


def _distance(these: Words, those: Words) -> Ints:
    """Count the signs that differ."""
    differ: Ints = np.bitwise_count(these ^ those).sum(axis=-1, dtype=np.int64)
    return differ


def _mirrored(one: Fingerprint) -> Fingerprint:
    return Fingerprint(one.ticks, one.light ^ MIRROR, one.colour[:, :, ::-1])


def _aligned(
    theirs: Fingerprint, ours: Fingerprint, shifts: Sequence[int], place: int, mirrored: bool
) -> Match | None:
    """Return the best of the shifts, if it is good enough."""
    best: Match | None = None
    least = min(len(theirs.ticks), len(ours.ticks))
    needed = max(min(LEAST, least), OVERLAP * least)
    for shift in shifts:
        mine, other, distance = _paired(theirs, ours, shift)
        if len(mine) < needed:
            continue
        alike = distance <= ALIKE
        share, mean = float(alike.mean()), float(distance.mean()) / (BITS - 1)
        if share < SHARE or (best and mean >= best.distance):
            continue
        colours = np.abs(
            theirs.colour[other[alike]].astype(np.float32) - ours.colour[mine[alike]]
        ).mean(axis=(0, 3))
        if colours.max() <= COLOUR:
            best = Match(place, shift / VIDEO_FPS, len(mine), share, mean, mirrored)
    return best


def _paired(theirs: Fingerprint, ours: Fingerprint, shift: int) -> tuple[Ints, Ints, Ints]:
    """Pair each sample of ours with the likest of theirs within a quarter of a second of its time.

    Returns the numbers of ours that have one, those of theirs, and how many signs differ.
    """
    wanted = ours.ticks + shift
    at = np.searchsorted(theirs.ticks, wanted)
    choices = np.clip(at[:, None] + np.arange(-_NEAR, _NEAR + 1), 0, len(theirs.ticks) - 1)
    apart = np.abs(theirs.ticks[choices] - wanted[:, None])
    distance = _distance(theirs.light[choices], ours.light[:, None])
    distance = np.where(apart <= _NEAR, distance, BITS)
    best = distance.argmin(axis=1)
    rows = np.arange(len(wanted))
    nearest = distance[rows, best]
    mine = np.flatnonzero(nearest < BITS)
    return mine, choices[rows, best][mine], nearest[mine]

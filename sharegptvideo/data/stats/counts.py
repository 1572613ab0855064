"""Counts of one batch of captions: words, and word runs that come again.

Batches are counted in any process and put together in `aggregate`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sharegptvideo.data.stats.duplicates import Shingles, shingles
from sharegptvideo.data.stats.lexicon import matcher
from sharegptvideo.data.stats.tokens import (
    Ints,
    TokenBatch,
    Words,
    hashes,
    mixed,
    text_hash,
    tokenise,
)

__all__ = [
    "OPENING",
    "PHRASE",
    "REPEATED",
    "SEGMENT",
    "BatchCounts",
    "CaptionBatch",
    "WordCounts",
    "count_batch",
    "openings",
    "phrases",
    "repeats",
]

SEGMENT = 1000
"""Words of a segment over which type-token ratios are averaged."""

REPEATED = (2, 3, 4)
"""Lengths of the word runs that are looked for within a caption."""

OPENING = 5
"""Words of an opening."""

PHRASE = 5
"""Words of a phrase that many captions share."""

_LEAST = 0.005


@dataclass(frozen=True, slots=True)
class CaptionBatch:
    """Captions to count, with the source and the video of each."""

    sources: list[str]
    videos: list[str]
    captions: list[str]


@dataclass(frozen=True, slots=True)
class WordCounts:
    """The words of one source in a batch, or of the whole batch.

    `words` in order of first use, with how often each is used and the place, among the source's
    tokens in this batch, where it is first used; `distinct` sums the distinct words of
    `segments` whole segments.
    """

    words: list[str]
    counts: list[int]
    first: list[int]
    tokens: int
    distinct: int
    segments: int


@dataclass(frozen=True, slots=True)
class BatchCounts:
    """The counts of a batch; arrays have one entry a caption.

    `repeated` and `runs` are int64 (captions, len(REPEATED)), `marks` int32 (captions, groups of
    the lexicon), `same` uint64 is equal where captions differ in case and punctuation only.
    """

    sources: list[str]
    videos: Words
    lengths: Ints
    sentences: Ints
    repeated: Ints
    runs: Ints
    marks: NDArray[np.int32]
    same: Words
    shingles: Shingles
    openings: list[str]
    phrases: dict[str, int]
    whole: WordCounts
    by_source: dict[str, WordCounts]


def count_batch(texts: CaptionBatch) -> BatchCounts:
    """Count everything that one caption, or one batch, shows by itself."""
    batch = tokenise(texts.captions)
    again_and_runs = [repeats(batch, n) for n in REPEATED]
    return BatchCounts(
        sources=texts.sources,
        videos=np.array([text_hash(video) for video in texts.videos], np.uint64),
        lengths=batch.lengths,
        sentences=batch.sentences,
        repeated=np.stack([again for again, _ in again_and_runs], axis=1),
        runs=np.stack([runs for _, runs in again_and_runs], axis=1),
        marks=matcher().counts(batch, texts.captions),
        same=_same(batch),
        shingles=shingles(batch),
        openings=openings(batch),
        phrases=phrases(batch),
        whole=_words(batch, batch.ids),
        by_source=dict(_by_source(batch, texts.sources)),
    )


def _same(batch: TokenBatch) -> Words:
    inside = np.arange(len(batch.ids)) - np.repeat(batch.starts[:-1], batch.lengths)
    placed = mixed(batch.keys[batch.ids] + mixed(inside.astype(np.uint64)))
    sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(placed)))  # wraps, as it should
    return sums[batch.starts[1:]] - sums[batch.starts[:-1]]


def _by_source(batch: TokenBatch, sources: Sequence[str]) -> Iterator[tuple[str, WordCounts]]:
    codes = {source: code for code, source in enumerate(dict.fromkeys(sources))}
    of_word = np.array([codes[source] for source in sources])[batch.captions]
    for source, code in codes.items():
        yield source, _words(batch, batch.ids[of_word == code])


def _words(batch: TokenBatch, ids: Ints) -> WordCounts:
    size = len(batch.vocabulary)
    counts = np.bincount(ids, minlength=size)
    first = np.empty(size, np.int64)
    first[ids[::-1]] = np.arange(len(ids))[::-1]  # of several values the last one stays
    used = np.flatnonzero(counts)
    used = used[np.argsort(first[used])]
    segments = len(ids) // SEGMENT
    inside = np.arange(segments * SEGMENT) // SEGMENT * size + ids[: segments * SEGMENT]
    return WordCounts(
        words=[batch.vocabulary[word] for word in used],
        counts=counts[used].tolist(),
        first=first[used].tolist(),
        tokens=len(ids),
        distinct=len(np.unique(inside)),
        segments=segments,
    )


def repeats(batch: TokenBatch, n: int) -> tuple[Ints, Ints]:
    """Count, for each caption, its runs of `n` words that come again, and all its runs.

    Their quotient is seq-rep-n of Welleck et al. 2020 (Neural text generation with unlikelihood
    training): 1 - distinct runs / runs. Returns two int64 (captions,).
    """
    values, places = hashes(batch, n)
    size = len(batch.starts) - 1
    distinct, _ = _distinct(values, batch.captions[places], size)
    runs = np.bincount(batch.captions[places], minlength=size)
    return runs - np.bincount(distinct, minlength=size), runs


def _distinct(values: Words, captions: Ints, size: int) -> tuple[Ints, Words]:
    """Return each caption's different runs: the caption, and the hash without its lowest bits.

    Both stand in one number, since numbers are sorted fast where rows are not. In a batch of
    1,000 captions 54 bits are left: two different runs are taken for one with a chance of 1e-7.
    """
    bits = np.uint64(max(1, size.bit_length()))
    keys = np.sort(captions.astype(np.uint64) << (np.uint64(64) - bits) | values >> bits)
    fresh = np.ones(len(keys), np.bool_)
    fresh[1:] = keys[1:] != keys[:-1]
    keys = keys[fresh]
    return (keys >> (np.uint64(64) - bits)).astype(np.int64), keys << bits >> bits


def openings(batch: TokenBatch) -> list[str]:
    """Return the first words of each caption in lower case, or all of a shorter one."""
    ends = np.minimum(batch.starts[:-1] + OPENING, batch.starts[1:])
    return [
        " ".join(batch.vocabulary[word] for word in batch.ids[start:end])
        for start, end in zip(batch.starts[:-1], ends, strict=True)
    ]


def phrases(batch: TokenBatch) -> dict[str, int]:
    """Count the captions that hold a run of five words, for each run.

    Only those in two captions and in 0.5 % of the batch's: a sum over batches falls short of the
    truth by less than 0.5 % of all captions.
    """
    values, places = hashes(batch, PHRASE)
    size = len(batch.starts) - 1
    _, runs = _distinct(values, batch.captions[places], size)
    least = max(2, int(np.ceil(_LEAST * size)))
    runs = np.sort(runs)
    begins = np.flatnonzero(np.concatenate((np.ones(1, np.bool_), runs[1:] != runs[:-1])))
    counts = np.diff(np.append(begins, len(runs)))
    many = counts >= least
    kept = runs[begins[many]]
    if not len(kept):
        return {}
    held = dict(zip(kept.tolist(), counts[many].tolist(), strict=True))
    short = values >> np.uint64(max(1, size.bit_length()))
    counted: dict[str, int] = {}
    near = np.minimum(np.searchsorted(kept, short), len(kept) - 1)
    for place in np.flatnonzero(kept[near] == short):
        count = held.pop(int(short[place]), None)
        if count is not None:
            begin = places[place]
            words = batch.ids[begin : begin + PHRASE]
            counted[" ".join(batch.vocabulary[word] for word in words)] = count
    return counted

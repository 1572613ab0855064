"""What is counted in one block of captions; blocks are counted in any process and put together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sharegptvideo.data.stats.duplicates import Shingles, shingles
from sharegptvideo.data.stats.lexicon import matcher
from sharegptvideo.data.stats.repetition import REPEATED, openings, phrases, repeats
from sharegptvideo.data.stats.tokens import Block, Ints, Words, mixed, text_hash, tokenise

__all__ = ["SEGMENT", "BlockFigures", "BlockTexts", "WordFigures", "count_block"]

SEGMENT = 1000
"""Words of a segment over which type-token ratios are averaged."""


@dataclass(frozen=True, slots=True)
class BlockTexts:
    """Captions to count, with the source and the video of each."""

    sources: list[str]
    videos: list[str]
    captions: list[str]


@dataclass(frozen=True, slots=True)
class WordFigures:
    """The words of one source in a block, or of the whole block.

    `words` in order of first use, with how often each is used and the place, among the source's
    tokens in this block, where it is first used; `distinct` sums the distinct words of
    `segments` whole segments.
    """

    words: list[str]
    counts: list[int]
    first: list[int]
    tokens: int
    distinct: int
    segments: int


@dataclass(frozen=True, slots=True)
class BlockFigures:
    """What `count_block` finds; arrays have one entry a caption.

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
    whole: WordFigures
    by_source: dict[str, WordFigures]


def count_block(texts: BlockTexts) -> BlockFigures:
    """Count everything that one caption, or one block, tells by itself."""
    block = tokenise(texts.captions)
    found = [repeats(block, n) for n in REPEATED]
    return BlockFigures(
        sources=texts.sources,
        videos=np.array([text_hash(video) for video in texts.videos], np.uint64),
        lengths=block.lengths,
        sentences=block.sentences,
        repeated=np.stack([again for again, _ in found], axis=1),
        runs=np.stack([runs for _, runs in found], axis=1),
        marks=matcher().counts(block, texts.captions),
        same=_same(block),
        shingles=shingles(block),
        openings=openings(block),
        phrases=phrases(block),
        whole=_words(block, block.ids),
        by_source=dict(_by_source(block, texts.sources)),
    )


def _same(block: Block) -> Words:
    inside = np.arange(len(block.ids)) - np.repeat(block.starts[:-1], block.lengths)
    placed = mixed(block.keys[block.ids] + mixed(inside.astype(np.uint64)))
    sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(placed)))  # wraps, as it should
    return sums[block.starts[1:]] - sums[block.starts[:-1]]


def _by_source(block: Block, sources: Sequence[str]) -> Iterator[tuple[str, WordFigures]]:
    codes = {source: code for code, source in enumerate(dict.fromkeys(sources))}
    of_word = np.array([codes[source] for source in sources])[block.captions]
    for source, code in codes.items():
        yield source, _words(block, block.ids[of_word == code])


def _words(block: Block, ids: Ints) -> WordFigures:
    size = len(block.vocabulary)
    counts = np.bincount(ids, minlength=size)
    first = np.empty(size, np.int64)
    first[ids[::-1]] = np.arange(len(ids))[::-1]  # of several values the last one stays
    used = np.flatnonzero(counts)
    used = used[np.argsort(first[used])]
    segments = len(ids) // SEGMENT
    inside = np.arange(segments * SEGMENT) // SEGMENT * size + ids[: segments * SEGMENT]
    return WordFigures(
        words=[block.vocabulary[word] for word in used],
        counts=counts[used].tolist(),
        first=first[used].tolist(),
        tokens=len(ids),
        distinct=len(np.unique(inside)),
        segments=segments,
    )

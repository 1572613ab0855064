"""Word runs that come again: within a caption, at the openings of captions, across captions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sharegptvideo.caption_study.tokens import Block, Ints, Words, hashes, mixed

__all__ = ["OPENING", "PHRASE", "REPEATED", "openings", "phrases", "repeats"]

REPEATED = (2, 3, 4)
"""Lengths of the word runs that are looked for within a caption."""

OPENING = 5
"""Words of an opening."""

PHRASE = 5
"""Words of a phrase that many captions share."""

_LEAST = 0.005


def repeats(block: Block, n: int) -> tuple[Ints, Ints]:
    """For each caption how many of its runs of `n` words come again, and how many it has.

    Their quotient is seq-rep-n of Welleck et al. 2020 (Neural text generation with unlikelihood
    training): 1 - distinct runs / runs. Returns two int64 (captions,).
    """
    values, places = hashes(block, n)
    captions = block.captions[places]
    size = len(block.starts) - 1
    _, first = np.unique(_in_caption(values, captions), return_index=True)
    runs = np.bincount(captions, minlength=size)
    return runs - np.bincount(captions[first], minlength=size), runs


def _in_caption(values: Words, captions: Ints) -> Words:
    return mixed(values ^ mixed(captions.astype(np.uint64) + np.uint64(1)))


def openings(block: Block) -> list[str]:
    """The first words of each caption in lower case; a shorter caption is its own opening."""
    ends = np.minimum(block.starts[:-1] + OPENING, block.starts[1:])
    return [
        " ".join(block.vocabulary[word] for word in block.ids[start:end])
        for start, end in zip(block.starts[:-1], ends, strict=True)
    ]


def phrases(block: Block) -> dict[str, int]:
    """Runs of five words with the number of captions that hold them.

    Only those in two captions and in 0.5 % of the block's: a sum over blocks falls short of the
    truth by less than 0.5 % of all captions.
    """
    values, places = hashes(block, PHRASE)
    if not len(values):
        return {}
    captions = block.captions[places]
    _, first = np.unique(_in_caption(values, captions), return_index=True)
    distinct, where, counts = np.unique(values[first], return_index=True, return_counts=True)
    least = max(2, int(np.ceil(_LEAST * (len(block.starts) - 1))))
    kept: NDArray[np.bool_] = counts >= least
    begins = places[first][where[kept]]
    del distinct
    return {
        " ".join(block.vocabulary[word] for word in block.ids[begin : begin + PHRASE]): int(count)
        for begin, count in zip(begins, counts[kept], strict=True)
    }

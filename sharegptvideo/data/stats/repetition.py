"""Word runs that come again: within a caption, at the openings of captions, across captions."""

from __future__ import annotations

import numpy as np

from sharegptvideo.data.stats.tokens import Block, Ints, Words, hashes

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
    size = len(block.starts) - 1
    distinct, _ = _distinct(values, block.captions[places], size)
    runs = np.bincount(block.captions[places], minlength=size)
    return runs - np.bincount(distinct, minlength=size), runs


def _distinct(values: Words, captions: Ints, size: int) -> tuple[Ints, Words]:
    """Each caption's different runs: the caption, and the run's hash without its lowest bits.

    Both stand in one number, since numbers are sorted fast where rows are not. In a block of
    1,000 captions 54 bits are left: two different runs are taken for one with a chance of 1e-7.
    """
    bits = np.uint64(max(1, size.bit_length()))
    keys = np.sort(captions.astype(np.uint64) << (np.uint64(64) - bits) | values >> bits)
    fresh = np.ones(len(keys), np.bool_)
    fresh[1:] = keys[1:] != keys[:-1]
    keys = keys[fresh]
    return (keys >> (np.uint64(64) - bits)).astype(np.int64), keys << bits >> bits


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
    size = len(block.starts) - 1
    _, runs = _distinct(values, block.captions[places], size)
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
    found: dict[str, int] = {}
    near = np.minimum(np.searchsorted(kept, short), len(kept) - 1)
    for place in np.flatnonzero(kept[near] == short):
        count = held.pop(int(short[place]), None)
        if count is not None:
            begin = places[place]
            words = block.ids[begin : begin + PHRASE]
            found[" ".join(block.vocabulary[word] for word in words)] = count
    return found

"""A batch of captions as arrays: words as numbers, where captions and sentences begin."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Ints",
    "TokenBatch",
    "Words",
    "distinct",
    "hashes",
    "mixed",
    "text_hash",
    "tokenise",
]

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]

# Letters and digits, joined inside by an apostrophe or a hyphen; a full stop that ends a
# sentence (none stands in "3.5"); a double quotation mark, after which a capital names nothing.
_PIECE = re.compile(r"""[^\W_]+(?:['\-][^\W_]+)*|[.!?]+(?=[\s"”)\]]|$)|["“”]""")

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Captions in a row, as words.

    Attributes:
        ids: int64 (tokens,), each word as its place in `vocabulary`.
        starts: int64 (captions + 1,), where each caption's words begin; the last is `len(ids)`.
        opens: bool (tokens,), the words that open a sentence, a caption or a quotation.
        capital: bool (tokens,), the words written with a capital letter first.
        sentences: int64 (captions,), sentences that hold a word.
        vocabulary: the distinct words in lower case, in the order in which they first stand.
        keys: uint64 (words of the vocabulary,), a hash of each, the same in every process.
    """

    ids: Ints
    starts: Ints
    opens: NDArray[np.bool_]
    capital: NDArray[np.bool_]
    sentences: Ints
    vocabulary: list[str]
    keys: Words

    @property
    def lengths(self) -> Ints:
        """Words of each caption, int64 (captions,)."""
        return np.diff(self.starts)

    @property
    def captions(self) -> Ints:
        """Which caption each word stands in, int64 (tokens,)."""
        return np.repeat(np.arange(len(self.starts) - 1), self.lengths)


def tokenise(texts: Sequence[str]) -> TokenBatch:
    """Take captions apart; a word is letters and digits, with inner hyphens and apostrophes."""
    pieces = [_PIECE.findall(text.replace("’", "'")) for text in texts]
    sizes = np.fromiter(map(len, pieces), np.int64, len(pieces))
    forms = {form: number for number, form in enumerate(dict.fromkeys(chain.from_iterable(pieces)))}
    numbers = np.fromiter(
        map(forms.__getitem__, chain.from_iterable(pieces)), np.int64, int(sizes.sum())
    )
    words: dict[str, int] = {}
    lower = np.empty(len(forms), np.int64)
    capital = np.zeros(len(forms), np.bool_)
    full_stop = np.zeros(len(forms), np.bool_)
    for form, number in forms.items():
        if not form[0].isalnum():
            lower[number] = -1
            full_stop[number] = form[0] in ".!?"
            continue
        lower[number] = words.setdefault(form.lower(), len(words))
        capital[number] = form[0].isupper()
    return _batch(numbers, sizes, lower, capital, full_stop, list(words))


def _batch(
    pieces: Ints,
    sizes: Ints,
    lower: Ints,
    capital: NDArray[np.bool_],
    full_stop: NDArray[np.bool_],
    vocabulary: list[str],
) -> TokenBatch:
    ids = lower[pieces]
    is_word = ids >= 0
    caption = np.repeat(np.arange(len(sizes)), sizes)
    before = np.ones(len(pieces), np.bool_)
    before[1:] = ~is_word[:-1] | (caption[1:] != caption[:-1])
    # A sentence begins at a caption's first word, and after a full stop, marks between them or
    # not: at the words whose number of full stops so far differs from the previous word's.
    stops = np.cumsum(full_stop[pieces])[is_word]
    where = caption[is_word]
    fresh = np.ones(len(where), np.bool_)
    fresh[1:] = (stops[1:] != stops[:-1]) | (where[1:] != where[:-1])
    lengths = np.bincount(where, minlength=len(sizes))
    return TokenBatch(
        ids=ids[is_word],
        starts=np.concatenate(([0], np.cumsum(lengths))),
        opens=before[is_word],
        capital=capital[pieces][is_word],
        sentences=np.bincount(where[fresh], minlength=len(sizes)),
        vocabulary=vocabulary,
        keys=np.fromiter(map(text_hash, vocabulary), np.uint64, len(vocabulary)),
    )


@functools.lru_cache(maxsize=1 << 18)
def text_hash(text: str) -> int:
    """Return 64 bits that stand for a text in every process and on every machine."""
    raw = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "little")


def mixed(values: Words) -> Words:
    """Spread every bit of each value over all 64: the finaliser of SplitMix64 (Steele 2014)."""
    values = (values ^ (values >> np.uint64(30))) * _FIRST
    values = (values ^ (values >> np.uint64(27))) * _SECOND
    return values ^ (values >> np.uint64(31))


def distinct(values: Words) -> Words:
    """Return the different values, rising; by sorting, which is faster here than `np.unique`."""
    values = np.sort(values)
    fresh = np.ones(len(values), np.bool_)
    fresh[1:] = values[1:] != values[:-1]
    return values[fresh]


def hashes(batch: TokenBatch, n: int) -> tuple[Words, Ints]:
    """Return hashes of all runs of `n` words that lie in one caption, and where each begins.

    Returns (uint64 (runs,), int64 (runs,) places in `batch.ids`).
    """
    count = len(batch.ids) - n + 1
    if count <= 0:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    captions = batch.captions
    places = np.flatnonzero(captions[:count] == captions[n - 1 :])
    word = batch.keys[batch.ids]
    total = word[places]
    for step in range(1, n):
        total = mixed(total + _GOLDEN) + word[places + step]
    return mixed(total), places

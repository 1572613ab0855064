"""The caption study once more, written plainly: texts, sets and counters, one caption at a time.

Shares no code with the package, so that the tests can hold one against the other; and it is the
baseline that the benchmark times.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["minhash", "near_groups", "plain_study", "words_of"]

_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")


def words_of(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text.replace("’", "'"))]


def runs(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]


def plain_study(captions: Sequence[str]) -> dict[str, Any]:
    """Length, vocabulary, repetition and openings of captions that all have words."""
    texts = [words_of(caption) for caption in captions]
    flat = list(itertools.chain.from_iterable(texts))
    counts = Counter(flat)
    openings = Counter(" ".join(words[:5]) for words in texts)
    phrases = Counter(itertools.chain.from_iterable(set(runs(words, 5)) for words in texts))
    segments = [flat[at : at + 1000] for at in range(0, len(flat) - 999, 1000)]
    same = Counter(map(tuple, texts))
    return {
        "length": sum(map(len, texts)) / len(texts),
        "tokens": len(flat),
        "types": len(counts),
        "once_only": sum(count == 1 for count in counts.values()) / len(counts),
        "ttr_1000": (
            sum(len(set(part)) / 1000 for part in segments) / len(segments) if segments else None
        ),
        "types_at": {n: len(set(flat[:n])) for n in (100, 1000, 10_000) if n < len(flat)},
        "seq_rep": {n: _seq_rep(texts, n) for n in (2, 3, 4)},
        "shared_openings": sum(openings[" ".join(words[:5])] > 1 for words in texts) / len(texts),
        "openings": {text: count for text, count in openings.items() if count > 1},
        "phrases": {" ".join(run): count for run, count in phrases.items() if count > 1},
        "exact": sum(same[tuple(words)] > 1 for words in texts) / len(texts),
    }


def _seq_rep(texts: Sequence[Sequence[str]], n: int) -> tuple[float, float]:
    shares = []
    for words in texts:
        found = runs(words, n)
        if found:
            shares.append(1 - len(set(found)) / len(found))
    return sum(shares) / len(shares), sum(share > 0 for share in shares) / len(texts)


def near_groups(captions: Sequence[str], threshold: float = 0.7) -> list[int]:
    """The group of each caption (its first member), from all pairs of sets of three words."""
    sets = [set(runs(words_of(caption), 3)) for caption in captions]
    root = list(range(len(sets)))

    def find(one: int) -> int:
        while root[one] != one:
            one = root[one]
        return one

    for a, b in itertools.combinations(range(len(sets)), 2):
        shared = len(sets[a] & sets[b])
        if shared / len(sets[a] | sets[b]) >= threshold:
            low, high = sorted((find(a), find(b)))
            root[high] = low
    return [find(one) for one in range(len(sets))]


def minhash(caption: str, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The signature of a caption as it is usually written: one digest a run, one pass each."""
    least = np.full(len(a), np.iinfo(np.uint64).max, np.uint64)
    for run in set(runs(words_of(caption), 3)):
        digest = hashlib.sha1(" ".join(run).encode()).digest()
        value = np.uint64(int.from_bytes(digest[:4], "little"))
        np.minimum(least, (a * value + b) >> np.uint64(32), out=least)
    return least

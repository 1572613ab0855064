"""Aggregates of batches: the figures of all captions, and of each source."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharegptvideo._concurrency import Progress
from sharegptvideo.data.stats.counts import REPEATED, BatchCounts, WordCounts
from sharegptvideo.data.stats.duplicates import Shingles, groups
from sharegptvideo.data.stats.lexicon import matcher
from sharegptvideo.data.stats.tokens import Ints
from sharegptvideo.judges.rules.lexicon import FUNCTION_WORDS

__all__ = ["Aggregate"]

_LISTED = 20
_GROWTH = tuple(unit * 10**power for power in range(2, 9) for unit in (1, 2, 5))
_PERCENTILES = (5, 25, 50, 75, 95)
_BIN = 10
_NO_WORDS = WordCounts([], [], [], 0, 0, 0)


@dataclass(slots=True)
class _Vocabulary:
    """The words of one source so far, in order of first use."""

    place: dict[str, int] = field(default_factory=dict)
    counts: list[int] = field(default_factory=list)
    first: list[int] = field(default_factory=list)
    tokens: int = 0
    distinct: int = 0
    segments: int = 0

    def add(self, new: WordCounts) -> None:
        """Add the words of the next batch."""
        for word, count, first in zip(new.words, new.counts, new.first, strict=True):
            place = self.place.get(word)
            if place is None:
                self.place[word] = len(self.counts)
                self.counts.append(count)
                self.first.append(self.tokens + first)
            else:
                self.counts[place] += count
        self.tokens += new.tokens
        self.distinct += new.distinct
        self.segments += new.segments

    def figures(self) -> dict[str, Any]:
        """Return sizes, type-token ratios, growth, and the words most used."""
        types, tokens = len(self.counts), self.tokens
        first = np.array(self.first)
        at = [n for n in _GROWTH if n < tokens] + ([tokens] if tokens else [])
        content = (
            (count, word)
            for word, count in zip(self.place, self.counts, strict=True)
            if word not in FUNCTION_WORDS
        )
        top = sorted(content, key=lambda pair: (-pair[0], pair[1]))[:_LISTED]
        return {
            "tokens": tokens,
            "types": types,
            "type_token_ratio": _share(types, tokens),
            "type_token_ratio_1000": _share(self.distinct, self.segments * 1000),
            "once_only": _share(sum(count == 1 for count in self.counts), types),
            "growth": [[n, int(np.searchsorted(first, n))] for n in at],
            "new_per_1000": {
                str(n): 1000.0 * float(((first >= n // 2) & (first < n)).sum()) / (n - n // 2)
                for n in (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
                if n <= tokens
            },
            "top_words": [[word, count] for count, word in top],
        }


class Aggregate:
    """The counts of batches added in order; `figures` gives everything at the end."""

    def __init__(self) -> None:
        self.captions = 0
        self._batches: list[BatchCounts] = []
        self._whole = _Vocabulary()
        self._by_source: dict[str, _Vocabulary] = {}
        self._phrases: Counter[str] = Counter()

    def add(self, batch: BatchCounts) -> None:
        """Add the next batch; what is merged at once is let go."""
        self.captions += len(batch.sources)
        self._whole.add(batch.whole)
        for source, words in batch.by_source.items():
            self._by_source.setdefault(source, _Vocabulary()).add(words)
        self._phrases.update(batch.phrases)
        # The words are merged already; what is kept is one entry a caption.
        self._batches.append(replace(batch, whole=_NO_WORDS, by_source={}, phrases={}))

    def figures(self, progress: Progress | None = None) -> dict[str, Any]:
        """Return `whole`, `by_source`, `openings`, `phrases` and `groups` as JSON values."""
        columns = _Columns.of(self._batches, progress)
        self._batches.clear()
        every = np.ones(len(columns.sources), np.bool_)
        names = sorted(
            self._by_source, key=lambda name: (-int((columns.sources == name).sum()), name)
        )
        return {
            "whole": columns.figures(every, self._whole),
            "by_source": {
                name: columns.figures(columns.sources == name, self._by_source[name])
                for name in names
            },
            "openings": columns.top_openings(),
            "phrases": [
                {"phrase": phrase, "captions": count, "share": count / self.captions}
                for phrase, count in _most(self._phrases)
            ],
            "groups": columns.largest_groups(),
        }


def _most(counts: Counter[str]) -> list[tuple[str, int]]:
    """Return the highest counts, equal ones in alphabetical order."""
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:_LISTED]


@dataclass(frozen=True, slots=True)
class _Columns:
    """One entry a caption, over all batches."""

    sources: NDArray[np.str_]
    videos: NDArray[np.uint64]
    lengths: Ints
    sentences: Ints
    repeated: Ints
    runs: Ints
    marks: NDArray[np.int32]
    copies: Ints
    openings: list[str]
    opening_uses: Ints
    group: Ints
    group_size: Ints

    @classmethod
    def of(cls, batches: list[BatchCounts], progress: Progress | None) -> _Columns:
        same = np.concatenate([batch.same for batch in batches])
        _, inverse, counts = np.unique(same, return_inverse=True, return_counts=True)
        opening = [text for batch in batches for text in batch.openings]
        uses = Counter(opening)
        group = groups(Shingles.joined([batch.shingles for batch in batches]), progress)
        return cls(
            sources=np.array([name for batch in batches for name in batch.sources]),
            videos=np.concatenate([batch.videos for batch in batches]),
            lengths=np.concatenate([batch.lengths for batch in batches]),
            sentences=np.concatenate([batch.sentences for batch in batches]),
            repeated=np.concatenate([batch.repeated for batch in batches]),
            runs=np.concatenate([batch.runs for batch in batches]),
            marks=np.concatenate([batch.marks for batch in batches]),
            copies=counts[inverse],
            openings=opening,
            opening_uses=np.array([uses[text] for text in opening]),
            group=group,
            group_size=np.bincount(group, minlength=len(group))[group],
        )

    def figures(self, kept: NDArray[np.bool_], words: _Vocabulary) -> dict[str, Any]:
        """Return all figures of the captions in `kept`."""
        size = int(kept.sum())
        return {
            "captions": size,
            "videos": len(np.unique(self.videos[kept])),
            "length": _lengths(self.lengths[kept]),
            "sentences": float(self.sentences[kept].mean()),
            "vocabulary": words.figures(),
            "repeated": self._repeated(kept),
            "shared_openings": float((self.opening_uses[kept] > 1).mean()),
            "near_duplicates": {
                "share": float((self.group_size[kept] > 1).mean()),
                "removable": size - len(np.unique(self.group[kept])),
                "exact_share": float((self.copies[kept] > 1).mean()),
            },
            "aspects": self._aspects(kept),
        }

    def _repeated(self, kept: NDArray[np.bool_]) -> dict[str, Any]:
        table = {}
        for column, n in enumerate(REPEATED):
            again, runs = self.repeated[kept, column], self.runs[kept, column]
            some = runs > 0
            table[str(n)] = {
                "seq_rep": float((again[some] / runs[some]).mean()) if some.any() else 0.0,
                "captions": float((again > 0).mean()),
            }
        return table

    def _aspects(self, kept: NDArray[np.bool_]) -> dict[str, Any]:
        names = matcher().names
        marks, words = self.marks[kept], int(self.lengths[kept].sum())
        table: dict[str, Any] = {}
        for aspect in dict.fromkeys(aspect for aspect, _ in names):
            held = [column for column, (name, _) in enumerate(names) if name == aspect]
            table[aspect] = {
                **_frequency(marks[:, held], words),
                "groups": {names[one][1]: _frequency(marks[:, [one]], words) for one in held},
            }
        return table

    def top_openings(self) -> list[dict[str, Any]]:
        """Return the openings that most captions share, those of one caption left out."""
        shared = Counter({text: n for text, n in Counter(self.openings).items() if n > 1})
        size = len(self.openings)
        return [
            {"opening": text, "captions": count, "share": count / size}
            for text, count in _most(shared)
        ]

    def largest_groups(self) -> list[dict[str, Any]]:
        """Return the largest groups of near-duplicates, with the places of up to five members."""
        roots, sizes = np.unique(self.group, return_counts=True)
        order = np.lexsort((roots, -sizes))[:_LISTED]
        largest = []
        for place in order[sizes[order] > 1]:
            members = np.flatnonzero(self.group == roots[place])
            largest.append(
                {
                    "captions": int(sizes[place]),
                    "videos": len(np.unique(self.videos[members])),
                    "sources": sorted(set(self.sources[members].tolist())),
                    "members": members[:5].tolist(),
                }
            )
        return largest


def _lengths(lengths: Ints) -> dict[str, Any]:
    bins = np.bincount(lengths // _BIN)
    return {
        "mean": float(lengths.mean()),
        "sd": float(lengths.std(ddof=1)) if len(lengths) > 1 else 0.0,
        "min": int(lengths.min()),
        **{f"p{p}": float(np.percentile(lengths, p)) for p in _PERCENTILES},
        "max": int(lengths.max()),
        "bin": _BIN,
        "histogram": bins.tolist(),
    }


def _frequency(marks: NDArray[np.int32], words: int) -> dict[str, Any]:
    """Return the share of captions with a mark, and marks in 100 words."""
    return {
        "share": float(marks.any(axis=1).mean()),
        "per_100_words": 100.0 * float(marks.sum()) / words if words else 0.0,
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None

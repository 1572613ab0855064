"""Duplicates of ids, rows and questions, by sorting 64-bit hashes: 32 bytes a row in memory.

Two different texts share a hash with a chance of 2^-64 a pair: for a million rows once in
forty million runs.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Repeats"]

_BETWEEN = re.compile(r"[^\w]+|\b(?:an?|the)\b")


def _norm(text: str) -> str:
    """Return a text for comparison: no case, marks or articles."""
    return " ".join(_BETWEEN.sub(" ", text.casefold()).split())


@dataclass(slots=True)
class Repeats:
    """Hashes of each row's id, contents, question and answer, in order.

    `by_split` says that an id may come back in another split (Parquet: each is loaded alone).
    """

    by_split: bool
    _ids: array[int] = field(default_factory=lambda: array("q"))
    _contents: array[int] = field(default_factory=lambda: array("q"))
    _questions: array[int] = field(default_factory=lambda: array("q"))
    _answers: array[int] = field(default_factory=lambda: array("q"))

    def add(self, split: str, row: Mapping[str, Any]) -> None:
        """Take in the next row."""
        self._ids.append(hash((split if self.by_split else "", row["id"])))
        self._contents.append(hash(tuple(str(v) for k, v in row.items() if k != "id")))
        if "question" in row:
            self._questions.append(hash((split, row["video"], _norm(row["question"]))))
            self._answers.append(hash(_norm(row["answer"])))

    def ids(self) -> list[tuple[int, int]]:
        """Return (first, later) rows that share an id, in order of the later."""
        return _equal(self._ids)

    def rows(self) -> list[tuple[int, int]]:
        """Return (first, later) rows that are equal but for their ids."""
        return _equal(self._contents)

    def conflicts(self) -> list[list[int]]:
        """Return groups of rows that ask the same of the same video and answer differently.

        Of each group the first row with each answer, in order; the groups by their first row.
        """
        answers = self._answers
        groups: dict[int, dict[int, int]] = {}
        for first, later in _equal(self._questions):
            group = groups.setdefault(first, {answers[first]: first})
            group.setdefault(answers[later], later)
        return [list(groups[first].values()) for first in sorted(groups) if len(groups[first]) > 1]


def _equal(hashes: array[int]) -> list[tuple[int, int]]:
    if len(hashes) < 2:
        return []
    values = np.frombuffer(hashes, dtype=np.int64)
    order = np.argsort(values, kind="stable")
    return sorted(_runs(values[order], order), key=lambda pair: pair[1])


def _runs(values: np.ndarray[Any, Any], order: np.ndarray[Any, Any]) -> Iterator[tuple[int, int]]:
    """Yield (first, later) within each run of equal values, which a stable order keeps."""
    same = np.flatnonzero(values[1:] == values[:-1]) + 1
    first = -1
    before = -1
    for place in same.tolist():
        if place - 1 != before:
            first = place - 1
        before = place
        yield int(order[first]), int(order[place])

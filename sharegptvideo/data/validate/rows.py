"""The checks of one config's rows: each row alone, then what only shows in all of them."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sharegptvideo._concurrency import Progress
from sharegptvideo._text import few
from sharegptvideo.data.schema import Config
from sharegptvideo.data.sources import Row, Source, open_source
from sharegptvideo.data.sources.parquet import ParquetSource
from sharegptvideo.data.validate.reading import Places, Problem, ReadRow, read_config
from sharegptvideo.data.validate.report import Report, Severity
from sharegptvideo.data.validate.texts import excerpt, row_findings
from sharegptvideo.data.validate.videos import Videos, role_of

__all__ = ["RowChecks", "equal_hashes"]


_STEP = 2000
_ANSWERS = 4
_BETWEEN = re.compile(r"[^\w]+|\b(?:an?|the)\b")


class RowChecks:
    """Checks the rows of one config of a folder, and takes in the media they name.

    Attributes:
        places: where each row stands.
    """

    def __init__(self, config: Config, folder: Path, report: Report, max_chars: int) -> None:
        self.config = config
        self.places = Places()
        self._source: Source = open_source(config, folder)
        self._parquet = isinstance(self._source, ParquetSource)
        self._report = report
        self._max_chars = max_chars

    def run(self, media: Mapping[str, Videos], progress: Progress) -> None:
        """Read every row once, and those to be listed a second time.

        `media` are the videos and the images named so far, by the column that names them.
        """
        name = self.config.name
        counts = self._report.rows.setdefault(name, {})
        repeats = Repeats(by_split=self._parquet)
        for done, read in enumerate(read_config(self.config, self._source), start=1):
            if done % _STEP == 0:
                progress(done, 0, f"{name}: rows")
            if isinstance(read, Problem):
                self._note_problem(read)
                continue
            counts[read.split] = counts.get(read.split, 0) + 1
            row = self.places.add(read)
            repeats.add(read.split, read.row)
            for medium in self.config.paths:
                named = read.row[medium]
                if named is not None:
                    # What the row says of its source, not what the name's form suggests: a
                    # suspected leak is not to be passed over for a guess.
                    source = read.raw.get("source")
                    media[medium].add(role_of(read.split), named, name, source, row)
            self._note_row(read)
        progress(len(self.places), len(self.places), f"{name}: rows")
        self._note_repeats(repeats)

    def _note_problem(self, problem: Problem) -> None:
        empty = problem.message.endswith(" is empty")
        self._report.add(
            "file" if problem.whole_file else "empty-text" if empty else "schema",
            problem.message,
            config=self.config.name,
            split=problem.split,
            where=problem.where,
        )

    def _note_row(self, read: ReadRow) -> None:
        problems = row_findings(
            self.config,
            read.raw,
            read.row,
            cleaned=not self._parquet,
            max_chars=self._max_chars,
        )
        for check, message, severity in problems:
            self._report.add(
                check,
                message,
                severity=severity,
                config=self.config.name,
                split=read.split,
                id=read.row["id"],
                where=read.where,
            )

    def _note_repeats(self, repeats: Repeats) -> None:
        equal, ids = repeats.rows(), repeats.ids()
        if not self._parquet:
            # The reader leaves out a row that an earlier file has word for word; that is
            # reported as a repeated row, and its id is then no other row's.
            ids = sorted(set(ids) - set(equal), key=lambda pair: pair[1])
        conflicts = repeats.conflicts()
        listed = self._fetch(
            self._room("duplicate-id", [[later] for _, later in ids])
            | self._room("repeated-row", [[later] for _, later in equal])
            | self._room("conflicting-answers", [group[:_ANSWERS] for group in conflicts])
        )
        where = self.places.where
        severity: Severity = "error" if self._parquet else "warning"
        for first, later in ids:
            self._note("duplicate-id", f"also at {where(first)}", later, listed, severity)
        for first, later in equal:
            self._note("repeated-row", f"says what {where(first)} says", later, listed)
        for group in conflicts:
            message = ""  # only counted
            if group[0] in listed:
                asked = listed[group[0]]
                answers = [
                    f"{excerpt(listed[row]['answer'])} at {where(row)}" for row in group[:_ANSWERS]
                ]
                listing = "; ".join(few(answers, _ANSWERS, total=len(group)))
                message = f"{excerpt(asked['question'])} on {asked['video']}: {listing}"
            self._note("conflicting-answers", message, group[0], listed)

    def _note(
        self,
        check: str,
        message: str,
        row: int,
        listed: dict[int, Row],
        severity: Severity | None = None,
    ) -> None:
        self._report.add(
            check,
            message,
            severity=severity,
            config=self.config.name,
            split=self.places.split(row),
            id=listed[row]["id"] if row in listed else None,
            where=self.places.where(row),
        )

    def _room(self, check: str, groups: list[list[int]]) -> set[int]:
        """Return the rows of those groups that will be listed, the first of each split."""
        if check in self._report.skipped:
            return set()
        left: dict[str, int] = {}
        wanted: set[int] = set()
        for rows in groups:
            split = self.places.split(rows[0])
            room = left.setdefault(split, self._report.room(check, self.config.name, split))
            if room:
                left[split] = room - 1
                wanted.update(rows)
        return wanted

    def _fetch(self, wanted: set[int]) -> dict[int, Row]:
        """Return rows by number. They are read again, since keeping all would take the memory."""
        rows: dict[int, Row] = {}
        number = -1
        for read in read_config(self.config, self._source) if wanted else ():
            if isinstance(read, Problem):
                continue
            number += 1
            if number in wanted:
                rows[number] = read.row
                if len(rows) == len(wanted):
                    break
        return rows


def _norm(text: str) -> str:
    """Return a text for comparison: no case, marks or articles."""
    return " ".join(_BETWEEN.sub(" ", text.casefold()).split())


@dataclass(slots=True)
class Repeats:
    """Ids, rows and questions met twice: hashes of each row's parts, in order.

    They are sorted: 32 bytes a row in memory. Two different texts share a 64-bit hash with a
    chance of 2^-64 a pair: for a million rows once in forty million runs.

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
        return equal_hashes(self._ids)

    def rows(self) -> list[tuple[int, int]]:
        """Return (first, later) rows that are equal but for their ids."""
        return equal_hashes(self._contents)

    def conflicts(self) -> list[list[int]]:
        """Return groups of rows that ask the same of the same video and answer differently.

        Of each group the first row with each answer, in order; the groups by their first row.
        """
        answers = self._answers
        groups: dict[int, dict[int, int]] = {}
        for first, later in equal_hashes(self._questions):
            group = groups.setdefault(first, {answers[first]: first})
            group.setdefault(answers[later], later)
        return [list(groups[first].values()) for first in sorted(groups) if len(groups[first]) > 1]


def equal_hashes(hashes: array[int]) -> list[tuple[int, int]]:
    """Return (first, later) places of 64-bit values that are equal, in order of the later."""
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

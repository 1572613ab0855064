"""The checks of one config's rows: each row alone, then what only shows in all of them."""

from __future__ import annotations

from pathlib import Path

from sharegptvideo._concurrency import Progress
from sharegptvideo._text import few
from sharegptvideo.data.schema import Config
from sharegptvideo.data.sources import Row, Source, open_source
from sharegptvideo.data.sources.parquet import ParquetSource
from sharegptvideo.data.validate.duplicates import Repeats
from sharegptvideo.data.validate.reading import Places, Problem, ReadRow, read_config
from sharegptvideo.data.validate.report import Report, Severity
from sharegptvideo.data.validate.texts import excerpt, row_findings
from sharegptvideo.data.validate.videos import Videos, role_of

__all__ = ["RowChecks"]


_STEP = 2000
_ANSWERS = 4


class RowChecks:
    """Checks the rows of one config of a folder, and takes in the videos they name.

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

    def run(self, videos: Videos, progress: Progress) -> None:
        """Read every row once, and those to be listed a second time."""
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
            video = read.row["video"]
            if video is not None:
                videos.add(role_of(read.split), video, name, read.row.get("source"), row)
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
        found = row_findings(
            self.config, read.raw, read.row, mended=not self._parquet, max_chars=self._max_chars
        )
        for check, message, severity in found:
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
            # The reader leaves out a row that an earlier file has word for word; that is told
            # as a repeated row, and its id is then no other row's.
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
                told = "; ".join(few(answers, _ANSWERS, total=len(group)))
                message = f"{excerpt(asked['question'])} on {asked['video']}: {told}"
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
        """The rows of those groups that will be listed, the first of each split."""
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
        """Rows by number. They are read again, since keeping all would take the memory."""
        found: dict[int, Row] = {}
        number = -1
        for read in read_config(self.config, self._source) if wanted else ():
            if isinstance(read, Problem):
                continue
            number += 1
            if number in wanted:
                found[number] = read.row
                if len(found) == len(wanted):
                    break
        return found

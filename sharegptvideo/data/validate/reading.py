"""Rows with their places, as written and as read; what cannot be read is given as a problem.

The readers of `sharegptvideo.data.sources` correct what they can and stop at what they cannot.
Here both the row as it stands in the file and the row that they would give are wanted, and nothing
stops.
"""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sharegptvideo._io import numbered_lines, parse_row
from sharegptvideo.data.schema import Config
from sharegptvideo.data.sources.base import Source
from sharegptvideo.data.sources.parquet import ParquetSource
from sharegptvideo.data.sources.release import ReleaseSource
from sharegptvideo.data.sources.rows import RowError, check, convert
from sharegptvideo.data.sources.splits import SplitRule
from sharegptvideo.errors import UserError

__all__ = ["Places", "Problem", "ReadRow", "read_config"]

_BATCH = 1024


@dataclass(frozen=True, slots=True)
class ReadRow:
    """A row that keeps to the schema: as written, as read, and where it stands.

    `separator` is between file and number: ":" for lines, ": row " for Parquet.
    """

    split: str
    file: str
    separator: str
    number: int
    raw: dict[str, Any]
    row: dict[str, Any]

    @property
    def where(self) -> str:
        """FILE:LINE, or "FILE: row N"."""
        return f"{self.file}{self.separator}{self.number}"


@dataclass(frozen=True, slots=True)
class Problem:
    """A row that breaks the schema, or a file that cannot be read: no row comes of it."""

    message: str
    where: str
    split: str | None = None
    whole_file: bool = False


def read_config(config: Config, source: Source) -> Iterator[ReadRow | Problem]:
    """All rows of a config in the order of files and lines, whatever their split."""
    if isinstance(source, ParquetSource):
        for split in source.splits(config):
            for path in source.paths(config, split):
                yield from _parquet(config, split, str(path))
    elif isinstance(source, ReleaseSource):
        yield from _release(config, source)


def _release(config: Config, source: ReleaseSource) -> Iterator[ReadRow | Problem]:
    try:
        files, rule = source.files(config), SplitRule.of(source.root)
    except UserError as error:
        yield Problem(str(error), str(source.root), whole_file=True)
        return
    for file in files:
        try:
            with file.open() as lines:
                for number, line in numbered_lines(file.name, lines):
                    yield _line(config, source.label, rule, file.name, number, line)
        except UserError as error:
            yield Problem(_without(str(error), file.name), file.name, whole_file=True)


def _line(
    config: Config, label: str, rule: SplitRule, file: str, number: int, line: bytes
) -> ReadRow | Problem:
    where = f"{file}:{number}"
    try:
        raw = parse_row(file, number, line)
        row = convert(config, raw, label)
    except (RowError, UserError) as error:
        return Problem(_without(str(error), where), where)
    subject = row.get("video") or row.get("image") or row["id"]
    split = "test" if config.is_task else rule.split_of(str(subject))
    return ReadRow(split, file, ":", number, raw, row)


def _parquet(config: Config, split: str, path: str) -> Iterator[ReadRow | Problem]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            there = set(file.schema_arrow.names)
            missing = [name for name in config.columns if name not in there]
            if missing:
                yield Problem(f"no column {', '.join(missing)}", path, split, whole_file=True)
                return
            number = 0
            for batch in file.iter_batches(_BATCH, columns=list(config.columns)):
                for raw in batch.to_pylist():
                    number += 1
                    try:
                        row = check(config, raw)
                    except RowError as error:
                        yield Problem(str(error), f"{path}: row {number}", split)
                    else:
                        yield ReadRow(split, path, ": row ", number, raw, row)
    # Values that no Python object can hold (bytes that are no text, times out of range) are
    # ValueError or OverflowError; damage is an error of Arrow's or of the system's.
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        yield Problem(f"not a readable Parquet file ({cause})", path, split, whole_file=True)


def _without(message: str, where: str) -> str:
    return message.removeprefix(where).removeprefix(":").strip()


@dataclass(slots=True)
class Places:
    """Where each row of a config stands, by its number from 0; 5 bytes a row."""

    _starts: list[int] = field(default_factory=list)
    _files: list[tuple[str, str]] = field(default_factory=list)
    _numbers: array[int] = field(default_factory=lambda: array("I"))
    _splits: array[int] = field(default_factory=lambda: array("B"))
    _names: list[str] = field(default_factory=list)

    def add(self, read: ReadRow) -> int:
        """Take in the next row; returns its number."""
        file = (read.file, read.separator)
        if not self._files or self._files[-1] != file:
            self._files.append(file)
            self._starts.append(len(self._numbers))
        if read.split not in self._names:
            self._names.append(read.split)
        self._numbers.append(read.number)
        self._splits.append(self._names.index(read.split))
        return len(self._numbers) - 1

    def where(self, row: int) -> str:
        """FILE:LINE, or "FILE: row N", of a row."""
        file, separator = self._files[bisect.bisect_right(self._starts, row) - 1]
        return f"{file}{separator}{self._numbers[row]}"

    def split(self, row: int) -> str:
        """The split of a row."""
        return self._names[self._splits[row]]

    def __len__(self) -> int:
        return len(self._numbers)

"""Rows with their places, as written and as read; what cannot be read is given as a problem.

The blocks and batches that every reader takes hold both the row as it stands in the file and the
row that a user gets; here nothing stops at a row that breaks the schema.
"""

from __future__ import annotations

import bisect
from array import array
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sharegptvideo._io import parse_row
from sharegptvideo.data.schema import Config
from sharegptvideo.data.sources import held_configs, open_source
from sharegptvideo.data.sources.base import Source, table_rows
from sharegptvideo.data.sources.parquet import ParquetSource, read_batches
from sharegptvideo.data.sources.release import ReleaseSource
from sharegptvideo.data.sources.splits import SplitRule
from sharegptvideo.data.sources.tables import Block, read_blocks
from sharegptvideo.data.validate.videos import role_of
from sharegptvideo.errors import UserError

__all__ = ["Places", "Problem", "ReadRow", "read_config", "test_rows"]


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
    """Yield all rows of a config in the order of files and lines, whatever their split."""
    if isinstance(source, ParquetSource):
        for split in source.splits(config):
            for path in source.paths(config, split):
                yield from _parquet(config, split, path)
    elif isinstance(source, ReleaseSource):
        yield from _release(config, source)


def test_rows(folder: Path) -> Iterator[tuple[Config, ReadRow]]:
    """Yield the rows of all test sets in a folder, those that break the schema left out.

    Raises:
        UserError: there are none, or no such folder.
    """
    empty = True
    for config in held_configs(folder):
        if not config.is_task:
            continue
        for read in read_config(config, open_source(config, folder)):
            if isinstance(read, ReadRow) and role_of(read.split) == "test":
                empty = False
                yield config, read
    if empty:
        raise UserError(f"{folder}: no test rows to compare with; --against is a folder of them")


def _release(config: Config, source: ReleaseSource) -> Iterator[ReadRow | Problem]:
    try:
        files, rule = source.files(config), SplitRule.of(source.root)
    except UserError as error:
        yield Problem(str(error), str(source.root), whole_file=True)
        return
    for file in files:
        try:
            with closing(read_blocks(config, file, rule, source.label)) as blocks:
                for block in blocks:
                    yield from _block(block)
        except UserError as error:
            yield Problem(_without(str(error), file.name), file.name, whole_file=True)


def _block(block: Block) -> Iterator[ReadRow | Problem]:
    lines = block.content.split(b"\n")
    splits = block.splits or ["test"] * len(block.lines)
    rows = dict(zip(block.lines, zip(splits, table_rows(block.table), strict=True), strict=True))
    refused = dict(block.refused)
    for number in sorted(rows.keys() | refused):
        where = f"{block.file}:{number}"
        if number in refused:
            yield Problem(_without(str(refused[number]), where), where)
        else:
            split, row = rows[number]
            raw = parse_row(block.file, number, lines[number - block.first], finite=True)
            yield ReadRow(split, block.file, ":", number, raw, row)


def _parquet(config: Config, split: str, path: Path) -> Iterator[ReadRow | Problem]:
    try:
        for batch in read_batches(path, config):
            rows = dict(zip(batch.numbers, table_rows(batch.table), strict=True))
            refused = dict(batch.refused)
            for number, raw in enumerate(batch.raw.to_pylist(), start=batch.first):
                if number in refused:
                    yield Problem(refused[number], f"{path}: row {number}", split)
                else:
                    yield ReadRow(split, str(path), ": row ", number, raw, rows[number])
    except UserError as error:
        cause = _without(str(error), str(path)).removesuffix(f" (config {config.name!r})")
        yield Problem(cause, str(path), split, whole_file=True)
    # Bytes that are no text, times out of range: values that no Python object can hold.
    except (ValueError, OverflowError) as error:
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        message = f"not a readable Parquet file ({cause})"
        yield Problem(message, str(path), split, whole_file=True)


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
        """Return the split of a row."""
        return self._names[self._splits[row]]

    def __len__(self) -> int:
        return len(self._numbers)

"""Rows from a folder of Parquet made by this package: `<config>/<split>-*.parquet`."""

from __future__ import annotations

import itertools
import operator
import re
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sharegptvideo.data.schema import Config
from sharegptvideo.data.sources.base import Part, Row
from sharegptvideo.data.sources.columns import arrow_schema, checked_batch
from sharegptvideo.data.sources.release import stat_key
from sharegptvideo.data.sources.report import OnError, ReadReport, refuse
from sharegptvideo.data.sources.rows import RowError, check
from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

__all__ = ["Batch", "ParquetSource", "read_batches"]

_BATCH = 2048
_SHARD = re.compile(r"-of-(\d+)\.parquet$")


@dataclass(frozen=True, slots=True)
class ParquetSource:
    """Splits are what the files are called; nothing is split again."""

    root: Path

    @staticmethod
    def holds(root: Path, config: Config) -> bool:
        """Whether `root` has Parquet files of the config."""
        return any((root / config.name).glob("*-*.parquet"))

    def splits(self, config: Config) -> tuple[str, ...]:
        """Those of the config's splits that have files."""
        return tuple(split for split in config.splits if self.paths(config, split))

    def fingerprint(self, config: Config) -> list[str]:
        """Path, size and times of each file."""
        return [stat_key(path) for split in config.splits for path in self.paths(config, split)]

    def parts(self, config: Config, split: str) -> list[Part]:
        """Return the row groups of the files; of a file that cannot be read, a first one."""
        return [
            (number, group)
            for number, path in enumerate(self.paths(config, split))
            for group in range(_groups(path))
        ]

    def tables(
        self,
        config: Config,
        splits: Collection[str],
        on_error: OnError,
        report: ReadReport,
        parts: Collection[Part] | None = None,
    ) -> Iterator[tuple[str, pa.Table]]:
        """Yield the rows in order of file name; columns outside the schema are left.

        Raises:
            UserError: `FILE: row N: cause` (rows from 1) unless `on_error` is "skip"; a file
                that cannot be read, or one that is missing beside its neighbours.
        """
        for split in splits:
            paths = self.paths(config, split)
            _check_complete(paths)
            groups: Iterable[tuple[int, list[int] | None]]
            groups = ((number, None) for number in range(len(paths)))
            if parts is not None:
                joined = itertools.groupby(parts, key=operator.itemgetter(0))
                groups = ((number, [group for _, group in some]) for number, some in joined)
            for number, some in groups:
                for table in _file_tables(paths[number], config, on_error, report, some):
                    yield split, table

    def paths(self, config: Config, split: str) -> list[Path]:
        """Return the files of a split in the order they are read."""
        return sorted((self.root / config.name).glob(f"{split}-*.parquet"))


def _check_complete(paths: list[Path]) -> None:
    """Files are called `SPLIT-00001-of-00003`; one of three missing is no smaller dataset."""
    counts = {match[1] for path in paths if (match := _SHARD.search(path.name))}
    for count in counts:
        there = [path for path in paths if path.name.endswith(f"-of-{count}.parquet")]
        if len(counts) > 1 or len(there) != int(count):
            raise UserError(
                f"{paths[0].parent}: {len(there)} of the {int(count)} files *-of-{count}.parquet; "
                "fetch or write the split again"
            )


def _groups(path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return max(1, int(pq.read_metadata(path).num_row_groups))
    except (pa.ArrowException, OSError):
        return 1


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of a file, as they stand there and as they are read.

    Attributes:
        first: the number of the first, from 1.
        raw: all of them, as written.
        table: those that keep to the schema.
        numbers: their numbers in the file.
        refused: the others: number and cause.
    """

    first: int
    raw: pa.RecordBatch
    table: pa.Table
    numbers: Sequence[int]
    refused: list[tuple[int, str]]


def _file_tables(
    path: Path,
    config: Config,
    on_error: OnError,
    report: ReadReport,
    groups: list[int] | None = None,
) -> Iterator[pa.Table]:
    for batch in read_batches(path, config, groups):
        table = batch.table
        if batch.refused and on_error == "raise":
            table = table.slice(0, bisect_left(batch.numbers, batch.refused[0][0]))
        if table.num_rows:
            yield table
        for number, cause in batch.refused:
            refuse(f"{path}: row {number}: {cause}", on_error, report)


def read_batches(path: Path, config: Config, groups: list[int] | None = None) -> Iterator[Batch]:
    """Yield the rows of a file, or of some row groups, a few thousand at a time.

    Raises:
        UserError: the file cannot be read, or lacks a column; nothing is raised for a row.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Kept here: at the interpreter's end a stream is closed when the module may be gone.
    unreadable = (pa.ArrowException, OSError)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            _check_columns(path, file, config)
            for some in [None] if groups is None else [[group] for group in groups]:
                before = 0 if some is None else _rows_before(file, some[0])
                names = list(config.columns)
                for raw in file.iter_batches(_BATCH, row_groups=some, columns=names):
                    yield _batch(config, raw, before + 1)
                    before += raw.num_rows
    except unreadable as error:
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not a readable Parquet file ({cause})") from error


def _batch(config: Config, raw: pa.RecordBatch, first: int) -> Batch:
    import pyarrow as pa

    table = checked_batch(config, raw)
    if table is not None:
        return Batch(first, raw, table, range(first, first + raw.num_rows), [])
    rows: list[Row] = []
    numbers: list[int] = []
    refused: list[tuple[int, str]] = []
    for number in range(first, first + raw.num_rows):
        try:
            rows.append(check(config, raw.slice(number - first, 1).to_pylist()[0]))
        except RowError as error:
            refused.append((number, str(error)))
        except UnicodeDecodeError as error:
            refused.append((number, f"not UTF-8 text (byte {error.start})"))
        else:
            numbers.append(number)
    table = pa.Table.from_pylist(rows, schema=arrow_schema(config))
    return Batch(first, raw, table, numbers, refused)


def _rows_before(file: pq.ParquetFile, group: int) -> int:
    return sum(file.metadata.row_group(earlier).num_rows for earlier in range(group))


def _check_columns(path: Path, file: pq.ParquetFile, config: Config) -> None:
    there = file.schema_arrow.names
    twice = [name for name in config.columns if there.count(name) > 1]
    if twice:
        raise UserError(f"{path}: column {twice[0]!r} is there twice (config {config.name!r})")
    missing = [name for name in config.columns if name not in there]
    if missing:
        raise UserError(f"{path}: no column {', '.join(missing)} (config {config.name!r})")

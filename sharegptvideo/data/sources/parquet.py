"""Rows from a folder of Parquet made by this package: `<config>/<split>-*.parquet`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sharegptvideo.data.schema import Config
from sharegptvideo.data.sources.base import Row
from sharegptvideo.data.sources.columns import arrow_schema, checked_batch
from sharegptvideo.data.sources.release import stat_key
from sharegptvideo.data.sources.report import OnError, ReadReport, refuse
from sharegptvideo.data.sources.rows import RowError, check
from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

__all__ = ["ParquetSource"]

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

    def rows(
        self, config: Config, split: str, on_error: OnError, report: ReadReport
    ) -> Iterator[Row]:
        """The rows of one split, in order of file name; columns outside the schema are left."""
        for table in self.tables(config, split, on_error, report):
            names = table.column_names
            values = [column.to_pylist() for column in table.columns]
            for row in zip(*values, strict=True):
                yield dict(zip(names, row, strict=True))

    def tables(
        self, config: Config, split: str, on_error: OnError, report: ReadReport
    ) -> Iterator[pa.Table]:
        """The rows of one split as tables of a few thousand rows, checked like `rows`.

        Raises:
            UserError: `FILE: row N: cause` (rows from 1) unless `on_error` is "skip"; a file
                that cannot be read, or one that is missing beside its neighbours.
        """
        paths = self.paths(config, split)
        _check_complete(paths)
        for path in paths:
            yield from _file_tables(path, config, on_error, report)

    def paths(self, config: Config, split: str) -> list[Path]:
        """The files of a split in the order they are read."""
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


def _file_tables(
    path: Path, config: Config, on_error: OnError, report: ReadReport
) -> Iterator[pa.Table]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # Kept here: at the interpreter's end a stream is closed when the module may be gone.
    unreadable = (pa.ArrowException, OSError)
    try:
        with pq.ParquetFile(path) as file:
            _check_columns(path, file, config)
            number = 0
            for batch in file.iter_batches(_BATCH, columns=list(config.columns)):
                table = checked_batch(config, batch)
                if table is None:
                    table = _row_by_row(path, number, batch, config, on_error, report)
                yield table
                number += batch.num_rows
    except unreadable as error:
        cause = str(error).splitlines()[0]
        raise UserError(f"{path}: not a readable Parquet file ({cause})") from error


def _check_columns(path: Path, file: pq.ParquetFile, config: Config) -> None:
    there = set(file.schema_arrow.names)
    missing = [name for name in config.columns if name not in there]
    if missing:
        raise UserError(f"{path}: no column {', '.join(missing)} (config {config.name!r})")


def _row_by_row(
    path: Path,
    before: int,
    batch: pa.RecordBatch,
    config: Config,
    on_error: OnError,
    report: ReadReport,
) -> pa.Table:
    import pyarrow as pa

    rows: list[Row] = []
    for index in range(batch.num_rows):
        where = f"{path}: row {before + index + 1}"
        try:
            rows.append(check(config, batch.slice(index, 1).to_pylist()[0]))
        except RowError as error:
            refuse(f"{where}: {error}", on_error, report)
        except UnicodeDecodeError as error:
            refuse(f"{where}: not UTF-8 text (byte {error.start})", on_error, report)
    return pa.Table.from_pylist(rows, schema=arrow_schema(config))

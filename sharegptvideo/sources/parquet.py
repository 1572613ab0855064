"""Rows from a folder of Parquet made by this package: `<config>/<split>-*.parquet`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sharegptvideo.errors import UserError
from sharegptvideo.schema import Config
from sharegptvideo.sources.base import Row
from sharegptvideo.sources.release import stat_key
from sharegptvideo.sources.report import OnError, ReadReport, refuse
from sharegptvideo.sources.rows import RowError, check

__all__ = ["ParquetSource"]

_BATCH = 1024


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
        return tuple(split for split in config.splits if self._paths(config, split))

    def fingerprint(self, config: Config) -> list[str]:
        """Path, size and times of each file."""
        return [stat_key(path) for split in config.splits for path in self._paths(config, split)]

    def rows(
        self, config: Config, split: str, on_error: OnError, report: ReadReport
    ) -> Iterator[Row]:
        """The rows of one split, in order of file name; columns outside the schema are left."""
        for path in self._paths(config, split):
            yield from _file_rows(path, config, on_error, report)

    def _paths(self, config: Config, split: str) -> list[Path]:
        return sorted((self.root / config.name).glob(f"{split}-*.parquet"))


def _file_rows(path: Path, config: Config, on_error: OnError, report: ReadReport) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        cause = str(error).splitlines()[0]
        raise UserError(f"{path}: not a readable Parquet file ({cause})") from error
    with file:
        there = set(file.schema_arrow.names)
        missing = [name for name in config.columns if name not in there]
        if missing:
            raise UserError(f"{path}: no column {', '.join(missing)} (config {config.name!r})")
        number = 0
        for batch in file.iter_batches(_BATCH, columns=list(config.columns)):
            for raw in batch.to_pylist():
                number += 1
                try:
                    row = check(config, raw)
                except RowError as error:
                    refuse(f"{path}: row {number}: {error}", on_error, report)
                else:
                    yield row

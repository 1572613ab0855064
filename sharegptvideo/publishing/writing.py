"""All splits of a config from a source to shards, in one pass over its rows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from sharegptvideo.publishing.shards import SHARD_BYTES, SplitFiles, SplitWriter
from sharegptvideo.schema import Config
from sharegptvideo.sources import OnError, ReadReport, Source
from sharegptvideo.sources.tables import split_tables

__all__ = ["Progress", "write_config"]

Progress = Callable[[int, int, str], None]


def write_config(
    source: Source,
    config: Config,
    out: Path,
    *,
    on_error: OnError = "raise",
    report: ReadReport | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
) -> dict[str, SplitFiles]:
    """Write `out/<config>/<split>-*.parquet` with the rows of a source; all splits or none.

    The files are those that `shards.write_split` makes of `source.rows`. A split without rows
    has no file. `progress(rows, 0, config)` is told now and then.

    Raises:
        UserError: as `source.rows`; the folder cannot be written.
    """
    found = ReadReport() if report is None else report
    writers: dict[str, SplitWriter] = {}
    rows = 0
    with contextlib.ExitStack() as stack:
        # Every split the config may have: what an earlier time left of one is replaced too.
        for split in config.splits:
            writer = SplitWriter(config, split, out, shard_bytes=shard_bytes)
            writers[split] = stack.enter_context(writer)
        for split, table in split_tables(source, config, on_error, found):
            writers[split].append(table)
            rows += table.num_rows
            if progress is not None:
                progress(rows, 0, config.name)
        done = {split: writer.close() for split, writer in writers.items()}
    return {split: files for split, files in done.items() if files.rows}

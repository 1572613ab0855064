"""All splits of a config from a source to shards, in one pass over its rows."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from sharegptvideo._concurrency import Progress
from sharegptvideo.data.publish.clips import Clips
from sharegptvideo.data.publish.shards import GROUP_BYTES, SHARD_BYTES, SplitFiles, SplitWriter
from sharegptvideo.data.schema import CLIP, Config, features
from sharegptvideo.data.sources import OnError, ReadReport, Source

if TYPE_CHECKING:
    from datasets import Features

__all__ = ["write_config"]

# Clips are a hundred times the size of texts: a group of a few rows would only cost requests.
_CLIP_GROUP_BYTES = 64 << 20


def write_config(
    source: Source,
    config: Config,
    out: Path,
    *,
    on_error: OnError = "raise",
    report: ReadReport | None = None,
    clips: Clips | None = None,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
) -> dict[str, SplitFiles]:
    """Write `out/<config>/<split>-*.parquet` with the rows of a source; all splits or none.

    The files are those that `shards.write_split` makes of `source.rows`. A split without rows
    has no file. With `clips` each row has its clip beside it. `progress(rows, 0, config)` is
    told now and then.

    Raises:
        UserError: as `source.rows`; the folder cannot be written.
    """
    found = ReadReport() if report is None else report
    writers: dict[str, SplitWriter] = {}
    rows = 0
    with contextlib.ExitStack() as stack:
        # Every split the config may have: what an earlier time left of one is replaced too.
        for split in config.splits:
            writer = SplitWriter(
                config,
                split,
                out,
                shard_bytes=shard_bytes,
                group_bytes=GROUP_BYTES if clips is None else _CLIP_GROUP_BYTES,
                columns=_columns(config, clips),
            )
            writers[split] = stack.enter_context(writer)
        for split, table in source.tables(config, source.splits(config), on_error, found):
            for piece in [table] if clips is None else clips.added(table):
                writers[split].append(piece)
            rows += table.num_rows
            if progress is not None:
                progress(rows, 0, config.name)
        done = {split: writer.close() for split, writer in writers.items()}
    return {split: files for split, files in done.items() if files.rows}


def _columns(config: Config, clips: Clips | None) -> Features:
    from datasets import Video

    found = features(config.name)
    if clips is not None:
        found[CLIP] = Video()
    return found

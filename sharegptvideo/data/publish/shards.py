"""Parquet shards as the Hub and `ParquetSource` read them: `<config>/<split>-NNNNN-of-NNNNN`.

The bytes depend on the rows alone, not on how they came in or how many processes read them, so
the same rows published again upload nothing. Where a file or a row group ends depends on the
size of the rows; where a page ends on their content (content-defined chunking), so that a
changed row leaves most of a file's chunks as the Hub knows them. The page index lets a reader
skip to a row without the pages before it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import making, os_errors, sync_folder
from sharegptvideo.data.publish.clips import Clips
from sharegptvideo.data.schema import CLIP, Config, features
from sharegptvideo.data.sources import ReadReport, Source
from sharegptvideo.data.sources.columns import arrow_schema
from sharegptvideo.data.sources.rows import Row, RowError, check
from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from datasets import Features
    from numpy.typing import NDArray

__all__ = [
    "GROUP_BYTES",
    "SHARD_BYTES",
    "SplitFiles",
    "SplitWriter",
    "columns_of",
    "write_config",
    "write_split",
]

SHARD_BYTES = 256 << 20
"""Text in one file, before compression: 120-word captions make files of about 90 MB."""

GROUP_BYTES = 8 << 20
"""Text in one row group, which is what a streaming reader holds at once."""

# Clips are a hundred times the size of texts: a group of a few rows would only cost requests.
_CLIP_GROUP_BYTES = 64 << 20
_BATCH = 2048


@dataclass(frozen=True, slots=True)
class SplitFiles:
    """The files that were written of one split.

    Attributes:
        files: the shards in order; none where there were no rows.
        rows: how many rows they hold.
        bytes: their size on disk.
        data_bytes: the size of their values before compression.
        videos: how many different videos the rows name.
        images: how many different images.
    """

    files: tuple[Path, ...]
    rows: int
    bytes: int
    data_bytes: int
    videos: int
    images: int = 0


def write_split(
    rows: Iterable[Row],
    config: Config,
    split: str,
    out: Path,
    *,
    shard_bytes: int = SHARD_BYTES,
) -> SplitFiles:
    """Write the rows of one split to `out/<config>/`, all shards or none.

    Shards of the split from an earlier time are replaced; no file is written for no rows.
    Columns outside the schema are left out.

    Raises:
        UserError: `row N: cause` for a row that breaks the schema or repeats an id (rows from
            1), or the folder cannot be written.
    """
    with SplitWriter(config, split, out, shard_bytes=shard_bytes) as writer:
        ids: set[str] = set()
        numbered = enumerate(rows, start=1)
        while batch := list(itertools.islice(numbered, _BATCH)):
            writer.append(_table(config, [_checked(config, n, row, ids) for n, row in batch]))
        return writer.close()


def _checked(config: Config, number: int, raw: Row, ids: set[str]) -> Row:
    try:
        row = check(config, raw)
    except RowError as error:
        raise UserError(f"{config.name}: row {number}: {error}") from error
    if row["id"] in ids:
        raise UserError(f"{config.name}: row {number}: id {row['id']!r} is there already")
    ids.add(row["id"])
    return row


def _table(config: Config, rows: list[Row]) -> pa.Table:
    import pyarrow as pa

    return pa.Table.from_pylist(rows, schema=arrow_schema(config))


def write_config(
    source: Source,
    config: Config,
    out: Path,
    *,
    report: ReadReport | None = None,
    clips: Clips | None = None,
    progress: Progress | None = None,
) -> dict[str, SplitFiles]:
    """Write `out/<config>/<split>-*.parquet` with the rows of a source; all splits or none.

    The files are those that `write_split` makes of the source's rows. A split without rows has no
    file. With `clips` each row has its clip beside it. `progress(rows, 0, config)` is called now
    and then. Rows that the reader leaves out are noted in `report`.

    Raises:
        UserError: as `source.tables`; the folder cannot be written.
    """
    report = ReadReport() if report is None else report
    writers: dict[str, SplitWriter] = {}
    rows = 0
    with contextlib.ExitStack() as stack:
        # Every split the config may have: what an earlier time left of one is replaced too.
        for split in config.splits:
            writer = SplitWriter(
                config,
                split,
                out,
                group_bytes=GROUP_BYTES if clips is None else _CLIP_GROUP_BYTES,
                columns=columns_of(config, with_clips=clips is not None),
            )
            writers[split] = stack.enter_context(writer)
        for split, table in source.tables(config, source.splits(config), "raise", report):
            for piece in [table] if clips is None else clips.added(table):
                writers[split].append(piece)
            rows += table.num_rows
            if progress is not None:
                progress(rows, 0, config.name)
        done = {split: writer.close() for split, writer in writers.items()}
    return {split: files for split, files in done.items() if files.rows}


def columns_of(config: Config, *, with_clips: bool) -> Features:
    """Return the columns of a config's files as `datasets` knows them."""
    from datasets import Video

    columns = features(config.name)
    if with_clips:
        columns[CLIP] = Video()
    return columns


class SplitWriter:
    """Takes tables with the columns of a config and writes them as shards.

    A context manager: files show up under their names when `close` has returned, and nothing
    of them stays when the block ends before that. `columns` replaces the config's features
    where more columns are written (embedded media).

    Raises:
        UserError: the folder cannot be written, or the disk is full.
    """

    def __init__(
        self,
        config: Config,
        split: str,
        out: Path,
        *,
        shard_bytes: int = SHARD_BYTES,
        group_bytes: int = GROUP_BYTES,
        columns: Features | None = None,
    ) -> None:
        self.config, self.split, self.folder = config, split, out / config.name
        self._schema = (columns or features(config.name)).arrow_schema
        self._shard_bytes, self._group_bytes = shard_bytes, group_bytes
        # A fixed name: what a killed run left is found and removed by the next one.
        self._partial = self.folder / f".{split}.partial"
        self._waiting: list[pa.Table] = []
        self._waiting_bytes = 0
        self._parts: list[Path] = []
        self._writer: Any = None
        self._shard_so_far = 0
        self._rows = self._data_bytes = 0
        self._media: dict[str, set[int]] = {"video": set(), "image": set()}

    def __enter__(self) -> SplitWriter:
        with os_errors(self.folder):
            shutil.rmtree(self._partial, ignore_errors=True)
            with making(self.folder):
                self._partial.mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            with contextlib.suppress(OSError):  # a full disk has been reported already
                self._writer.close()
        shutil.rmtree(self._partial, ignore_errors=True)
        with contextlib.suppress(OSError):  # stays where it holds something else
            self.folder.rmdir()

    def append(self, table: pa.Table) -> None:
        """Take more rows; writes a row group whenever one is full."""
        import numpy as np

        if not table.num_rows:
            return
        table = table.select(self._schema.names).cast(self._schema)
        for medium in self.config.paths:
            names = table[medium].drop_null().unique().to_pylist()
            self._media[medium].update(map(hash, names))
        self._rows += table.num_rows
        sizes = _row_bytes(table)
        self._data_bytes += int(sizes.sum())
        ends = np.cumsum(sizes)
        start = before = 0
        while start < table.num_rows:
            # The row that fills the group is its last one.
            room = self._group_bytes - self._waiting_bytes
            end = int(np.searchsorted(ends, before + room)) + 1
            if end > table.num_rows:
                self._waiting.append(table.slice(start))
                self._waiting_bytes += int(ends[-1]) - before
                return
            self._waiting.append(table.slice(start, end - start))
            self._waiting_bytes += int(ends[end - 1]) - before
            start, before = end, int(ends[end - 1])
            self._write_group()

    def close(self) -> SplitFiles:
        """Finish the last shard and give all of them their names."""
        with os_errors(self.folder):
            self._write_group()
            self._end_shard()
            count = len(self._parts)
            names = [
                self.folder / f"{self.split}-{number:05d}-of-{count:05d}.parquet"
                for number in range(count)
            ]
            for part, name in zip(self._parts, names, strict=True):
                part.replace(name)
            # Only now: what was there is never gone before what comes in its place is there.
            for old in set(self.folder.glob(f"{self.split}-*.parquet")) - set(names):
                old.unlink()
            sync_folder(self.folder)
            size = sum(name.stat().st_size for name in names)
        media = [len(self._media[medium]) for medium in ("video", "image")]
        return SplitFiles(tuple(names), self._rows, size, self._data_bytes, *media)

    def _write_group(self) -> None:
        import pyarrow as pa

        if not self._waiting:
            return
        group = pa.concat_tables(self._waiting).combine_chunks()
        size, self._waiting, self._waiting_bytes = self._waiting_bytes, [], 0
        with os_errors(self.folder):
            if self._writer is None:
                self._parts.append(self._partial / f"{len(self._parts):05d}.parquet")
                self._writer = _parquet_writer(self._parts[-1], self._schema)
            self._writer.write_table(group, row_group_size=group.num_rows)
            self._shard_so_far += size
            if self._shard_so_far >= self._shard_bytes:
                self._end_shard()

    def _end_shard(self) -> None:
        if self._writer is None:
            return
        writer, self._writer, self._shard_so_far = self._writer, None, 0
        writer.close()
        with self._parts[-1].open("rb") as file:
            os.fsync(file.fileno())


def _parquet_writer(path: Path, schema: pa.Schema) -> Any:
    import pyarrow.parquet as pq
    from datasets import config as hf

    writer = pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_content_defined_chunking=hf.DEFAULT_CDC_OPTIONS,
        write_page_index=True,
        write_page_checksum=True,
    )
    # As `datasets` notes it, so that its own tools see how the pages were cut.
    writer.add_key_value_metadata({"content_defined_chunking": json.dumps(hf.DEFAULT_CDC_OPTIONS)})
    return writer


def _row_bytes(table: pa.Table) -> NDArray[np.int64]:
    """Return the size of each row's values in bytes, however the table is cut into chunks."""
    import numpy as np

    total = np.zeros(table.num_rows, dtype=np.int64)
    for column in table.columns:
        total += _value_bytes(column)
    return total


def _value_bytes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        lengths: NDArray[np.int64] = pc.fill_null(pc.binary_length(column), 0).to_numpy()
        return lengths.astype(np.int64)
    if pa.types.is_struct(kind):
        parts = column.flatten()
        return sum((_value_bytes(part) for part in parts), np.zeros(len(column), np.int64))
    if pa.types.is_list(kind):
        counts = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
        values = _value_bytes(pc.list_flatten(column))
        so_far = np.concatenate([np.zeros(1, np.int64), np.cumsum(values)])
        ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        sizes: NDArray[np.int64] = np.diff(so_far[ends])
        return sizes
    return np.full(len(column), 8, dtype=np.int64)

"""All splits of a config as Arrow tables in one pass: the rows of `Source.rows`, many at once.

Lines are read in blocks of a few megabytes. Threads turn blocks into tables (`columns.py`; the
Arrow library works outside Python's lock), row by row where a block holds anything unusual.
What looks at all rows in their order, ids and repeated rows, is done here, in order.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from sharegptvideo._concurrency import available_cores, ordered_map
from sharegptvideo._io import numbered_lines
from sharegptvideo.data.schema import Config
from sharegptvideo.data.sources.base import Source
from sharegptvideo.data.sources.columns import arrow_schema, converted_block, convertible
from sharegptvideo.data.sources.parquet import ParquetSource
from sharegptvideo.data.sources.release import Ids, LineFile, ReleaseSource, converted, subject
from sharegptvideo.data.sources.report import OnError, ReadReport
from sharegptvideo.data.sources.splits import SplitRule

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["read_tables", "split_tables"]

BLOCK_BYTES = 2 << 20
_BATCH = 2048


def split_tables(
    source: Source, config: Config, on_error: OnError, report: ReadReport
) -> Iterator[tuple[str, pa.Table]]:
    """Yield `(split, table)` with the rows that `source.rows` gives for each split, in order.

    A split comes in many tables, and those of different splits come mixed.

    Raises:
        UserError: as `source.rows`.
    """
    if isinstance(source, ReleaseSource):
        rule = SplitRule.of(source.root)
        yield from read_tables(config, source.files(config), rule, source.label, on_error, report)
    elif isinstance(source, ParquetSource):
        for split in source.splits(config):
            for table in source.tables(config, split, on_error, report):
                yield split, table
    else:
        import pyarrow as pa

        schema = arrow_schema(config)
        for split in source.splits(config):
            rows = source.rows(config, split, on_error, report)
            while batch := list(itertools.islice(rows, _BATCH)):
                yield split, pa.Table.from_pylist(batch, schema=schema)


@dataclass(slots=True)
class _Block:
    """The rows of one block; `lines` are the numbers of their lines."""

    file: str
    table: pa.Table
    lines: Sequence[int]
    splits: list[str]
    report: ReadReport


def read_tables(
    config: Config,
    files: Iterable[LineFile],
    rule: SplitRule,
    label: str,
    on_error: OnError,
    report: ReadReport,
) -> Iterator[tuple[str, pa.Table]]:
    """`release.read_files` for all splits at once, as tables.

    Raises:
        UserError: `FILE:LINE: cause`, unless `on_error` is "skip".
    """
    files = list(files)
    threads = available_cores()
    ids = Ids()
    for number, file in enumerate(files):

        def work(numbered: tuple[int, bytes], name: str = file.name) -> _Block:
            return _block(config, name, *numbered, rule, label, on_error)

        for block in ordered_map(work, _blocks(file), workers=threads, ahead=2 * threads):
            report.skipped += block.report.skipped
            if len(files) > 1:
                _drop_repeated(block, ids, report)
            if block.table.num_rows:
                _make_unique(block, ids)
                yield from _by_split(block)
        if number + 1 < len(files):
            ids.end_file()


def _blocks(file: LineFile) -> Iterator[tuple[int, bytes]]:
    """Whole lines of a file with the number of the first."""
    first = 1
    with file.open() as lines:
        while block := _next_block(file, lines):
            if not block.endswith(b"\n"):
                block += b"\n"  # the last line may lack its end
            yield first, block
            first += block.count(b"\n")


def _next_block(file: LineFile, lines: IO[bytes]) -> bytes:
    try:
        block = lines.read(BLOCK_BYTES)
        return block if not block or block.endswith(b"\n") else block + lines.readline()
    except (OSError, EOFError, ValueError):
        # What went wrong and behind which line: reading by line tells.
        with file.open() as again:
            for _ in numbered_lines(file.name, again):
                pass
        raise


def _block(
    config: Config,
    name: str,
    first: int,
    content: bytes,
    rule: SplitRule,
    label: str,
    on_error: OnError,
) -> _Block:
    report = ReadReport()
    table = converted_block(config, content, label) if convertible(config) else None
    lines: Sequence[int]
    if table is not None:
        lines = range(first, first + table.num_rows)
    else:
        table, lines = _row_by_row(config, name, first, content, label, on_error, report)
    splits = [] if config.is_task else _splits(table, rule)
    return _Block(name, table, lines, splits, report)


def _row_by_row(
    config: Config,
    name: str,
    first: int,
    content: bytes,
    label: str,
    on_error: OnError,
    report: ReadReport,
) -> tuple[pa.Table, list[int]]:
    import pyarrow as pa

    numbered = enumerate(io.BytesIO(content), start=first)
    filled = ((number, line) for number, line in numbered if line.strip())
    numbers, rows = [], []
    for number, row in converted(config, name, filled, label, on_error, report):
        numbers.append(number)
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=arrow_schema(config)), numbers


def _splits(table: pa.Table, rule: SplitRule) -> list[str]:
    names = [name for name in ("id", "video", "image") if name in table.column_names]
    return [rule.split_of(subject(row)) for row in table.select(names).to_pylist()]


def _drop_repeated(block: _Block, ids: Ids, report: ReadReport) -> None:
    kept = [not ids.repeats(row) for row in block.table.to_pylist()]
    if all(kept):
        return
    gone = [line for line, keep in zip(block.lines, kept, strict=True) if not keep]
    report.repeated += [f"{block.file}:{line}" for line in gone]
    block.table = block.table.filter(kept)
    block.splits = list(itertools.compress(block.splits, kept))


def _make_unique(block: _Block, ids: Ids) -> None:
    import pyarrow as pa

    names = block.table["id"].to_pylist()
    unique = ids.all_unique(names)
    if unique is not names:
        block.table = block.table.set_column(0, "id", pa.array(unique, pa.string()))


def _by_split(block: _Block) -> Iterator[tuple[str, pa.Table]]:
    if not block.splits:
        yield "test", block.table
        return
    for split in sorted(set(block.splits)):
        mask = [found == split for found in block.splits]
        yield split, block.table if all(mask) else block.table.filter(mask)

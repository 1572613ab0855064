"""Rows of the release's JSONL files as Arrow tables, in their order, all splits in one pass.

Lines are read in blocks of up to a few megabytes. Threads turn blocks into tables (`columns.py`;
the Arrow library works outside Python's lock), row by row where a block holds anything unusual.
What depends on all rows in their order, ids and repeated rows, is decided here, in order.
"""

from __future__ import annotations

import io
import itertools
import zlib
from bisect import bisect_left
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from sharegptvideo._concurrency import available_cores, ordered_map
from sharegptvideo._io import numbered_lines, parse_row
from sharegptvideo.data.schema import Config
from sharegptvideo.data.sources.base import Part, Row
from sharegptvideo.data.sources.columns import arrow_schema, converted_block, convertible
from sharegptvideo.data.sources.report import OnError, ReadReport, refuse
from sharegptvideo.data.sources.rows import RowError, convert
from sharegptvideo.data.sources.splits import SplitRule
from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "BLOCK_BYTES",
    "PART_BYTES",
    "Block",
    "LineFile",
    "file_parts",
    "read_blocks",
    "read_tables",
]

BLOCK_BYTES = 2 << 20
_FIRST_BLOCK = 1 << 16  # the first rows of a slow file come before megabytes of it
PART_BYTES = 16 << 20
"""What one of several readers of a file takes at a time."""


@dataclass(frozen=True, slots=True)
class LineFile:
    """A JSONL file.

    Attributes:
        name: for messages.
        open: opens it for reading bytes.
        parts: for how many readers it is cut, every `PART_BYTES`.
        remote: whether it comes over a network; it is then not read far ahead.
    """

    name: str
    open: Callable[[], IO[bytes]]
    parts: int = 1
    remote: bool = False


@dataclass(slots=True)
class Block:
    """Whole lines of a file, and the rows that they are.

    Attributes:
        file: the file's name.
        start: the place of the first byte in the file.
        first: the number of the first line.
        content: the lines.
        table: the rows that keep to the schema; ids may repeat.
        lines: the numbers of their lines.
        splits: their splits; empty for a test set.
        refused: the lines that are no rows: number, and `FILE:LINE: cause`.
    """

    file: str
    start: int
    first: int
    content: bytes
    table: pa.Table
    lines: Sequence[int]
    splits: list[str]
    refused: list[tuple[int, str | UserError]]

    def drop(self, kept: list[bool]) -> None:
        """Keep some of the rows."""
        self.table = self.table.filter(kept)
        self.lines = list(itertools.compress(self.lines, kept))
        self.splits = list(itertools.compress(self.splits, kept))

    def by_split(self) -> Iterator[tuple[str, pa.Table]]:
        """Yield the rows of each split, in their order."""
        if not self.splits:
            yield "test", self.table
            return
        for split in sorted(set(self.splits)):
            mask = [name == split for name in self.splits]
            yield split, self.table if all(mask) else self.table.filter(mask)


@dataclass(slots=True)
class _Ids:
    """Ids and contents met so far, as 64-bit hashes: 900k rows take about 100 MB."""

    used: set[int] = field(default_factory=set)
    earlier: set[int] = field(default_factory=set)
    current: set[int] = field(default_factory=set)

    def drop_repeated(self, block: Block) -> list[int]:
        """Leave out the rows that an earlier file has, word for word; returns their lines."""
        kept = [not self._repeats(row) for row in block.table.to_pylist()]
        if all(kept):
            return []
        gone = [line for line, keep in zip(block.lines, kept, strict=True) if not keep]
        block.drop(kept)
        return gone

    def _repeats(self, row: Row) -> bool:
        content = hash(tuple(map(str, row.values())))
        if content in self.earlier:
            return True
        self.current.add(content)
        return False

    def make_unique(self, block: Block, rule: SplitRule) -> None:
        """Change ids that are taken: the second row of an id becomes `ID#2`, and so on."""
        import pyarrow as pa

        names = block.table["id"].to_pylist()
        fresh = set(map(hash, names))
        if len(fresh) == len(names) and fresh.isdisjoint(self.used):
            self.used |= fresh
        else:
            unique = pa.array(map(self._unique, names), pa.string())
            block.table = block.table.set_column(0, "id", unique)
            if block.splits:  # a row about no medium goes by its id
                block.splits = _splits(block.table, rule)

    def _unique(self, name: str) -> str:
        number, candidate = 1, name
        while hash(candidate) in self.used:
            number += 1
            candidate = f"{name}#{number}"
        self.used.add(hash(candidate))
        return candidate

    def end_file(self) -> None:
        """Count what was read so far as an earlier file's."""
        self.earlier |= self.current
        self.current.clear()


def read_tables(
    config: Config,
    files: Iterable[LineFile],
    rule: SplitRule,
    label: str | None,
    on_error: OnError,
    report: ReadReport,
    parts: Collection[Part] | None = None,
) -> Iterator[tuple[str, pa.Table]]:
    """Yield `(split, table)` with the rows of JSONL files, each split's in order of file and line.

    Ids are unique: the second row of an id becomes `ID#2`, the third `ID#3`. A row that an
    earlier *file* holds too, word for word (the release's 240k questions are among its 900k),
    is left out and listed in `report.repeated`; within one file every row stays. Both are
    decided for all splits and parts together, so an id always means the same row. Therefore
    what stands before the last of `parts` is read in any case, though not given.

    Args:
        parts: some of `file_parts`; all where None.

    Raises:
        UserError: `FILE:LINE: cause`, after the rows before it, unless `on_error` is "skip".
    """
    files = list(files)
    last = (len(files), 0) if parts is None else max(parts, default=(-1, 0))
    ids = _Ids()
    for number, file in enumerate(files[: last[0] + 1]):
        with closing(read_blocks(config, file, rule, label)) as blocks:
            for block in blocks:
                part = (number, min(block.start // PART_BYTES, file.parts - 1))
                if part > last:
                    return
                wanted = parts is None or part in parts
                problem = block.refused[0] if block.refused and on_error == "raise" else None
                if problem is not None:
                    _end_at(block, problem[0])
                elif wanted:
                    report.skipped += [str(cause) for _, cause in block.refused]
                if len(files) > 1:
                    repeated = ids.drop_repeated(block)
                    report.repeated += [f"{file.name}:{line}" for line in repeated if wanted]
                if block.table.num_rows:
                    ids.make_unique(block, rule)
                    if wanted:
                        yield from block.by_split()
                if problem is not None:
                    refuse(problem[1], on_error, report)
        ids.end_file()


def _end_at(block: Block, line: int) -> None:
    count = bisect_left(block.lines, line)
    block.table, block.lines = block.table.slice(0, count), block.lines[:count]
    block.splits = block.splits[:count]


def file_parts(files: Iterable[LineFile]) -> list[Part]:
    """Return the parts of files, for several readers."""
    return [(number, part) for number, file in enumerate(files) for part in range(file.parts)]


def read_blocks(
    config: Config, file: LineFile, rule: SplitRule, label: str | None
) -> Generator[Block]:
    """Yield a file's lines with the rows that they are.

    Raises:
        UserError: the file cannot be read further; nothing is raised for a line.
    """

    def work(lines: tuple[int, int, bytes]) -> Block:
        return _block(config, file.name, lines, rule, label)

    threads = 1 if file.remote else available_cores()
    return ordered_map(work, _blocks(file), workers=threads, ahead=2 * threads)


def _blocks(file: LineFile) -> Iterator[tuple[int, int, bytes]]:
    """Whole lines of a file with the place of their first byte and the number of the first."""
    start, first, size = 0, 1, _FIRST_BLOCK
    with file.open() as lines:
        while True:
            try:
                block = lines.read(min(size, BLOCK_BYTES))
                block += b"" if block.endswith(b"\n") else lines.readline()
            except (OSError, EOFError, ValueError, zlib.error):
                yield from _lines_to_error(file, start, first)
                raise
            if not block:
                return
            # The last line may lack its end.
            yield start, first, block if block.endswith(b"\n") else block + b"\n"
            start += len(block)
            first += block.count(b"\n")
            size *= 2


def _lines_to_error(file: LineFile, start: int, first: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield the lines from `first` on that can be read; then raise the error, with the last."""
    block = bytearray()
    following = first
    try:
        with file.open() as lines:
            for number, line in numbered_lines(file.name, lines):
                if number >= first:
                    block += b"\n" * (number - following) + line
                    following = number + 1
    except UserError:
        if block:
            yield start, first, bytes(block)
        raise


def _block(
    config: Config, name: str, lines: tuple[int, int, bytes], rule: SplitRule, label: str | None
) -> Block:
    start, first, content = lines
    table = converted_block(config, content, label) if convertible(config) else None
    numbers: Sequence[int]
    refused: list[tuple[int, str | UserError]] = []
    if table is not None:
        numbers = range(first, first + table.num_rows)
    else:
        table, numbers = _row_by_row(config, name, first, content, label, refused)
    splits = [] if config.is_task else _splits(table, rule)
    return Block(name, start, first, content, table, numbers, splits, refused)


def _row_by_row(
    config: Config,
    name: str,
    first: int,
    content: bytes,
    label: str | None,
    refused: list[tuple[int, str | UserError]],
) -> tuple[pa.Table, list[int]]:
    import pyarrow as pa

    numbers, rows = [], []
    for number, line in enumerate(io.BytesIO(content), start=first):
        if not line.strip():
            continue
        try:
            rows.append(convert(config, parse_row(name, number, line, finite=True), label))
        except RowError as error:
            refused.append((number, f"{name}:{number}: {error}"))
        except UserError as error:
            refused.append((number, error))
        else:
            numbers.append(number)
    return pa.Table.from_pylist(rows, schema=arrow_schema(config)), numbers


def _splits(table: pa.Table, rule: SplitRule) -> list[str]:
    """Return the split of each row by what it is about: its video, image, or id."""
    names = [name for name in ("video", "image", "id") if name in table.column_names]
    columns = [table[name].to_pylist() for name in names]
    return [rule.split_of(next(filter(None, subject))) for subject in zip(*columns, strict=True)]

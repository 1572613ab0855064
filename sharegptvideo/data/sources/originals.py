"""Files as other people published them: entries of JSON lists and lines of tables, each located.

What every reader of original annotations shares. `Entry` is where an entry stands, for messages
(`FILE: entry 3`, `FILE:4`), and what it says. Text is UTF-8, a byte-order mark and either kind of
line end are taken as they come; UTF-16 and broken text are refused with the line.
"""

from __future__ import annotations

import codecs
import csv
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from sharegptvideo._io import kind_of, numbered_lines, open_lines, read_json
from sharegptvideo.data.sources.base import Row
from sharegptvideo.data.sources.rows import RowError
from sharegptvideo.errors import UserError

__all__ = [
    "Entry",
    "OnBad",
    "fail",
    "read_lines",
    "read_list",
    "read_table",
    "text_of",
    "text_or_number",
]

Entry = tuple[str, Row]

OnBad = Callable[[str], None]
"""What is done about one entry that cannot be read: raise, or note the problem and go on."""

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def fail(problem: str) -> None:
    """Raise the problem: the usual `OnBad`.

    Raises:
        UserError: always.
    """
    raise UserError(problem)


def read_list(path: Path, on_bad: OnBad = fail) -> Iterator[Entry]:
    """Yield the objects of a JSON list, as `FILE: entry N` from 1; `on_bad` for what is no object.

    Raises:
        UserError: the file is not JSON in UTF-8 (with the line), or no list.
    """
    entries = read_json(path, finite=True)
    if not isinstance(entries, list):
        raise UserError(f"{path}: a list of questions is needed, as in the original files")
    for number, entry in enumerate(entries, start=1):
        where = f"{path}: entry {number}"
        if isinstance(entry, dict):
            yield where, entry
        else:
            on_bad(f"{where}: {kind_of(entry)}, not an object")


def read_table(
    path: Path,
    delimiter: str,
    *,
    quoted: bool = True,
    needed: Sequence[str] = (),
    hint: str = "",
    on_bad: OnBad = fail,
) -> Iterator[Entry]:
    """Return the lines of a table with a heading, as `FILE:LINE` of their last line.

    Args:
        path: the file.
        delimiter: what stands between two columns.
        quoted: whether `"` encloses a value; if not, it is a character like any other.
        needed: columns that the heading must have.
        hint: what to say where one of them is absent.
        on_bad: for a line with too few or too many columns.

    Raises:
        UserError: no heading, a column twice, not UTF-8, a `"` that never ends.
    """
    with open_lines(path) as file:
        lines = _decoded(path, file)
        table = csv.reader(
            lines,
            delimiter=delimiter,
            quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
            strict=quoted,
        )
        try:
            heading = _heading(path, next(table, None), needed, hint)
            for values in table:
                if not values:
                    continue
                where = f"{path}:{table.line_num}"
                if len(values) != len(heading):
                    kind = {"\t": "tab-separated", ",": "comma-separated"}.get(delimiter, delimiter)
                    on_bad(f"{where}: needs {len(heading)} columns, {kind}")
                else:
                    yield where, dict(zip(heading, values, strict=True))
        except csv.Error as error:
            raise UserError(f"{path}:{table.line_num}: not a table ({error})") from error


def _heading(path: Path, names: list[str] | None, needed: Sequence[str], hint: str) -> list[str]:
    if not names:
        raise UserError(f"{path}:1: no heading; the first line names the columns")
    absent = [name for name in needed if name not in names]
    if absent:
        raise UserError(f"{path}:1: no column {', '.join(absent)}; {hint}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{path}:1: column {twice[0]!r} is there twice")
    return names


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text that are not blank, with their numbers from 1.

    Raises:
        UserError: the file cannot be read, or a line is not UTF-8.
    """
    with open_lines(path) as file:
        for number, line in enumerate(_decoded(path, file), start=1):
            if line.strip():
                yield number, line.rstrip("\r\n")


def _decoded(path: Path, file: IO[bytes]) -> Iterator[str]:
    """All lines as text; a blank one, which may stand within a quoted value, as its end alone."""
    done = 0
    for number, line in numbered_lines(path, file):
        yield from itertools.repeat("\n", number - done - 1)
        done = number
        if number == 1 and (line.startswith(_UTF16) or b"\0" in line):
            raise UserError(f"{path}:1: UTF-16 text, or no text at all; save the file as UTF-8")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{path}:{number}: not UTF-8 text (byte {error.start})") from error


def text_of(entry: Mapping[str, Any], *names: str) -> str:
    """Return the text under the first of `names` that the entry has.

    Raises:
        RowError: there is none, or it is no text.
    """
    value = next((entry[name] for name in names if entry.get(name) is not None), None)
    if value is None:
        raise RowError(f"no {' or '.join(names)}")
    if not isinstance(value, str):
        raise RowError(f"{names[0]!r} is {kind_of(value)} where a text belongs")
    return value


def text_or_number(entry: Mapping[str, Any], *names: str) -> str:
    """As `text_of`; a whole number is taken too, as its digits. Ids and counts come so.

    Raises:
        RowError: there is none, or it is neither.
    """
    value = next((entry[name] for name in names if entry.get(name) is not None), None)
    if isinstance(value, int) and not isinstance(value, bool):
        return _digits(value)
    return text_of(entry, *names)


def _digits(value: int) -> str:
    # Python refuses to write numbers of thousands of digits, and no id has so many.
    if abs(value) >= 10**18:
        raise RowError("a number of more than 18 digits")
    return str(value)

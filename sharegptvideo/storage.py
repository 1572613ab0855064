"""Files that are whole or absent: atomic writes, JSONL by line number, append-only keyed logs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from sharegptvideo.errors import UserError

__all__ = [
    "KeyedLog",
    "dumps",
    "parse_row",
    "read_json",
    "read_jsonl",
    "replacing",
    "sha256_file",
    "sha256_text",
    "write_json",
    "write_jsonl",
    "write_text",
]

Row = dict[str, Any]


def dumps(value: object) -> str:
    """One line of JSON, UTF-8 kept as it is; NaN is refused, since no other reader takes it."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[str]]:
    """Open a temporary text file beside `path` that replaces it, synced, when the block succeeds.

    On an error or an interrupt the temporary file is removed and `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BaseException:  # Ctrl-C too: nothing half-written stays, then it goes its way
        temporary.unlink(missing_ok=True)
        raise


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with replacing(path) as file:
        file.write(text)


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2) + "\n")


def write_jsonl(path: Path, rows: Iterable[Row]) -> int:
    """Write one JSON object a line, whole or not at all; returns how many."""
    count = 0
    with replacing(path) as file:
        for row in rows:
            file.write(dumps(row) + "\n")
            count += 1
    return count


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file is missing or is not JSON; says which and, if broken, the line.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON ({error.msg})") from error


def read_jsonl(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield `(line number from 1, row)` for each line that is not blank.

    Raises:
        UserError: `FILE:LINE: cause` for a line that is not a JSON object in UTF-8.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    with file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            yield number, parse_row(path, number, line)


def parse_row(path: Path | str, number: int, line: bytes) -> Row:
    """The JSON object on line `number` of `path`; a mark of byte order before line 1 is skipped.

    Raises:
        UserError: `FILE:LINE: cause` where the line is not a JSON object in UTF-8.
    """
    try:
        row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}:{number}: not UTF-8 text (byte {error.start})") from error
    except (json.JSONDecodeError, RecursionError) as error:
        cause = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise UserError(f"{path}:{number}: not JSON ({cause}); mend or remove the line") from error
    if not isinstance(row, dict):
        raise UserError(f"{path}:{number}: a JSON {type(row).__name__}, not an object")
    return row


class KeyedLog:
    """An append-only JSONL file keyed by one or more columns: what a resumable step has finished.

    Opening reads what is there; a line that a crash tore off at the end is cut away. A key
    written twice keeps its last row. Each `append` is one write, flushed to the system, so a
    killed process loses at most the line it was writing. With several key columns, the key in
    `rows` is their values joined by `/`, as `key_of` gives it.
    """

    def __init__(self, path: Path, key: str | tuple[str, ...] = "id") -> None:
        self.path = path
        self.key = (key,) if isinstance(key, str) else key
        path.parent.mkdir(parents=True, exist_ok=True)
        self._cut_torn_line()
        self.rows: dict[str, Row] = {}
        if path.exists():
            for number, row in read_jsonl(path):
                absent = next((name for name in self.key if name not in row), None)
                if absent:
                    raise UserError(
                        f"{path}:{number}: no {absent!r}; is this another kind of file?"
                    )
                self.rows[self.key_of(row)] = row
        self._file = path.open("ab", buffering=0)

    def key_of(self, row: Row) -> str:
        """The key of a row, as `rows` holds it."""
        return "/".join(str(row[name]) for name in self.key)

    def _cut_torn_line(self) -> None:
        if not self.path.exists():
            return
        with self.path.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            position = size
            while position:
                step = min(position, 1 << 16)
                file.seek(position - step)
                found = file.read(step).rfind(b"\n")
                if found >= 0:
                    position = position - step + found + 1
                    break
                position -= step
            if position != size:
                file.truncate(position)

    def append(self, row: Row) -> None:
        """Add one row; it counts as done from here on."""
        line = (dumps(row) + "\n").encode()
        written = self._file.write(line)
        if written != len(line):
            raise OSError(f"{self.path}: the disk took only {written} of {len(line)} bytes")
        self.rows[self.key_of(row)] = row

    def __contains__(self, key: object) -> bool:
        return key in self.rows

    def __len__(self) -> int:
        return len(self.rows)

    def close(self) -> None:
        """Sync to disk and close."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()

    def __enter__(self) -> KeyedLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    """Hex SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()

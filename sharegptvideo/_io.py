"""Files that are whole or absent: atomic writes, JSONL by line number, append-only keyed logs."""

from __future__ import annotations

import codecs
import contextlib
import errno
import gzip
import hashlib
import io
import json
import os
import re
import stat
import uuid
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from sharegptvideo.errors import UserError

__all__ = [
    "KeyedLog",
    "dumps",
    "follow_umask",
    "numbered_lines",
    "open_lines",
    "parse_row",
    "parse_yaml",
    "read_json",
    "read_jsonl",
    "replacing",
    "sha256_file",
    "sha256_text",
    "write_json",
    "write_jsonl",
    "write_text",
    "writing_in",
]

Row = dict[str, Any]


def dumps(value: object) -> str:
    """One line of JSON, UTF-8 kept as it is; NaN is refused, since no other reader takes it.

    A text with half a surrogate pair, which is no UTF-8 but which a model can say, is escaped.
    """
    line = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if _HALF_PAIR.search(line):
        return json.dumps(value, allow_nan=False)
    return line


_HALF_PAIR = re.compile("[\ud800-\udfff]")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[str]]:
    """Open a temporary text file beside `path` that replaces it, synced, when the block succeeds.

    On an error or an interrupt the temporary file is removed and `path` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    # Not by `tempfile`, whose files nobody else may read: this one gets the mode of any new file.
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:  # Ctrl-C too: nothing half-written stays, then it goes its way
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def writing_in(folder: Path | str, fix: str) -> Iterator[None]:
    """Tell what keeps others' code from writing in `folder` in one line, `fix` at its end.

    Raises:
        UserError: the disk is full (over a quota or a limit too), or may not be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise UserError(f"{folder}: the disk is full; {fix}", exit_code=1) from error
        if error.errno in _FORBIDDEN:
            where = error.filename or folder
            cause = f"cannot be written ({error.strerror})"
            raise UserError(f"{where}: {cause}; {fix}", exit_code=1) from error
        raise


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# Where a folder belongs, a file may stand.
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST})


def follow_umask(files: Iterable[Path]) -> None:
    """Give files the mode that new ones get; safetensors lets nobody else read what it writes."""
    mode = 0o666 & ~_umask()
    for file in files:
        if file.is_file() and stat.S_IMODE(file.stat().st_mode) != mode:
            file.chmod(mode)


def _umask() -> int:
    """Return the process's umask, without changing it where the system says what it is."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name == "Umask":
                return int(value, 8)
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
    """Read a JSON file; a mark of byte order before it is skipped.

    Raises:
        UserError: the file is missing or is not JSON; says which and, if broken, the line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        return json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: {_not_utf8(content, error)}") from error
    except json.JSONDecodeError as error:
        cause = _ZEROS if b"\0" in content else f"not JSON ({error.msg})"
        raise UserError(f"{path}:{error.lineno}: {cause}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({_beyond(error)})") from error


def read_jsonl(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield `(line number from 1, row)` for each line that is not blank; gzip is unpacked.

    Raises:
        UserError: `FILE:LINE: cause` for a line that is not a JSON object in UTF-8, and where
            gzip data are cut short or damaged.
    """
    with open_lines(path) as file:
        for number, line in numbered_lines(path, file):
            yield number, parse_row(path, number, line)


def open_lines(path: Path) -> IO[bytes]:
    """Open a file for reading bytes, unpacked where it begins as gzip does, whatever its name.

    A `.jsonl.gz` may come unpacked already, since servers send gzip as an encoding that
    clients take off.

    Raises:
        UserError: the file cannot be opened.
    """
    try:
        file = path.open("rb")
        if file.peek(2)[:2] != _GZIP:
            return file
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    # In blocks of a size of ours: `GzipFile` itself is slow to give single lines.
    return io.BufferedReader(_Unpacked(file), 1 << 16)


class _Unpacked(gzip.GzipFile):
    """Unpacks a file and closes it too; `GzipFile` leaves open what it did not open."""

    def __init__(self, file: IO[bytes]) -> None:
        self._packed = file
        super().__init__(fileobj=file, mode="rb")

    def close(self) -> None:
        super().close()
        self._packed.close()


def numbered_lines(path: Path | str, lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield `(number from 1, line)` of the lines of a file that are not blank.

    Raises:
        UserError: reading fails on the way, such as at the end of gzip data cut short; says
            behind which line. What is lost there cannot be counted, so it is never skipped.
    """
    number = 0
    try:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, line
    except EOFError as error:
        raise _unreadable(path, number, "gzip data cut short; fetch the file again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        cause = f"damaged gzip data ({error}); fetch the file again"
        raise _unreadable(path, number, cause) from error
    except OSError as error:
        raise _unreadable(path, number, f"cannot be read ({error.strerror})") from error


def _unreadable(path: Path | str, number: int, cause: str) -> UserError:
    return UserError(f"{path}: {cause} (behind line {number})")


def parse_row(path: Path | str, number: int, line: bytes) -> Row:
    """The JSON object on line `number` of `path`; a mark of byte order before it is skipped.

    Such a mark may stand before any line, where files were put one behind the other.

    Raises:
        UserError: `FILE:LINE: cause` where the line is not a JSON object in UTF-8.
    """
    try:
        # The end of the line is no part of the row, and would be in the cause of a broken one.
        row = json.loads(line.rstrip(b"\r\n").decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}:{number}: {_not_utf8(line, error)}") from error
    except (ValueError, RecursionError) as error:
        if b"\0" in line:
            raise UserError(f"{path}:{number}: {_ZEROS}") from error
        cause = error.msg if isinstance(error, json.JSONDecodeError) else _beyond(error)
        raise UserError(f"{path}:{number}: not JSON ({cause}); mend or remove the line") from error
    if not isinstance(row, dict):
        raise UserError(f"{path}:{number}: a JSON {type(row).__name__}, not an object")
    return row


def parse_yaml(where: str, text: str) -> Any:
    """What a YAML text says; `where` names it in the error.

    Raises:
        UserError: it is not YAML, or names an impossible value such as the 40th of May.
    """
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{where}: not YAML ({' '.join(str(error).split())})") from error
    except RecursionError as error:
        raise UserError(f"{where}: not YAML (nested too deeply)") from error


_GZIP = b"\x1f\x8b"
# Text with a zero byte at every other place is UTF-16 without a mark; JSON has no zero bytes.
_ZEROS = "UTF-16 text, or no text at all; save the file as UTF-8"


def _not_utf8(content: bytes, error: UnicodeDecodeError) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16 text; save the file as UTF-8"
    if b"\0" in content:
        return _ZEROS
    return f"not UTF-8 text (byte {error.start})"


def _beyond(error: Exception) -> str:
    """Why well-formed JSON cannot be read: Python limits its depth and an integer's digits."""
    return "nested too deeply" if isinstance(error, RecursionError) else "an endless number"


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
        self.rows: dict[str, Row] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        ended = self._read()
        self._file = path.open("ab", buffering=0)
        if ended != os.fstat(self._file.fileno()).st_size:
            self._file.truncate(ended)
        if ended and not self._ends_line:
            self._file.write(b"\n")

    def key_of(self, row: Row) -> str:
        """The key of a row, as `rows` holds it."""
        return "/".join(str(row[name]) for name in self.key)

    def _read(self) -> int:
        """Take in the rows; gives the bytes that hold them, without a line torn off at the end.

        Nothing is changed yet: a file of another kind is refused and left as it is.
        """
        ended, self._ends_line = 0, True
        if not self.path.exists():
            return ended
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    try:
                        row = parse_row(self.path, number, line)
                    except UserError:
                        if not _is_torn(line):
                            raise
                        break
                    self._take(number, row)
                ended += len(line)
                self._ends_line = line.endswith(b"\n")
        return ended

    def _take(self, number: int, row: Row) -> None:
        absent = next((name for name in self.key if name not in row), None)
        if absent:
            raise UserError(f"{self.path}:{number}: no {absent!r}; is this another kind of file?")
        self.rows[self.key_of(row)] = row

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


def _is_torn(line: bytes) -> bool:
    """Whether a line that is no object is the beginning of one, or what a power cut leaves."""
    return not line.endswith(b"\n") and line.strip(b"\0")[:1] in (b"{", b"")


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_text(text: str) -> str:
    """Hex SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()

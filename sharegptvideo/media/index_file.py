"""The one file that a media index is kept in: SQLite, beside the media or in the cache folder.

SQLite, because a change of some clips writes those clips only, a killed process leaves the last
commit, two processes take turns, and anyone can look inside. It needs no WAL, which network
file systems do not bear.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sharegptvideo._io import cache_folder, os_error_words
from sharegptvideo._sqlite import (
    Layout,
    OtherFileError,
    OtherVersionError,
    is_busy,
    open_sqlite,
    transaction,
)
from sharegptvideo.errors import UserError
from sharegptvideo.media.facts import ClipFacts

__all__ = [
    "INDEX_NAME",
    "CannotWriteError",
    "DamagedIndexError",
    "IndexFile",
    "Stored",
    "cached_path",
    "newest_index",
    "open_index",
]

INDEX_NAME = "media_index.sqlite"

_MAGIC = b"SQLite format 3\0"
# "sgvm", at the place that SQLite keeps for the kind of a file.
_APPLICATION = 0x7367766D

_TABLE = """
CREATE TABLE IF NOT EXISTS clips (
    path TEXT PRIMARY KEY, stem TEXT NOT NULL, kind TEXT NOT NULL, bytes INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, settled INTEGER NOT NULL, duration_s REAL, frames INTEGER,
    fps REAL, width INTEGER, height INTEGER, damage TEXT, error TEXT
) WITHOUT ROWID
"""
_LAYOUT = Layout((_TABLE,), version=1, application=_APPLICATION)
_PUT = f"INSERT OR REPLACE INTO clips VALUES ({', '.join('?' * 13)})"
_FACTS = "bytes, duration_s, frames, fps, width, height, damage, error"


class DamagedIndexError(Exception):
    """The file at `path` is an index of ours that SQLite cannot read; it can be made again."""

    def __init__(self, path: Path, cause: object) -> None:
        super().__init__(f"{path}: {cause}")
        self.path = path


class CannotWriteError(UserError):
    """The place does not take an index: no rights, a read-only disk, one without locks."""

    def __init__(self, path: Path, cause: object) -> None:
        super().__init__(f"{path}: cannot be written ({cause})", exit_code=1)


@dataclass(frozen=True, slots=True)
class Stored:
    """What the index holds of a clip to tell whether the clip has changed.

    `settled` is whether the clip had been left alone for a while when it was opened. One changed
    the moment before may change again within the same tick of the file system's clock.
    """

    is_file: bool
    bytes: int
    mtime_ns: int
    settled: bool
    error: str | None

    def still_is(self, path: Path) -> bool:
        """Whether the clip at `path` has the size and the time that it had."""
        try:
            status = path.stat()
        except OSError:
            return False
        same = not self.is_file or status.st_size == self.bytes
        return same and status.st_mtime_ns == self.mtime_ns


class IndexFile:
    """An open index. Errors of the disk and of the lock are `UserError`s that name the file.

    Raises:
        DamagedIndexError: the file is an index, and broken or of another version.
        CannotWriteError: the file cannot be made or written here.
        UserError: the file is something else.
    """

    def __init__(self, path: Path, *, create: bool = True, wait_s: float = 60.0) -> None:
        """Open the file, or make it; where another process writes it, wait for so many seconds."""
        self.path = path
        self._wait_s = wait_s
        try:
            with self._told():
                self._base = open_sqlite(
                    path, _LAYOUT, create=create, must_write=create, wait_s=wait_s
                )
        except OtherVersionError as error:
            raise DamagedIndexError(path, "of another version") from error
        except OtherFileError as error:
            raise _not_ours(path) from error
        except DamagedIndexError as error:
            if not _has_mark(path):
                raise _not_ours(path) from error
            raise

    def stored(self, *, unreadable: bool = False) -> dict[str, Stored]:
        """Every clip, or only those with an error, by the path below the root."""
        asked = "SELECT path, kind, bytes, mtime_ns, settled, error FROM clips"
        if unreadable:
            asked += " WHERE error IS NOT NULL"
        with self._told():
            return {
                _text(path): Stored(kind == "video", size, mtime, bool(settled), error)
                for path, kind, size, mtime, settled, error in self._base.execute(asked)
            }

    def facts(self) -> Iterator[tuple[str, bool, ClipFacts]]:
        """(path, is a file, facts) of every clip, in the order of the paths."""
        asked = f"SELECT path, kind, {_FACTS} FROM clips ORDER BY path"
        with self._told():
            for path, kind, *facts in self._base.execute(asked):
                yield _text(path), kind == "video", ClipFacts(*facts)

    def write(
        self,
        found: Iterable[tuple[str, bool, int, bool, ClipFacts]],
        gone: Iterable[str] = (),
    ) -> None:
        """Put (path, is a file, mtime_ns, settled, facts) and drop paths, all or nothing."""
        rows = [
            (
                *(_key(path), _key(_stem(path, is_file)), "video" if is_file else "frames"),
                *(facts.bytes, mtime, settled, *facts[1:]),
            )
            for path, is_file, mtime, settled, facts in found
        ]
        with self._told(), transaction(self._base):
            self._base.executemany(_PUT, rows)
            self._base.executemany("DELETE FROM clips WHERE path = ?", ((_key(p),) for p in gone))

    def copy(self, other: IndexFile) -> None:
        """Put what another index holds in the place of what is here, all or nothing."""
        with self._told(), transaction(self._base):
            self._base.execute("DELETE FROM clips")
            self._base.executemany(_PUT, other._base.execute("SELECT * FROM clips"))

    def close(self) -> None:
        """Close the file; what was written is on disk already."""
        self._base.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """SQLite's errors as ours."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in _BROKEN:
                raise DamagedIndexError(self.path, error) from error
            if code in _REFUSED:
                raise CannotWriteError(self.path, error) from error
            cause = f"cannot be written ({error}); free some space"
            if is_busy(error):
                cause = f"written by another process for {self._wait_s:g} s; wait for its end"
            raise UserError(
                f"{self.path}: {cause} and run again, what was finished is kept", exit_code=1
            ) from error


_BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}
_REFUSED = {
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_PROTOCOL,
}


def cached_path(root: Path) -> Path:
    """Where the index of media that may not be written lies: the cache folder."""
    key = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    return cache_folder() / "media" / f"{key}.sqlite"


def newest_index(root: Path) -> Path | None:
    """The index of a media folder that was written last, or None."""
    there = [path for path in (root / INDEX_NAME, cached_path(root)) if path.is_file()]
    return max(there, key=lambda path: path.stat().st_mtime_ns, default=None)


def open_index(root: Path, *, seeded: bool = True) -> IndexFile:
    """Open the index beside the media, or in the cache folder where that cannot be written.

    One in the cache folder starts from what lies beside the media, if `seeded`.

    Raises:
        DamagedIndexError, UserError: as `IndexFile`.
    """
    beside, cached = root / INDEX_NAME, cached_path(root)
    try:
        return IndexFile(beside)
    except CannotWriteError:
        pass
    seeded = seeded and newest_index(root) == beside
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWriteError(cached, os_error_words(error)) from error
    index = IndexFile(cached)
    if seeded:
        # One that cannot be read is no loss: the clips are opened anew.
        with contextlib.suppress(UserError, DamagedIndexError):
            _seed(index, beside)
    return index


def _seed(index: IndexFile, source: Path) -> None:
    other = IndexFile(source, create=False)
    try:
        index.copy(other)
    finally:
        other.close()


def _has_mark(path: Path) -> bool:
    """Return whether a file that SQLite cannot read begins as our index, and may be remade."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except OSError as error:
        raise CannotWriteError(path, os_error_words(error)) from error
    return head[:16] == _MAGIC and int.from_bytes(head[68:72], "big") == _APPLICATION


def _not_ours(path: Path) -> UserError:
    return UserError(f"{path}: not a media index of this package; move it away and run again")


def _stem(path: str, is_file: bool) -> str:
    return path.rpartition(".")[0] if is_file else path


def _key(path: str) -> str | bytes:
    """A path as SQLite takes it: a name that is no Unicode goes in as its bytes."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return os.fsencode(path)
    return path


def _text(path: str | bytes) -> str:
    return os.fsdecode(path) if isinstance(path, bytes) else path

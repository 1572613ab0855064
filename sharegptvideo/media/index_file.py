"""The one file that a media index is kept in: SQLite, beside the media or in the cache folder.

SQLite, because a change of some clips writes those clips only, a killed process leaves the last
commit, two processes take turns, and anyone can look inside. It needs no WAL, which network
file systems do not bear.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
import tempfile
import urllib.parse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sharegptvideo.cache import cache_folder
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
_VERSION = 1
_WAIT_S = 60.0

_TABLE = """
CREATE TABLE IF NOT EXISTS clips (
    path TEXT PRIMARY KEY, stem TEXT NOT NULL, kind TEXT NOT NULL, bytes INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, settled INTEGER NOT NULL, duration_s REAL, frames INTEGER,
    fps REAL, width INTEGER, height INTEGER, damage TEXT, error TEXT
) WITHOUT ROWID
"""
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

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.path = path
        _check_kind(path)
        name = f"file:{urllib.parse.quote(os.fsencode(path.absolute()))}"
        with self._told():
            self._base = sqlite3.connect(
                f"{name}?mode={'rwc' if create else 'rw'}",
                timeout=_WAIT_S,
                isolation_level=None,
                uri=True,
            )
        if not create:
            return
        try:
            with self._told():
                self._base.execute("BEGIN IMMEDIATE")
                self._base.execute(_TABLE)
                self._base.execute(f"PRAGMA application_id = {_APPLICATION}")
                self._base.execute(f"PRAGMA user_version = {_VERSION}")
                self._base.execute("COMMIT")
        except BaseException:  # whatever it is: do not leave the file open behind it
            self._base.close()
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
        with self._told():
            self._base.execute("BEGIN IMMEDIATE")
            try:
                self._base.executemany(_PUT, rows)
                dropped = ((_key(path),) for path in gone)
                self._base.executemany("DELETE FROM clips WHERE path = ?", dropped)
                self._base.execute("COMMIT")
            except BaseException:  # a full disk, Ctrl-C: what was committed before stays
                if self._base.in_transaction:
                    self._base.execute("ROLLBACK")
                raise

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
            if code == sqlite3.SQLITE_BUSY:
                cause = f"written by another process for {_WAIT_S:.0f} s; wait for its end"
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
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        if seeded and newest_index(root) == beside:
            _copy(beside, cached)
    except OSError as error:
        raise CannotWriteError(cached, error.strerror) from error
    return IndexFile(cached)


def _copy(source: Path, target: Path) -> None:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    os.close(handle)
    temporary = Path(name)
    try:
        shutil.copyfile(source, temporary)
        temporary.replace(target)
    except BaseException:  # Ctrl-C too: no half a copy stays
        temporary.unlink(missing_ok=True)
        raise


def _check_kind(path: Path) -> None:
    """Refuse a file that is not an index of ours: it is not ours to write or to remake."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except FileNotFoundError:
        return
    except OSError as error:
        raise CannotWriteError(path, error.strerror) from error
    if not head:
        return  # killed while it was made
    if head[:16] != _MAGIC or int.from_bytes(head[68:72], "big") != _APPLICATION:
        raise UserError(f"{path}: not a media index of this package; move it away and run again")
    if int.from_bytes(head[60:64], "big") != _VERSION:
        raise DamagedIndexError(path, "of another version")


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

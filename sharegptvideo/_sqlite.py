"""SQLite files that several processes may make and open at the same moment."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Layout", "OtherFileError", "OtherVersionError", "is_busy", "open_sqlite", "transaction"]

_PAUSE_S = 0.005


@dataclass(frozen=True, slots=True)
class Layout:
    """The tables of a file and the marks that say so.

    Attributes:
        tables: the statements that make them, each `CREATE TABLE IF NOT EXISTS`.
        version: kept as `user_version`; 0: none, as where the file's name has the version.
        application: kept as `application_id`, which says whose file it is; 0: none.
        wal: whether readers go on beside a writer, which network file systems do not support.
        private: whether a new file is readable by its owner only.
    """

    tables: tuple[str, ...]
    version: int = 0
    application: int = 0
    wal: bool = False
    private: bool = False


class OtherFileError(Exception):
    """The file holds something else, such as other tables; it was not changed."""


class OtherVersionError(OtherFileError):
    """The file has the mark of the application and another version; it was not changed."""


def open_sqlite(
    file: Path,
    layout: Layout,
    *,
    create: bool = True,
    must_write: bool = False,
    any_thread: bool = False,
    wait_s: float = 60.0,
) -> sqlite3.Connection:
    """Open a database, and make it where it is missing or empty.

    However many processes do so at once, each of them gets a whole one: tables and marks come in
    one transaction, and are read in one. The connection commits each statement
    by itself; `transaction` holds several together.

    Args:
        create: False opens what is there; an empty file stays empty.
        must_write: fail here, not later, where the file cannot be written.
        any_thread: let threads other than this one use the connection, one at a time.
        wait_s: how long to wait for other processes that write.

    Raises:
        sqlite3.Error: the file is no database, is damaged, or cannot be opened or written; another
            process held it for longer than `wait_s` (`is_busy`).
        OSError: the layout is `private` and the file cannot be made.
        OtherFileError: see there, and `OtherVersionError`.
    """
    if create and layout.private:
        # Only a new file: closing any handle of a file drops the locks that this process has on
        # it, those of its other connections too (fcntl(2), "Advisory record locking").
        with contextlib.suppress(FileExistsError):
            os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    with contextlib.suppress(OSError):
        if file.stat().st_size == 1:  # which SQLite takes for an empty file, and would write over
            raise OtherFileError("a single byte")
    name = urllib.parse.quote(os.fsencode(file.absolute()))
    connection = sqlite3.connect(
        f"file:{name}?mode={'rwc' if create else 'rw'}",
        timeout=wait_s,
        isolation_level=None,
        check_same_thread=not any_thread,
        uri=True,
    )
    try:
        with transaction(connection, "DEFERRED"):
            made = _is_made(connection, layout)
        if create and (must_write or not made):
            _make(connection, layout)
        if create and layout.wal:
            _use_wal(connection, wait_s)
    except BaseException:  # Ctrl-C too: no open file is left, then it is raised on
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """Run the block's statements all or none; IMMEDIATE waits for other writers first."""
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:  # a full disk, Ctrl-C: what was committed before stays
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def is_busy(error: sqlite3.Error) -> bool:
    """Return whether another process held the file for too long."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def _is_made(connection: sqlite3.Connection, layout: Layout) -> bool:
    """Return whether the tables are there; False where there are none at all.

    In a transaction, or another process may make them between two of the questions.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    marks, wanted = (application, version), (layout.application, layout.version)
    if marks == wanted != (0, 0):
        return True
    empty = connection.execute("SELECT 1 FROM sqlite_master").fetchone() is None
    if marks == (0, 0) and (empty or wanted == (0, 0)):
        return not empty
    if application == layout.application:
        raise OtherVersionError(f"version {version}, not {layout.version}")
    raise OtherFileError(f"application {application:#x}, not {layout.application:#x}")


def _make(connection: sqlite3.Connection, layout: Layout) -> None:
    with transaction(connection):
        _is_made(connection, layout)  # another process may have been here since
        # Statement by statement: `executescript` commits what is open before it begins.
        for table in layout.tables:
            connection.execute(table)
        connection.execute(f"PRAGMA application_id = {layout.application}")
        connection.execute(f"PRAGMA user_version = {layout.version}")


def _use_wal(connection: sqlite3.Connection, wait_s: float) -> None:
    """Switch to the write-ahead log, which the file stays in.

    The switch reads first and locks then, and SQLite does not wait for a lock while it reads
    ("database is locked" at once, whatever the timeout), lest two processes wait for each other.
    """
    end = time.monotonic() + wait_s
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            return
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() >= end:
                raise
        time.sleep(_PAUSE_S)

"""SHA-256 of large files, kept in the cache folder for as long as the files stay as they are."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from sharegptvideo._concurrency import available_cores, in_background
from sharegptvideo._io import cache_folder, os_errors
from sharegptvideo._sqlite import Layout, OtherFileError, open_sqlite, transaction
from sharegptvideo.errors import UserError

__all__ = ["file_digests"]

_TABLE = """
CREATE TABLE IF NOT EXISTS digests (
    path BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, inode INTEGER,
    sha256 TEXT
) WITHOUT ROWID
"""
_LAYOUT = Layout((_TABLE,), version=1, application=0x73677664)
# Other processes write a few rows and are done: one that takes longer is not waited for.
_WAIT_S = 5.0
# A file changed this recently may change again without a new time.
_SETTLED_NS = 2_000_000_000
_BLOCK = 1 << 20
# In the Hub's cache a file of a snapshot is a link to its content, which is named by its SHA-256
# where the Hub keeps it as a large file, and by git's hash otherwise.
_HUB_NAME = re.compile("[0-9a-f]{64}")

_Stamp = tuple[int, int, int, int]
"""Size in bytes, times of the last change of content and of status in ns, inode."""


def file_digests(files: Sequence[Path], now: Callable[[], int] = time.time_ns) -> list[str]:
    """Return the hex SHA-256 of each file, in their order.

    A file is read once: its digest is kept by path, size, times and inode, and what was changed
    within the last two seconds is not kept. Several files are read at once, and none of it holds
    up the end of the process. Where the cache folder cannot be used, nothing is kept.

    A file in the cache of the Hub's client has to have the digest that it is named by: the client
    itself compares sizes only.

    Args:
        files: may be links.
        now: the clock, in ns.

    Raises:
        UserError: a file cannot be read, changes meanwhile, or is not what the Hub has.
    """
    paths = [file.resolve() for file in files]
    with os_errors(files[0].parent if files else "", action="read"):
        stamps = {path: _stamp(path.stat()) for path in paths}
    known = _kept(stamps)
    lacking = [path for path in stamps if path not in known]
    if lacking:
        begun = now()
        workers = min(len(lacking), available_cores())
        shares = [
            in_background(_digests, {path: stamps[path] for path in lacking[first::workers]})
            for first in range(workers)
        ]
        new = {path: digest for share in shares for path, digest in share.result().items()}
        _keep(
            (path, stamps[path], digest)
            for path, digest in new.items()
            if max(stamps[path][1:3]) + _SETTLED_NS <= begun
        )
        known |= new
    return [known[path] for path in paths]


def _stamp(status: os.stat_result) -> _Stamp:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _digests(files: Mapping[Path, _Stamp]) -> dict[Path, str]:
    """Read files that were as `files` says, one after the other."""
    digests = {}
    for path, stamp in files.items():
        with os_errors(path, action="read"):
            with path.open("rb", buffering=0) as file:
                digest = _sha256(file)
                there = _stamp(os.fstat(file.fileno()))
            if not there == stamp == _stamp(path.stat()):
                raise UserError(
                    f"{path}: was changed while it was read; run again when it is whole"
                )
        if path.parent.name == "blobs" and _HUB_NAME.fullmatch(path.name) and digest != path.name:
            raise UserError(
                f"{path}: is not the file that the Hub has by this name (its SHA-256 begins with "
                f"{digest[:8]}): it was damaged or written to; remove it, so that it is "
                "downloaded again"
            )
        digests[path] = digest
    return digests


def _sha256(file: BinaryIO) -> str:
    digest, block = hashlib.sha256(), bytearray(_BLOCK)
    view = memoryview(block)
    while size := file.readinto(block):  # type: ignore[attr-defined]  # BinaryIO does not name it
        digest.update(view[:size])  # lets other threads run meanwhile
    return digest.hexdigest()


def _kept(stamps: Mapping[Path, _Stamp]) -> dict[Path, str]:
    """Return the digests that are kept of files as they are now."""
    known = {}
    with contextlib.suppress(OSError, sqlite3.Error, OtherFileError), _opened() as base:
        for path, stamp in stamps.items():
            row = base.execute(
                "SELECT sha256 FROM digests WHERE path = ?"
                " AND size = ? AND mtime_ns = ? AND ctime_ns = ? AND inode = ?",
                (os.fsencode(path), *stamp),
            ).fetchone()
            if row is not None:
                known[path] = str(row[0])
    return known


def _keep(digests: Iterable[tuple[Path, _Stamp, str]]) -> None:
    rows = [(os.fsencode(path), *stamp, digest) for path, stamp, digest in digests]
    if not rows:
        return
    with (
        contextlib.suppress(OSError, sqlite3.Error, OtherFileError),
        _opened() as base,
        transaction(base),
    ):
        base.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?, ?)", rows)


def _opened() -> contextlib.closing[sqlite3.Connection]:
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return contextlib.closing(open_sqlite(folder / "digests.sqlite", _LAYOUT, wait_s=_WAIT_S))

"""Looks of clips, taken by several threads and kept in the cache folder between runs."""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import numpy as np

from sharegptvideo._concurrency import available_cores
from sharegptvideo._io import cache_folder
from sharegptvideo._sqlite import Layout, OtherFileError, open_sqlite, transaction
from sharegptvideo.data.validate.fingerprint import BITS, CELLS, Look, look_at

__all__ = ["LookStore"]

# Raised with any change of how a look is taken.
_VERSION = 1
_TABLE = """
CREATE TABLE IF NOT EXISTS looks (
    path TEXT PRIMARY KEY, stamp TEXT NOT NULL, ticks BLOB NOT NULL, light BLOB NOT NULL,
    colour BLOB NOT NULL, damage TEXT, readable INTEGER NOT NULL
) WITHOUT ROWID
"""
_LAYOUT = Layout((_TABLE,))  # its version is in the name of the file
# A clip changed this recently may change again without a new time.
_SETTLED_NS = 2_000_000_000
_COMMIT_S = 1.0
_AHEAD = 4


class LookStore:
    """Takes looks, those it took before from its file.

    A clip is looked at again when its path, size or time has changed. A folder of frames has
    the time of its last added, removed or renamed frame. Where the file cannot be written, as on
    a full disk, looks are taken and not kept; `trouble` then says why.

    Attributes:
        taken: clips looked at now.
        kept: clips whose look was in the file.
    """

    def __init__(
        self, workers: int | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Open the cache; `now` is the clock, in seconds, by which it is committed."""
        self.file = cache_folder() / f"looks-v{_VERSION}.sqlite"
        self.trouble: str | None = None
        self.taken = self.kept = 0
        self._workers = workers or available_cores()
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="looks")
        self._now, self._last = now, now()
        # By path: stamp and look, until the next commit. Another process can write meanwhile.
        self._new: dict[Path, tuple[str, Look]] = {}
        self._base: sqlite3.Connection | None = None
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._base = open_sqlite(self.file, _LAYOUT)
        except (OSError, sqlite3.Error, OtherFileError) as error:
            self._give_up(error)

    def looks(self, paths: Iterable[Path]) -> Iterator[tuple[Path, Look]]:
        """(path, look) of each, in order; a few are taken ahead."""
        waiting: deque[tuple[Path, str | None, Look | Future[Look]]] = deque()
        for path in paths:
            stamp = _stamp(path)
            known = self._get(path, stamp)
            waiting.append((path, stamp, known or self._pool.submit(look_at, path)))
            if len(waiting) >= self._workers * _AHEAD:
                yield self._finished(*waiting.popleft())
        while waiting:
            yield self._finished(*waiting.popleft())

    def _finished(
        self, path: Path, stamp: str | None, look: Look | Future[Look]
    ) -> tuple[Path, Look]:
        if isinstance(look, Look):
            self.kept += 1
            return path, look
        found = look.result()
        self.taken += 1
        self._put(path, stamp, found)
        return path, found

    def _get(self, path: Path, stamp: str | None) -> Look | None:
        if self._base is None or stamp is None:
            return None
        if path in self._new and self._new[path][0] == stamp:
            return self._new[path][1]
        try:
            row = self._base.execute(
                "SELECT ticks, light, colour, damage, readable FROM looks "
                "WHERE path = ? AND stamp = ?",
                (str(path), stamp),
            ).fetchone()
        except sqlite3.Error as error:
            self._give_up(error)
            return None
        if row is None:
            return None
        ticks, light, colour, damage, readable = row
        return Look(
            np.frombuffer(ticks, np.int32),
            np.frombuffer(light, np.uint64).reshape(-1, BITS // 64),
            np.frombuffer(colour, np.int8).reshape(-1, CELLS, CELLS, 2),
            damage,
            bool(readable),
        )

    def _put(self, path: Path, stamp: str | None, look: Look) -> None:
        if self._base is None or stamp is None:
            return
        self._new[path] = (stamp, look)
        # A kill costs what was looked at in the last second.
        if self._now() - self._last >= _COMMIT_S:
            self._commit()

    def _commit(self) -> None:
        if self._base is None:
            return
        rows = [
            (
                *(str(path), stamp, look.ticks.tobytes(), look.light.tobytes()),
                *(look.colour.tobytes(), look.damage, look.readable),
            )
            for path, (stamp, look) in self._new.items()
        ]
        try:
            with transaction(self._base):
                self._base.executemany(
                    "INSERT OR REPLACE INTO looks VALUES (?, ?, ?, ?, ?, ?, ?)", rows
                )
        except sqlite3.Error as error:
            self._give_up(error)
        self._new = {}
        self._last = self._now()

    def _give_up(self, error: Exception) -> None:
        cause = getattr(error, "strerror", None) or error
        self.trouble = f"{self.file}: looks are not kept ({cause})"
        if self._base is not None:
            self._base.close()
            self._base = None

    def __enter__(self) -> LookStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # On Ctrl-C too: what is done is kept, what is not begun is given up.
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._new:
            self._commit()
        if self._base is not None:
            self._base.close()


def _stamp(path: Path) -> str | None:
    """What changes with the clip; None while it may still change unseen, or is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    if status.st_mtime_ns + _SETTLED_NS > time.time_ns():
        return None
    size = -1 if path.is_dir() else status.st_size
    return f"{size}/{status.st_mtime_ns}"

"""Answers that were paid for, kept by their request in one SQLite file for many processes.

The key is a hash of endpoint, model, messages (pictures included) and parameters: whatever is
changed is asked anew. A key of an account is no part of anything here. Only answers are kept,
never failures, and only of greedy decoding or of draws with a seed, where asking again would give
the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sharegptvideo._io import cache_folder, os_errors
from sharegptvideo._sqlite import Layout, OtherFileError, open_sqlite
from sharegptvideo.endpoint.messages import Reply
from sharegptvideo.errors import UserError

__all__ = ["Batch", "ReplyCache", "default_cache_file", "request_key"]

_REPLIES = """
CREATE TABLE IF NOT EXISTS replies (
    key BLOB PRIMARY KEY, reply TEXT NOT NULL, refused TEXT NOT NULL, at INTEGER NOT NULL
) WITHOUT ROWID
"""
_BATCHES = """
CREATE TABLE IF NOT EXISTS batches (
    name TEXT PRIMARY KEY, endpoint TEXT NOT NULL, id TEXT, keys TEXT NOT NULL
) WITHOUT ROWID
"""
# Questions and answers are the user's own business: the file is private.
_LAYOUT = Layout((_REPLIES, _BATCHES), version=1, wal=True, private=True)


def default_cache_file() -> Path:
    """Return `replies.sqlite` in the cache folder (`SHAREGPTVIDEO_CACHE` moves it)."""
    return cache_folder() / "replies.sqlite"


def request_key(endpoint: str, body: Mapping[str, Any]) -> str:
    """Return 64 hex digits that stand for an endpoint and a request."""
    asked = json.dumps([endpoint, body], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(asked.encode()).hexdigest()


@dataclass(slots=True)
class Batch:
    """A batch that was sent or is about to be: its name here, its id there, its requests' keys."""

    name: str
    id: str | None
    keys: list[str]


class ReplyCache:
    """The cache file; opened on first use, and again in a process that was forked."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._open: tuple[int, sqlite3.Connection] | None = None
        self._full = False

    def get(self, key: str) -> tuple[Reply, set[str]] | None:
        """Return the answer to a request and the parameters left out of it; None if there is none.

        Raises:
            UserError: the file is damaged, or no such cache.
        """
        with self._cache_errors():
            row = (
                self._connection()
                .execute("SELECT reply, refused FROM replies WHERE key = ?", [bytes.fromhex(key)])
                .fetchone()
            )
        if row is None:
            return None
        return Reply(**json.loads(row[0]) | {"cached": True}), set(json.loads(row[1]))

    def put(self, key: str, reply: Reply, refused: Iterable[str]) -> None:
        """Keep an answer, from here on beyond the process's end.

        Where it cannot be kept (a full disk), the work goes on, with one warning.
        """
        if self._full:
            return
        row = asdict(replace(reply, cached=False))
        values = (
            bytes.fromhex(key),
            json.dumps(row),
            json.dumps(sorted(refused)),
            int(time.time()),
        )
        try:
            self._connection().execute("INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?)", values)
        except sqlite3.Error as error:
            self._full = True
            warnings.warn(f"{self.file}: answers are no longer kept ({error})", stacklevel=2)

    def batches(self, endpoint: str) -> list[Batch]:
        """Return the batches of an endpoint whose answers are not fetched yet."""
        with self._cache_errors():
            rows = self._connection().execute(
                "SELECT name, id, keys FROM batches WHERE endpoint = ? ORDER BY name", [endpoint]
            )
            return [Batch(name, batch_id, json.loads(keys)) for name, batch_id, keys in rows]

    def keep_batch(self, endpoint: str, batch: Batch) -> None:
        """Record a batch, before it is sent (without its id) and after."""
        values = (batch.name, endpoint, batch.id, json.dumps(batch.keys))
        with self._cache_errors():
            self._connection().execute("INSERT OR REPLACE INTO batches VALUES (?, ?, ?, ?)", values)

    def drop_batch(self, batch: Batch) -> None:
        """Remove a batch: its answers are here, or it has none."""
        with self._cache_errors():
            self._connection().execute("DELETE FROM batches WHERE name = ?", [batch.name])

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def _connection(self) -> sqlite3.Connection:
        if self._open is None or self._open[0] != os.getpid():
            self._open = (os.getpid(), self._connect())
        return self._open[1]

    def _connect(self) -> sqlite3.Connection:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        try:
            # One event loop uses the file at a time, though not always from the same thread.
            connection = open_sqlite(self.file, _LAYOUT, any_thread=True)
        except OtherFileError as error:
            raise UserError(
                f"{self.file}: a cache of another version; remove it, or go on with --no-cache"
            ) from error
        # A killed process loses nothing it wrote, a power cut the last moments.
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    @contextlib.contextmanager
    def _cache_errors(self) -> Iterator[None]:
        fix = "remove it, or go on with --no-cache"
        try:
            with os_errors(self.file, fix, action="opened"):
                yield
        except sqlite3.Error as error:
            raise UserError(f"{self.file}: cannot be used as cache ({error}); {fix}") from error

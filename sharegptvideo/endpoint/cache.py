"""Answers that were paid for, kept by their request in one SQLite file for many processes.

The key is a hash of endpoint, model, messages (pictures included) and parameters: whatever is
changed is asked anew. A key of an account is no part of anything here. Only answers are kept,
never failures, and only of greedy decoding or of draws with a seed, where asking again would give
the same. A row that cannot be read is absent. Of processes that need the same answer at once, one
asks and the others wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import json
import os
import sqlite3
import threading
import time
import warnings
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from sharegptvideo._io import cache_folder, os_errors
from sharegptvideo._sqlite import Layout, OtherFileError, open_sqlite
from sharegptvideo.endpoint.messages import Reply, failure_of, split_reasoning
from sharegptvideo.errors import UserError

__all__ = [
    "Batch",
    "ReplyCache",
    "claim",
    "default_cache_file",
    "reply_of",
    "request_key",
    "row_of",
]

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

    def get(self, key: str) -> Reply | None:
        """Return the answer to a request; None if there is none, or none that can be read.

        Raises:
            UserError: the file is damaged, or no such cache.
        """
        # As bytes: a text that is not UTF-8 is an error of that row, not of the file.
        columns = "CAST(reply AS BLOB), CAST(refused AS BLOB)"
        with self._cache_errors():
            row = (
                self._connection()
                .execute(f"SELECT {columns} FROM replies WHERE key = ?", [bytes.fromhex(key)])
                .fetchone()
            )
        return None if row is None else reply_of(_json(row[0]), _json(row[1]))

    def put(self, key: str, reply: Reply, left_out: Iterable[str]) -> None:
        """Keep an answer, from here on beyond the process's end; and what its request left out.

        Where it cannot be kept (a full disk), the work goes on, with one warning.
        """
        if self._full:
            return
        values = (
            bytes.fromhex(key),
            json.dumps(row_of(reply)),
            json.dumps(sorted(left_out)),
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
                "SELECT name, id, CAST(keys AS BLOB) FROM batches WHERE endpoint = ? ORDER BY name",
                [endpoint],
            )
            read = [(name, batch_id, _texts(_json(keys))) for name, batch_id, keys in rows]
        return [Batch(name, batch_id, keys) for name, batch_id, keys in read if keys is not None]

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


_LONGEST_CLAIM_S = 600.0


@contextlib.asynccontextmanager
async def claim(file: Path, key: str) -> AsyncIterator[bool]:
    """Wait until no one else asks this request, in any process, and hold it meanwhile.

    The claims of a process that dies end with it. After ten minutes the wait is over: the
    other process is stopped. Gives whether it had to wait.

    Args:
        file: where the answers are kept; the claims of all processes lie beside it.
        key: the request's.
    """
    claims = _claims_beside(file)
    end, pause = time.monotonic() + _LONGEST_CLAIM_S, 0.01
    waited = False
    while not (held := claims.take(key)) and time.monotonic() < end:
        waited = True
        await asyncio.sleep(pause)
        pause = min(2 * pause, 0.5)
    try:
        yield waited
    finally:
        if held:
            claims.give_up(key)


class _Claims:
    """Requests that are being asked: each is a lock on a byte of a file, of the system's keeping.

    It ends with the process, however that dies. Within a process a set does the same, since such
    locks are of a whole process.
    """

    def __init__(self, file: Path) -> None:
        self.pid = os.getpid()
        self._held: set[str] = set()
        self._lock = threading.Lock()
        self._file: int | None = None
        # Where there is no such file (a read-only disk), what several need is asked several times.
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def take(self, key: str) -> bool:
        """Claim a request; False where it is claimed already."""
        with self._lock:
            if key in self._held or not self._locked(key, hold=True):
                return False
            self._held.add(key)
            return True

    def give_up(self, key: str) -> None:
        with self._lock:
            self._held.discard(key)
            self._locked(key, hold=False)

    def _locked(self, key: str, *, hold: bool) -> bool:
        """Lock or unlock; False where another process holds it. True where there are no locks."""
        if fcntl is None or self._file is None:
            return True
        kind = fcntl.LOCK_EX | fcntl.LOCK_NB if hold else fcntl.LOCK_UN
        try:
            fcntl.lockf(self._file, kind, 1, int(key[:15], 16))
        except OSError as error:
            return error.errno not in {errno.EACCES, errno.EAGAIN}
        return True


# Never closed: closing any handle of a file drops all locks that this process has on it.
_CLAIMS: dict[Path, _Claims] = {}


def _claims_beside(file: Path) -> _Claims:
    place = file.absolute()
    if place not in _CLAIMS or _CLAIMS[place].pid != os.getpid():
        _CLAIMS[place] = _Claims(place.with_name(f"{place.name}-claims"))
    return _CLAIMS[place]


# What is kept of a reply, by kind; rows of earlier versions have fewer.
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "text": str,
    "model": str,
    "fingerprint": (str, type(None)),
    "finish_reason": (str, type(None)),
    "tokens": int,
    "completion_tokens": int,
    "reasoning": (str, type(None)),
    "prompt_tokens": int,
    "cached_tokens": (int, type(None)),
    "attempts": int,
    "dollars": (int, float, type(None)),
}
_SINCE = {
    "completion_tokens": 0,
    "reasoning": None,
    "prompt_tokens": 0,
    "cached_tokens": None,
    "attempts": 1,
    "dollars": None,
}


def row_of(reply: Reply) -> dict[str, Any]:
    """Return what is kept of a reply, as JSON values by name; `left_out` is kept apart."""
    return {name: getattr(reply, name) for name in _KINDS}


def reply_of(row: Any, left_out: Any) -> Reply | None:
    """Return the reply in a row, both as parsed JSON; None where there is no answer in it.

    Earlier versions kept replies that are no answers, and reasoning within them.
    """
    names = _texts(left_out)
    if not isinstance(row, dict) or names is None:
        return None
    values: dict[str, Any] = _SINCE | row
    if not all(isinstance(values.get(name, _json), kind) for name, kind in _KINDS.items()):
        return None
    text, thought = split_reasoning(values["text"])
    if failure_of(text, values["finish_reason"]) is not None:
        return None
    kept: dict[str, Any] = {name: values[name] for name in _KINDS} | {"text": text}
    kept["reasoning"] = values["reasoning"] or thought
    return Reply(**kept, cached=True, left_out=tuple(names))


def _texts(values: Any) -> list[str] | None:
    """Return a list of texts; None where it is something else."""
    is_list = isinstance(values, list) and all(isinstance(each, str) for each in values)
    return values if is_list else None


def _json(content: bytes | None) -> Any:
    try:
        return json.loads(content or b"")
    except (ValueError, RecursionError):
        return None

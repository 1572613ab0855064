"""All replies that were paid for, in a folder beside what is made of them, by their request.

Each process appends to a file of its own, `HOST-PID-RANDOM.jsonl`, one line a reply:

    {"key": "64 hex digits", "text": "...", ..., "left_out": [], "cached": false}

The key is that of the user's cache (`cache.request_key`). A reply is in the system's hands before
its caller has it, so a killed process loses none; a line that it tore off, or that was damaged
later, is absent. Unlike the cache, the store may not lose replies: where one cannot be kept, the
next call is refused. Files are readable by their owner alone, and never hold a key of an account.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import secrets
import socket
import threading
from array import array
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sharegptvideo._io import os_error_line, os_errors
from sharegptvideo.endpoint.cache import reply_of, row_of
from sharegptvideo.endpoint.messages import Reply
from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ReplyStore"]

_BEGIN, _KEY_DIGITS, _END = b'{"key": "', 64, b'", '
_FIX = "free some space or make the folder writable, then run the same command again"


class ReplyStore:
    """A folder of replies, shared by processes and machines; safe for threads, can be pickled.

    `get` knows the lines that were there when the store was first used, its own, and those that
    `refresh` took up since.
    """

    def __init__(self, folder: Path) -> None:
        """`folder`: is made by the first reply; nothing is read before the first use."""
        self.folder = folder
        self._lock = threading.Lock()
        self._files: list[Path] = []
        self._numbers: dict[str, int] = {}
        self._read_to: list[int] = []
        self._lines = _Lines()
        self._is_read = False
        self._own: _OwnFile | None = None
        self._failed: UserError | None = None
        self._failed_unseen = False

    def __reduce__(self) -> tuple[type[ReplyStore], tuple[Path]]:
        """Pickle the folder: in another process, it is another store with a file of its own."""
        return type(self), (self.folder,)

    def __len__(self) -> int:
        """Return the number of lines that are known, torn ones left out."""
        self._first_read()
        return len(self._lines)

    def __bool__(self) -> bool:
        """Return True: a store without a line is one too, and its folder is not read for this."""
        return True

    def get(self, key: str) -> Reply | None:
        """Return the reply to a request, as `cached`; None if none is known that can be read.

        Raises:
            UserError: a file of the store may not be read.
        """
        self._first_read()
        with self._lock:
            places = self._lines.find(int(key[:_PREFIX], 16))
        for number, start in places:
            pair = _parsed(self._line(self._files[number], start))
            if pair is not None and pair[0] == key:
                return replace(pair[1], cached=True)
        return None

    def _line(self, file: Path, start: int) -> bytes:
        try:
            with os_errors(file, action="read"), file.open("rb") as lines:
                lines.seek(start)
                return lines.readline()
        except UserError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return b""
            raise

    def put(self, key: str, reply: Reply) -> None:
        """Append a reply, which from here on outlives the process.

        Where it cannot be kept, `check` says so, and so does `close`: its caller goes on with it.
        """
        row = {"key": key, **row_of(reply), "left_out": reply.left_out, "cached": reply.cached}
        line = (json.dumps(row) + "\n").encode()
        with self._lock:
            try:
                own = self._own_file()
                start = own.append(line)
            except OSError as error:
                if self._failed is None:
                    self._failed, self._failed_unseen = self._refusal(error), True
                return
            if self._is_read:
                number = self._number(own.path)
                self._lines.add(int(key[:_PREFIX], 16), number, start)
                self._read_to[number] = start + len(line)

    def check(self) -> None:
        """Check, before a request is paid for, that its reply can be kept.

        Raises:
            UserError: the folder cannot be written, or an earlier reply could not be kept.
        """
        with self._lock:
            if self._failed is None:
                try:
                    self._own_file().check()
                except OSError as error:
                    self._failed = self._refusal(error)
            if self._failed is not None:
                self._failed_unseen = False
                raise self._failed

    def _refusal(self, error: OSError) -> UserError:
        line = os_error_line(error, self.folder, _FIX)
        return UserError(line or f"{self.folder}: cannot be written ({error}); {_FIX}", exit_code=1)

    def refresh(self) -> None:
        """Take up what other processes appended since the last time.

        Raises:
            UserError: a file of the store may not be read.
        """
        with self._lock, os_errors(self.folder, action="read"):
            self._is_read = True
            for path, size in _files(self.folder):
                number = self._number(path)
                if size > self._read_to[number]:
                    self._take_up(number)

    def _first_read(self) -> None:
        if not self._is_read:
            self.refresh()

    def _number(self, path: Path) -> int:
        number = self._numbers.setdefault(path.name, len(self._files))
        if number == len(self._files):
            self._files.append(path)
            self._read_to.append(0)
        return number

    def _take_up(self, number: int) -> None:
        """Note where the lines of a file start that are not known; the last may be torn yet."""
        keys, starts = array("Q"), array("Q")
        start = self._read_to[number]
        with self._files[number].open("rb") as lines:
            lines.seek(start)
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                prefix = _prefix(line)
                if prefix is not None:
                    keys.append(prefix)
                    starts.append(start)
                start += len(line)
        self._lines.extend(keys, number, starts)
        self._read_to[number] = start

    def __iter__(self) -> Iterator[tuple[str, Reply]]:
        """Yield every line that can be read, as key and reply, file by file; keeps none in memory.

        A reply is `cached` where it was not paid for here, but came from the user's cache. A key
        stands twice where it was asked twice.

        Raises:
            UserError: a file of the store may not be read.
        """
        with os_errors(self.folder, action="read"):
            for path, _ in _files(self.folder):
                with path.open("rb") as lines:
                    for line in lines:
                        pair = _parsed(line)
                        if pair is not None:
                            yield pair

    def _own_file(self) -> _OwnFile:
        """Return the file of this process, opened where it is not: a fork gets another one."""
        if self._own is None or self._own.pid != os.getpid():
            self._own = _OwnFile(self.folder)
        return self._own

    def close(self) -> None:
        """Close the file of this process.

        Raises:
            UserError: a reply could not be kept, and no `check` has said so.
        """
        with self._lock:
            if self._own is not None and self._own.pid == os.getpid():
                self._own.close()
            self._own = None
            if self._failed is not None and self._failed_unseen:
                self._failed_unseen = False
                raise self._failed

    def __enter__(self) -> ReplyStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:  # which says more
            with contextlib.suppress(UserError):
                self.close()


class _OwnFile:
    """The file that a process appends to."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.pid = os.getpid()
        host = re.sub(r"[^A-Za-z0-9]+", "-", socket.gethostname())[:40].strip("-") or "host"
        self.path = folder / f"{host}-{self.pid}-{secrets.token_hex(4)}.jsonl"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        self._file = os.open(self.path, flags, 0o600)
        self._size = 0

    def check(self) -> None:
        """Check that the file is still there: what goes into a removed one is lost."""
        if os.fstat(self._file).st_nlink == 0:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path))

    def append(self, line: bytes) -> int:
        """Write a line in one go, and return where it starts."""
        self.check()
        start = self._size
        try:
            written = os.write(self._file, line)
            if written != len(line):  # what a disk does that is nearly full
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, start)
            raise
        self._size += len(line)
        return start

    def close(self) -> None:
        """Close the file; an empty one goes."""
        os.close(self._file)
        if not self._size:
            with contextlib.suppress(OSError):
                self.path.unlink()


# Digits of a key that the index holds; the line itself holds all.
_PREFIX = 16
_OFFSET_BITS = 40
# Lines that are looked up without the sorted arrays, before they are merged into these.
_MOST_RECENT = 1 << 16


class _Lines:
    """Where the lines of each key start, at 16 bytes a line: sorted arrays, and the newest apart.

    A place is the number of a file, and an offset below 2^40 in it.
    """

    def __init__(self) -> None:
        self._keys: NDArray[np.uint64] | None = None
        self._places: NDArray[np.uint64] | None = None
        self._recent: dict[int, list[int]] = {}

    def __len__(self) -> int:
        sorted_ones = 0 if self._keys is None else len(self._keys)
        return sorted_ones + sum(map(len, self._recent.values()))

    def add(self, key: int, number: int, start: int) -> None:
        """Add a line."""
        self._recent.setdefault(key, []).append(number << _OFFSET_BITS | start)
        known = 0 if self._keys is None else len(self._keys)
        if len(self._recent) > _MOST_RECENT + known // 8:
            keys, places = array("Q"), array("Q")
            for each, its_places in self._recent.items():
                keys.extend([each] * len(its_places))
                places.extend(its_places)
            self._recent = {}
            self._merge(keys, places)

    def extend(self, keys: array[int], number: int, starts: array[int]) -> None:
        """Add lines of a file."""
        import numpy as np

        if len(keys) < _MOST_RECENT // 8:
            for key, start in zip(keys, starts, strict=True):
                self.add(key, number, start)
        else:
            self._merge(keys, np.array(starts) | np.uint64(number << _OFFSET_BITS))

    def _merge(self, keys: array[int], places: array[int] | NDArray[np.uint64]) -> None:
        import numpy as np

        new_keys, new_places = np.array(keys), np.array(places)
        if self._keys is not None and self._places is not None:
            new_keys = np.concatenate([self._keys, new_keys])
            new_places = np.concatenate([self._places, new_places])
        order = np.argsort(new_keys, kind="stable")
        self._keys, self._places = new_keys[order], new_places[order]

    def find(self, key: int) -> list[tuple[int, int]]:
        """Return the file number and offset of each line of a key, the earliest known first."""
        places = []
        if self._keys is not None and self._places is not None:
            import numpy as np

            first, last = np.searchsorted(self._keys, np.uint64(key), "left"), len(self._keys)
            while first < last and self._keys[first] == key:
                places.append(int(self._places[first]))
                first += 1
        places += self._recent.get(key, [])
        return [(place >> _OFFSET_BITS, place & (1 << _OFFSET_BITS) - 1) for place in places]


def _files(folder: Path) -> Iterator[tuple[Path, int]]:
    """Yield the files of a store in order, with their bytes."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".jsonl"))  # noqa: PTH208 - many
    except FileNotFoundError:
        return
    for name in names:
        path = folder / name
        with contextlib.suppress(FileNotFoundError):  # an empty one that was closed meanwhile
            yield path, path.stat().st_size


def _prefix(line: bytes) -> int | None:
    """Return the first digits of a line's key as a number, without reading the rest."""
    end = len(_BEGIN) + _KEY_DIGITS
    if line[: len(_BEGIN)] != _BEGIN or line[end : end + len(_END)] != _END:
        return None
    try:
        return int(line[len(_BEGIN) : len(_BEGIN) + _PREFIX], 16)
    except ValueError:
        return None


def _parsed(line: bytes) -> tuple[str, Reply] | None:
    """Return the key and reply of a line; None where it cannot be read."""
    try:
        row: Any = json.loads(line) if line.endswith(b"\n") and _prefix(line) is not None else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict):
        return None
    reply = reply_of(row, row.get("left_out"))
    if reply is None or not isinstance(row.get("cached"), bool):
        return None
    return row["key"], replace(reply, cached=row["cached"])

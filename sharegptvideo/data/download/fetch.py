"""Fetching of one file from the Hub: resumed after any stop, checked against the Hub's checksum.

The client's own download starts a file anew in each process (its temporary names are random, as
of huggingface_hub 2.4), and a chunk of the release has gigabytes. So the bytes are asked for here,
with Range; addresses, tokens and error answers stay the client's business. Xet would be quicker
on some lines but cannot be resumed across processes either.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from sharegptvideo.data.sources.hub import hub_errors
from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    import httpx2

__all__ = ["RemoteFile", "Stop", "Stopped", "digest_of", "fetch", "with_retries"]

_BLOCK = 1 << 20
_TRIES = 8
"""Attempts that bring nothing new before a file is given up."""
_FIRST_WAIT = 1.0
_LONGEST_WAIT = 60.0
# The Hub's limits are counted over five minutes; an answer that asks for more is a mistake.
_LONGEST_LIMIT = 600.0
_RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504})

_T = TypeVar("_T")
Advance = Callable[[int], None]
"""`advance(bytes)`: so many more are here; negative where some have to be fetched again."""


class Stop(threading.Event):
    """A request to all threads to stop, those that wait for bytes that do not come included."""

    def __init__(self) -> None:
        super().__init__()
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()

    def set(self) -> None:
        """Ask, and hang up the connections at work."""
        super().set()
        with self._lock:
            for connection in self._sockets:
                with contextlib.suppress(OSError):  # closed already
                    connection.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def hangs_up(self, response: httpx2.Response) -> Iterator[None]:
        """Let `set` end the connection while the block reads the response."""
        stream = response.extensions.get("network_stream")
        connection: socket.socket | None = stream and stream.get_extra_info("socket")
        if connection is None:
            yield
            return
        with self._lock:
            self._sockets.add(connection)
        try:
            yield
        finally:
            with self._lock:
                self._sockets.discard(connection)


class Stopped(Exception):  # noqa: N818  # a request, no error
    """A stop was asked for; what is here stays for the next time."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a dataset repository at one commit, with the checksum that the Hub keeps.

    `digest` is "sha256:HEX" of a large (LFS) file's content, else "git:HEX", its blob id.
    """

    repo: str
    commit: str
    path: str
    size: int
    digest: str

    @property
    def key(self) -> str:
        """A name for this content in this place: another revision never continues it."""
        place = hashlib.sha256(self.path.encode()).hexdigest()[:8]
        return f"{self.digest.replace(':', '-')}-{place}"

    @property
    def part_name(self) -> str:
        """The name of the file that holds what has come so far."""
        return f"{self.key}.part"


def fetch(file: RemoteFile, part: Path, *, advance: Advance, stop: Stop) -> None:
    """Bring `part` to the whole content of `file`; bytes that are there already are kept.

    Lost connections, server errors and "too many requests" are tried again: at once where
    bytes came, else after a wait that doubles, or that the server asks for.

    Raises:
        UserError: the Hub says no, cannot be reached, or sends other bytes twice.
        OSError: the disk's own errors.
        Stopped: `stop` was set.
    """
    for last in (False, True):
        with _open(part) as out:
            hasher = _Hasher(file)
            _Transfer(file, out, hasher, advance, stop).run()
        if hasher.digest() == file.digest:
            return
        part.unlink()
        advance(-file.size)
        if last:
            raise UserError(
                f"{file.repo}: {file.path} came twice with other bytes than the Hub's checksum "
                "says; try later, or another network",
                exit_code=1,
            )


def digest_of(path: Path, like: RemoteFile, stop: Stop) -> str:
    """Return the digest of a local file, of the kind that `like` has.

    Raises:
        Stopped: `stop` was set.
    """
    hasher = _Hasher(like, size=path.stat().st_size)
    with path.open("rb") as content:
        while block := content.read(_BLOCK):
            if stop.is_set():
                raise Stopped
            hasher.update(block)
    return hasher.digest()


class _Hasher:
    """SHA-256, or git's id of a blob: SHA-1 of "blob SIZE", a NUL and the content."""

    def __init__(self, file: RemoteFile, size: int | None = None) -> None:
        self.kind = file.digest.partition(":")[0]
        self._size = file.size if size is None else size
        self.restart()

    def restart(self) -> None:
        if self.kind == "sha256":
            self._hash = hashlib.sha256()
        else:
            self._hash = hashlib.sha1(f"blob {self._size}\0".encode(), usedforsecurity=False)

    def update(self, content: bytes) -> None:
        self._hash.update(content)

    def digest(self) -> str:
        return f"{self.kind}:{self._hash.hexdigest()}"


def _open(part: Path) -> IO[bytes]:
    """Open a file for reading and writing at its start; make it if need be."""
    return os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT, 0o666), "r+b")


@dataclass(slots=True)
class _Transfer:
    file: RemoteFile
    out: IO[bytes]
    hasher: _Hasher
    advance: Advance
    stop: Stop
    have: int = 0
    furthest: int = 0

    def run(self) -> None:
        self._take_over()
        tries = 0
        while self.have < self.file.size:
            self.furthest = max(self.furthest, self.have)
            pause: float | None = None
            try:
                self._receive()
                cause: Exception = EOFError()  # the server ended early and said nothing
            except _network_errors() as error:
                if not _is_retryable(error):
                    self._fail(error)
                pause, cause = _asked_wait(error), error
            # Only new ground counts: a server that cannot resume and always cuts has an end too.
            tries = 0 if self.have > self.furthest else tries + 1
            if self.have < self.file.size and tries:
                if tries >= _TRIES:
                    self._fail(cause)
                self.stop.wait(_doubled(tries) if pause is None else pause)
            if self.stop.is_set():
                raise Stopped

    def _take_over(self) -> None:
        """Hash what an earlier attempt left; a longer file is not part of this one."""
        if os.fstat(self.out.fileno()).st_size > self.file.size:
            self.out.truncate(0)
        while block := self.out.read(_BLOCK):
            if self.stop.is_set():
                raise Stopped
            self.hasher.update(block)
            self.have += len(block)

    def _receive(self) -> None:
        from huggingface_hub import constants, hf_hub_url
        from huggingface_hub.utils import (  # type: ignore[attr-defined]  # exported, not listed
            build_hf_headers,
            get_session,
            hf_raise_for_status,
        )

        file = self.file
        url = hf_hub_url(file.repo, file.path, repo_type="dataset", revision=file.commit)
        # A compressed answer has other byte positions than the file.
        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        if self.have:
            headers["Range"] = f"bytes={self.have}-"
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        with get_session().stream("GET", url, headers=headers, timeout=timeout) as response:
            if response.status_code == 416:
                self._start_over()
                return
            hf_raise_for_status(response)
            if self.have and not _continues(response, self.have):
                self._start_over()
            # As they come: what is gathered into larger blocks is lost with the connection.
            with self.stop.hangs_up(response):
                for block in response.iter_bytes():
                    if self.stop.is_set():
                        raise Stopped
                    self._keep(block[: file.size - self.have])
                    if self.have == file.size:
                        return  # what a server sends beyond it has no end that is known

    def _keep(self, block: bytes) -> None:
        self.out.write(block)
        # Unbuffered from here on: what counts as here is in the system's hands, kill -9 or not.
        self.out.flush()
        self.hasher.update(block)
        self.have += len(block)
        self.advance(len(block))

    def _start_over(self) -> None:
        self.out.seek(0)
        self.out.truncate(0)
        self.hasher.restart()
        self.advance(-self.have)
        self.have = 0

    def _fail(self, cause: Exception) -> None:
        with hub_errors(self.file.repo, self.file.commit, _FIX):
            raise cause


_FIX = "run the same command again, it goes on where it stopped"


def _continues(response: httpx2.Response, start: int) -> bool:
    """Return whether the body begins at byte `start`; a server that ignores Range sends it all."""
    where = response.headers.get("Content-Range", "")
    return response.status_code == 206 and where.startswith(f"bytes {start}-")


def with_retries(call: Callable[[], _T], tries: int = 4) -> _T:
    """Return what `call` does; try again, with waits, where network or server is at fault."""
    for number in range(1, tries):
        try:
            return call()
        except _network_errors() as error:
            if not _is_retryable(error):
                raise
            asked = _asked_wait(error)
            time.sleep(_doubled(number) if asked is None else asked)
    return call()


def _network_errors() -> tuple[type[Exception], ...]:
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    return (httpx2.TransportError, HfHubHTTPError)


def _is_retryable(error: Exception) -> bool:
    """Return whether one of `_network_errors` may be gone at the next attempt."""
    response = getattr(error, "response", None)
    return response is None or response.status_code in _RETRYABLE


def _doubled(tries: int) -> float:
    return min(_FIRST_WAIT * 2.0 ** (tries - 1), _LONGEST_WAIT)


def _asked_wait(error: Exception) -> float | None:
    """Return the seconds that the server's answer asks to wait for, if it names any."""
    response: httpx2.Response | None = getattr(error, "response", None)
    if response is None:
        return None
    from huggingface_hub.utils import (  # type: ignore[attr-defined]  # exported, not listed
        parse_ratelimit_headers,
    )

    info: Any = parse_ratelimit_headers(response.headers)
    text = response.headers.get("Retry-After", "").strip()
    asked = float(text) if text.isdecimal() else None
    if info is not None and info.remaining == 0:
        asked = float(info.reset_in_seconds)
    return None if asked is None else min(asked, _LONGEST_LIMIT)

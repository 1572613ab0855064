"""A Hub on loopback with real sockets, for the real `huggingface_hub` and `datasets` clients.

Two servers, as in the world: the Hub, and the storage that large (LFS) files are redirected to,
which is another origin, takes signed links only and refuses the Hub's token. State is in memory.
What it does not speak: pull requests, Xet. A download needs no Xet where the answer names no Xet
hash, as here. For an upload the client asks nobody: with `hf_xet` installed it goes to Xet and has
no way back, so `environment()` sets HF_HUB_DISABLE_XET, and it speaks LFS.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from tests.support.hub_faults import Faults
from tests.support.hub_http import HubHandler, Transfer
from tests.support.hub_repos import ATTRIBUTES, Blob, Commit, RefusedError, Repo, is_lfs

__all__ = ["HubServer", "Transfer"]


class _Server(ThreadingHTTPServer):
    """Ends its open connections with it, and keeps errors of its own for the test to see."""

    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler], errors: list[str]) -> None:
        self.open: set[socket.socket] = set()
        self.errors = errors
        super().__init__(("127.0.0.1", 0), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, *_: Any) -> None:
        # A client that goes away, or is killed, is part of the game.
        if not isinstance(sys.exception(), ConnectionError):
            self.errors.append(traceback.format_exc())

    def server_close(self) -> None:
        super().server_close()
        for connection in list(self.open):
            with contextlib.suppress(OSError):  # it may have ended just now
                connection.shutdown(socket.SHUT_RDWR)


@dataclass
class HubServer:
    """The server's state, and what tests do with it; `with HubServer(home):` serves.

    Args:
        home: the clients' own folder (HF_HOME), for `environment()`.

    Attributes:
        url: the Hub's; `storage_url`: where large files are.
        token: the one token there is; it is `user`'s, who may write in `namespaces`.
        requests: (method, path) of all that came, paths unquoted and without the query.
        transfers: each time that a file's bytes went out.
        errors: tracebacks of the server itself; the fixture fails a test that leaves one.
        faults: what is to go wrong; see `Faults.add`.
        page_size: entries in one answer of a tree or a log; the rest is behind a link.
        part_size: uploads larger than this go in parts of this size.
    """

    home: Path
    token: str = "hf_test_token"
    user: str = "tester"
    namespaces: set[str] = field(default_factory=lambda: {"tester", "test-org"})
    page_size: int = 1000
    part_size: int = 1 << 30
    url: str = ""
    storage_url: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)
    repos: dict[tuple[str, str], Repo] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    parts: dict[tuple[str, int], bytes] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    _running: list[tuple[_Server, threading.Thread]] = field(default_factory=list)

    # What tests set up and look at.

    def add_repo(
        self,
        name: str,
        folder: Path | Mapping[str, bytes],
        *,
        private: bool = False,
        gated: bool = False,
        repo_type: str = "dataset",
    ) -> str:
        """A repository with the files of a folder, or of a mapping; gives the commit's id.

        Where the repository is there, the files become its next commit, in place of all others.
        """
        files = _contents(folder) if isinstance(folder, Path) else folder
        blobs = {path: Blob(data, is_lfs(path, len(data), data)) for path, data in files.items()}
        with self.lock:
            repo = self.repos.setdefault(
                (repo_type, name), Repo(repo_type, name, private=private, gated=gated)
            )
            self.objects.update({blob.sha256: blob.content for blob in blobs.values() if blob.lfs})
            return repo.commit(blobs, "files of a test").oid

    def repo(self, name: str, repo_type: str = "dataset") -> Repo:
        """A repository, for its branches, tags and settings."""
        return self.repos[repo_type, name]

    def files(
        self, name: str, revision: str = "main", *, repo_type: str = "dataset"
    ) -> dict[str, bytes]:
        """Path and content of every file; a repository made over HTTP has a .gitattributes."""
        commit = self.repo(name, repo_type).resolve(revision)
        return {path: blob.content for path, blob in sorted(commit.files.items())}

    def commits(self, name: str, *, repo_type: str = "dataset") -> list[Commit]:
        """The commits of `main`, newest first."""
        return self.repo(name, repo_type).log()

    @property
    def fetched(self) -> list[str]:
        """The paths of the files whose bytes went out, in order, each time they did."""
        return [transfer.path for transfer in self.transfers]

    def forget(self) -> None:
        """Empty `requests`, `transfers` and `faults`."""
        self.requests.clear()
        self.transfers.clear()
        self.faults.clear()

    def environment(self) -> dict[str, str]:
        """What a process needs in its environment to take this server for the Hub."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": self.token,
            "HF_HOME": str(self.home),
            "HF_HUB_CACHE": str(self.home / "hub"),
            "HF_DATASETS_CACHE": str(self.home / "datasets"),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_OFFLINE": "0",
            "HF_DATASETS_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    # What the handlers ask for.

    def find(self, kind: str, name: str, *, token: str | None, write: bool = False) -> Repo:
        """A repository that the token may read, or write.

        Raises:
            RefusedError: there is none, or it is not for this token; without a token the Hub says
                401 to both. (It sends the code only with some of them; the client guesses the
                rest from the URL, which it can do for https alone.)
        """
        repo = self.repos.get((kind, name))
        owner = name.split("/")[0] in self.namespaces
        if repo is None or (repo.private and not (token and owner)):
            raise RefusedError(404 if token else 401, "Repository not found", "RepoNotFound")
        if write and not token:
            raise RefusedError(401, "Invalid username or password.")
        if write and not owner:
            raise RefusedError(403, f"You don't have the rights to write to {name}")
        return repo

    def create(self, kind: str, name: str, *, private: bool, token: str | None) -> str:
        """A new repository with the Hub's first commit; gives its URL."""
        url = f"{self.url}/{'' if kind == 'model' else kind + 's/'}{name}"
        if not token:
            raise RefusedError(401, "Invalid username or password.")
        if name.split("/")[0] not in self.namespaces:
            raise RefusedError(403, f"You don't have the rights to create {name}")
        if not re.fullmatch(r"[\w.-]{1,96}/[\w.-]{1,96}", name):
            raise RefusedError(400, f"Invalid name {name!r}")
        with self.lock:
            if (kind, name) in self.repos:
                taken = {"error": f"You already created this {kind} repo", "url": url}
                raise RefusedError(409, taken["error"], body=taken)
            repo = self.repos[kind, name] = Repo(kind, name, private=private)
            repo.commit({".gitattributes": Blob(ATTRIBUTES.encode(), lfs=False)}, "initial commit")
        return url

    def link(self, repo: Repo, path: str, blob: Blob) -> str:
        """A signed link to a large file in the storage."""
        where = f"{repo.type}s/{repo.name}/{quote(path)}"
        return f"{self.storage_url}/{blob.sha256}/{where}?signature={self.sign(blob.sha256)}"

    def sign(self, what: str) -> str:
        """A signature that only this server can make."""
        return hashlib.sha256(f"{id(self)} {what}".encode()).hexdigest()[:16]

    def upload_action(self, repo: Repo, oid: str, size: int) -> dict[str, Any]:
        """What an LFS batch answers for one object: nothing to do, one PUT, or one a part."""
        with self.lock:
            there = oid in self.objects
        if there:
            return {"oid": oid, "size": size}
        kind = "" if repo.type == "model" else f"{repo.type}s/"
        base = f"{self.url}/{kind}{repo.name}.git/info/lfs"
        sign = f"signature={self.sign(oid)}"
        upload: dict[str, object] = {"href": f"{self.storage_url}/upload/{oid}?{sign}"}
        if size > self.part_size:
            count = -(-size // self.part_size)
            parts = {
                f"{n:05d}": f"{self.storage_url}/upload/{oid}/{n}?{sign}"
                for n in range(1, count + 1)
            }
            header = {"chunk_size": str(self.part_size), **parts}
            upload = {"href": f"{base}/complete", "header": header}
        actions = {"upload": upload, "verify": {"href": f"{base}/verify"}}
        return {"oid": oid, "size": size, "actions": actions}

    def store(self, oid: str, content: bytes) -> None:
        """Keep an uploaded object.

        Raises:
            RefusedError: its SHA-256 is another.
        """
        if hashlib.sha256(content).hexdigest() != oid:
            raise RefusedError(400, "the SHA-256 of what came is not the one that was announced")
        with self.lock:
            self.objects[oid] = content

    # Serving.

    def __enter__(self) -> HubServer:
        self.url = self._start(storage=False)
        self.storage_url = self._start(storage=True)
        return self

    def _start(self, *, storage: bool) -> str:
        class Handler(HubHandler):
            hub = self

        Handler.storage = storage
        server = _Server(Handler, self.errors)
        thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        thread.start()
        self._running.append((server, thread))
        return f"http://127.0.0.1:{server.server_address[1]}"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self._running:
            server, thread = self._running.pop()
            server.shutdown()
            thread.join()
            server.server_close()


def _contents(folder: Path) -> dict[str, bytes]:
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}

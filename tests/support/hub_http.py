"""The HTTP of the test Hub: bodies, ranges, faults on the wire; what each path does is a route."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.hub_faults import Fault, Kind
from tests.support.hub_repos import Blob, RefusedError

if TYPE_CHECKING:
    from tests.support.hub_server import HubServer

__all__ = ["Answer", "HubHandler", "Request", "Route", "Transfer", "as_json"]


@dataclass(frozen=True)
class Transfer:
    """Bytes of a file that went out: from `start` on, `sent` of them."""

    repo: str
    path: str
    start: int
    sent: int


@dataclass
class Request:
    """One request, read whole: groups of the route's pattern are unquoted."""

    hub: HubServer
    method: str
    raw_path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    groups: dict[str, str] = field(default_factory=dict)

    @property
    def token(self) -> str | None:
        """The token, None without one.

        Raises:
            RefusedError: it is not a token of this server.
        """
        found = self.headers.get("authorization")
        if found is not None and found != f"Bearer {self.hub.token}":
            raise RefusedError(401, "Invalid credentials in Authorization header")
        return None if found is None else self.hub.token

    def json(self) -> Any:
        """The body as JSON."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise RefusedError(400, f"not JSON: {error}") from error


@dataclass
class Answer:
    """A status, headers, and either bytes or a file, of which a part may have been asked for."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    file: tuple[str, str, Blob] | None = None  # repository, path, content


def as_json(value: object, status: int = 200, headers: dict[str, str] | None = None) -> Answer:
    """A JSON answer."""
    kind = {"Content-Type": "application/json; charset=utf-8"}
    return Answer(json.dumps(value).encode(), status, {**kind, **(headers or {})})


Route = Callable[[Request], Answer]


class HubHandler(BaseHTTPRequestHandler):
    """Reads a request, lets a fault strike or a route answer, sends the answer."""

    hub: ClassVar[HubServer]
    storage: ClassVar[bool]
    protocol_version = "HTTP/1.1"
    # Head and body are two writes; together with delayed acknowledgement that is 40 ms a request.
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Keeps the tests quiet."""

    def _serve(self) -> None:
        from tests.support.hub_routes import HUB_ROUTES, STORAGE_ROUTES

        parts = urlsplit(self.path)
        path = unquote(parts.path)
        self.hub.requests.append((self.command, path))
        fault = self.hub.faults.take(self.command, path, {"status", "drop", "lost"})
        if fault is not None and fault.kind == "drop":
            return self._hang_up(fault)
        body = self._read_body(path)
        if body is None:
            return None
        if fault is not None and fault.kind == "status":
            fault.struck.set()
            wrong = {"error": f"fault {fault.status}"}
            return self._send(as_json(wrong, fault.status, fault.headers))
        headers = {name.lower(): value for name, value in self.headers.items()}
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        request = Request(self.hub, self.command, parts.path, query, headers, body)
        try:
            answer = _dispatch(request, STORAGE_ROUTES if self.storage else HUB_ROUTES)
        except RefusedError as error:
            answer = _refused(error)
        if fault is not None:  # the answer is lost
            return self._hang_up(fault)
        return self._send_file(answer, path) if answer.file else self._send(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - names of http.server

    def _read_body(self, path: str) -> bytes | None:
        """The body; None where a fault ended the connection before all of it had come."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return self._read_chunks()
        size = int(self.headers.get("Content-Length", 0))
        if self.storage and self.command == "PUT":
            fault = self.hub.faults.take(self.command, path, {"cut", "stall"})
            if fault is not None:
                self.rfile.read(min(fault.after, size))
                self._hang_up(fault)
                return None
        return self.rfile.read(size)

    def _read_chunks(self) -> bytes:
        found = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            found.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(found)

    def _send(self, answer: Answer) -> None:
        self._head(answer.status, {**answer.headers, "Content-Length": str(len(answer.body))})
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def _send_file(self, answer: Answer, path: str) -> None:
        assert answer.file is not None
        repo, name, blob = answer.file
        if self.command == "HEAD":
            head = {**answer.headers, "Content-Length": str(len(blob.content))}
            return self._head(200, head)
        asked = self.headers.get("Range")
        kinds: set[Kind] = {"cut", "cut-whole", "stall", "short", "wrong", "endless"}
        fault = self.hub.faults.take(
            self.command, path, kinds | {"ignore-range"} if asked else kinds
        )
        kind = fault.kind if fault else None
        size = len(blob.content)
        try:
            part = _span(None if kind in {"ignore-range", "cut-whole"} else asked, size)
        except ValueError:
            return self._send(Answer(b"", 416, {"Content-Range": f"bytes */{size}"}))
        start, stop = part or (0, size)
        content = blob.content[start:stop]
        if fault is not None and kind == "wrong" and content:
            at = min(fault.after, len(content) - 1)
            content = content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]
        if fault is not None and kind == "short":
            content = content[: fault.after]
        headers = {**answer.headers, "Content-Length": str(len(content))}
        if part is not None:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        if kind == "endless":
            del headers["Content-Length"]
            headers["Connection"] = "close"
        self._head(206 if part else 200, headers)
        hangs_up = fault is not None and kind in {"cut", "cut-whole", "stall"}
        if fault is not None and hangs_up:
            content = content[: fault.after]
        # Noted before it is sent: who has received the last byte may look at once.
        self.hub.transfers.append(Transfer(repo, name, start, len(content)))
        self.wfile.write(content)
        if fault is not None and hangs_up:
            self._hang_up(fault)
        elif fault is not None and kind == "endless":
            self._go_on(fault)
        elif fault is not None:
            fault.struck.set()
        return None

    def _go_on(self, fault: Fault) -> None:
        try:
            for _ in range(200):
                self.wfile.write(bytes(1_000_000))
        except OSError:
            fault.struck.set()
        self.close_connection = True

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _hang_up(self, fault: Fault) -> None:
        self.wfile.flush()
        fault.struck.set()
        if fault.kind == "stall":
            while self.connection.recv(1 << 16):  # until the client, or the server's end, closes
                pass
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def _dispatch(request: Request, routes: list[tuple[str, str, Route]]) -> Answer:
    for method, pattern, route in routes:
        wanted = {"GET", "HEAD"} if method == "GET" else {method}
        if request.method in wanted and (match := re.fullmatch(pattern, request.raw_path)):
            found = {name: value or "" for name, value in match.groupdict().items()}
            request.groups = {name: unquote(value) for name, value in found.items()}
            return route(request)
    raise RefusedError(404, f"the test Hub does not speak {request.method} {request.raw_path}")


def _refused(error: RefusedError) -> Answer:
    # A header is one line of Latin-1.
    text = error.message.encode("latin-1", "replace").decode("latin-1").replace("\n", " ")
    headers = {"X-Error-Message": text}
    if error.code:
        headers["X-Error-Code"] = error.code
    return as_json(error.body, error.status, headers)


def _span(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last, of a Range header; ValueError where nothing is."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "")
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    start = int(first) if first else max(size - int(last), 0)
    stop = min(int(last) + 1, size) if first and last else size
    if start >= stop:
        raise ValueError(header)
    return start, stop

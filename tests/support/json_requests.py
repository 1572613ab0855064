"""Just enough HTTP for servers of JSON on loopback, for tests and benchmarks."""

from __future__ import annotations

import asyncio
import json
from typing import Any

__all__ = ["JsonRequests"]


class JsonRequests(asyncio.Protocol):
    """One request at a time on a connection; a body is JSON, its length given."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self._buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, blank, body = self._buffer.partition(b"\r\n\r\n")
        if not blank:
            return
        line, *headers = head.split(b"\r\n")
        lengths = [int(h[15:]) for h in headers if h.lower().startswith(b"content-length:")]
        length = lengths[0] if lengths else 0
        if len(body) >= length:
            self._buffer = body[length:]
            path = line.split(b" ")[1].decode()
            content = json.loads(body[:length]) if length else None
            self._task = asyncio.ensure_future(self.serve(path, content))

    async def serve(self, path: str, body: Any) -> None:
        """Answer a request, on `transport`; `body` is None where it has none."""
        raise NotImplementedError

    def send(self, status: bytes, body: bytes, headers: bytes = b"") -> None:
        """Send a reply; `headers` are whole lines."""
        self.transport.write(
            b"HTTP/1.1 %s\r\n%sContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (status, headers, len(body), body)
        )

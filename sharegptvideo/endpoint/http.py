"""An HTTP client whose replies have a size and an end, whatever the server sends."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2

from sharegptvideo._text import byte_size
from sharegptvideo.endpoint.server_errors import ReplyTooLargeError

__all__ = ["BoundedClient"]


class BoundedClient(httpx2.AsyncClient):
    """Reads each reply whole, up to a size, within the request's timeout for the whole try.

    The size is that after decompression. httpx's own timeout starts again with each byte. Redirects
    are not followed: they would take a key to another place.
    """

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes`: the most that a reply may have, unpacked."""
        super().__init__(limits=httpx2.Limits(max_connections=1000, max_keepalive_connections=100))
        self.max_bytes = max_bytes

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request and return its reply, read.

        Raises:
            ReplyTooLargeError: the reply is larger than the limit.
            httpx2.ReadTimeout: it was not there in time.
        """
        seconds = request.extensions.get("timeout", {}).get("read")
        options |= {"stream": True, "follow_redirects": False}
        try:
            async with asyncio.timeout(seconds):
                response = await super().send(request, **options)
                try:
                    content = await _read(response, self.max_bytes)
                finally:
                    await response.aclose()
        except TimeoutError as error:
            raise httpx2.ReadTimeout("no whole reply in time", request=request) from error
        headers = [
            (name, value)
            for name, value in response.headers.multi_items()
            if name.lower() not in {"content-encoding", "content-length", "transfer-encoding"}
        ]
        return httpx2.Response(
            response.status_code,
            headers=headers,
            content=content,
            request=response.request,
            extensions=response.extensions,
        )


async def _read(response: httpx2.Response, most: int) -> bytes:
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > most:
            raise ReplyTooLargeError(f"the reply is larger than {byte_size(most)}, which none is")
    return bytes(content)

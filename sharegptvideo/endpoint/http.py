"""An HTTP client whose replies have a size and an end, whatever the server sends."""

from __future__ import annotations

import asyncio
import zlib
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
        # What the library unpacks, it unpacks a whole piece at a time: 20 kB packed twice are 8 GB.
        super().__init__(
            headers={"Accept-Encoding": "gzip"},
            limits=httpx2.Limits(max_connections=1000, max_keepalive_connections=100),
        )
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
    unpack = _unpacking(response)
    content = bytearray()
    async for chunk in response.aiter_raw():
        try:
            content += unpack.decompress(chunk, most + 1 - len(content)) if unpack else chunk
        except zlib.error as error:
            raise httpx2.DecodingError(f"damaged gzip data: {error}") from None
        if len(content) > most:
            raise ReplyTooLargeError(f"the reply is larger than {byte_size(most)}, which none is")
    return bytes(content)


def _unpacking(response: httpx2.Response) -> zlib._Decompress | None:
    """Return what unpacks a reply; None where it is not packed, or says what is no packing."""
    said = response.headers.get("content-encoding", "").lower()
    packings = [each.strip() for each in said.split(",") if each.strip() in _PACKINGS]
    if not packings:
        return None
    if len(packings) > 1 or packings[0] in _NOT_ASKED_FOR:
        raise httpx2.DecodingError(f"packed as {said[:40]}, not the gzip that was asked for")
    return zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib, by what it begins with


_NOT_ASKED_FOR = frozenset({"br", "zstd", "compress"})
_PACKINGS = _NOT_ASKED_FOR | {"gzip", "x-gzip", "deflate"}

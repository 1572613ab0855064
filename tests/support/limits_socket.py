"""Limits that several processes share over a socket: a connection for each call, no more.

As with an actor on a cluster, a caller that is gone does not end the call that it made.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sharegptvideo.endpoint.limits import SharedLimits

__all__ = ["LimitsSocket", "serving"]


class LimitsSocket:
    """Calls methods of the limits that are served at a path."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def __call__(self, method: str, *arguments: Any) -> Any:
        reader, writer = await asyncio.open_unix_connection(self.path)
        try:
            writer.write(pickle.dumps((method, arguments)))
            writer.write_eof()
            return pickle.loads(await reader.read())
        finally:
            writer.close()


@contextlib.contextmanager
def serving(shared: SharedLimits, path: Path) -> Iterator[LimitsSocket]:
    """Serve limits at a path, from an event loop in a thread."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, arguments = pickle.loads(await reader.read())
        given = await getattr(shared, method)(*arguments)
        writer.write(pickle.dumps(given))
        writer.close()

    async def serve() -> None:
        async with await asyncio.start_unix_server(answer, path):
            ready.set()
            await stopped.wait()

    loop, ready, stopped = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    assert ready.wait(10)
    try:
        yield LimitsSocket(path)
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join()
        loop.close()

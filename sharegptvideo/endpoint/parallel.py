"""Run an async function over many items from plain code, a few at a time."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, TypeVar

from sharegptvideo.endpoint.server_errors import BudgetError

__all__ = ["in_parallel"]

T = TypeVar("T")
R = TypeVar("R")


def in_parallel(
    call: Callable[[T], Awaitable[R]],
    items: Iterable[T],
    *,
    width: int,
    finish: Callable[[], Awaitable[None]] | None = None,
) -> Iterator[tuple[T, R]]:
    """Yield `(item, result)` in the order of completion, with at most `width` calls under way.

    The calls run on an event loop in a thread of its own, so this also works where a loop runs
    already (a notebook). An error of a call is raised here once the results before it are out;
    then, and where the caller stops early, the calls under way are cancelled; after a `BudgetError`
    they finish, since they are paid for, and their results come out before it.
    `finish` is awaited last, whatever happened.

    Raises:
        ValueError: `width` is below 1.
    """
    if width < 1:
        raise ValueError(f"width {width}: must be at least 1")
    done: queue.SimpleQueue[tuple[T, R] | BaseException | None] = queue.SimpleQueue()
    stop = asyncio.Event()
    loop = asyncio.new_event_loop()

    async def call_one(item: T) -> None:
        done.put((item, await call(item)))

    def run() -> None:
        try:
            loop.run_until_complete(_work(call_one, items, width, stop, finish))
        except BaseException as error:  # noqa: BLE001 - handed over to the caller's thread
            done.put(error)
        else:
            done.put(None)
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    thread = threading.Thread(target=run, name="in_parallel", daemon=True)
    thread.start()
    try:
        while (outcome := done.get()) is not None:
            if isinstance(outcome, BaseException):
                raise outcome
            yield outcome
    finally:
        with contextlib.suppress(RuntimeError):  # the loop has closed: all is done
            loop.call_soon_threadsafe(stop.set)
        thread.join()


async def _work(
    call: Callable[[T], Awaitable[None]],
    items: Iterable[T],
    width: int,
    stop: asyncio.Event,
    finish: Callable[[], Awaitable[None]] | None,
) -> None:
    """Call `call` on all items with `width` workers; `stop` cancels them."""
    source = iter(items)
    spent: list[BudgetError] = []

    async def worker() -> None:
        for item in source:
            if spent:
                return
            try:
                await call(item)
            except BudgetError as error:  # the others are paid for: they finish
                spent.append(error)
                return

    tasks = [asyncio.ensure_future(worker()) for _ in range(width)]
    stopped = asyncio.ensure_future(stop.wait())
    everything = asyncio.gather(*tasks)
    try:
        both: set[asyncio.Future[Any]] = {everything, stopped}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if everything.done():
            await everything
            if spent:
                raise spent[0]
    finally:
        for task in (*tasks, stopped):
            task.cancel()
        await asyncio.gather(*tasks, stopped, return_exceptions=True)
        with contextlib.suppress(BaseException):  # raised above if it is news
            await everything
        if finish is not None:
            await finish()

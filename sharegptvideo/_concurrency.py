"""Work done at once: results in order and ahead of their reader, pools of processes, progress."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType
from typing import ParamSpec, TypeVar

from sharegptvideo.errors import UserError

__all__ = ["Progress", "ordered_map", "worker_pool"]

Progress = Callable[[int, int, str], None]
"""`progress(done, total, what)`, called as the work goes on; a total of 0 means unknown."""

_P = ParamSpec("_P")
_T = TypeVar("_T")
_In = TypeVar("_In")
_Out = TypeVar("_Out")


def ordered_map(
    function: Callable[[_In], _Out],
    items: Iterable[_In],
    *,
    ahead: int,
    workers: int = 1,
    pool: Executor | None = None,
    name: str = "ordered_map",
) -> Generator[_Out, None, None]:
    """Yield the result of `function` for each item, in order, while later ones are computed.

    `items` is read in the caller's thread. An error, whether of `function` or of `items`, is
    raised in its place, after the results before it. An error, Ctrl-C and `close` cancel what
    has not begun; threads of its own are waited for, so that none outlives the iteration. An
    exception in the body of a `for` loop does not close a generator: use `contextlib.closing`.

    Args:
        ahead: how many items are handed out beyond the one whose result is asked for; no more
            results than that are kept.
        workers: how many threads; they end with the iteration.
        pool: use this instead, such as a `worker_pool`, and leave it open.
        name: what the threads' names begin with.
    """
    executor = pool or ThreadPoolExecutor(workers, thread_name_prefix=name)
    waiting: deque[Future[_Out]] = deque()
    try:
        for future in _submitted(executor, function, items):
            waiting.append(future)
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
        if pool is None:
            executor.shutdown(wait=True, cancel_futures=True)


def _submitted(
    executor: Executor, function: Callable[[_In], _Out], items: Iterable[_In]
) -> Iterator[Future[_Out]]:
    """Submit each item when asked for it; an error of `items` becomes the last future."""
    try:
        for item in items:
            yield executor.submit(function, item)
    except Exception as error:  # noqa: BLE001 - raised again in its place
        failed: Future[_Out] = Future()
        failed.set_exception(error)
        yield failed


@contextmanager
def worker_pool(workers: int) -> Generator[Executor, None, None]:
    """A pool of `workers` processes; they are started as jobs come.

    A terminal sends Ctrl-C to all processes: the parent handles it, the workers never see it, not
    even while they start. Whatever leaves the block by an exception gives up the jobs not begun
    and waits for those that run. A parent that is killed takes its workers along.

    Raises:
        UserError: a worker died.
    """
    # Its first start would let Ctrl-C through again, in the middle of the start of a worker.
    resource_tracker.ensure_running()
    # spawn, not fork: the caller may hold threads of torch or of a progress display.
    context = multiprocessing.get_context("spawn")
    pool = _Pool(workers, mp_context=context, initializer=_begin_worker)
    try:
        yield pool
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process died (no memory left, or a script without "
            '`if __name__ == "__main__"`); run again with 1 worker',
            exit_code=1,
        ) from error
    finally:
        # Not by `with`, whose end would ask for the jobs not begun after all.
        pool.shutdown(wait=True, cancel_futures=True)


class _Pool(ProcessPoolExecutor):
    """Starts a worker, where one is wanted, on each `submit`, which `map` calls too."""

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        with _ctrl_c_later():
            return super().submit(fn, *args, **kwargs)


@contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """What is started meanwhile begins with SIGINT held back; here it comes afterwards.

    Blocked for this thread alone, the signal would still reach the main thread by way of another
    one, between the start of a process and what it has to be told: hence the handler.
    """
    came: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        came.append(number)

    handler = signal.getsignal(signal.SIGINT)
    ours = callable(handler) and threading.current_thread() is threading.main_thread()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        if ours:
            signal.signal(signal.SIGINT, note)
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if came:
            signal.raise_signal(signal.SIGINT)


def _begin_worker() -> None:
    """Ctrl-C is the parent's to handle; a parent that was killed takes its workers along."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # one that came already is dropped by this
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    parent = multiprocessing.parent_process()
    assert parent is not None  # this runs in workers only

    def follow() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)  # of the worker, never of the process that asked

    threading.Thread(target=follow, daemon=True).start()

"""Concurrency: a map that works ahead, process pools, available cores, the type of progress."""

from __future__ import annotations

import itertools
import math
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
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from types import FrameType
from typing import ParamSpec, TypeVar

from sharegptvideo.errors import UserError

__all__ = [
    "SMALL_MODEL",
    "Cores",
    "Progress",
    "TorchThreads",
    "available_cores",
    "given_cores",
    "in_background",
    "limit_torch_threads",
    "no_progress",
    "ordered_map",
    "pooled_map",
    "worker_pool",
]

Progress = Callable[[int, int, str], None]
"""`progress(done, total, what)`, called as the work goes on; a total of 0 means unknown."""

# A second thread gains such a model little, and costs it much where another process has the core:
# beside three busy processes on two cores, a step of a language model of 0.5, 2.8, 10 and 25 M
# parameters (8 rows of 110 tokens) took 0.11, 0.36, 2.1 and 2.5 s with one thread, and 0.19, 10.8,
# 9.6 and 4.1 s with two (medians). Of the smallest, the fastest step took 0.087 and 0.074 s.
SMALL_MODEL = 20_000_000
"""Parameters below which a model on the CPU runs in one thread."""

_MOUNT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_OWN_NUMBER = "OMP_NUM_THREADS"

_P = ParamSpec("_P")
_T = TypeVar("_T")
_In = TypeVar("_In")
_Out = TypeVar("_Out")


def no_progress(_done: int, _total: int, _what: str) -> None:
    """Show nothing, where a caller asks for no progress."""


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


def pooled_map(
    function: Callable[[_In], _Out], jobs: Iterable[_In], *, pool: Executor | None, ahead: int
) -> Iterator[_Out]:
    """Map in order by the processes of a pool, or here where a single job is not worth one.

    Args:
        pool: None to map here in any case.
        ahead: see `ordered_map`.
    """
    jobs = iter(jobs)
    head = list(itertools.islice(jobs, 2))
    jobs = itertools.chain(head, jobs)
    if pool is None or len(head) < 2:
        return map(function, jobs)
    return ordered_map(function, jobs, ahead=ahead, pool=pool)


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


def in_background(function: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
    """Call `function` in a thread of its own, and return its result or error to come.

    The thread does not hold up the end of the process, as those of executors do.
    """
    future: Future[_T] = Future()

    def run() -> None:
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
            future.set_exception(error)

    threading.Thread(target=run, name="in_background", daemon=True).start()
    return future


@contextmanager
def worker_pool(workers: int) -> Generator[Executor, None, None]:
    """Open a pool of `workers` processes, which are started as jobs come.

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
    """A pool that starts a worker, where needed, on each `submit`, which `map` calls too."""

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        with _ctrl_c_later():
            return super().submit(fn, *args, **kwargs)


@contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Hold SIGINT back inside the block, also from processes started there; deliver it afterwards.

    Blocked for this thread alone, the signal would still reach the main thread by way of another
    one, between the start of a process and the message with its work: hence the handler.
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
    """Ignore Ctrl-C, which the parent handles, and end when the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # one that came already is dropped by this
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    parent = multiprocessing.parent_process()
    assert parent is not None  # this runs in workers only

    def follow() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)  # of the worker, never of the process that asked

    threading.Thread(target=follow, daemon=True).start()


@dataclass(frozen=True, slots=True)
class Cores:
    """Cores of the machine, and what limits this process to fewer.

    Attributes:
        machine: all that the system has.
        mask: those that the process may run on (`taskset`, a job scheduler).
        quota: processor time that its control groups give it, in cores (`docker run --cpus`);
            None: no limit.
    """

    machine: int
    mask: int
    quota: float | None

    @property
    def available(self) -> int:
        """Return how many threads or processes run at once, at least 1; part of a core counts."""
        return min(self.mask, max(1, math.ceil(self.quota or self.mask)))


def given_cores(mount: Path = _MOUNT, membership: Path = _MEMBERSHIP) -> Cores:
    """Return what the affinity mask and the control groups' quotas give this process.

    Args:
        mount: where the control groups are mounted, of version 1, 2 or both.
        membership: the file that lists those of the process (`/proc/self/cgroup`).
    """
    machine = os.cpu_count() or 1
    mask = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine
    return Cores(machine, mask, min(_quotas(mount, membership), default=None))


def available_cores() -> int:
    """Return how many threads or processes can run at once here, at least 1."""
    return given_cores().available


class TorchThreads:
    """How many threads torch gets, and what it had before a small model got one.

    Attributes:
        cores: that there are; None: those available when threads are set.
    """

    def __init__(self, cores: int | None = None) -> None:
        self.cores = cores
        # Number of threads set here, and of those before, which count for the next model.
        self._set: tuple[int, int] | None = None
        self._processes = 1

    def limit(self, parameters: int | None = None, *, processes: int | None = None) -> int:
        """Give torch no more threads than there are cores, and a small model one.

        torch counts the cores of the affinity mask and knows nothing of quotas. Its threads wait
        for each other after every operation, so one that gets no core holds up all.
        `OMP_NUM_THREADS` counts instead where it is set: nothing is changed then.

        Args:
            parameters: of the model that is about to run on the CPU; None: it is not small.
            processes: how many processes such as this one share the cores; None: as many as the
                last call said, or 1.

        Returns:
            How many threads torch has now.
        """
        import torch

        self._processes = processes or self._processes
        now = torch.get_num_threads()
        if os.environ.get(_OWN_NUMBER):
            return now
        before = self._set[1] if self._set is not None and self._set[0] == now else now
        cores = available_cores() if self.cores is None else self.cores
        threads = min(before, max(1, cores // self._processes))
        if parameters is not None and parameters < SMALL_MODEL:
            threads = 1
        if threads != now:
            torch.set_num_threads(threads)
        self._set = (threads, before)
        return threads


limit_torch_threads = TorchThreads().limit


def _quotas(mount: Path, membership: Path) -> Iterator[float]:
    """Yield each quota on the process's groups and the groups above them, in cores."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        names = controllers.split(",")
        if not controllers:
            for folder in _upwards(mount, path):
                yield from _quota(folder / "cpu.max")
        elif "cpu" in names:
            for folder in _upwards(mount / "cpu", path):
                yield from _quota(folder / "cpu.cfs_quota_us", folder / "cpu.cfs_period_us")


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """Yield a group's folder and those above it.

    In a container the path can be the host's, of which only the mount itself is to be seen.
    """
    folder = mount / path.lstrip("/")
    while folder != mount and mount in folder.parents:
        yield folder
        folder = folder.parent
    yield mount


def _quota(*files: Path) -> Iterator[float]:
    """Yield time by period, in one file or in two; nothing where there is no limit."""
    try:
        words = [word for file in files for word in file.read_text().split()]
        time, period = (float(word) for word in words)
    except (OSError, ValueError):  # not there, or "max"
        return
    if time > 0 and period > 0:
        yield time / period

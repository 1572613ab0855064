"""Results in order and ahead of their reader: order, bounds, errors, interruption. Pools of
processes: Ctrl-C at any moment of their start, jobs that fail, a killed parent."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from sharegptvideo._concurrency import ordered_map, worker_pool
from sharegptvideo.errors import UserError

# Two workers are started by the first jobs; the last job would outlast the test.
SCRIPT = """
import sys, time
from sharegptvideo._concurrency import worker_pool

if __name__ == "__main__":
    jobs = [0.01] * 20 + [0.1] * 600
    try:
        print("begins", flush=True)
        with worker_pool(2) as pool:
            for _ in pool.map(time.sleep, jobs):
                pass
    except KeyboardInterrupt:
        sys.exit("interrupted")
"""

# A worker that has answered once has begun; its next job would outlast the test.
BUSY = """
import time
from sharegptvideo._concurrency import worker_pool

if __name__ == "__main__":
    with worker_pool(1) as pool:
        pool.submit(abs, 1).result()
        print("begins", flush=True)
        pool.submit(time.sleep, 600).result()
"""


def started(tmp_path: Path, script: str = SCRIPT) -> subprocess.Popen[str]:
    path = tmp_path / "script.py"
    path.write_text(script, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begins\n"
    return process


@pytest.mark.parametrize(
    "milliseconds", [0, 2, 5, 10, 20, 40, 60, 80, 100, 130, 160, 200, 300, 500]
)
def test_ctrl_c_at_any_moment_is_one_line(tmp_path: Path, milliseconds: int) -> None:
    """Sent to parent and workers alike, as a terminal does; the moments lie in the pool's start."""
    process = started(tmp_path)
    time.sleep(milliseconds / 1000)  # the moment itself is what is tested
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert said == "interrupted\n"
    assert process.returncode == 1


def test_workers_go_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """They hold the other end of its standard error, which is closed when the last has gone."""
    process = started(tmp_path, BUSY)
    process.kill()
    process.communicate(timeout=60)


def test_a_job_that_fails_raises_here_and_the_rest_is_given_up() -> None:
    waiting: list[Future[None]] = []

    def fail() -> None:
        with worker_pool(1) as pool:
            failing = pool.submit(divmod, 1, 0)
            waiting.extend(pool.submit(time.sleep, 0.2) for _ in range(50))
            failing.result()

    with pytest.raises(ZeroDivisionError):
        fail()
    assert waiting[-1].cancelled()


def test_a_worker_that_dies_is_one_line() -> None:
    said = r"a worker process died .* run again with 1 worker"
    with pytest.raises(UserError, match=said) as died, worker_pool(1) as pool:
        pool.submit(os._exit, 3).result()
    assert died.value.exit_code == 1


def test_ctrl_c_is_handled_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT)
    with worker_pool(1) as pool:
        assert pool.submit(abs, -2).result(timeout=60) == 2
        assert signal.getsignal(signal.SIGINT) is before
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


class Gate:
    """A function whose calls are recorded, and wait, each, until the gate is opened for them."""

    def __init__(self, *shut: int) -> None:
        self.begun: list[int] = []
        self.gates = {item: threading.Event() for item in shut}
        self.has_begun = {item: threading.Event() for item in shut}

    def __call__(self, item: int) -> int:
        self.begun.append(item)
        if item in self.gates:
            self.has_begun[item].set()
            assert self.gates[item].wait(60)
        return -item


def counted(taken: list[int], length: int) -> Iterator[int]:
    for item in range(length):
        taken.append(item)
        yield item


def test_results_come_in_the_order_of_the_items() -> None:
    """The first is computed last: it waits for the three after it."""
    together = threading.Barrier(4)

    def last_first(item: int) -> int:
        if item < 4:
            together.wait(60)
        return -item

    assert list(ordered_map(last_first, range(10), workers=4, ahead=4)) == [-n for n in range(10)]
    assert list(ordered_map(abs, [], workers=4, ahead=4)) == []


@pytest.mark.parametrize("ahead", [0, 1, 3, 100])
def test_no_more_items_are_taken_than_it_may_run_ahead(ahead: int) -> None:
    taken: list[int] = []
    results = ordered_map(abs, counted(taken, 20), workers=2, ahead=ahead)
    assert taken == []  # nothing begins before the first result is asked for
    for asked, result in enumerate(results):
        assert result == asked
        assert len(taken) == min(20, asked + 1 + ahead)
    assert len(taken) == 20


def test_later_items_are_computed_while_the_consumer_works() -> None:
    work = Gate(3)
    results = ordered_map(work, range(10), workers=1, ahead=3)
    assert next(results) == 0
    assert work.has_begun[3].wait(60)  # without another `next`
    work.gates[3].set()
    assert list(results) == [-n for n in range(1, 10)]


def test_results_that_were_taken_are_not_kept() -> None:
    class Large:
        """Stands for a decoded clip."""

    results = ordered_map(lambda _: Large(), range(4), workers=1, ahead=1)
    first = weakref.ref(next(results))
    next(results)
    gc.collect()
    assert first() is None
    results.close()


def test_an_error_is_raised_in_its_place() -> None:
    """It happens before the result before it: item 1 waits until item 2 has failed."""
    failed = threading.Event()

    def work(item: int) -> int:
        if item == 1:
            assert failed.wait(60)
        if item == 2:
            failed.set()
            raise UserError("torn")
        return item

    results = ordered_map(work, range(100), workers=2, ahead=4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(UserError, match="torn"):
        next(results)
    assert list(results) == []


def test_an_error_of_the_items_is_raised_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise UserError("line 4 is torn")

    results = ordered_map(abs, items(), workers=2, ahead=10)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(UserError, match="line 4 is torn"):
        next(results)


def test_an_error_gives_up_what_has_not_begun() -> None:
    work = Gate(1, 2)

    def fail(item: int) -> int:
        if item == 0:
            assert work.has_begun[1].wait(60)
            raise UserError("torn")
        return work(item)

    results = ordered_map(fail, range(100), workers=2, ahead=50)
    # One thread stands at item 1, the other may go on to item 2 before the error is read.
    with pytest.raises(UserError, match="torn"), opened_when_given_up(work):
        next(results)
    assert set(work.begun) <= {1, 2}


@contextmanager
def opened_when_given_up(work: Gate) -> Iterator[None]:
    """Open the gates as soon as an executor is shut down, which waits for what runs."""
    shutdown = ThreadPoolExecutor.shutdown

    def shut(self: ThreadPoolExecutor, wait: bool = True, *, cancel_futures: bool = False) -> None:
        shutdown(self, wait=False, cancel_futures=cancel_futures)
        for gate in work.gates.values():
            gate.set()
        shutdown(self, wait=wait)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ThreadPoolExecutor, "shutdown", shut)
        yield


def threads_named(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]


def test_a_consumer_that_stops_gives_up_what_has_not_begun() -> None:
    work = Gate(1)
    with opened_when_given_up(work):
        with closing(ordered_map(work, range(9), workers=1, ahead=8, name="stops")) as results:
            assert next(results) == 0
            assert work.has_begun[1].wait(60)
            assert threads_named("stops")
        assert work.begun == [0, 1]  # it was at work and ended; seven had not begun
    assert not threads_named("stops")


@pytest.fixture
def ctrl_c() -> Iterator[Callable[[], None]]:
    """Interrupt the main thread once: the signal is repeated, as a wait may begin just after it."""
    came: list[int] = []

    def handle(number: int, _: object) -> None:
        if not came:
            came.append(number)
            raise KeyboardInterrupt

    def send() -> None:
        while not came:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            time.sleep(0.01)

    before = signal.signal(signal.SIGINT, handle)
    yield send
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_while_a_result_is_awaited(ctrl_c: Callable[[], None]) -> None:
    work = Gate(0)
    all_read = threading.Event()

    def items() -> Iterator[int]:
        yield from range(5)
        all_read.set()

    def interrupted(item: int) -> int:
        assert all_read.wait(60)
        ctrl_c()
        return work(item)

    results = ordered_map(interrupted, items(), workers=1, ahead=8, name="interrupted")
    with pytest.raises(KeyboardInterrupt), opened_when_given_up(work):
        next(results)
    assert set(work.begun) <= {0}
    assert not threads_named("interrupted")


def test_ctrl_c_while_the_items_are_read() -> None:
    """It comes at once, not in its place: item 0 does not end before the rest is given up."""
    work = Gate(0)

    def items() -> Iterator[int]:
        yield from range(5)
        raise KeyboardInterrupt

    results = ordered_map(work, items(), workers=1, ahead=8, name="interrupted")
    with pytest.raises(KeyboardInterrupt), opened_when_given_up(work):
        next(results)
    assert set(work.begun) <= {0}
    assert not threads_named("interrupted")


def test_a_pool_of_the_caller_stays_open_and_may_be_of_processes() -> None:
    with worker_pool(1) as pool:
        for _ in range(2):
            assert list(ordered_map(abs, range(-5, 0), ahead=2, pool=pool)) == [5, 4, 3, 2, 1]
        with pytest.raises(TypeError):
            list(ordered_map(abs, ["a", 1], ahead=2, pool=pool))  # type: ignore[arg-type]
        assert pool.submit(abs, -1).result() == 1


def test_what_waits_in_a_pool_of_the_caller_is_given_up() -> None:
    work = Gate(1)
    with ThreadPoolExecutor(1) as pool:
        results = ordered_map(work, range(9), ahead=8, pool=pool)
        assert next(results) == 0
        assert work.has_begun[1].wait(60)
        results.close()  # does not wait for what runs: that is the pool's owner's to do
        work.gates[1].set()
    assert work.begun == [0, 1]

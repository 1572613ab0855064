"""Pools of processes: Ctrl-C at any moment of their start, jobs that fail, a killed parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

from sharegptvideo._concurrency import worker_pool
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

"""`build run` killed at random moments, again and again: nothing is paid twice, nothing is lost.

`SHAREGPTVIDEO_KILLS=50` kills it so often, and under Ray too.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo.build.engines.run import SAMPLE
from sharegptvideo.build.report import STAGES
from tests.build.test_loop import loop_file
from tests.support.training_fixtures import write_clip
from tests.support.vlm_server import VlmServer, VlmSettings, running_vlm_server

KILLS = int(os.environ.get("SHAREGPTVIDEO_KILLS", "6"))
CONCURRENCY = 4

# Imports once; each line on stdin is a file, and starts its loop in a fork, a session of its own.
_STARTER = """
import gc, os, sys, traceback
from pathlib import Path
import datasets, httpx2, numpy, openai, openai.types.chat, pyarrow.parquet
import sharegptvideo.endpoint.http, sharegptvideo.media
from sharegptvideo.build.loop import run_loop
from sharegptvideo.build.loop_file import load_loop
gc.collect()
gc.freeze()
for file in iter(sys.stdin.readline, ""):
    pid = os.fork()
    if pid == 0:
        os.setsid()
        code = 1
        try:
            run_loop(load_loop(Path(file.strip())))
            code = 0
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Forked:
    """Loops run by a process that has the imports done."""

    def __init__(self, starter: subprocess.Popen[str]) -> None:
        self._starter = starter

    def run(self, file: Path, when: Callable[[], bool] | None = None) -> int:
        """Run a loop; kill it and all its processes when that is true. Returns its code."""
        assert self._starter.stdin is not None
        assert self._starter.stdout is not None
        print(file, file=self._starter.stdin, flush=True)
        pid, ended = int(self._starter.stdout.readline()), False
        while when and not ended and not when():
            ended = bool(select.select([self._starter.stdout], [], [], 0.005)[0])
        if when and not ended:
            with contextlib.suppress(ProcessLookupError):  # it has ended just now
                os.killpg(pid, signal.SIGKILL)
        return int(self._starter.stdout.readline())


@contextlib.contextmanager
def forked() -> Iterator[Forked]:
    command = [sys.executable, "-c", _STARTER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as starter:
        yield Forked(starter)


class Commands:
    """Loops run by the command line, each in a session of its own."""

    def run(self, file: Path, when: Callable[[], bool] | None = None) -> int:
        command = [sys.executable, "-m", "sharegptvideo", "build", "run", str(file)]
        process = subprocess.Popen(
            command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while when and process.poll() is None and not when():
            time.sleep(0.005)
        if when and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


def results(out: Path) -> dict[str, bytes]:
    """The logs of all stages, and all files of the datasets, by their names."""
    logs = [out / f"{name}.jsonl" for name in STAGES[:-1]]
    datasets = [*out.glob("*/*.parquet"), *out.glob("video_instruction/**/*.jsonl")]
    return {str(path.relative_to(out)): path.read_bytes() for path in (*logs, *datasets)}


def killed(runner: Any, server: VlmServer, file: Path, calls: int, seed: int) -> int:
    """Kill a loop at random moments, `KILLS` times at the most; then let it end."""
    draw = random.Random(seed)
    kills = 0
    for left in range(KILLS, 0, -1):
        paid = server.report().paid.total()
        after = paid + draw.randint(1, 1 + 2 * max(0, calls - paid) // left)
        pause, reached = draw.uniform(0, 0.1), list[float]()

        def when(after: int = after, pause: float = pause, reached: list[float] = reached) -> bool:
            # The last kills come when all is paid for, while files are written.
            if not reached and server.report().paid.total() >= min(after, calls):
                reached.append(time.monotonic())
            return bool(reached) and time.monotonic() - reached[0] >= pause

        code = runner.run(file, when)
        assert code in {0, -signal.SIGKILL}
        kills += code != 0
    assert runner.run(file) == 0
    report = server.report()
    print(f"seed {seed}: {kills} kills, {report.repeats} repeats of {len(report.paid)} calls")
    assert report.repeats <= kills * CONCURRENCY
    return kills


@pytest.mark.parametrize(
    "engine",
    [
        "local",
        pytest.param("ray", marks=pytest.mark.skipif(KILLS < 50, reason="SHAREGPTVIDEO_KILLS=50")),
    ],
)
def test_repeats_are_no_more_than_the_calls_under_way(engine: str, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    videos = tmp_path / "videos"
    videos.mkdir()
    # The first units of a stage are made by the local engine: Ray needs more of them.
    clips = 4 if engine == "local" else SAMPLE + 12
    for number in range(clips):
        write_clip(videos / f"v{number}.mp4", (7 * number, 255 - 7 * number, 90))
    settings = VlmSettings(latency_s=0.02 if engine == "local" else 0.15)
    shared = {"engine": engine, "concurrency": CONCURRENCY, "no_gate": ["near-duplicate"]}
    stages = {
        "captions": {"model": "openai:vlm", "send": "pictures"},
        "candidates": {"model": "openai:vlm", "send": "pictures", "k": 4, "frames": 2},
    }
    with forked() as forks:
        runner = forks if engine == "local" else Commands()
        with running_vlm_server(settings) as server:
            whole = loop_file(tmp_path / "whole", videos, server, **shared, **stages)
            assert runner.run(whole) == 0
            calls = len(server.report().paid)
            assert server.report().repeats == 0
        with running_vlm_server(settings) as server:
            broken = loop_file(tmp_path / "broken", videos, server, **shared, **stages)
            kills = killed(runner, server, broken, calls, seed)
            assert len(server.report().paid) == calls
    assert kills >= KILLS // 2
    assert results(tmp_path / "broken" / "out") == results(tmp_path / "whole" / "out")

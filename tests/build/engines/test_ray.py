"""The Ray engine, with a real Ray on the cores of this machine, and a fake model as a server."""

from __future__ import annotations

import importlib.metadata
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo._io import read_jsonl
from sharegptvideo.build.engines import run_stage
from sharegptvideo.build.engines.ray_workers import Room, room_for
from sharegptvideo.build.stage import EngineOptions, Row
from sharegptvideo.endpoint import EndpointOptions
from sharegptvideo.errors import UserError
from tests.support.asking_stage import AskEach
from tests.support.vlm_scenes import scene_in
from tests.support.vlm_server import VlmServer

ROOT = Path(__file__).parents[3]
AT_ONCE = 8  # calls under way, of all workers together
ON_RAY = EngineOptions("ray", actors=2)


def rows_of(count: int) -> list[Row]:
    return [{"id": f"row{n}", "text": f"What happens in part {n}?"} for n in range(count)]


def run(server: VlmServer, out: Path, count: int, engine: EngineOptions, **limits: Any) -> Any:
    options = EndpointOptions(concurrency=AT_ONCE, cache=False, **limits)
    stage = AskEach(server.url)
    return run_stage(stage, rows_of(count), out, engine=engine, endpoint=options)


def made_in(out: Path) -> list[tuple[str, str]]:
    return [(row["id"], row["answer"][0]) for _, row in read_jsonl(out / "asked.jsonl")]


def expected(count: int) -> list[tuple[str, str]]:
    texts = [(row["id"], row["text"]) for row in rows_of(count)]
    return [(name, scene_in(text).answer(text, None)) for name, text in texts]


def descendants(pid: int) -> Iterator[tuple[int, str]]:
    """Process ids and command lines of what a process has started, and of what these have."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int(
                (folder / "stat").read_text().rpartition(")")[2].split()[1]
            )
        except OSError:
            continue
    waiting = [pid]
    while waiting:
        above = waiting.pop()
        for child in [each for each, parent in parents.items() if parent == above]:
            waiting.append(child)
            try:
                yield child, Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
            except OSError:
                continue


def until(true: Callable[[], Any], seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def test_without_ray_one_line_says_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = importlib.metadata.version

    def without(name: str) -> str:
        if name == "ray":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr("importlib.metadata.version", without)
    with pytest.raises(UserError, match=r"^--engine ray needs Ray: pip install .*\[ray\]"):
        run_stage(AskEach("http://127.0.0.1:9/v1"), rows_of(3), tmp_path / "out", engine="ray")
    monkeypatch.setattr("importlib.metadata.version", lambda _: "2.9.3")
    with pytest.raises(UserError, match=r"needs Ray 2\.60 or newer, not 2\.9\.3: pip install"):
        run_stage(AskEach("http://127.0.0.1:9/v1"), rows_of(3), tmp_path / "out", engine="ray")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("ray://127.0.0.1:10001", "must be HOST:PORT of the cluster's head"),
        ("head", "must be HOST:PORT"),
        ("127.0.0.1:9", "no Ray there .*refused.*; start one with `ray start --head`"),
    ],
)
def test_an_address_without_a_cluster_is_refused(address: str, says: str, tmp_path: Path) -> None:
    engine = EngineOptions("ray", ray_address=address)
    with pytest.raises(UserError, match=says):
        run_stage(AskEach("http://127.0.0.1:9/v1"), rows_of(3), tmp_path / "out", engine=engine)
    assert not (tmp_path / "out").exists()


def options(actors: int | None = None, cpus: float | None = None) -> EngineOptions:
    return EngineOptions("ray", actors=actors, actor_cpus=cpus)


@pytest.mark.parametrize(
    ("engine", "nodes", "batched", "expected"),
    [
        # Served: a core each, and one and a half for what reads, divides and writes.
        (options(), [(8, 0)], False, Room(7, 0.9285, 0)),
        (options(), [(32, 0), (32, 1)], False, Room(63, 0.992, 0)),
        (options(4), [(8, 0)], False, Room(4, 1.0, 0)),
        (options(), [(2, 0)], False, Room(1, 0.5, 0)),
        (options(4), [(2, 0)], False, Room(4, 0.125, 0)),
        (options(2, 0.25), [(2, 0)], False, Room(2, 0.25, 0)),
        # A model of its own: one for each GPU, else one for each machine.
        (options(), [(4, 0), (8, 4)], True, Room(4, 1.0, 1)),
        (options(), [(4, 0), (4, 0)], True, Room(2, 1.0, 0)),
    ],
)
def test_room_for_actors(
    engine: EngineOptions, nodes: list[tuple[float, float]], batched: bool, expected: Room
) -> None:
    resources = [{"CPU": cpus, "GPU": gpus} for cpus, gpus in nodes]
    assert room_for(engine, resources, batched=batched, blocks=1000) == expected


def test_no_more_actors_than_blocks() -> None:
    assert room_for(options(), [{"CPU": 64.0}], batched=False, blocks=3).workers == 3


@pytest.mark.parametrize(
    ("engine", "nodes", "says"),
    [
        (options(2, 1), [2.0], r"2 actors of 1 CPU would .*: give --actor-cpus 0\.25$"),
        (options(4, 1), [4.0], r"4 actors of 1 CPU .*: give --actors 2 or --actor-cpus 0\.625$"),
        (options(1, 3), [2.0, 2.0], r"1 actor of 3 CPUs .*: give --actor-cpus 1$"),
        (
            options(),
            [1.0],
            r"has 1 CPU, and 2 are the least .*: start it with --num-cpus 2 or more",
        ),
    ],
)
def test_actors_that_would_leave_no_core_are_refused(
    engine: EngineOptions, nodes: list[float], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        room_for(engine, [{"CPU": cpus} for cpus in nodes], batched=False, blocks=9)


def test_more_processes_than_cores_can_run_are_refused() -> None:
    with pytest.raises(UserError, match=r"--actors 17: 2 CPUs cannot .*; give --actors 16 or"):
        room_for(options(17), [{"CPU": 2.0}], batched=False, blocks=99)


def test_more_actors_than_gpus_are_refused() -> None:
    with pytest.raises(UserError, match=r"--actors 3: .* a GPU, .* has 2; give --actors 2"):
        room_for(options(3), [{"CPU": 8.0, "GPU": 2.0}], batched=True, blocks=9)


def test_too_few_cores_are_known_before_anything_is_asked(
    vlm_server: VlmServer, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"10 actors of 2 CPUs would leave too few"):
        run(vlm_server, tmp_path / "out", 30, options(10, 2))
    assert not (tmp_path / "out").exists()
    assert not vlm_server.report().asked


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced(vlm_server: VlmServer, tmp_path: Path) -> None:
    """Its block is made again, with the replies that it had: what was under way is asked again."""
    vlm_server.change(latency_s=0.1)
    killed: list[int] = []

    def kill() -> None:
        # Blocks are half done: a checkpoint by blocks would ask for all of them again.
        until(lambda: len(vlm_server.report().paid) >= 20 + 64)
        workers = [pid for pid, line in descendants(os.getpid()) if "ray::MapWorker" in line]
        os.kill(workers[0], signal.SIGKILL)
        killed.append(workers[0])

    killer = threading.Thread(target=kill)
    killer.start()
    report = run(vlm_server, tmp_path, 200, ON_RAY)
    killer.join()
    assert len(killed) == 1
    assert (report.n_made, report.n_failed) == (200, 0)
    assert made_in(tmp_path) == expected(200)
    seen = vlm_server.report()
    assert len(seen.paid) == 200
    assert seen.repeats <= AT_ONCE
    assert seen.most_at_once <= AT_ONCE
    assert not (tmp_path / "ray").exists()


DRIVER = """
import sys
from pathlib import Path
from tests.build.engines.test_ray import ON_RAY, run
from tests.support.vlm_server import VlmServer, VlmSettings
run(VlmServer(sys.argv[1], VlmSettings()), Path(sys.argv[2]), 500, ON_RAY)
"""
PLACE = re.compile(r"/\S*/sgv-ray-\w+")  # in what Ray's processes are started with
PRICES = """
date: 2026-11-01
hosts: {"127.0.0.1": {vlm: {prompt: 0.0, completion: 1000.0}}}
"""


@pytest.mark.slow
def test_a_killed_run_is_gone_on_with_until_the_money_is_spent(
    vlm_server: VlmServer, tmp_path: Path
) -> None:
    vlm_server.change(latency_s=0.1)
    out = tmp_path / "out"
    command = [sys.executable, "-c", DRIVER, vlm_server.url, str(out)]
    with subprocess.Popen(command, cwd=ROOT) as driver:
        until(lambda: len(vlm_server.report().paid) >= 20 + 32)
        started = dict(descendants(driver.pid))
        driver.kill()
    # Nothing of its Ray goes on asking.
    until(lambda: not [pid for pid in started if Path(f"/proc/{pid}/exe").exists()])
    until(lambda: not vlm_server.report().at_once)
    assert any("ray::MapWorker" in line for line in started.values())
    (place,) = {found.group() for line in started.values() if (found := PLACE.search(line))}
    until(lambda: not Path(place).exists())
    paid = vlm_server.report().paid.total()
    assert 52 <= paid < 400

    # An answer has ten words at a tenth of a cent each: 60 can be paid for before the last one,
    # of which it is only known that it may have 64.
    (tmp_path / "prices.yaml").write_text(PRICES)
    limits = {"prices": tmp_path / "prices.yaml", "max_cost": 0.6 + 0.064}
    with pytest.raises(UserError, match=r"^stopped before --max-cost .* spent"):
        run(vlm_server, out, 500, ON_RAY, **limits)
    seen = vlm_server.report()
    assert 0 < seen.paid.total() - paid <= 60
    assert seen.repeats <= AT_ONCE
    done = made_in(out)
    assert len(done) == len(set(done)) >= 20

    vlm_server.change(latency_s=0)
    report = run(vlm_server, out, 500, EngineOptions())
    assert (report.n_made, report.n_failed) == (500, 0)
    assert made_in(out) == expected(500)
    assert vlm_server.report().repeats <= AT_ONCE

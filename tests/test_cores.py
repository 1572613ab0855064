"""The cores that a process is given, by affinity mask and control group, and torch's threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo._concurrency import SMALL_MODEL, Cores, TorchThreads, given_cores

Start = Callable[[int, int], tuple[Callable[..., int], Callable[[], int]]]

V2 = "0::/user/job"
V1 = "3:cpuset:/\n2:cpu,cpuacct:/docker/4e5c\n1:memory:/docker/4e5c"


def groups(root: Path, membership: str, files: dict[str, str]) -> dict[str, Path]:
    """The arguments of `given_cores` for made-up control groups."""
    for name, text in files.items():
        path = root / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "cgroup").mkdir(exist_ok=True)
    (root / "membership").write_text(membership)
    return {"mount": root / "cgroup", "membership": root / "membership"}


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        (V2, {"user/job/cpu.max": "150000 100000\n"}, 1.5),
        (V2, {"user/job/cpu.max": "max 100000\n"}, None),
        (V2, {"user/job/cpu.max": "400000 100000\n", "user/cpu.max": "200000 100000\n"}, 2.0),
        (V2, {"cpu.max": "50000 100000\n"}, 0.5),  # the path is the host's
        ("0::/../..", {"cpu.max": "50000 100000\n"}, 0.5),
        (V2, {"user/job/cpu.max": ""}, None),
        (V2, {}, None),
        (V1, {"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.5),
        (
            V1,
            {
                "cpu/docker/4e5c/cpu.cfs_quota_us": "30000\n",
                "cpu/docker/4e5c/cpu.cfs_period_us": "10000\n",
                "cpu/cpu.cfs_quota_us": "-1\n",
                "cpu/cpu.cfs_period_us": "100000\n",
            },
            3.0,
        ),
        (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("", {"cpu.max": "100000 100000"}, None),
    ],
)
def test_quotas(tmp_path: Path, membership: str, files: dict[str, str], quota: float) -> None:
    found = given_cores(**groups(tmp_path, membership, files))
    assert found == Cores(os.cpu_count() or 1, len(os.sched_getaffinity(0)), quota)


def test_no_control_groups(tmp_path: Path) -> None:
    assert given_cores(tmp_path / "none", tmp_path / "nothing").quota is None


@pytest.mark.parametrize(
    ("mask", "quota", "available"),
    [(8, None, 8), (8, 1.5, 2), (8, 0.2, 1), (8, 2.0, 2), (2, 6.0, 2), (1, None, 1)],
)
def test_the_smaller_of_mask_and_quota_counts(
    mask: int, quota: float | None, available: int
) -> None:
    assert Cores(64, mask, quota).available == available


def output(code: str, *arguments: object, **environment: str) -> Any:
    """What a fresh interpreter prints, as JSON, without this one's `OMP_NUM_THREADS`."""
    kept = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_mask_set_while_running_counts() -> None:
    code = """
import json, os
from sharegptvideo._concurrency import available_cores
before = available_cores()
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
print(json.dumps([before, available_cores()]))
"""
    before, after = output(code)
    assert before >= after == 1


@pytest.fixture
def torch_threads(monkeypatch: pytest.MonkeyPatch) -> Start:
    """A torch of so many threads on so many cores: what limits them, what says how many it has."""
    import torch

    def start(threads: int, cores: int) -> tuple[Callable[..., int], Callable[[], int]]:
        now = [threads]
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr(torch, "get_num_threads", lambda: now[0])
        monkeypatch.setattr(torch, "set_num_threads", lambda count: now.__setitem__(0, count))
        return TorchThreads(cores).limit, lambda: now[0]

    return start


def test_torch_gets_no_more_threads_than_cores(torch_threads: Start) -> None:
    limit, now = torch_threads(16, 4)
    assert limit() == now() == 4
    assert limit(SMALL_MODEL - 1) == now() == 1
    assert limit(SMALL_MODEL) == now() == 4  # as if none had been small
    assert limit(SMALL_MODEL, processes=3) == now() == 1
    assert limit(SMALL_MODEL) == now() == 1  # still shared by three


def test_fewer_threads_set_by_the_caller_stay(torch_threads: Start) -> None:
    import torch

    limit, now = torch_threads(2, 4)
    assert limit() == now() == 2
    torch.set_num_threads(3)
    assert limit() == now() == 3


@pytest.mark.parametrize("parameters", [None, 1000])
def test_omp_num_threads_counts_instead(
    torch_threads: Start,
    monkeypatch: pytest.MonkeyPatch,
    parameters: int | None,
) -> None:
    limit, now = torch_threads(16, 4)
    monkeypatch.setenv("OMP_NUM_THREADS", "16")
    assert limit(parameters) == now() == 16

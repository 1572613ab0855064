"""The processor cores that this process is given, and how many threads torch takes of them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SMALL_MODEL", "Cores", "available_cores", "given_cores", "limit_torch_threads"]

# A second thread gains such a model little, and costs it much where another process has the core:
# beside three busy processes on two cores, a step of a language model of 0.5, 2.8, 10 and 25 M
# parameters (8 rows of 110 tokens) took 0.11, 0.36, 2.1 and 2.5 s with one thread, and 0.19, 10.8,
# 9.6 and 4.1 s with two (medians). Of the smallest, the fastest step took 0.087 and 0.074 s.
SMALL_MODEL = 20_000_000
"""Parameters below which a model on the CPU runs in one thread."""

_MOUNT = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_OWN_NUMBER = "OMP_NUM_THREADS"

# Number of threads that were set here, and of those before, which count for the next model.
_set: tuple[int, int] | None = None
_sharing = 1


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
        """How many threads or processes can run at once, at least 1; part of a core counts."""
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


def limit_torch_threads(parameters: int | None = None, *, processes: int | None = None) -> int:
    """Give torch no more threads than there are cores, and a small model one.

    torch counts the cores of the affinity mask and knows nothing of quotas. Its threads wait for
    each other after every operation, so one that gets no core holds up all. `OMP_NUM_THREADS`
    counts instead where it is set: nothing is changed then.

    Args:
        parameters: of the model that is about to run on the CPU; None: it is not small.
        processes: how many processes such as this one share the cores; None: as many as the last
            call said, or 1.

    Returns:
        How many threads torch has now.
    """
    global _set, _sharing
    import torch

    _sharing = processes or _sharing
    now = torch.get_num_threads()
    if os.environ.get(_OWN_NUMBER):
        return now
    before = _set[1] if _set is not None and _set[0] == now else now
    threads = min(before, max(1, available_cores() // _sharing))
    if parameters is not None and parameters < SMALL_MODEL:
        threads = 1
    if threads != now:
        torch.set_num_threads(threads)
    _set = (threads, before)
    return threads


def _quotas(mount: Path, membership: Path) -> Iterator[float]:
    """Each quota on the process's groups and the groups above them, in cores."""
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
    """A group's folder and those above it.

    In a container the path can be the host's, of which only the mount itself is to be seen.
    """
    folder = mount / path.lstrip("/")
    while folder != mount and mount in folder.parents:
        yield folder
        folder = folder.parent
    yield mount


def _quota(*files: Path) -> Iterator[float]:
    """Time by period, in one file or in two; nothing where there is no limit."""
    try:
        words = [word for file in files for word in file.read_text().split()]
        time, period = (float(word) for word in words)
    except (OSError, ValueError):  # not there, or "max"
        return
    if time > 0 and period > 0:
        yield time / period

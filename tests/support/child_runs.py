"""Run one way of a benchmark in a process of its own, and read the JSON lines that it prints.

The parent holds no model. A child's memory is its own, and is given back before the next begins.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

__all__ = ["Outcome", "Peak", "print_line", "run_child", "run_ways"]

Figures = dict[str, Any]
_GROUP = "SHAREGPTVIDEO_BENCHMARK_GROUP"  # set in a child: its own children stay in its group
_POLL = 0.05  # seconds between looks at what a child has printed
_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a child gave: the last JSON line it printed, why it failed (None: it did not)."""

    figures: Figures
    failed: str | None
    seconds: float


def print_line(figures: Figures) -> None:
    """Print figures as one line of JSON at once, so that a cut later cannot lose them."""
    print(json.dumps(figures), flush=True)


def run_child(
    command: list[str],
    *,
    limit: float | None = None,
    on_line: Callable[[Figures], None] | None = None,
) -> Outcome:
    """Run Python with `command` as arguments, to its end or for `limit` seconds.

    What the child started ends with it. Its stderr is passed on where it fails.

    Args:
        on_line: gets each JSON object but the last, which is the outcome's, as it is printed.
    """
    start = time.monotonic()
    lines: list[Figures] = []
    own_group = _GROUP not in os.environ

    def take(fresh: str) -> None:
        found = _figures(fresh)
        if found is None:
            return
        if lines and on_line:
            on_line(lines[-1])
        lines.append(found)

    # Files, not pipes: a loader worker that outlives the child would keep a pipe open.
    with _file() as out, _file() as errors:
        child = subprocess.Popen(
            [sys.executable, *command],
            stdout=out,
            stderr=errors,
            env={**os.environ, _GROUP: "1"},
            start_new_session=own_group,
        )
        cut = False
        try:
            with open(out.name, encoding="utf-8", errors="replace") as printed:  # noqa: PTH123 - a name
                while child.poll() is None and not cut:
                    cut = limit is not None and time.monotonic() - start > limit
                    _take_lines(printed, take)
                    time.sleep(_POLL)
                _kill(child, own_group)  # and its loader workers
                child.wait()
                _take_lines(printed, take)
        finally:
            _kill(child, own_group)
        errors.seek(0)
        said = errors.read()
    seconds = round(time.monotonic() - start, 1)
    last = lines[-1] if lines else {}
    if cut:
        return Outcome(last, f"cut after {limit:.0f} s", seconds)
    if child.returncode:
        sys.stderr.write(said)
        return Outcome(last, _reason(child.returncode, said), seconds)
    return Outcome(last, None, seconds)


def _file() -> Any:
    return tempfile.NamedTemporaryFile("w+", encoding="utf-8", errors="replace")


def _take_lines(printed: IO[str], take: Callable[[str], None]) -> None:
    """Give each line that was written since the last call; half a line waits for its rest."""
    while True:
        at = printed.tell()
        line = printed.readline()
        if not line.endswith("\n"):
            printed.seek(at)
            return
        take(line)


def run_ways(script: str, ways: list[str], flags: list[str]) -> dict[str, Figures]:
    """Run `script --way WAY` for each way, one after the other; print each one's line as it ends.

    Returns the figures of the ways that gave some.
    """
    found = {}
    for way in ways:
        outcome = run_child([script, "--way", way, *flags])
        if outcome.failed:
            print_line({"way": way, "failed": outcome.failed, "seconds": outcome.seconds})
            continue
        print_line(outcome.figures | {"seconds": outcome.seconds})
        found[way] = outcome.figures
    return found


def _figures(line: str) -> Figures | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _kill(child: subprocess.Popen[bytes], group: bool) -> None:
    try:
        if group:
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
    except ProcessLookupError:
        pass  # all have ended


def _reason(code: int, said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return lines[-1] if lines else f"exit code {code}"


class Peak:
    """The most memory that this process needed since `restart`.

    On CUDA what torch held on the device. On a CPU resident memory less that after the imports,
    when this object is made; not `ru_maxrss`, which may be that of the process that started it.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._baseline = 0.0 if device.type == "cuda" else _resident("VmRSS")

    def restart(self) -> None:
        """Forget peaks so far, such as that of building the model."""
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            _CLEAR.write_text("5")

    def figures(self) -> Figures:
        """`peak_mib`, and in words what it is."""
        if self._device.type == "cuda":
            return {
                "peak_mib": round(torch.cuda.max_memory_allocated(self._device) / 2**20, 1),
                "peak_is": "torch.cuda.max_memory_allocated of this way's process",
            }
        return {
            "peak_mib": round(_resident("VmHWM") - self._baseline, 1),
            "baseline_mib": round(self._baseline, 1),
            "peak_is": "resident memory of this way's process, less the baseline after imports",
        }


def _resident(name: str) -> float:
    lines = _STATUS.read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024

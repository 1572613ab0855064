"""The finished steps of a demo in its folder, each with its seconds and findings."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sharegptvideo._io import read_json, write_json
from sharegptvideo._runs import RunDir, RunKind

__all__ = ["Findings", "Journal"]

Findings = dict[str, Any]

_DEMO = RunKind(
    name="demo",
    other="a demo with other settings",
    fix_mix="give another --out or remove the folder",
    file="demo.json",
)


class Journal:
    """`DIR/demo.json` says what the demo is; `DIR/steps/NAME.json` that a step is finished.

    The seconds of a step that was interrupted are kept (after Ctrl-C or an error) and added to
    those of the run that finishes it.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self._steps = folder / "steps"
        RunDir(folder, settings, _DEMO)

    def findings(self, name: str) -> Findings | None:
        """Return the findings of the step `name`, or None if it is not finished."""
        path = self._steps / f"{name}.json"
        return dict(read_json(path)["findings"]) if path.exists() else None

    def seconds(self, name: str) -> float:
        """Return how long the step took, all its runs together."""
        path = self._steps / f"{name}.json"
        return float(read_json(path)["seconds"]) if path.exists() else 0.0

    def peak_memory_mib(self, name: str) -> int:
        """Return the largest resident memory until the step ended, of one process, in MiB."""
        path = self._steps / f"{name}.json"
        return int(read_json(path)["peak_memory_mib"]) if path.exists() else 0

    def run(self, name: str, work: Callable[[], Findings]) -> tuple[Findings, bool]:
        """Do a step unless it is finished; returns its findings and whether it was done now."""
        findings = self.findings(name)
        if findings is not None:
            return findings, False
        partial = self._steps / f"{name}.partial.json"
        before = float(read_json(partial)["seconds"]) if partial.exists() else 0.0
        start = time.monotonic()
        try:
            findings = work()
        except BaseException:  # Ctrl-C too: the seconds are kept
            self._keep(partial, before + time.monotonic() - start)
            raise
        seconds = before + time.monotonic() - start
        write_json(
            self._steps / f"{name}.json",
            {"seconds": round(seconds, 2), "peak_memory_mib": _peak(), "findings": findings},
        )
        partial.unlink(missing_ok=True)
        return findings, True

    @staticmethod
    def _keep(path: Path, seconds: float) -> None:
        try:
            write_json(path, {"seconds": round(seconds, 2)})
        except OSError:
            # A full disk is the likely reason for stopping; the seconds matter less than its error.
            return


def _peak() -> int:
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(who).ru_maxrss for who in whose) // 1024

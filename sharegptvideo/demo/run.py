"""The whole loop on one machine: the steps in order, their findings, and the page."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from sharegptvideo._io import read_json, write_json
from sharegptvideo._runs import RunDir, RunKind
from sharegptvideo._shipped import __version__
from sharegptvideo.demo.scales import scale_named
from sharegptvideo.demo.stages import STEPS, Demo, Display, Findings, Step

__all__ = ["Journal", "Watcher", "run_demo"]


_DEMO = RunKind(
    name="demo",
    other="a demo with other settings",
    fix_mix="give another --out or remove the folder",
    file="demo.json",
)


class Watcher(Protocol):
    """A display of the demo: called as steps begin, go on and end."""

    def begins(self, number: int, step: Step) -> None:
        """Show that step `number`, from 1, starts or goes on."""
        ...

    def progress(self, done: int, total: int, what: str) -> None:
        """Show the progress inside the step."""
        ...

    def report(self, text: str) -> None:
        """Show a line about the step, such as where its training goes on from."""
        ...

    def ended(self, number: int, step: Step, line: str, seconds: float, *, before: bool) -> None:
        """Show that the step is done; `before` if an earlier run had done it."""
        ...


def run_demo(
    out: Path, *, scale: str = "small", seed: int = 0, watcher: Watcher | None = None
) -> dict[str, Any]:
    """Do every step that `out` does not hold yet; write and return `summary.json`.

    Leaves in `out`: `index.html`, `summary.json`, `datasets/`, `models/`, `runs/`,
    `leaderboard/`, `report/` and `steps/`. Interrupted at any moment, it goes on where it stopped.

    Raises:
        UserError: an unknown scale, or `out` holds something else.
        Interrupted: Ctrl-C or SIGTERM in a training, which has written a checkpoint.
    """
    demo = Demo(out, scale_named(scale), seed)
    journal = Journal(out, {"version": __version__, "scale": scale, "seed": seed})
    findings: dict[str, Findings] = {}
    for number, step in enumerate(STEPS, start=1):
        findings[step.name] = _do(demo, journal, number, step, watcher)
    summary = _summary(demo, journal, findings)
    write_json(out / "summary.json", summary)
    _write_pages(demo, summary)
    return summary


def _write_pages(demo: Demo, summary: dict[str, Any]) -> None:
    """Write the page, the leaderboard of the four runs, and DPO's answers against SFT's."""
    from sharegptvideo.reports.demo import write_page
    from sharegptvideo.reports.leaderboard import write_leaderboard
    from sharegptvideo.reports.run import write_report

    write_page(demo.folder, summary)
    names = ("sft", "dpo", "sft-exact", "dpo-exact")
    write_leaderboard([demo.run(name) for name in names], demo.folder / "leaderboard")
    write_report(
        demo.run("dpo"),
        demo.folder / "report",
        against=demo.run("sft"),
        data_dir=demo.world,
        media=demo.world,
        copy_clips=False,  # they lie in this very folder
    )
    write_page(demo.folder, summary)  # again: now it leads to the others, as they lead to it


def _do(demo: Demo, journal: Journal, number: int, step: Step, watcher: Watcher | None) -> Findings:
    if watcher:
        watcher.begins(number, step)
    display = Display(watcher.progress, watcher.report) if watcher else Display()
    findings, now = journal.run(step.name, lambda: step.work(demo, display))
    if watcher:
        line = step.describe(findings)
        watcher.ended(number, step, line, journal.seconds(step.name), before=not now)
    return findings


def _summary(demo: Demo, journal: Journal, findings: dict[str, Findings]) -> dict[str, Any]:
    """Return the figures of the demo; `peak_memory_mib` is that of its largest process."""
    evaluation, rewards = findings["evaluate"], findings["rewards"]
    seconds = {step.name: journal.seconds(step.name) for step in STEPS}
    return {
        "seed": demo.seed,
        "scale": demo.scale.name,
        "seconds": {**seconds, "total": round(sum(seconds.values()), 2)},
        "peak_memory_mib": max(journal.peak_memory_mib(step.name) for step in STEPS),
        "world": findings["world"],
        "model": findings["model"],
        "training": {name: findings[name] for name in ("pretrain", "sft", "dpo")},
        "pairs": findings["pairs"]["n_pairs"],
        "pairs_report": findings["pairs"],
        "judge_agreement": evaluation["agreement"]["share"],
        "judge_agreement_test": evaluation["agreement"],
        "judge_agreement_candidates": rewards["agreement"],
        "test": evaluation["test"],
        "out_of_domain": evaluation["out_of_domain"],
    }


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
        """Return the largest resident memory so far when the step ended, in MiB, of any process."""
        path = self._steps / f"{name}.json"
        return int(read_json(path)["peak_memory_mib"]) if path.exists() else 0

    def run(self, name: str, work: Callable[[], Findings]) -> tuple[Findings, bool]:
        """Do a step unless it is finished; return its findings and whether it was done now."""
        findings = self.findings(name)
        if findings is not None:
            return findings, False
        partial = self._steps / f"{name}.partial.json"
        before = float(read_json(partial)["seconds"]) if partial.exists() else 0.0
        start = time.monotonic()
        try:
            findings = work()
        except BaseException:  # Ctrl-C too: the seconds are kept, then it is raised on
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

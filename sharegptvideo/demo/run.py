"""The whole loop on one machine: the steps in order, their findings, and the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from sharegptvideo._io import write_json
from sharegptvideo._shipped import __version__
from sharegptvideo.demo.journal import Findings, Journal
from sharegptvideo.demo.scales import scale_named
from sharegptvideo.demo.stages import STEPS, Demo, Display, Step

__all__ = ["Watcher", "run_demo"]


class Watcher(Protocol):
    """What a display of the demo is told."""

    def begins(self, number: int, step: Step) -> None:
        """Step `number`, from 1, starts or goes on."""
        ...

    def progress(self, done: int, total: int, what: str) -> None:
        """Inside the step."""
        ...

    def tell(self, text: str) -> None:
        """Show a line about the step, such as where its training goes on from."""
        ...

    def ended(self, number: int, step: Step, tells: str, seconds: float, *, before: bool) -> None:
        """The step is done; `before` if an earlier run had done it."""
        ...


def run_demo(
    out: Path, *, scale: str = "small", seed: int = 0, watcher: Watcher | None = None
) -> dict[str, Any]:
    """Do every step that `out` does not hold yet; write and return `summary.json`.

    Leaves in `out`: `index.html`, `summary.json`, `datasets/`, `models/`, `runs/`,
    `leaderboard/` and `steps/`. Interrupted at any moment, it goes on where it stopped.

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
    """Write the leaderboard of the four runs, then the page, which links it."""
    from sharegptvideo.reports.demo import write_page
    from sharegptvideo.reports.leaderboard import write_leaderboard

    names = ("sft", "dpo", "sft-exact", "dpo-exact")
    write_leaderboard([demo.run(name) for name in names], demo.folder / "leaderboard")
    write_page(demo.folder, summary)


def _do(demo: Demo, journal: Journal, number: int, step: Step, watcher: Watcher | None) -> Findings:
    if watcher:
        watcher.begins(number, step)
    display = Display(watcher.progress, watcher.tell) if watcher else Display()
    findings, now = journal.run(step.name, lambda: step.work(demo, display))
    if watcher:
        tells = step.tells(findings)
        watcher.ended(number, step, tells, journal.seconds(step.name), before=not now)
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

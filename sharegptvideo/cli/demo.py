"""`sharegptvideo demo`: the whole loop, offline."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharegptvideo._text import duration, estimate, interval, p_value, percent, plural, points
from sharegptvideo.cli._common import JsonOption, echo, note, print_json

if TYPE_CHECKING:
    from sharegptvideo.demo.stages import Step

__all__ = ["demo"]


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path(
        "demo-out"
    ),
    scale: Annotated[
        str,
        typer.Option(
            help="small (under ten minutes), or tiny (a minute: every step, but too small to gain)."
        ),
    ] = "small",
    seed: Annotated[int, typer.Option(min=0, help="Of everything drawn at random.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Run the whole method on this machine: no network, no GPU.

    Clips are rendered and captioned, a small video model is trained on them,
    its answers are scored by their captions, pairs are made, DPO trains on
    them, and both models answer questions about clips that neither has seen.
    Interrupted, the same command goes on.

    Example: sharegptvideo demo --scale tiny --seed 1 --out demo-tiny
    """
    # Typer keeps the line breaks of the second paragraph: its lines fit in 80 columns.
    from sharegptvideo.demo import run_demo

    with _Bars() if sys.stderr.isatty() else _Lines() as watcher:
        summary = run_demo(out, scale=scale, seed=seed, watcher=watcher)
    if as_json:
        print_json(summary)
    else:
        _print_result(out, summary)


def _print_result(out: Path, summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    # At most 80 columns: one space between them, and the counts below the name.
    table = Table(
        title="Accuracy (%) on clips that neither model has seen",
        title_justify="left",
        box=None,
        pad_edge=False,
        collapse_padding=True,
    )
    for header in ("", "SFT", "DPO", "DPO − SFT (95 %)", "p"):
        table.add_column(header, justify="right" if header else "left", no_wrap=bool(header))
    for name, title in (("test", "test"), ("out_of_domain", "out of domain")):
        for figures, by in ((summary[name], "exact state"), (summary[name]["judged"], "judge")):
            table.add_row(
                f"{title}, {by}\n  {plural(figures['n_videos'], 'clip')}\n"
                f"  {plural(figures['n_questions'], 'question')}",
                *(
                    estimate(figures[model]["accuracy"], figures[model]["se"])
                    for model in ("sft", "dpo")
                ),
                f"{points(figures['delta'], sign=True)}"
                f" ({interval(figures['delta_ci95'], sign=True)})",
                p_value(figures["p_value"]),
            )
    Console().print(table, highlight=False)
    for name, title in (("test", "Test"), ("out_of_domain", "Out of domain")):
        echo(f"{title}: {_cost(summary[name])}")
    agreement = summary["judge_agreement"]
    echo(f"The judge agrees with the exact state on {percent(agreement)} of these answers.")
    echo(f"{duration(summary['seconds']['total'])}. The page: {out / 'index.html'}")


def _cost(figures: dict[str, Any]) -> str:
    """Say what DPO lost, and how often the models contradict themselves."""
    contradictions = (percent(figures["contradictions"][model]) for model in ("sft", "dpo"))
    return (
        f"DPO gained {percent(figures['gained']['share'])} of the questions and lost "
        f"{percent(figures['lost']['share'])};\n  answers that contradict themselves: "
        f"SFT {next(contradictions)}, DPO {next(contradictions)}."
    )


class _Lines:
    """Where stderr is no terminal: a line when a step begins and one when it ends."""

    def __enter__(self) -> _Lines:
        self._last = time.monotonic()
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to close."""

    def begins(self, number: int, step: Step) -> None:
        note(f"[{number}] {step.title} …")

    def progress(self, done: int, total: int, what: str) -> None:
        if time.monotonic() - self._last > 20:
            self._last = time.monotonic()
            note(f"      {what}: {done}/{total or '?'}")

    def report(self, text: str) -> None:
        note(f"      {text}")

    def ended(self, number: int, step: Step, line: str, seconds: float, *, before: bool) -> None:  # noqa: ARG002 - one signature for both displays
        note(f"      {line}  ({'done before' if before else duration(seconds)})")


class _Bars:
    """On a terminal: finished steps as lines above a bar for what runs now."""

    def __enter__(self) -> _Bars:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
        )

        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._bars.start()
        self._task: Any = None
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def begins(self, number: int, step: Step) -> None:
        self._title = f"[bold]{number}  {step.title}[/bold]"
        self._task = self._bars.add_task(self._title, total=None)

    def progress(self, done: int, total: int, what: str) -> None:
        self._bars.update(
            self._task,
            completed=done,
            total=total or None,
            description=f"{self._title} · {what}",
        )

    def report(self, text: str) -> None:
        self._bars.console.print(f"    {text}", highlight=False, markup=False)

    def ended(self, number: int, step: Step, line: str, seconds: float, *, before: bool) -> None:
        from rich.markup import escape

        self._bars.remove_task(self._task)
        when = "done before" if before else duration(seconds)
        self._bars.console.print(
            f"[green]✓[/green] [bold]{number}  {step.title}[/bold] [dim]({when})[/dim]\n"
            f"    {escape(line)}",
            highlight=False,
        )

"""Commands about several stages together: what they hold, and all of them in one file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharegptvideo._text import dollars, duration, number, plural, rough_duration
from sharegptvideo.cli._common import JsonOption, echo, print_json, print_table, text_table

if TYPE_CHECKING:
    from sharegptvideo.build.report import BuildReport, StageFigures

__all__ = ["report"]


def report(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of a run of building.")],
    json: JsonOption = False,
) -> None:
    """Show what stages made, what failed and what it cost, by stage and model; nothing is asked.

    Also while a stage is at work: then with what is still ahead, if the rest goes as before.

    Example: [bold]sharegptvideo build report loop[/bold]
    """
    from sharegptvideo.build.report import read_report

    figures = read_report(out)
    if json:
        print_json(figures.as_dict())
        return
    print_table(_table(figures))
    for stage in figures.stages:
        for line in _lines(stage):
            echo(f"{stage.stage}: {line}")
    for config, written in figures.dataset.items():
        left = plural(written["n_left_out"], "flagged row")
        echo(f"dataset {config}: {plural(written['n_rows'], 'row')}, {left} left out")
    kept = figures.replies
    cost = "" if kept["dollars"] is None else f" ({dollars(kept['dollars'])})"
    count = plural(kept["count"], "reply", "replies")
    echo(f"{out / 'replies'}: {count}, {number(kept['paid'])} of them paid for here{cost}")


def _table(figures: BuildReport) -> object:
    table = text_table("stage", "model", header_style="bold")
    columns = ("rows", "failed", "prompt tokens", "cached", "answer tokens", "dollars", "time")
    for name in columns:
        table.add_column(name, justify="right")
    for stage in figures.stages:
        first = [stage.stage, duration(stage.seconds) if stage.n_sittings else "–"]
        for model in stage.models:
            counts = (model.rows, model.failed, *model.tokens.values())
            cost = "–" if model.dollars is None else dollars(model.dollars)
            table.add_row(first[0], model.model or "–", *map(number, counts), cost, first[1])
            first = ["", ""]  # what is said once
        if not stage.models:
            table.add_row(first[0], "–", *[number(stage.n_rows), "–", "–", "–", "–", "–", first[1]])
    totals = figures.totals
    cost = "–" if totals["dollars"] is None else dollars(totals["dollars"])
    table.add_section()
    spent = (*map(number, totals["tokens"].values()), cost, duration(totals["seconds"]))
    table.add_row("all", "", "", "", *spent)
    return table


def _lines(stage: StageFigures) -> Iterator[str]:
    for model in stage.models:
        if model.answered_by not in ([], [str(model.model).partition(":")[2]]):
            yield f"{model.model} was answered by {', '.join(model.answered_by)}"
    for cause, count in stage.failures.items():
        yield f"failed: {cause} ({count:,} of {stage.n_rows:,})"
    for cause, count in stage.dropped.items():
        yield f"dropped: {cause} ({count:,})"
    if stage.gates is not None:
        flagged = {name: count for name, count in stage.gates["by_gate"].items() if count}
        by_gate = ", ".join(f"{name} {count:,}" for name, count in flagged.items()) or "none"
        yield f"flagged by gates: {by_gate}"
        for name, reason in stage.gates["skipped"].items():
            yield f"gate {name} skipped: {reason}"
    if stage.n_killed:
        yield f"{plural(stage.n_killed, 'sitting')} killed, or at work now: the time is not counted"
    if ahead := stage.ahead:
        cost = "" if ahead["dollars"] is None else f", about {dollars(ahead['dollars'])}"
        left = ahead["seconds"]
        time = "" if left is None else f", about {rough_duration(left)}"
        yield f"ahead: {plural(ahead['rows'], 'row')}{cost}{time}"
    elif not stage.is_finished:
        yield "not finished"

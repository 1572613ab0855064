"""`sharegptvideo eval compare`: two runs, paired by question."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sharegptvideo._text import points
from sharegptvideo.cli._common import JsonOption, note, print_json, print_table
from sharegptvideo.cli.eval._shared import figures_table

__all__ = ["compare"]

# So few changes have no normal distribution, however many pairs there are.
_FEW_CHANGED = 10


def compare(
    first: Annotated[Path, typer.Argument(help="Run folder that is compared with.")],
    second: Annotated[Path, typer.Argument(help="Run folder that is compared.")],
    json: JsonOption = False,
) -> None:
    """How much better SECOND is than FIRST, paired by question and clustered by video.

    Example: [bold]sharegptvideo eval compare runs/sft runs/dpo[/bold]
    """
    from sharegptvideo.eval import compare_runs

    found = compare_runs(first, second)
    if json:
        print_json(found)
        return
    table = figures_table(
        "task",
        "pairs",
        "videos",
        "first",
        "second",
        "difference",
        "95 % interval",
        "p",
        "p, Holm",
    )
    for name, task in found["tasks"].items():
        table.add_row(
            name,
            str(task["n"]),
            str(task["n_clusters"]),
            points(task["first_accuracy"]),
            points(task["second_accuracy"]),
            points(task["delta"], sign=True),
            " … ".join(points(end, sign=True) for end in task["ci95"] or ()) or "–",
            *("–" if task[key] is None else f"{task[key]:.2g}" for key in ("p_value", "p_holm")),
        )
        for key, why in (
            ("n_unscored", "without a verdict in one run"),
            ("n_only_in_one", "in one run only"),
        ):
            if task[key]:
                note(f"{name}: left out: {task[key]} questions {why}")
        if task["n_changed"] < _FEW_CHANGED:
            note(
                f"{name}: {task['n_changed']} of {task['n']} pairs differ; interval and p are rough"
            )
    for run, tasks in ((first, found["only_first"]), (second, found["only_second"])):
        if tasks:
            note(f"left out: {', '.join(tasks)}, in {run} only")
    print_table(table, f"first: {first}, second: {second}, judge: {found['judge']}")

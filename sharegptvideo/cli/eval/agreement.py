"""`sharegptvideo eval agreement`: two judges on the same answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from sharegptvideo._text import points
from sharegptvideo.cli._common import JsonOption, note, print_json, print_table
from sharegptvideo.cli.eval._shared import figures_table

__all__ = ["agreement"]


def agreement(
    first: Annotated[Path, typer.Argument(help="Run folder.")],
    second: Annotated[
        Path,
        typer.Argument(
            help="Run folder of another judge on the same answers, or a JSONL file of people's"
            " verdicts: id, correct, and if there are any task and score."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for agreement.json, agreement.png and a page."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """How far two judges agree on the same answers, and what one's scores mean to the other.

    Example: [bold]sharegptvideo eval judge --predictions runs/dpo/predictions.jsonl
    --task synthetic_qa --judge exact --out runs/dpo-exact[/bold], then
    [bold]sharegptvideo eval agreement runs/dpo runs/dpo-exact --out agreement[/bold]
    """
    from sharegptvideo.eval.agreement import compare_judges
    from sharegptvideo.reports.agreement import save_agreement

    found = compare_judges(first, second)
    if out is not None:
        for path in save_agreement(found, out):
            note(f"written: {path}")
    _note_left_out(found)
    if json:
        print_json(found)
        return
    table = figures_table(
        "task", "answers", "videos", "first", "second", "shift", "agree", "kappa", "Pearson",
        "Spearman",
    )  # fmt: skip
    parts = found["tasks"] if len(found["tasks"]) == 1 else found["tasks"] | {"all": found["all"]}
    for name, task in parts.items():
        table.add_row(name, *_cells(task))
    print_table(
        table,
        f"first: {found['first']['run']} ({found['first']['judge']}),"
        f" second: {found['second']['run']} ({found['second']['judge']});"
        " in brackets: 95 % intervals by video",
    )
    for row in found["all"].get("calibration", ()):
        typer.echo(
            f"score {row['score']:g} of the first ({row['n']}): "
            f"{row['mean_score']['value']:.2f} from the second, "
            f"{points(row['share_right']['value'])} right"
        )


def _cells(task: Mapping[str, Any]) -> list[str]:
    if not task["n"]:
        return ["0", "0", *["–"] * 7]
    first, second = task["accuracy"]
    return [
        str(task["n"]),
        str(task["n_clusters"]),
        points(first["value"]),
        points(second["value"]),
        points(task["shift"]["value"], sign=True),
        points(task["agreement"]["value"]),
        *(_with_interval(task.get(name)) for name in ("kappa", "pearson", "spearman")),
    ]


def _with_interval(figure: Mapping[str, Any] | None) -> str:
    if figure is None or figure["value"] is None:
        return "–"
    if figure["ci95"] is None:
        return f"{figure['value']:.3f}"
    low, high = figure["ci95"]
    return f"{figure['value']:.3f} [{low:.2f}, {high:.2f}]"


def _note_left_out(found: Mapping[str, Any]) -> None:
    for count, why in (
        (found["n_other_answer"], "answered differently in the two runs"),
        (found["n_only_first"], "judged by the first only"),
        (found["n_only_second"], "judged by the second only"),
        (found["n_unscored"]["first"], "unscored by the first"),
        (found["n_unscored"]["second"], "unscored by the second"),
    ):
        if count:
            note(f"left out: {count} {why}")

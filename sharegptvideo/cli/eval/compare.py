"""`sharegptvideo eval compare` and `agreement`: two runs, two judges."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from sharegptvideo._text import interval, number, p_value, plural, points, rounded
from sharegptvideo.cli._common import JsonOption, echo, note, print_json, print_table
from sharegptvideo.cli.eval._shared import figures_table

__all__ = ["agreement", "compare"]

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

    comparison = compare_runs(first, second)
    if json:
        print_json(comparison)
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
    for name, task in comparison["tasks"].items():
        table.add_row(
            name + ("*" if task["part"] else ""), *_differences(task), p_value(task["p_holm"])
        )
        if task["part"]:
            note(f"* {name}: {task['part']}; says nothing of the whole task")
        for kind, part in task.get("by_question_type", {}).items():
            table.add_row(f"  {kind}", *_differences(part), "–")
        for key, why in (
            ("n_unscored", "without a verdict in one run"),
            ("n_only_in_one", "in one run only"),
        ):
            if task[key]:
                note(f"{name}: left out: {plural(task[key], 'question')} {why}")
        if task["n_changed"] < _FEW_CHANGED:
            note(
                f"{name}: {number(task['n_changed'])} of {plural(task['n'], 'pair')} differ;"
                " interval and p are rough"
            )
    for run, tasks in ((first, comparison["only_first"]), (second, comparison["only_second"])):
        if tasks:
            note(f"left out: {', '.join(tasks)}, in {run} only")
    print_table(table, f"first: {first}, second: {second}, judge: {comparison['judge']}")


def _differences(pairs: Mapping[str, Any]) -> list[str]:
    return [
        number(pairs["n"]),
        number(pairs["n_clusters"]),
        points(pairs["first_accuracy"]),
        points(pairs["second_accuracy"]),
        points(pairs["delta"], sign=True),
        interval(pairs["ci95"], sign=True),
        p_value(pairs["p_value"]),
    ]


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

    result = compare_judges(first, second)
    if out is not None:
        for path in save_agreement(result, out):
            note(f"written: {path}")
    _note_left_out(result)
    if json:
        print_json(result)
        return
    table = figures_table(
        "task", "answers", "videos", "first", "second", "shift", "agree", "kappa", "Pearson",
        "Spearman",
    )  # fmt: skip
    parts = result["tasks"]
    if len(parts) > 1:
        parts = parts | {"all": result["all"]}
    for name, task in parts.items():
        table.add_row(name, *_cells(task))
    print_table(
        table,
        f"first: {result['first']['run']} ({result['first']['judge']}),"
        f" second: {result['second']['run']} ({result['second']['judge']});"
        " in brackets: 95 % intervals by video",
    )
    for row in result["all"].get("calibration", ()):
        echo(
            f"score {number(row['score'])} of the first ({number(row['n'])}): "
            f"{rounded(row['mean_score']['value'])} from the second, "
            f"{points(row['share_right']['value'])} right"
        )


def _cells(task: Mapping[str, Any]) -> list[str]:
    if not task["n"]:
        return ["0", "0", *["–"] * 7]
    first, second = task["accuracy"]
    return [
        number(task["n"]),
        number(task["n_clusters"]),
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
        return rounded(figure["value"])
    return f"{rounded(figure['value'])} ({interval(figure['ci95'], rounded)})"


def _note_left_out(result: Mapping[str, Any]) -> None:
    for count, why in (
        (result["n_other_answer"], "answered differently in the two runs"),
        (result["n_only_first"], "judged by the first only"),
        (result["n_only_second"], "judged by the second only"),
        (result["n_unscored"]["first"], "unscored by the first"),
        (result["n_unscored"]["second"], "unscored by the second"),
    ):
        if count:
            note(f"left out: {count} {why}")

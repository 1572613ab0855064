"""Options and output that the commands of `sharegptvideo eval` share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sharegptvideo._text import and_more, percent, plural, points
from sharegptvideo.cli._common import note, print_json, print_table
from sharegptvideo.errors import UserError
from sharegptvideo.reports.estimates import format_estimate, format_interval

__all__ = [
    "DataOption",
    "JudgeOption",
    "LimitOption",
    "OutOption",
    "PanelOption",
    "SeesOption",
    "TaskOption",
    "TaskPathOption",
    "UrlOption",
    "builtin_source",
    "figures_table",
    "judge_name",
    "show_results",
    "split_names",
]

TaskOption = Annotated[
    str, typer.Option("--task", help="Tasks, separated by commas; `eval tasks` lists them.")
]
JudgeOption = Annotated[
    str | None,
    typer.Option(
        "--judge",
        help="exact, answer-match, or openai:NAME for an endpoint; default: answer-match.",
    ),
]
PanelOption = Annotated[
    str | None,
    typer.Option(
        "--panel",
        metavar="J1,J2,J3",
        help="Several judges instead of one: the majority decides, the score is the mean.",
    ),
]
SeesOption = Annotated[
    Literal["frames"] | None,
    typer.Option(
        "--judge-sees", help="frames: openai: judges see the clip instead of its caption."
    ),
]
OutOption = Annotated[Path, typer.Option("--out", help="Run folder; resumable.")]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="A release, a synthetic world, or original annotation files; default: the Hub.",
    ),
]
TaskPathOption = Annotated[
    Path | None, typer.Option("--task-path", help="Folder with task files of your own.")
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=1, help="First N questions of each task only.")
]
UrlOption = Annotated[
    str | None,
    typer.Option("--base-url", help="Endpoint of openai:NAME; default: OPENAI_BASE_URL."),
]


def split_names(task: str) -> list[str]:
    """The names of a list separated by commas."""
    return [name.strip() for name in task.split(",") if name.strip()]


def judge_name(judge: str | None, panel: str | None) -> str:
    """The judge that is asked for, as `open_judge` takes it."""
    if panel is None:
        return judge or "answer-match"
    if judge is not None:
        raise UserError("--judge and --panel exclude each other; give one")
    return f"panel:{','.join(name.strip() for name in panel.split(','))}"


def builtin_source(task: str, data_dir: Path | None) -> str | None:
    """The built-in world, where a task asks for it and no other data is given."""
    builtin = any(name.startswith("synthetic_") for name in split_names(task))
    return "synthetic" if builtin and data_dir is None else None


def show_results(results: Mapping[str, Any], out: Path, names: list[str], *, as_json: bool) -> None:
    """The figures on stdout, what went wrong on stderr; exit 1 where nothing was answered
    or nothing judged."""
    chosen = {name: results["tasks"][name] for name in dict.fromkeys(names)}
    for name, task in chosen.items():
        _note_problems(name, task)
    if as_json:
        print_json(results)
    else:
        table = figures_table(
            "task", "n", "failed", "coverage", "accuracy", "95 % interval", "score", "videos"
        )
        for name, task in chosen.items():
            table.add_row(
                name,
                str(task["n"]),
                str(task["n_failed"]),
                points(task["coverage"]),
                format_estimate(task["accuracy"], share=True),
                format_interval(task["accuracy"]["ci95"]),
                format_estimate(task["score"], share=False),
                str(task["clusters"]),
            )
        print_table(table, f"{results['model']}, judged by {results['judge']}")
        note(f"run folder: {out}")
    if all(task["n_failed"] == task["n"] for task in chosen.values()):
        note("error: every question failed; the causes are in predictions.jsonl")
        raise typer.Exit(1)
    if not any(task["n_scored"] for task in chosen.values()):
        note("error: the judge gave no verdict; the causes are in judgements.jsonl")
        raise typer.Exit(1)


_SHOWN = 10


def _note_problems(name: str, task: Mapping[str, Any]) -> None:
    for key, noun, what in (
        ("missing_clips", "clip", "missing"),
        ("missing_predictions", "question", "without a prediction"),
        ("foreign_predictions", "prediction", "without a question"),
    ):
        names = task.get(key, [])
        if names:
            listed = and_more(names, _SHOWN, where="results.json")
            note(f"{name}: {plural(len(names), noun)} {what}: {listed}")
    if "panel" in task:
        kappa, shared = task["panel"]["fleiss_kappa"], task["panel"]["unanimous"]
        note(
            f"{name}: the panel agrees on {percent(shared)} of the answers"
            + ("" if kappa is None else f" (Fleiss' kappa {kappa:.2f})")
        )
    for key, what in (("failures", "failed"), ("unscored", "unscored")):
        for cause, count in list(task[key].items())[:_SHOWN]:
            note(f"{name}: {count} {what}: {cause}")


def figures_table(*columns: str) -> Any:
    """A table of figures: numbers to the right, the first column and `about` to the left."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number and column != "about" else "left")
    return table

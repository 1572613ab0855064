"""`sharegptvideo eval`: run a model on tasks, judge answers, compare runs, show tasks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from sharegptvideo.cli._common import (
    JsonOption,
    make_world,
    note,
    print_json,
    print_table,
    progress_bar,
)
from sharegptvideo.eval.reports import format_estimate, format_share

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

TaskOption = Annotated[
    str, typer.Option("--task", help="Tasks, separated by commas; `eval tasks` lists them.")
]
JudgeOption = Annotated[
    str, typer.Option("--judge", help="exact, answer-match, or openai:NAME for an endpoint.")
]
OutOption = Annotated[Path, typer.Option("--out", help="Run folder; resumable.")]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="A release, a synthetic world, or original annotation files; default: the Hub.",
    ),
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=1, help="First N questions of each task only.")
]
UrlOption = Annotated[
    str | None,
    typer.Option("--base-url", help="Endpoint of openai:NAME; default: OPENAI_BASE_URL."),
]


@app.command()
def run(
    model: Annotated[
        str,
        typer.Option(
            "--model",
            help="hf:PATH_OR_ID, openai:NAME, predictions:FILE or python:module:function.",
        ),
    ],
    task: TaskOption,
    out: OutOption,
    judge: JudgeOption = "answer-match",
    data_dir: DataOption = None,
    media: Annotated[
        Path | None, typer.Option("--media", help="Folder of the clips; default: --data-dir.")
    ] = None,
    limit: LimitOption = None,
    base_url: UrlOption = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Questions answered at once.")
    ] = 16,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-new-tokens", min=1, help="Where an answer is cut; default: the task's."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Answer the questions of tasks with a model and have the answers judged.

    The same command again finishes what is missing; answers and verdicts that are there are kept.

    Example: [bold]sharegptvideo eval run --model hf:checkpoint --task msvd_qa,tgif_qa
    --judge answer-match --data-dir release --media media --out runs/checkpoint[/bold]
    """
    from sharegptvideo.eval import run_evaluation

    with progress_bar() as progress:
        make_world(_source(task, data_dir), progress)
        results = run_evaluation(
            model,
            _names(task),
            judge,
            out,
            data_dir=data_dir,
            media=media,
            limit=limit,
            base_url=base_url,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            progress=progress,
        )
    _show(results, out, _names(task), as_json=json)


@app.command()
def judge(
    predictions: Annotated[
        Path, typer.Option("--predictions", help="JSONL file: id and prediction a line.")
    ],
    task: TaskOption,
    out: OutOption,
    judge: JudgeOption = "answer-match",
    data_dir: DataOption = None,
    limit: LimitOption = None,
    base_url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Judge answers that are there already, from whatever program they come.

    Example: [bold]sharegptvideo eval judge --predictions answers.jsonl --task msvd_qa
    --judge answer-match --data-dir annotations --out runs/answers[/bold]
    """
    from sharegptvideo.eval import judge_predictions

    with progress_bar() as progress:
        make_world(_source(task, data_dir), progress)
        results = judge_predictions(
            predictions,
            _names(task),
            judge,
            out,
            data_dir=data_dir,
            limit=limit,
            base_url=base_url,
            progress=progress,
        )
    _show(results, out, _names(task), as_json=json)


@app.command()
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
    table = _table("task", "pairs", "videos", "first", "second", "difference", "95 % interval", "p")
    for name, task in found["tasks"].items():
        table.add_row(
            name,
            str(task["n"]),
            str(task["n_clusters"]),
            format_share(task["first_accuracy"]),
            format_share(task["second_accuracy"]),
            format_share(task["delta"], sign=True),
            " … ".join(format_share(end, sign=True) for end in task["ci95"] or ()) or "–",
            "–" if task["p_value"] is None else f"{task['p_value']:.2g}",
        )
        for key, why in (
            ("n_unscored", "without a verdict in one run"),
            ("n_only_in_one", "in one run only"),
        ):
            if task[key]:
                note(f"{name}: left out: {task[key]} questions {why}")
    print_table(table, f"first: {first}, second: {second}, judge: {found['judge']}")


@app.command()
def tasks(
    name: Annotated[str | None, typer.Argument(help="Show this task.")] = None,
    json: JsonOption = False,
) -> None:
    """List the tasks, or show one.

    Example: [bold]sharegptvideo eval tasks msvd_qa[/bold]
    """
    from sharegptvideo.eval import list_tasks, load_task

    if name is not None:
        task = load_task(name).model_dump() | {"prompt_hash": load_task(name).prompt_hash}
        if json:
            print_json(task)
            return
        for key, value in task.items():
            typer.echo(f"{key:<15} {value}")
        return
    if json:
        print_json([task.model_dump() for task in list_tasks()])
        return
    table = _table("task", "version", "protocol", "about")
    for task_ in list_tasks():
        table.add_row(task_.name, str(task_.version), task_.protocol, task_.title)
    print_table(table)


def _names(task: str) -> list[str]:
    return [name.strip() for name in task.split(",") if name.strip()]


def _source(task: str, data_dir: Path | None) -> str | None:
    """The built-in world, where a task asks for it and no other data is given."""
    builtin = any(name.startswith("synthetic_") for name in _names(task))
    return "synthetic" if builtin and data_dir is None else None


def _show(results: Mapping[str, Any], out: Path, names: list[str], *, as_json: bool) -> None:
    """The figures on stdout, what went wrong on stderr; exit 1 where nothing was answered."""
    chosen = {name: results["tasks"][name] for name in dict.fromkeys(names)}
    for name, task in chosen.items():
        _note_problems(name, task)
    if as_json:
        print_json(results)
    else:
        table = _table("task", "n", "failed", "coverage", "accuracy", "score", "videos")
        for name, task in chosen.items():
            table.add_row(
                name,
                str(task["n"]),
                str(task["n_failed"]),
                format_share(task["coverage"]),
                format_estimate(task["accuracy"], share=True),
                format_estimate(task["score"], share=False),
                str(task["clusters"]),
            )
        print_table(table, f"{results['model']}, judged by {results['judge']}")
        note(f"run folder: {out}")
    if all(task["n_failed"] == task["n"] for task in chosen.values()):
        note("error: every question failed; the causes are in predictions.jsonl")
        raise typer.Exit(1)


_SHOWN = 10


def _note_problems(name: str, task: Mapping[str, Any]) -> None:
    for key, what in (
        ("missing_clips", "clip{} missing"),
        ("missing_predictions", "question{} without a prediction"),
        ("foreign_predictions", "prediction{} without a question"),
    ):
        names = task.get(key, [])
        if names:
            more = f" and {len(names) - _SHOWN} more (results.json)" if len(names) > _SHOWN else ""
            counted = what.format("" if len(names) == 1 else "s")
            note(f"{name}: {len(names)} {counted}: {', '.join(names[:_SHOWN])}{more}")
    for key, what in (("failures", "failed"), ("unscored", "unscored")):
        for cause, count in list(task[key].items())[:_SHOWN]:
            note(f"{name}: {count} {what}: {cause}")


def _table(*columns: str) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number and column != "about" else "left")
    return table

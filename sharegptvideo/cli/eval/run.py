"""`sharegptvideo eval run` and `judge`: answers, verdicts and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sharegptvideo._text import and_more, number, percent, plural, points, rounded
from sharegptvideo.cli._common import (
    JsonOption,
    echo,
    make_world,
    note,
    print_json,
    print_table,
    progress_bar,
)
from sharegptvideo.cli._endpoint import asks_endpoints
from sharegptvideo.cli.eval._shared import (
    AuthorsOption,
    DataOption,
    JudgeOption,
    KeyOption,
    LimitOption,
    LinkOption,
    NameOption,
    OutOption,
    PanelOption,
    PromptOption,
    SeesOption,
    SendOption,
    SplitOption,
    TaskOption,
    TaskPathOption,
    UrlOption,
    figures_table,
    judge_name,
    named_model,
)
from sharegptvideo.errors import UserError
from sharegptvideo.reports.estimates import headline_cells, headline_titles, score_cells

if TYPE_CHECKING:
    from sharegptvideo.endpoint import EndpointOptions

__all__ = ["judge", "run"]

_SETTINGS = "Settings other than the tasks' (recorded, and shown with every figure)"


@asks_endpoints
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
    judge: JudgeOption = None,
    panel: PanelOption = None,
    judge_sees: SeesOption = None,
    prompt: PromptOption = None,
    data_dir: DataOption = None,
    media: Annotated[
        Path | None, typer.Option("--media", help="Folder of the clips; default: --data-dir.")
    ] = None,
    task_path: TaskPathOption = None,
    split: SplitOption = None,
    limit: LimitOption = None,
    base_url: UrlOption = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            min=1,
            help="Questions answered at once; default: 16, on a GPU as many as fit.",
        ),
    ] = None,
    devices: Annotated[
        str | None,
        typer.Option(
            "--devices",
            help="For hf: models, a process on each: cuda:0,cuda:1 or all. Default: one device.",
        ),
    ] = None,
    max_new_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-new-tokens", min=1, help="Where an answer is cut; default: the task's."
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames",
            min=1,
            help="Of each clip; default: the task's, or those the model is made for.",
            rich_help_panel=_SETTINGS,
        ),
    ] = None,
    dtype: Annotated[
        Literal["auto", "bfloat16", "float16", "float32"] | None,
        typer.Option(
            "--dtype",
            help="Of hf: models; auto: as saved, the default on a GPU; float32 is that on a CPU.",
            rich_help_panel=_SETTINGS,
        ),
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(
            "--system",
            metavar="TEXT",
            help="System text before each question; default: that of the model's chat template.",
            rich_help_panel=_SETTINGS,
        ),
    ] = None,
    max_pixels: Annotated[
        int | None,
        typer.Option(
            "--max-pixels",
            min=1,
            help="Of a frame at most, for models that take frames of any size.",
            rich_help_panel=_SETTINGS,
        ),
    ] = None,
    generation: Annotated[
        list[str] | None,
        typer.Option(
            "--generation",
            metavar="NAME=NUMBER",
            help="Decoding, once for each: temperature (default 0), top_p, top_k, seed,"
            " repetition_penalty, max_new_tokens.",
            rich_help_panel=_SETTINGS,
        ),
    ] = None,
    send: SendOption = "auto",
    prediction_key: KeyOption = None,
    model_name: NameOption = None,
    authors: AuthorsOption = None,
    link: LinkOption = None,
    *,
    endpoint: EndpointOptions,
    json: JsonOption = False,
) -> None:
    """Answer the questions of tasks with a model and have the answers judged.

    The same command again finishes what is missing; answers and verdicts that are there are kept.

    Example: [bold]sharegptvideo eval run --model hf:checkpoint --task msvd_qa,tgif_qa
    --judge answer-match --data-dir release --media media --out runs/checkpoint[/bold]
    """
    from sharegptvideo.eval import run_evaluation
    from sharegptvideo.models.predictions import PredictionsInfo
    from sharegptvideo.models.settings import AnswerSettings, parse_generation

    names = _chosen(task, task_path)
    settings = AnswerSettings(frames, dtype, system, max_pixels, parse_generation(generation or ()))
    with progress_bar() as progress:
        make_world(_builtin_source(names, data_dir), progress)
        results = run_evaluation(
            model,
            names,
            _judge_name(judge, panel),
            out,
            data_dir=data_dir,
            task_path=task_path,
            split=split,
            media=media,
            limit=limit,
            base_url=base_url,
            judge_sees=judge_sees,
            prompt=prompt,
            batch_size=batch_size,
            devices=None if devices is None else devices.split(","),
            max_new_tokens=max_new_tokens,
            settings=settings,
            send=send,
            endpoint=endpoint,
            info=PredictionsInfo(prediction_key, model_name, authors, link),
            progress=progress,
        )
    _show_results(results, out, names, as_json=json)


@asks_endpoints
def judge(
    predictions: Annotated[
        Path,
        typer.Option("--predictions", help="JSONL, JSON or CSV file: id and prediction a row."),
    ],
    task: TaskOption,
    out: Annotated[
        Path | None, typer.Option("--out", help="Run folder; resumable. Not with --check.")
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Hold the file against the questions, and judge nothing: ids, keys, empty answers,"
            " encoding. Exits with 1 where something is wrong.",
        ),
    ] = False,
    judge: JudgeOption = None,
    panel: PanelOption = None,
    judge_sees: SeesOption = None,
    prompt: PromptOption = None,
    data_dir: DataOption = None,
    media: Annotated[
        Path | None,
        typer.Option("--media", help="Folder of the clips, for judges that see frames."),
    ] = None,
    task_path: TaskPathOption = None,
    split: SplitOption = None,
    limit: LimitOption = None,
    base_url: UrlOption = None,
    prediction_key: KeyOption = None,
    model_name: NameOption = None,
    authors: AuthorsOption = None,
    link: LinkOption = None,
    *,
    endpoint: EndpointOptions,
    json: JsonOption = False,
) -> None:
    """Judge answers that are there already, from whatever program they come.

    With [bold]--check[/bold] first, nothing is judged or paid for.

    Example: [bold]sharegptvideo eval judge --predictions answers.jsonl --task msvd_qa
    --judge answer-match --data-dir annotations --out runs/answers[/bold]
    """
    from sharegptvideo.eval import check_predictions, judge_predictions
    from sharegptvideo.models.predictions import PredictionsInfo

    names = _chosen(task, task_path)
    info = PredictionsInfo(prediction_key, model_name, authors, link)
    if check:
        with progress_bar() as progress:
            make_world(_builtin_source(names, data_dir), progress)
        checked = check_predictions(
            predictions,
            names,
            data_dir=data_dir,
            task_path=task_path,
            split=split,
            limit=limit,
            info=info,
        )
        _show_check(checked, as_json=json)
        return
    if out is None:
        raise UserError("--out: name the run folder (or check the file alone by --check)")
    with progress_bar() as progress:
        make_world(_builtin_source(names, data_dir), progress)
        results = judge_predictions(
            predictions,
            names,
            _judge_name(judge, panel),
            out,
            data_dir=data_dir,
            media=media,
            task_path=task_path,
            split=split,
            limit=limit,
            base_url=base_url,
            judge_sees=judge_sees,
            prompt=prompt,
            endpoint=endpoint,
            info=info,
            progress=progress,
        )
    _show_results(results, out, names, as_json=json)


def _show_check(checked: Mapping[str, Any], *, as_json: bool) -> None:
    """Print what would be judged, and all that is wrong.

    Raises:
        typer.Exit: 1, where something is.
    """
    if as_json:
        print_json(checked)
    else:
        columns = ("n", "n_answered", "n_empty", "n_failed", "n_missing", "n_unknown")
        names = (name.removeprefix("n_") for name in columns[1:])
        table = figures_table("task", "version", "questions", *names)
        for name, task in checked["tasks"].items():
            table.add_row(name, str(task["version"]), *(number(task[key]) for key in columns))
        print_table(table)
        for problem in checked["problems"]:
            echo(problem)
    if checked["problems"]:
        raise typer.Exit(1)
    note("nothing is wrong: give --out in place of --check, and they are judged")


def _chosen(tasks: Sequence[str], task_path: Path | None) -> list[str]:
    """Return the names of tasks in lists separated by commas, which may name groups."""
    from sharegptvideo.eval.tasks import named_tasks

    names = [name.strip() for task in tasks for name in task.split(",")]
    return named_tasks([name for name in names if name], task_path)


def _judge_name(judge: str | None, panel: str | None) -> str | None:
    """Return the judge that is asked for; None: each task's own."""
    return None if judge is None and panel is None else judge_name(judge, panel)


def _builtin_source(names: Sequence[str], data_dir: Path | None) -> str | None:
    """Return the built-in world, where a task asks for it and no other data is given."""
    builtin = any(name.startswith("synthetic_") for name in names)
    return "synthetic" if builtin and data_dir is None else None


def _show_results(
    results: Mapping[str, Any], out: Path, names: list[str], *, as_json: bool
) -> None:
    """Print the figures on stdout and the problems on stderr.

    Raises:
        typer.Exit: 1, where nothing was answered or nothing judged.
    """
    from sharegptvideo._io import read_json
    from sharegptvideo.eval.headline import headline
    from sharegptvideo.eval.run_dir import asked_part, other_settings

    chosen = {name: results["tasks"][name] for name in dict.fromkeys(names)}
    for name, task in chosen.items():
        _note_problems(name, task)
        about = read_json(out / "run.json")
        for cause in (asked_part(about, name, task["n"]), other_settings(about, name)):
            if cause:
                note(f"{name}: {cause}; not to be ranked")
    if as_json:
        print_json(results)
    else:
        titles = headline_titles(map(headline, chosen.values()), "accuracy")
        table = figures_table("task", "n", "failed", "coverage", *titles, "score", "videos")
        for name, task in chosen.items():
            table.add_row(
                name,
                number(task["n"]),
                number(task["n_failed"]),
                points(task["coverage"]),
                *headline_cells(headline(task), titles),
                score_cells(task)[0],
                number(task["clusters"]),
            )
        print_table(table, f"{named_model(results)}, judged by {results['judge']}")
        note(f"run folder: {out}")
    if all(task["n_failed"] == task["n"] for task in chosen.values()):
        note("error: every question failed; the causes are in predictions.jsonl")
        raise typer.Exit(1)
    if not any(task["n_scored"] for task in chosen.values()):
        note("error: the judge gave no verdict; the causes are in judgements.jsonl")
        raise typer.Exit(1)


_SHOWN = 10


def _note_problems(name: str, task: Mapping[str, Any]) -> None:
    from sharegptvideo.eval.headline import headline

    for key, noun, what in (
        ("missing_clips", "clip", "missing"),
        ("missing_predictions", "question", "without a prediction"),
        ("foreign_predictions", "prediction", "without a question"),
    ):
        names = task.get(key, [])
        if names:
            listed = and_more(names, _SHOWN, where="results.json")
            note(f"{name}: {plural(len(names), noun)} {what}: {listed}")
    if task.get("n_answers_cut"):
        count = plural(task["n_answers_cut"], "answer")
        note(f"{name}: {count} longer than the judge reads; judged by the beginning")
    usage = task.get("usage") or {}
    if usage.get("cached_tokens") is not None:
        note(
            f"{name}: {number(usage['prompt_tokens'])} prompt tokens, of those reported on"
            f" {percent(usage['cached_share'])} from the server's prefix cache"
        )
    if "yes_rate" in task:
        said, right = task["yes_rate"]["value"], task["right_yes_rate"]
        halves = (f"{word} {points(task[f'accuracy_{word}']['value'])}" for word in ("yes", "no"))
        note(
            f"{name}: says yes in {percent(said)} of its answers, right would be {percent(right)};"
            f" accuracy where the right answer is {', '.join(halves)}"
        )
    if "claims" in task:
        said, shown = (points(task[f"claim_{name}"]["value"]) for name in ("precision", "recall"))
        note(
            f"{name}: of a description's claims {said} % are supported by the reference, of the"
            f" reference's {shown} % covered, on average"
        )
    if "panel" in task:
        kappa, shared = task["panel"]["fleiss_kappa"], task["panel"]["unanimous"]
        note(
            f"{name}: the panel agrees on {percent(shared)} of the answers"
            + ("" if kappa is None else f" (Fleiss' kappa {rounded(kappa)})")
        )
    kinds = task.get("by_question_type") or {}
    if kinds:
        main = headline(task)
        shares = [
            f"{kind} {points(one[main.key]['value'])} ({number(one[main.key]['n'])})"
            for kind, one in kinds.items()
            if main.key in one
        ]
        mean = task.get("type_mean")
        middle = "" if mean is None else f"; their mean {points(mean)}"
        if shares:
            note(f"{name}: {main.name} by question type: {', '.join(shares)}{middle}")
    for key, what in (("failures", "failed"), ("unscored", "unscored")):
        for cause, count in list(task[key].items())[:_SHOWN]:
            note(f"{name}: {number(count)} {what}: {cause}")

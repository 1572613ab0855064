"""`sharegptvideo eval run`: answers, verdicts and figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharegptvideo.cli._common import JsonOption, make_world, progress_bar
from sharegptvideo.cli.eval._endpoint import asks_endpoints
from sharegptvideo.cli.eval._shared import (
    DataOption,
    JudgeOption,
    LimitOption,
    OutOption,
    PanelOption,
    SeesOption,
    TaskOption,
    TaskPathOption,
    UrlOption,
    builtin_source,
    judge_name,
    show_results,
    split_names,
)

if TYPE_CHECKING:
    from sharegptvideo.endpoint import EndpointOptions

__all__ = ["run"]


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
    data_dir: DataOption = None,
    media: Annotated[
        Path | None, typer.Option("--media", help="Folder of the clips; default: --data-dir.")
    ] = None,
    task_path: TaskPathOption = None,
    limit: LimitOption = None,
    base_url: UrlOption = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Questions answered at once.")
    ] = 16,
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

    with progress_bar() as progress:
        make_world(builtin_source(task, data_dir), progress)
        results = run_evaluation(
            model,
            split_names(task),
            judge_name(judge, panel),
            out,
            data_dir=data_dir,
            task_path=task_path,
            media=media,
            limit=limit,
            base_url=base_url,
            judge_sees=judge_sees,
            batch_size=batch_size,
            devices=None if devices is None else devices.split(","),
            max_new_tokens=max_new_tokens,
            endpoint=endpoint,
            progress=progress,
        )
    show_results(results, out, split_names(task), as_json=json)

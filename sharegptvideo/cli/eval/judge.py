"""`sharegptvideo eval judge`: verdicts on answers that are there."""

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

__all__ = ["judge"]


@asks_endpoints
def judge(
    predictions: Annotated[
        Path, typer.Option("--predictions", help="JSONL file: id and prediction a line.")
    ],
    task: TaskOption,
    out: OutOption,
    judge: JudgeOption = None,
    panel: PanelOption = None,
    judge_sees: SeesOption = None,
    data_dir: DataOption = None,
    media: Annotated[
        Path | None,
        typer.Option("--media", help="Folder of the clips, for --judge-sees frames."),
    ] = None,
    task_path: TaskPathOption = None,
    limit: LimitOption = None,
    base_url: UrlOption = None,
    *,
    endpoint: EndpointOptions,
    json: JsonOption = False,
) -> None:
    """Judge answers that are there already, from whatever program they come.

    Example: [bold]sharegptvideo eval judge --predictions answers.jsonl --task msvd_qa
    --judge answer-match --data-dir annotations --out runs/answers[/bold]
    """
    from sharegptvideo.eval import judge_predictions

    with progress_bar() as progress:
        make_world(builtin_source(task, data_dir), progress)
        results = judge_predictions(
            predictions,
            split_names(task),
            judge_name(judge, panel),
            out,
            data_dir=data_dir,
            media=media,
            task_path=task_path,
            limit=limit,
            base_url=base_url,
            judge_sees=judge_sees,
            endpoint=endpoint,
            progress=progress,
        )
    show_results(results, out, split_names(task), as_json=json)

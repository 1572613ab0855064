"""Options and tables that the commands of `sharegptvideo eval` share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from sharegptvideo.cli._common import text_table
from sharegptvideo.errors import UserError

__all__ = [
    "AuthorsOption",
    "DataOption",
    "JudgeOption",
    "KeyOption",
    "LimitOption",
    "LinkOption",
    "NameOption",
    "OutOption",
    "PanelOption",
    "PromptOption",
    "SeesOption",
    "SendOption",
    "SplitOption",
    "TaskOption",
    "TaskPathOption",
    "UrlOption",
    "figures_table",
    "judge_name",
    "named_model",
]

_PREDICTIONS = "Answers from a file"

TaskOption = Annotated[
    list[str],
    typer.Option(
        "--task",
        help="Tasks or groups, separated by commas or each given so; `eval tasks` lists them.",
    ),
]
JudgeOption = Annotated[
    str | None,
    typer.Option(
        "--judge",
        help="exact, answer-match, or openai:NAME for an endpoint; default: the task's own rules"
        " (yes-no, choice), else answer-match.",
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
SendOption = Annotated[
    Literal["auto", "video", "pictures"],
    typer.Option(
        "--send",
        help="Frames for openai:NAME; auto: as one video where the server takes it.",
    ),
]
SeesOption = Annotated[
    Literal["frames"] | None,
    typer.Option(
        "--judge-sees", help="frames: openai: judges see the clip instead of its caption."
    ),
]
PromptOption = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        metavar="NAME|FILE",
        help="What openai: judges are asked: official, caption-grounded, frames (the clip and no"
        " reference), or a prompt file; default: the task's protocol.",
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
SplitOption = Annotated[
    str | None,
    typer.Option(
        "--split", help="Another split of the tasks' data, such as validation; default: their own."
    ),
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=1, help="First N questions of each task only.")
]
UrlOption = Annotated[
    str | None,
    typer.Option("--base-url", help="Endpoint of openai:NAME; default: OPENAI_BASE_URL."),
]

KeyOption = Annotated[
    str | None,
    typer.Option(
        "--prediction-key",
        help="What a row of predictions calls the answer, as output or reply.text; default:"
        " prediction, pred, response or model_prediction.",
        rich_help_panel=_PREDICTIONS,
    ),
]
NameOption = Annotated[
    str | None,
    typer.Option(
        "--model-name",
        help="The model that gave the answers.",
        rich_help_panel=_PREDICTIONS,
    ),
]
AuthorsOption = Annotated[
    str | None,
    typer.Option("--authors", help="Whose model it is.", rich_help_panel=_PREDICTIONS),
]
LinkOption = Annotated[
    str | None,
    typer.Option(
        "--link",
        metavar="URL",
        help="Where the model is described: https://...",
        rich_help_panel=_PREDICTIONS,
    ),
]


def judge_name(judge: str | None, panel: str | None) -> str:
    """Return the judge that is asked for, as `open_judge` takes it."""
    if panel is None:
        return judge or "answer-match"
    if judge is not None:
        raise UserError("--judge and --panel exclude each other; give one")
    return f"panel:{','.join(name.strip() for name in panel.split(','))}"


def named_model(results: Mapping[str, Any]) -> str:
    """Return a model as it was asked for, before it its name where that says more."""
    spec, name = str(results["model"]), results.get("model_name")
    return spec if name is None or name in spec else f"{name} ({spec})"


def figures_table(*columns: str) -> Any:
    """Return a table of figures: numbers to the right, the first column and `about` to the left."""
    table = text_table(header_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number and column != "about" else "left")
    return table

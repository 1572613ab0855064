"""`sharegptvideo submission`: pack a run for the leaderboard, and check what was packed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from sharegptvideo._text import plural
from sharegptvideo.cli._common import JsonOption, echo, make_world, note, print_json, progress_bar
from sharegptvideo.errors import UserError, field_problems

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")


@app.command()
def make(
    run: Annotated[Path, typer.Argument(help="Run folder that `eval run` or `judge` finished.")],
    name: Annotated[str, typer.Option("--name", help="The model, as the board shows it.")],
    organisation: Annotated[str, typer.Option("--organisation", help="Whose model it is.")],
    link: Annotated[str, typer.Option("--link", help="Where it is described: https://...")],
    params: Annotated[
        str, typer.Option("--params", metavar="N", help="Parameters, as 7B, or unknown.")
    ],
    licence: Annotated[
        str, typer.Option("--licence", help="Of the weights, as Apache-2.0, or closed.")
    ],
    contamination: Annotated[
        str | None,
        typer.Option(
            "--contamination",
            help="Which test videos, or how many, were in training. Left out: not known.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to make; default: named by model and day.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Pack a finished run for the leaderboard: answers, verdicts, figures and their hashes.

    Clips are never packed, nor paths, addresses and keys of this machine. A run that the board
    would refuse is not packed, and every reason is said.

    Example: [bold]sharegptvideo submission make runs/hound --name "Hound 7B" --organisation Lab
    --link https://example.org/hound --params 7B --licence Apache-2.0[/bold]
    """
    from pydantic import ValidationError

    from sharegptvideo.eval.submission import SubmissionInfo
    from sharegptvideo.eval.submission_make import make_submission

    try:
        info = SubmissionInfo(
            name=name,
            organisation=organisation,
            link=link,
            params=_count(params),
            licence=licence,
            contamination=contamination,
        )
    except ValidationError as error:
        raise UserError("; ".join(f"--{line}" for line in field_problems(error))) from error
    folder = make_submission(run, info, out)
    if json:
        print_json({"submission": str(folder)})
        return
    echo(folder)
    note(f"check it with the data: sharegptvideo submission check {folder} --data-dir DATA")


_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}


def _count(text: str) -> int | None:
    """Read a number of parameters: 7B, 978k, 1.5e9; None where it is unknown.

    Raises:
        UserError: it is no such number.
    """
    if text.strip().lower() == "unknown":
        return None
    match = re.fullmatch(
        r"([0-9]{1,15}(?:\.[0-9]{1,6})?(?:e[0-9]{1,2})?)\s*([kmbt]?)", text.lower()
    )
    count = round(float(match[1]) * _UNITS[match[2]]) if match else 0
    if not 1 <= count < 2**63:
        raise UserError(
            f"--params {text!r}: must be a number as 7B, 978k or 7000000000, or unknown"
        )
    return count


@app.command()
def check(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER...", help="Submissions, or a folder of them: then all in it."
        ),
    ],
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            help="The questions, as of `eval run`, or synthetic: texts are compared, and rules"
            " judge anew. Default: what needs no data is checked.",
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against",
            help="The folder of submissions as it was: none may be gone or altered, and only new"
            " ones are scored.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Score submissions anew, and refuse what is altered, incomplete or not what the board takes.

    Exits with 1 where one is refused; every reason is said.

    Example: [bold]sharegptvideo submission check hound-7b-2026-11-27 --data-dir release[/bold]
    """
    from sharegptvideo.eval.submission import RECORD, read_submission, submissions_in
    from sharegptvideo.eval.submission_check import changed_submissions, check_submission

    problems: list[str] = []
    if against is not None:
        if len(folders) != 1:
            raise UserError("--against compares one folder of submissions; name that alone")
        problems, chosen = changed_submissions(folders[0], against)
    else:
        chosen = [each for folder in folders for each in submissions_in(folder)]
        if not any((each / RECORD).exists() for each in chosen):
            raise UserError(f"{folders[0]}: no submission in it ({RECORD})")
    reports = []
    with progress_bar() as progress:
        for folder in chosen:
            record = read_submission(folder) if str(data_dir) == "synthetic" else None
            if record and any(task.startswith("synthetic") for task in record.task_versions):
                make_world("synthetic", progress)
            reports.append(check_submission(folder, data_dir=data_dir, progress=progress))
    if json:
        print_json({"problems": problems, "submissions": reports})
    else:
        for problem in problems:
            echo(f"refused: {problem}")
        for report in reports:
            _show(report)
        if against is not None:
            note(f"{plural(len(chosen), 'new submission')}")
    if problems or any(report["problems"] for report in reports):
        raise typer.Exit(1)


def _show(report: Mapping[str, Any]) -> None:
    for problem in report["problems"]:
        echo(f"{report['folder']}: refused: {problem}")
    if not report["problems"]:
        tasks = (
            f"{name} ({plural(about['n'], 'question')}, verdicts {about['verdicts']})"
            for name, about in report["tasks"].items()
        )
        echo(f"{report['folder']}: {report['name']}: {', '.join(tasks)}: the figures are right")
    for remark in report["remarks"]:
        note(f"{report['folder']}: {remark}")

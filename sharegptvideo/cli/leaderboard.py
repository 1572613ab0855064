"""`sharegptvideo leaderboard`: a site from run folders and submissions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sharegptvideo._text import plural
from sharegptvideo.cli._common import JsonOption, echo, note, print_json, progress_bar

__all__ = ["leaderboard"]


def leaderboard(
    out: Annotated[Path, typer.Option("--out", help="Folder for index.html and leaderboard.json.")],
    runs: Annotated[
        list[Path] | None,
        typer.Argument(help="Run folders that `eval run` finished, or submissions."),
    ] = None,
    submitted: Annotated[
        bool,
        typer.Option("--submitted", help="Add all submissions of eval/leaderboard/submissions."),
    ] = False,
    published: Annotated[
        bool,
        typer.Option(
            "--published",
            help="Show the paper's table too, never ranked, and a page on judge drift.",
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Put runs into a static site: tiers and intervals by task, a table and a page for every judge.

    Example: [bold]sharegptvideo leaderboard runs/sft runs/dpo --out board[/bold]
    """
    from sharegptvideo.eval.submission import submitted_runs
    from sharegptvideo.reports.leaderboard import write_leaderboard

    chosen = [*(runs or ()), *(submitted_runs() if submitted else ())]
    with progress_bar() as progress:
        board = write_leaderboard(chosen, out, published=published, progress=progress)
    if json:
        print_json(board)
        return
    for group in board["groups"]:
        counts = f"{plural(len(group['rows']), 'run')}, {plural(len(group['columns']), 'task')}"
        note(f"{group['judge']['name']}: {counts}")
    echo(out / "index.html")

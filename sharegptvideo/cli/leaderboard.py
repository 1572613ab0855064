"""`sharegptvideo leaderboard`: one page from run folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sharegptvideo._text import plural
from sharegptvideo.cli._common import JsonOption, note, print_json

__all__ = ["leaderboard"]


def leaderboard(
    runs: Annotated[list[Path], typer.Argument(help="Run folders that `eval run` finished.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for index.html and leaderboard.json.")],
    published: Annotated[
        bool,
        typer.Option(
            "--published", help="Show the paper's table too, in tables of its own; never ranked."
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Put runs into one page: accuracy with intervals by task, a table for every judge.

    Example: [bold]sharegptvideo leaderboard runs/sft runs/dpo --out board[/bold]
    """
    from sharegptvideo.reports.leaderboard import write_leaderboard

    board = write_leaderboard(runs, out, published=published)
    if json:
        print_json(board)
        return
    for group in board["groups"]:
        counts = f"{plural(len(group['rows']), 'run')}, {plural(len(group['columns']), 'task')}"
        note(f"{group['judge']['name']}: {counts}")
    typer.echo(out / "index.html")

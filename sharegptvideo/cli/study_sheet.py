"""`sharegptvideo study sheet`: runs as a blind rating task for people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sharegptvideo._text import and_more, number, plural
from sharegptvideo.cli._common import JsonOption, echo, note, print_json, progress_bar

__all__ = ["sheet"]


def sheet(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Run folders: of one, people say whether an answer is right; of two or more,"
            " which of two answers is better."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="The page, as sheet.html; sheet.key.json beside it.")
    ],
    questions: Annotated[
        int, typer.Option("--questions", min=1, help="How many are asked, at the most.")
    ] = 50,
    seed: Annotated[
        int, typer.Option("--seed", help="Draws the questions, and the order of the answers.")
    ] = 0,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="The questions; default: where the first run had them."),
    ] = None,
    media: Annotated[
        Path | None,
        typer.Option("--media", help="Folder of the clips; default: where the first run had it."),
    ] = None,
    copy_clips: Annotated[
        bool,
        typer.Option(
            "--copy-clips",
            help="Copy the clips beside the page, so that both can be given away; else the page"
            " shows them from where they are.",
        ),
    ] = False,
    task_path: Annotated[
        Path | None, typer.Option("--task-path", help="Folder with task files of your own.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make a blind rating task for people out of runs: one page, and its key.

    The page says nothing of the runs. Give it, with the clips, to people who rate. Keep the key,
    which says whose answer is which.
    What they save is read by [bold]eval agreement[/bold].

    Example: [bold]sharegptvideo study sheet runs/sft runs/dpo --out sheet.html[/bold], then
    [bold]sharegptvideo eval agreement preferences-*.jsonl --key sheet.key.json --judge
    openai:NAME[/bold]
    """
    from sharegptvideo.reports.sheet import SheetOptions, write_sheet

    options = SheetOptions(questions, seed, copy_clips, data_dir, media, task_path)
    with progress_bar() as progress:
        made = write_sheet(runs, out, options, progress=progress)
    if made["n"] < questions:
        kind = "with two different answers" if made["kind"] == "preferences" else "answered"
        note(f"only {plural(made['n'], 'question')} {kind}, of {number(questions)} asked for")
    missing = made["missing_clips"]
    if missing:
        note(f"{plural(len(missing), 'clip')} missing: {and_more(missing, 5)}; give --media")
    if json:
        print_json(made)
        return
    for pair, same in made["n_same"].items():
        names = " and ".join(str(runs[int(place)]) for place in pair.split())
        shared = plural(made["n_shared"], "question")
        note(f"{names} give the same answer to {number(same)} of {shared}, which are not asked")
    echo(f"{made['sheet']}: {plural(made['n'], 'question')} ({made['kind']})")
    note(f"keep {made['key']}: it says which answer is of which run; people do not need it")

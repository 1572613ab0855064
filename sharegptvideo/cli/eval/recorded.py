"""`sharegptvideo eval import`: recorded answers and verdicts as run folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sharegptvideo._text import number, plural, points
from sharegptvideo.cli._common import JsonOption, note, print_json, print_table, progress_bar
from sharegptvideo.cli.data.download import parse_size
from sharegptvideo.cli.eval._shared import figures_table
from sharegptvideo.reports.estimates import format_estimate, format_paper

__all__ = ["import_"]


def import_(
    results: Annotated[
        list[Path],
        typer.Argument(help="Archives (.tar.gz), folders, or files of rows (.jsonl, .json)."),
    ],
    to: Annotated[
        Path, typer.Option("--to", help="Folder for the run folders, MODEL.PROTOCOL.JUDGE each.")
    ],
    task: Annotated[
        str | None, typer.Option("--task", help="Task of files whose paths name no test set.")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Name of the model, where no path says it.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option("--judge", help="Name of the judge, where no path says it.")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            help="The questions: those without an answer then count as failed. Default: the"
            " questions that were answered.",
        ),
    ] = None,
    max_bytes: Annotated[
        str,
        typer.Option("--max-bytes", metavar="SIZE", help="The most an archive may unpack to."),
    ] = "64G",
    json: JsonOption = False,
) -> None:
    """Read answers and verdicts that were recorded elsewhere, such as the paper's, as runs.

    No judge is asked. Rows of another form are left out, and counted by reason.

    Example: [bold]sharegptvideo eval import compile_test_result.tar.gz --to runs/paper[/bold]
    """
    from sharegptvideo.data.download.unpack import Limits
    from sharegptvideo.eval import import_results

    limits = Limits(max_bytes=parse_size(max_bytes, "--max-bytes"))
    with progress_bar() as progress:
        made = import_results(
            results,
            to,
            task=task,
            model=model,
            judge=judge,
            data_dir=data_dir,
            limits=limits,
            progress=progress,
        )
    for entry in made["left_out"]:
        first = entry["first"]
        note(
            f"left out: {number(entry['count'])}: {entry['reason']}; first"
            f" {first['file']}:{first['line']}: {first['text']}"
        )
    _note_checks(made["checked"])
    if json:
        print_json(made)
        return
    table = figures_table(
        "run", "task", "n", "failed", "coverage", "accuracy", "score", "paper's counting",
        "of replies",
    )  # fmt: skip
    for run in made["runs"]:
        for name, figures in run["tasks"].items():
            table.add_row(
                Path(run["run"]).name,
                name,
                number(figures["n"]),
                number(figures["n_failed"]),
                points(figures["coverage"]),
                format_estimate(figures["accuracy"], share=True),
                format_estimate(figures["score"], share=False),
                format_paper(figures),
                number(figures["paper_n"]["accuracy"]),
            )
    print_table(
        table,
        "paper's counting: accuracy / score as its authors count, for comparison with their table",
    )
    note(f"{plural(len(made['runs']), 'run folder')} in {to}, from {plural(made['files'], 'file')}")


def _note_checks(checked: Sequence[Mapping[str, Any]]) -> None:
    """Say how many figures of the authors' programs come out the same here, and which do not."""
    others = [each for each in checked if each["recorded"] != each["counted"]]
    if checked:
        same = len(checked) - len(others)
        note(f"recorded figures: {same} of {len(checked)} are the same by the paper's counting")
    for each in others:
        note(
            f"{Path(each['run']).name}, {each['task']}: {each['recorded']} recorded,"
            f" {each['counted'] or 'nothing'} counted here"
        )

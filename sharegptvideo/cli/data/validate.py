"""`sharegptvideo data validate`: the problems of a folder of data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharegptvideo._text import visible
from sharegptvideo.cli._common import (
    JsonOption,
    echo,
    note,
    out_folder,
    print_json,
    print_table,
    progress_bar,
    text_table,
)

if TYPE_CHECKING:
    from sharegptvideo.data.validate import Report

__all__ = ["validate"]

_MAX_CHARS = 8000  # that of `sharegptvideo.data.validate`; a test holds the two together


def validate(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of the release or of Parquet.")
    ],
    config: Annotated[
        list[str] | None,
        typer.Option(help="Check this dataset only (repeatable); all that DIR holds if left out."),
    ] = None,
    media: Annotated[
        list[Path] | None,
        typer.Option(help="Folder with the media (repeatable): reports missing and broken ones."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Another folder: its test sets too must not be trained on."),
    ] = None,
    compare_clips: Annotated[
        bool,
        typer.Option("--look/--no-look", help="With --media: compare clips by what they show."),
    ] = True,
    ignore: Annotated[
        list[str] | None, typer.Option(metavar="CHECK", help="Leave a check out (repeatable).")
    ] = None,
    max_chars: Annotated[int, typer.Option(min=1, help="Report longer texts.")] = _MAX_CHARS,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Clips opened at once; one a core if left out.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write report.json and index.html into this folder.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check rows, texts, pairs, clips, and that no training video is a test video.

    A broken row is reported with its file and line and stops nothing. Exits with 1 if there are
    errors; warnings alone do not count. Fingerprints of clips are kept in the cache folder, so a
    second run takes new clips only.

    Example: sharegptvideo data validate path/to/release --media path/to/media --out report
    """
    from sharegptvideo.data.validate import validate as validate_folder
    from sharegptvideo.reports.validation import write_report

    with out_folder(out):
        with progress_bar() as progress:
            report = validate_folder(
                folder,
                configs=config or (),
                media=media or (),
                against=against,
                compare_clips=compare_clips,
                ignore=ignore or (),
                max_chars=max_chars,
                workers=workers,
                progress=progress,
            )
        if out is not None:
            note(f"report: {write_report(report, out)}")
    if as_json:
        print_json(report.as_dict())
    else:
        _print(report, whole=out is not None)
    if not report.ok:
        raise typer.Exit(1)


_EXAMPLES = 3


def _print(report: Report, *, whole: bool) -> None:
    table = text_table("check", "dataset")
    table.add_column("errors", justify="right")
    table.add_column("warnings", justify="right")
    for (check, name, split), counter in report.counts.items():
        table.add_row(
            check,
            "/".join(part for part in (name, split) if part),
            str(counter["error"] or ""),
            str(counter["warning"] or ""),
        )
    if report.counts:
        print_table(table)
        echo()
    left = 0
    shown: dict[str, int] = {}
    for finding in report.sorted_findings():
        shown[finding.check] = shown.get(finding.check, 0) + 1
        if shown[finding.check] > _EXAMPLES:
            left += 1
            continue
        place = f"{finding.where}: " if finding.where else ""
        line = f"{finding.severity}  {finding.check}  {place}{finding.message}"
        echo(visible(line, keep=""))  # one line each, whatever the names hold
    if left and not whole:
        note(f"{left} more are listed with --out FOLDER or --json")
    for check, reason in report.skipped.items():
        note(f"not run: {check} ({reason})")
    echo(report.sentence())

"""`sharegptvideo data download`: a dataset of the release, and its clips, into a folder."""

from __future__ import annotations

import contextlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharegptvideo._text import byte_size
from sharegptvideo.cli._common import JsonOption, note, print_figures, progress_bar
from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    from sharegptvideo._concurrency import Progress
    from sharegptvideo.data.download import Limits, Plan

__all__ = ["MAX_BYTES_HELP", "download", "parse_size"]

MAX_BYTES_HELP = (
    "The most that one archive may unpack to, as in 500M or 64G; one that holds more is refused."
)


def download(
    name: Annotated[str, typer.Argument(help='A name from `data list`, or "all".')],
    to: Annotated[Path, typer.Option(help="Folder to download into; made if need be.")],
    media: Annotated[
        bool, typer.Option("--media", help="The clips and images too, unpacked.")
    ] = False,
    raw: Annotated[
        bool,
        typer.Option(
            "--raw",
            help="The clips as videos in place of frames, unpacked into raw/. Of the training "
            "sets, those of ActivityNet alone are published.",
        ),
    ] = False,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Take only the test sets of one source: webvid, vidal, activitynet, msrvtt, "
            "msvd, tgif or ssv2. The training files mix their sources and are left out.",
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit on the Hub; main if left out.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before starting.")] = False,
    max_bytes: Annotated[
        str,
        typer.Option(metavar="SIZE", help=MAX_BYTES_HELP),
    ] = "64G",
    as_json: JsonOption = False,
) -> None:
    """Download a dataset of the release, with its clips and images if asked for.

    Shows files and sizes and asks before it starts. Stopped in any way, the same command goes
    on where it was; done once, it does nothing the second time. Every file is checked against
    the Hub's checksum. Archives are unpacked and then removed; one that is damaged, tries to
    write outside its folder or unpacks without end is refused.

    Example: sharegptvideo data download msvd_qa --to data --media
    """
    from sharegptvideo.data.download import Limits
    from sharegptvideo.data.download import download as download_files

    limits = Limits(max_bytes=parse_size(max_bytes, "--max-bytes"))
    if media and raw:
        raise UserError("--media takes the frames and --raw the videos; choose one of them")
    with contextlib.ExitStack() as stack:
        bars: list[Progress] = []

        def progress(count: int, total: int, what: str) -> None:
            if not bars:  # not before the question: a bar would draw over it
                bars.append(stack.enter_context(progress_bar()))
            bars[0](count, total, what)

        plan, done = download_files(
            name,
            to,
            media=media,
            raw=raw,
            only=only,
            revision=revision,
            limits=limits,
            confirm=lambda plan: _confirm(plan, limits, yes),
            progress=progress,
        )
    if done is None:
        note("nothing downloaded")
        raise typer.Exit(1)
    if not plan.open:
        _remarks(plan)
        note(f"{to}: all {len(plan.items)} files are there and right, nothing to do")
    print_figures(
        {
            "name": name,
            "to": str(plan.to),
            "commits": plan.commits,
            "files": len(plan.items),
            "files_there_before": len(plan.items) - len(plan.open),
            "fetched_bytes": done.fetched_bytes,
            "archives_unpacked": done.archives,
            "entries_unpacked": done.entries,
            "unpacked_bytes": done.unpacked_bytes,
            "missing": list(plan.missing),
        },
        as_json=as_json,
    )
    if plan.missing:
        for text in plan.missing:
            note(text)
        note("all else is there; the same command fetches what was missing once it can be had")
        raise typer.Exit(1)


def _confirm(plan: Plan, limits: Limits, yes: bool) -> bool:
    """Show the plan; ask, unless `--yes` has answered.

    Raises:
        UserError: there is no terminal to ask on.
    """
    _show(plan, limits)
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UserError("no terminal to ask on; add --yes to download what is listed above")
    return typer.confirm("Download?", err=True)


def _show(plan: Plan, limits: Limits) -> None:
    parts: dict[str, list[int]] = {}
    for item in plan.items:
        part = parts.setdefault(item.what, [0, 0, 0])
        part[0] += 1
        part[1] += item.remote.size
        part[2] += item.to_fetch
    rows = [
        (what, f"{files}", byte_size(size), byte_size(missing))
        for what, (files, size, missing) in parts.items()
    ]
    rows.append(("in all", f"{len(plan.items)}", byte_size(plan.size), byte_size(plan.to_fetch)))
    head = ("what", "files", "size", "to download")
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(4)]
    for row in [head, *rows]:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        note("  ".join(cells))
    if any(item.is_archive for item in plan.open):
        note(
            "Archives are unpacked, which takes at least their size on the disk, then removed. One "
            f"that holds over {byte_size(limits.max_bytes)} or {limits.max_entries:,} entries, "
            f"or {limits.max_ratio} times its size, is refused."
        )
    _remarks(plan)
    note(f"into {plan.to}")


def _remarks(plan: Plan) -> None:
    for text in plan.notes:
        note(f"note: {text}")
    for text in plan.missing:
        note(f"cannot be had: {text}")


def parse_size(text: str, what: str = "size") -> int:
    """Return the bytes of a size with or without a unit: 1000, 500M, 64 GB, 64 GiB.

    Raises:
        UserError: it is none, or less than a byte; begins with `what` it is for.
    """
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,9})?)\s*([KMGT]?)(i)?B?", text.strip(), re.IGNORECASE)
    if not match or (match[3] and not match[2]):
        raise UserError(f"{what}: {text!r} is not a size; write it as in 500M or 64G")
    power = "KMGT".find(match[2].upper()) + 1 if match[2] else 0
    size = int(float(match[1]) * (1024 if match[3] else 1000) ** power)
    if size < 1:
        raise UserError(f"{what}: {text!r} is not a size: it must be at least 1 byte")
    return size

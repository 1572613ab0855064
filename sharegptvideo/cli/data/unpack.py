"""`sharegptvideo data unpack`: archives that lie in a folder already."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from sharegptvideo.cli._common import JsonOption, note, print_figures, progress_bar
from sharegptvideo.cli.data.download import MAX_BYTES_HELP, parse_size

__all__ = ["unpack"]


def unpack(
    folder: Annotated[
        Path, typer.Argument(help="Folder with the release, or a part of it; or one archive.")
    ],
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove each archive once it is unpacked.")
    ] = False,
    max_bytes: Annotated[str, typer.Option(metavar="SIZE", help=MAX_BYTES_HELP)] = "64G",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Archives unpacked at a time; one a core, at most 8."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Unpack the archives in a folder, each into a folder beside it: chunk_0.tar.gz into chunk_0.

    For archives that came in another way than by `data download`, which
    unpacks them itself. The same guard: an archive that is damaged, tries to
    write outside its folder or unpacks without end is refused. Stopped in any
    way, the same command goes on with the archives that are left.

    Example: sharegptvideo data unpack path/to/release
    """
    from sharegptvideo.data.download import Limits, Packing, unpack_archives

    limits = Limits(max_bytes=parse_size(max_bytes, "--max-bytes"))
    with progress_bar() as progress:
        archives, done = unpack_archives(
            folder, limits=limits, workers=workers, remove=remove, progress=progress
        )
    count = Counter(archive.state for archive in archives)
    for archive in archives:
        if archive.state is Packing.BY_HAND:
            note(f"{archive.path}: its first file is there already, taken as unpacked by hand")
    if not archives:
        note(f"{folder}: no archives in it")
    print_figures(
        {
            "folder": str(folder),
            "archives": len(archives),
            "unpacked": done.archives,
            "unpacked_before": count[Packing.UNPACKED],
            "unpacked_by_hand": count[Packing.BY_HAND],
            "entries_unpacked": done.entries,
            "unpacked_bytes": done.unpacked_bytes,
        },
        as_json=as_json,
    )

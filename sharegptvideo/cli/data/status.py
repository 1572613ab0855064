"""`sharegptvideo data status`: which rows have their clip or image."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharegptvideo._text import byte_size, few, percent, plural, visible
from sharegptvideo.cli._common import (
    JsonOption,
    echo,
    make_world,
    note,
    print_json,
    print_table,
    progress_bar,
    text_table,
)
from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    from sharegptvideo.data.download import LocalArchive
    from sharegptvideo.data.media_availability import Count, MediaAvailability
    from sharegptvideo.media.index import MediaIndex

__all__ = ["status"]

_LISTED = 10


def status(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME", help="Names from `data list`; all that --data-dir holds if none."
        ),
    ] = None,
    data_dir: Annotated[
        str | None,
        typer.Option(
            help='Folder of the release or of Parquet, or "synthetic". The Hub if left out.'
        ),
    ] = None,
    media: Annotated[
        Path | None, typer.Option(help="Folder with the media. --data-dir if left out.")
    ] = None,
    missing: Annotated[
        Path | None, typer.Option(help="Write the names of the missing media here, one a line.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Open every clip again, changed or not.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that open clips; one a core if left out.")
    ] = None,
    on_error: Annotated[
        str, typer.Option(help="A row that breaks the schema: raise, or skip and list it.")
    ] = "raise",
    as_json: JsonOption = False,
) -> None:
    """Show how many rows have their clip or image, by source, and which of these are broken.

    The media are listed in an index, media_index.sqlite in the media folder
    (the cache folder where the media may not be written). A second run
    opens only what has changed. Archives that are not yet unpacked
    are listed, with the command that unpacks them.

    Example: sharegptvideo data status --data-dir path/to/release --media path/to/media
    """
    import warnings

    from sharegptvideo.data.media_availability import media_availability
    from sharegptvideo.data.sources import DataWarning
    from sharegptvideo.media.index import index_media

    configs = _configs(names, data_dir)
    if media is None and data_dir is None:
        raise UserError("--media is needed: the folder with the videos and images")
    with warnings.catch_warnings(), progress_bar() as progress:
        # The same is printed below, without the line of code that a warning carries.
        warnings.simplefilter("ignore", DataWarning)
        make_world(data_dir, progress)
        folder = media or _folder(data_dir)
        index = index_media(folder, workers=workers, fresh=fresh, progress=progress)
        archives = _archives(folder, data_dir)
        parts = [
            media_availability(
                name, data_dir, index, on_error=on_error, workers=workers, progress=progress
            )
            for name in configs
        ]
    for part in parts:
        for line in part.report.lines():
            note(f"{part.config}: {line}")
    if missing:
        _write_missing(missing, parts)
    if as_json:
        figures = {part.config: part.as_dict() for part in parts}
        print_json(
            {"media": _media_figures(index) | _archive_figures(archives), "configs": figures}
        )
    else:
        _print(index, parts)
        _print_archives(archives)


def _configs(names: list[str] | None, data_dir: str | None) -> list[str]:
    """Return the configs asked for, each once, or all that the source holds."""
    from sharegptvideo.data.schema import config_of
    from sharegptvideo.data.sources import held_configs, open_source

    if names:
        configs = [config_of(name) for name in dict.fromkeys(names)]
        if data_dir not in {None, "synthetic"}:
            for config in configs:  # a wrong folder is reported now, not after an hour of media
                open_source(config, data_dir).splits(config)
        return [config.name for config in configs]
    if data_dir is None:
        raise UserError("name the datasets to look at (see `data list`), or pass --data-dir")
    return [config.name for config in held_configs(data_dir)]


def _folder(data_dir: str | None) -> Path:
    """Return where the videos are if --media does not say: beside the rows."""
    if data_dir == "synthetic":
        from sharegptvideo.data.sources import world_folder

        return world_folder()
    assert data_dir is not None  # refused above
    return Path(data_dir)


def _archives(media: Path, data_dir: str | None) -> list[LocalArchive]:
    """Return the archives beside the media and beside the rows, each once."""
    from sharegptvideo.data.download import find_archives

    folders = [media] if data_dir in {None, "synthetic"} else [media, Path(str(data_dir))]
    archives = [archive for folder in folders for archive in find_archives(folder)]
    return list({(one.root / one.path).resolve(): one for one in archives}.values())


def _archive_figures(archives: list[LocalArchive]) -> dict[str, Any]:
    from sharegptvideo.data.download import Packing

    def of(state: Packing) -> list[str]:
        return [str(one.root / one.path) for one in archives if one.state is state]

    return {
        "archives": len(archives),
        "archives_not_unpacked": of(Packing.PACKED) + of(Packing.IN_THE_WAY),
        "archives_unpacked_by_hand": of(Packing.BY_HAND),
    }


def _print_archives(archives: list[LocalArchive]) -> None:
    """Print which archives are not unpacked, and the command that does it."""
    from sharegptvideo.data.download import Packing

    packed = [one for one in archives if one.state in {Packing.PACKED, Packing.IN_THE_WAY}]
    if not packed:
        return
    size = byte_size(sum(one.size for one in packed))
    them = "it" if len(packed) == 1 else "them"
    echo(
        f"\n{len(packed)} of {plural(len(archives), 'archive')} not unpacked ({size}); the media "
        f"in {them} count as missing. To unpack:"
    )
    for root in dict.fromkeys(one.root for one in packed):
        echo(f"  sharegptvideo data unpack {shlex.quote(str(root))}")
    _print_list("archive", [one.path for one in packed])


def _write_missing(path: Path, parts: list[MediaAvailability]) -> None:
    from sharegptvideo._io import os_errors, write_text

    names = _absent(parts)
    with os_errors(path):
        # One line a name, whatever is in it.
        write_text(path, "".join(visible(name, keep="") + "\n" for name in names))
    note(f"{path}: {len(names)} missing videos and images")


def _absent(parts: list[MediaAvailability]) -> list[str]:
    """Return the videos and images that are missing, each once."""
    return list(
        dict.fromkeys(name for part in parts for name in part.missing + part.missing_images)
    )


def _media_figures(index: MediaIndex) -> dict[str, Any]:
    return {
        "folder": str(index.root),
        "index": str(index.file),
        "clips": len(index),
        "videos": index.videos,
        "frame_folders": index.frame_folders,
        "opened": index.opened,
        "removed": index.removed,
        "unreadable": index.errors,
    }


def _print(index: MediaIndex, parts: list[MediaAvailability]) -> None:
    # What is rare gets a column only where there is some.
    rare = [
        name
        for name in ("ambiguous", "no_media")
        if any(asdict(part.total)[name] for part in parts)
    ]
    table = text_table()
    for heading in ("dataset", "source"):
        table.add_column(heading, overflow="fold")
    for heading in ("rows", "with media", "", "missing", "unreadable", *rare):
        table.add_column(heading.replace("_", " "), justify="right", no_wrap=True)
    for part in parts:
        sources = list(part.by_source.items())
        whole = sources[0][0] if len(sources) == 1 else "all"
        table.add_row(part.config, whole, *_cells(part.total, rare))
        if len(sources) > 1:
            for source, count in sources:
                table.add_row("", source, *_cells(count, rare), style="dim")
    print_table(table)
    echo(
        f"\n{index.root}: {len(index)} clips (videos: {index.videos}, folders of frames: "
        f"{index.frame_folders}, unreadable: {len(index.errors)})\n{index.file}: opened "
        f"{index.opened}, unchanged {len(index) - index.opened}, gone {index.removed}"
    )
    unreadable = [f"{path}: {error}" for path, error in index.errors.items()]
    unreadable += [text for part in parts for text in part.unreadable.values()]  # images too
    _print_list("unreadable", list(dict.fromkeys(unreadable)))
    ambiguous = {text for part in parts for text in part.ambiguous.values()}
    _print_list("ambiguous", sorted(ambiguous))
    other_form = {name: path for part in parts for name, path in part.other_form.items()}
    _print_list(
        "other Unicode form",
        [
            f"{name!a} in the rows is {path!a}; found all the same"
            for name, path in other_form.items()
        ],
    )
    unlisted = {name: path for part in parts for name, path in part.unlisted.items()}
    links = {name: link for part in parts for name, link in part.broken_links.items()}
    _print_list(
        "missing",
        [_missing_line(name, unlisted.get(name), links.get(name)) for name in _absent(parts)],
    )


def _missing_line(name: str, unlisted: str | None, link: str | None) -> str:
    if unlisted is not None:
        return f"{name}  ({unlisted} is there, an ending no video is known by; rename it)"
    return name if link is None else f"{name}  ({link}: a link that leads nowhere)"


def _print_list(what: str, lines: list[str]) -> None:
    for line in few(lines, _LISTED, where=_WHERE[what]):
        echo(visible(f"{what}  {line}", keep=""))


_WHERE = {
    "missing": "--missing FILE lists all",
    "unreadable": "--json",
    "ambiguous": "--json",
    "other Unicode form": "--json",
    "archive": "--json",
}


def _cells(count: Count, rare: list[str]) -> list[str]:
    asked = count.rows - count.no_media
    share = percent(count.there / asked) if asked else ""
    numbers = [count.missing, count.unreadable, *(asdict(count)[name] for name in rare)]
    return [str(count.rows), str(count.there), share, *map(str, numbers)]

"""`sharegptvideo data export`: a training set as other trainers read it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharegptvideo._text import and_more, plural
from sharegptvideo.cli._common import JsonOption, note, print_figures, progress_bar

if TYPE_CHECKING:
    from sharegptvideo.data.export import Exported

__all__ = ["export"]

_SHOWN = 5


def export(
    config: Annotated[
        str, typer.Argument(help="captions, image_captions, qa, sft or preferences.")
    ],
    to: Annotated[
        str, typer.Option("--to", metavar="TRAINER", help="llama-factory, ms-swift, trl or verl.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the files; others in it stay.")],
    data_dir: Annotated[
        str | None,
        typer.Option("--data-dir", help="A release or Parquet, or synthetic; default: the Hub."),
    ] = None,
    media: Annotated[
        str | None, typer.Option("--media", help="Folder of the clips; default: --data-dir.")
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="train or validation; default: train.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Write the first N rows only.")
    ] = None,
    on_error: Annotated[
        str, typer.Option(help="A row that breaks the schema: raise, or skip and list it.")
    ] = "raise",
    as_json: JsonOption = False,
) -> None:
    """Write a training set as the files that another trainer reads.

    Clips stay where they are: the files have their paths. Rows whose clip is missing are left out
    and counted.

    Example: sharegptvideo data export preferences --to llama-factory --data-dir release
    --media media --out exported
    """
    import warnings

    from sharegptvideo.data.export import export_rows
    from sharegptvideo.data.sources import DataWarning

    with warnings.catch_warnings(), progress_bar() as progress:
        warnings.simplefilter("ignore", DataWarning)  # printed below
        done = export_rows(
            config,
            to,
            out,
            data_dir=data_dir,
            media=media,
            split=split,
            limit=limit,
            on_error=on_error,
            progress=progress,
        )
    for line in done.report.lines():
        note(line)
    for reason, ids in done.left_out.items():
        note(f"{plural(len(ids), 'row')} left out: {reason}: {and_more(ids, _SHOWN)}")
    figures = {
        "folder": str(out),
        "files": done.files,
        "left_out": sum(map(len, done.left_out.values())),
        "without_clip": len(done.report.without_media),
    }
    print_figures(figures, as_json=as_json)
    if not as_json:
        note(_use(to, done))


def _use(to: str, done: Exported) -> str:
    """Say how the trainer is pointed at the files."""
    paths = [str(done.folder / name) for name in done.files]
    match to:
        case "llama-factory":
            names = ",".join(Path(name).stem for name in done.files)
            return f"use it: dataset_dir: {done.folder}, dataset: {names}"
        case "ms-swift":
            return f"use it: --dataset {' '.join(paths)}"
        case "trl":
            return f'use it: datasets.load_dataset("parquet", data_files={paths}, split="train")'
        case _:
            of = {end: [path for path in paths if f".{end}." in path] for end in ("sft", "rl")}
            uses = (f"{end}: data.train_files=[{','.join(f)}]" for end, f in of.items() if f)
            return f"use it: {'; '.join(uses)}"

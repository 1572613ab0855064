"""`sharegptvideo data convert`: original annotations, or one's own rows, as Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharegptvideo.cli._common import JsonOption, note, print_figures, progress_bar
from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    from sharegptvideo.data.convert import Converted

__all__ = ["convert"]


def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="msvd-qa, msrvtt-qa, tgif-qa, activitynet-qa, video-chatgpt, "
            "or plain: JSONL, JSON, CSV or TSV of your own."
        ),
    ],
    files: Annotated[
        list[Path],
        typer.Argument(
            help="The authors' files, or a folder with them. *_a.json is found beside *_q.json."
        ),
    ],
    to: Annotated[Path, typer.Option(help="Folder to write CONFIG/SPLIT-*.parquet into.")],
    split: Annotated[
        str | None,
        typer.Option(help="Where the files' names do not say it: train, validation, test."),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            help="What the rows are, a name of `data list`; needed for plain and video-chatgpt."
        ),
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(
            help="MSVD, MSRVTT: lines of `clip_name vidN`; video becomes the clip's name."
        ),
    ] = None,
    captions: Annotated[
        list[Path] | None,
        typer.Option(help="Table or JSONL with video and caption, for rows that have none."),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="OURS=THEIRS", help="plain: what your file calls a column."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace splits that the folder has already.")
    ] = False,
    on_error: Annotated[
        str, typer.Option(help="A row that breaks the schema: raise, or skip and list it.")
    ] = "raise",
    as_json: JsonOption = False,
) -> None:
    """Convert original annotations, or rows of your own, to what `load_dataset` reads.

    Splits are taken as their authors published them, by the files' names; MSVD's and MSRVTT's
    clip numbers are checked as well.

    Example: sharegptvideo data convert msvd-qa test_qa.json --mapping youtube_mapping.txt --to DIR

    Example: sharegptvideo data convert plain my.csv --config qa --split train
    --column video=clip --to DIR
    """
    from sharegptvideo.data.convert import convert as run

    with progress_bar() as progress:
        done = run(
            source,
            files,
            to,
            split=split,
            config=config,
            mapping=mapping,
            captions=captions or (),
            columns=_columns(column or ()),
            on_error=on_error,
            overwrite=overwrite,
            progress=progress,
        )
    for line in done.report.lines():
        note(line)
    print_figures(_figures(done, to), as_json=as_json)
    if not as_json:
        first = next(iter(done.splits))
        note(f'load it with load_dataset("{done.config}", "{first}", data_dir="{to}")')


def _columns(given: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in given:
        ours, equals, theirs = text.partition("=")
        if not (ours and equals and theirs):
            raise UserError(f"--column {text}: write it as OURS=THEIRS, such as video=clip")
        pairs[ours] = theirs
    return pairs


def _figures(done: Converted, to: Path) -> dict[str, object]:
    return {
        "config": done.config,
        "folder": str(to),
        "splits": {
            name: {
                "rows": part.rows,
                "videos": part.videos,
                "images": part.images,
                "files": len(part.files),
                "bytes": part.bytes,
                **({"complete": done.complete[name]} if name in done.complete else {}),
            }
            for name, part in done.splits.items()
        },
        "with_caption": done.captioned,
        "skipped": len(done.report.skipped),
    }

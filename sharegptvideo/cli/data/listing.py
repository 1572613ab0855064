"""`sharegptvideo data list` and `data show`: what there is to load, and its first rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sharegptvideo._text import plural
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

__all__ = ["list_", "show"]


def list_(as_json: JsonOption = False) -> None:
    """List the datasets that can be loaded by name.

    Example: sharegptvideo data list
    """
    from sharegptvideo.data.schema import CONFIGS

    if as_json:
        print_json(
            {
                config.name: {
                    "splits": list(config.released),
                    "columns": list(config.columns),
                    "description": config.description,
                }
                for config in CONFIGS.values()
            }
        )
        return
    table = text_table("name", "splits", "what it is")
    for config in CONFIGS.values():
        table.add_row(config.name, ", ".join(config.released) or "-", config.description)
    print_table(table)


def show(
    name: Annotated[str, typer.Argument(help="A name from `data list`.")],
    data_dir: Annotated[
        str | None,
        typer.Option(
            help='Folder of the release or of Parquet, or "synthetic". The Hub if left out.'
        ),
    ] = None,
    media: Annotated[
        Path | None, typer.Option(help="Folder with the media: adds video_path, image_path.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="The first split of the dataset if left out.")
    ] = None,
    rows: Annotated[int, typer.Option("-n", "--rows", min=0, help="Example rows to print.")] = 3,
    on_error: Annotated[
        str, typer.Option(help="A row that breaks the schema: raise, or skip and list it.")
    ] = "raise",
    as_json: JsonOption = False,
) -> None:
    """Show columns, counts and a few rows of one split.

    Example: sharegptvideo data show qa --data-dir path/to/release -n 2
    """
    import warnings

    from sharegptvideo.data.load import read_rows
    from sharegptvideo.data.schema import config_of
    from sharegptvideo.data.sources import DataWarning, ReadReport, open_source
    from sharegptvideo.data.sources.splits import asked_splits

    config = config_of(name)
    report = ReadReport()
    examples: list[dict[str, Any]] = []
    named: dict[str, set[str]] = {medium: set() for medium in config.paths}
    count = 0
    with warnings.catch_warnings(), progress_bar() as progress:
        # The same is printed below, without the line of code that a warning carries.
        warnings.simplefilter("ignore", DataWarning)
        make_world(data_dir, progress)
        split = asked_splits(config, open_source(config, data_dir), split or ...)
        for row in read_rows(name, data_dir, split, media=media, on_error=on_error, report=report):
            count += 1
            if len(examples) < rows:
                examples.append(row)
            for medium, names in named.items():
                if row[medium] is not None:
                    names.add(row[medium])
            if count % _STEP == 0:
                progress(count, 0, f"{name} {split}")
    for line in report.lines():
        note(line)
    columns = [*config.columns, *(config.paths.values() if media else ())]
    figures = {
        "name": name,
        "split": split,
        "rows": count,
        **{f"{medium}s": len(names) for medium, names in named.items()},
        "columns": columns,
        "skipped": len(report.skipped),
        "repeated": len(report.repeated),
        "missing_videos": len(report.missing_videos),
        "missing_images": len(report.missing_images),
    }
    if as_json:
        print_json({**figures, "examples": examples})
    else:
        _print(figures, examples)


_STEP = 1000


def _print(figures: dict[str, Any], examples: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console()
    counts = ((figures.get(noun + "s"), noun) for noun in ("video", "image"))
    media = " and ".join(plural(count, noun) for count, noun in counts if count)
    console.print(
        f"[bold]{figures['name']}[/bold] {escape(figures['split'])}: "
        f"{plural(figures['rows'], 'row')} on {media or 'no media'}",
        highlight=False,
    )
    for row in examples:
        table = text_table(show_header=False, pad_edge=True, padding=(0, 2, 0, 2))
        table.add_column("", style="dim", no_wrap=True)
        table.add_column("", overflow="fold")
        for column in figures["columns"]:
            table.add_row(column, _shown(row[column]))
        console.print(table, "")
    if not examples:
        echo("columns: " + ", ".join(figures["columns"]))


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, list):
        return "\n".join(f"{turn['role']}: {turn['content']}" for turn in value)
    return str(value)

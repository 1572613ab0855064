"""`sharegptvideo data stats`: statistics of a folder's captions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from sharegptvideo._text import interval, number, percent, plural, rounded
from sharegptvideo.cli._common import (
    JsonOption,
    note,
    out_folder,
    print_json,
    print_table,
    progress_bar,
    text_table,
)

__all__ = ["stats"]


def stats(
    folder: Annotated[Path, typer.Argument(help="The release, or Parquet made by this package.")],
    config: Annotated[
        str | None,
        typer.Option(help="Whose captions; `captions`, or else the first that has any."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="One split, or several joined by +; all if left out.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write stats.json and index.html into this folder.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Read so many captions, and questions a config.")
    ] = None,
    on_error: Annotated[
        str, typer.Option(help="A row that breaks the schema: raise, or skip and count it.")
    ] = "raise",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; one a core if left out.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Study the captions: length, words, repetition, near-duplicates, what they speak of.

    Questions in the folder are held against their captions: how much of each answer is there.

    Example: sharegptvideo data stats path/to/release --out stats
    """
    import warnings

    from sharegptvideo.data.sources import DataWarning
    from sharegptvideo.data.stats import StatsSettings, caption_stats
    from sharegptvideo.reports.captions import write_report

    settings = StatsSettings(folder, config, split, limit, on_error, workers)
    with out_folder(out):
        with warnings.catch_warnings(), progress_bar() as progress:
            # What was left out is counted in the figures.
            warnings.simplefilter("ignore", DataWarning)
            figures = caption_stats(settings, progress)
        if out is not None:
            write_report(figures, out)
    if out is not None:
        note(f"wrote {out / 'stats.json'} and {out / 'index.html'}")
    if figures["skipped_rows"]:
        nouns = ("row that breaks the schema was", "rows that break the schema were")
        note(f"{plural(figures['skipped_rows'], *nouns)} left out")
    if as_json:
        print_json(figures)
    else:
        _print(figures)


def _print(figures: Mapping[str, Any]) -> None:
    sources = figures["by_source"]
    parts = [("all", figures["whole"]), *(sources.items() if len(sources) > 1 else [])]
    table = text_table("")
    for name, _ in parts:
        table.add_column(name, justify="right")
    for what, show in _LINES:
        what = f"{figures['medium']}s" if what == "media" else what
        table.add_row(what, *(show(part) for _, part in parts))
    for aspect in figures["whole"]["aspects"]:
        shares = (part["aspects"][aspect]["share"] for _, part in parts)
        table.add_row(f"speak of {aspect}", *map(percent, shares))
    print_table(table)
    asked = {name: one for name, one in figures["support"].items() if one["questions"]}
    if asked:
        table = text_table("answers that captions support")
        for head in ("questions", "mean", "in full", "not at all", "by chance"):
            table.add_column(head, justify="right")
        for name, one in asked.items():
            shares = (one[key] for key in ("mean", "full", "none", "chance"))
            table.add_row(name, number(one["questions"]), *map(percent, shares))
        print_table(table)


_LINES: tuple[tuple[str, Callable[[Mapping[str, Any]], str]], ...] = (
    ("captions", lambda part: number(part["captions"])),
    ("media", lambda part: number(part["videos"])),
    ("words in a caption, mean", lambda part: rounded(part["length"]["mean"], 1)),
    (
        "    5 % to 95 %",
        lambda part: interval([part["length"][end] for end in ("p5", "p95")], number),
    ),
    ("different words", lambda part: number(part["vocabulary"]["types"])),
    (
        "type-token ratio in 1,000 words",
        lambda part: rounded(part["vocabulary"]["type_token_ratio_1000"], 3),
    ),
    ("captions that repeat four words", lambda part: percent(part["repeated"]["4"]["captions"])),
    ("with a shared opening", lambda part: percent(part["shared_openings"])),
    ("with a near-duplicate", lambda part: percent(part["near_duplicates"]["share"])),
)

"""`sharegptvideo study`: its commands, put together here."""

from __future__ import annotations

import typer

from sharegptvideo.cli.study_sheet import sheet

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")


@app.callback()
def study() -> None:
    """Questions about the method, and what people say."""  # keeps one command a group


app.command("sheet")(sheet)

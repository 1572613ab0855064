"""`sharegptvideo build`: its commands, put together here."""

from __future__ import annotations

import typer

from sharegptvideo.cli.build import captions, loops, pairs

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

for command in (
    captions.captions,
    captions.qa,
    pairs.candidates,
    pairs.rewards,
    pairs.preferences,
    loops.report,
):
    app.command()(command)

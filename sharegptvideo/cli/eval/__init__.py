"""`sharegptvideo eval`: one module a command, put together here."""

from __future__ import annotations

import typer

from sharegptvideo.cli.eval import agreement, attack, compare, judge, report, run, tasks

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

app.command()(run.run)
app.command()(judge.judge)
app.command()(compare.compare)
app.command()(agreement.agreement)
app.command()(report.report)
app.command()(attack.attack)
app.command()(tasks.tasks)

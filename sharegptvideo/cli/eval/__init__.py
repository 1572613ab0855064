"""`sharegptvideo eval`: its commands, put together here."""

from __future__ import annotations

import typer

from sharegptvideo.cli.eval import attack, compare, recorded, report, run

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

for command in (
    run.run,
    run.judge,
    compare.compare,
    compare.agreement,
    report.report,
    attack.attack,
    report.tasks,
):
    app.command()(command)
app.command("import")(recorded.import_)

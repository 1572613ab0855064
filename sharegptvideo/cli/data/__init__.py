"""`sharegptvideo data`: one module a command, put together here."""

from __future__ import annotations

import typer

from sharegptvideo.cli.data import (
    convert,
    download,
    export,
    listing,
    publish,
    stats,
    status,
    unpack,
    validate,
)

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True)

# In the order of the work: find, get, check, pass on.
app.command("list")(listing.list_)
app.command("ls", hidden=True)(listing.list_)  # as in the other groups
app.command()(listing.show)
app.command()(download.download)
app.command()(unpack.unpack)
app.command()(convert.convert)
app.command()(status.status)
app.command()(validate.validate)
app.command()(stats.stats)
app.command()(export.export)
app.command()(publish.publish)

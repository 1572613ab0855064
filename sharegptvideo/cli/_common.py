"""Shared parts of the commands: `--json`, figures on stdout, a progress bar on stderr."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sharegptvideo._io import dumps, making, os_errors
from sharegptvideo._text import number, visible

if TYPE_CHECKING:
    from sharegptvideo._concurrency import Progress

__all__ = [
    "JsonOption",
    "ask",
    "echo",
    "make_world",
    "note",
    "out_folder",
    "print_figures",
    "print_json",
    "print_table",
    "progress_bar",
    "text_table",
]


JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the final figures as one JSON object on stdout.")
]

_LOG_SECONDS = 30.0


def note(text: str) -> None:
    """Print a line for the user on stderr, where it cannot mix with the figures."""
    typer.echo(visible(text), err=True)


def echo(text: object = "") -> None:
    """Print a line of the results on stdout; what it quotes cannot steer the terminal."""
    typer.echo(visible(str(text)))


def ask(question: str) -> bool:
    """Ask for a yes or no on the terminal; bars stand still meanwhile, or they would cover it."""
    for bars in _bars:
        bars.stop()
    try:
        return typer.confirm(visible(question), err=True)
    finally:
        for bars in _bars:
            bars.start()


_bars: list[Any] = []  # those on the screen


def make_world(data_dir: str | None, progress: Progress) -> None:
    """Build the built-in world now if `data_dir` is it; its reader would show no bar."""
    if data_dir == "synthetic":
        from sharegptvideo.data.sources import world_folder

        world_folder(progress)


def print_json(figures: object) -> None:
    r"""Print one JSON object, on one line of stdout.

    What stdout cannot encode, or a terminal could take as a command, is written as `\uXXXX`.
    """
    line = dumps(figures)
    try:
        line.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        line = json.dumps(figures, allow_nan=False)
    typer.echo(_CONTROLS.sub(lambda sign: f"\\u{ord(sign[0]):04x}", line))


_CONTROLS = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def print_figures(figures: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the final figures on stdout: one JSON object, or one `name  value` line each.

    Nested objects are written as `outer.inner`; numbers are shortened to four digits.
    """
    if as_json:
        print_json(figures)
        return
    lines = list(_flat(figures, ""))
    width = max((len(name) for name, _ in lines), default=0)
    for name, value in lines:
        echo(f"{name:<{width}}  {value}")


def text_table(*columns: str, **options: Any) -> Any:
    """Return a rich table without borders whose cells are plain text: no markup, no controls."""
    from rich.table import Table
    from rich.text import Text

    class Plain(Table):
        def add_column(self, header: Any = "", *rest: Any, **how: Any) -> None:
            super().add_column(Text(visible(header)), *rest, **how)

        def add_row(self, *cells: Any, **how: Any) -> None:
            plain = (Text(visible(cell)) if isinstance(cell, str) else cell for cell in cells)
            super().add_row(*plain, **how)

    table = Plain(**{"box": None, "pad_edge": False} | options)
    for column in columns:
        table.add_column(column)
    return table


def print_table(table: Any, caption: str | None = None) -> None:
    """Print a rich table on stdout, and a line below it; a pipe has no width, so none is cut."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)
    if caption:
        console.print(visible(caption), markup=False, highlight=False, emoji=False)  # `:m:` is one


def _flat(figures: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _shown(value)


def _shown(value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number(value)
    return str(value)


@contextlib.contextmanager
def out_folder(out: Path | None) -> Iterator[None]:
    """Make the folder of --out before the work begins, so that a wrong name is an error at once.

    An error in the block removes it again, if nothing was written into it.

    Raises:
        UserError: it cannot be made.
    """
    with contextlib.ExitStack() as made:
        if out is not None:
            with os_errors(out, "free some space or give another --out", action="made"):
                made.enter_context(making(out))
        yield


@contextlib.contextmanager
def progress_bar() -> Iterator[Progress]:
    """Yield a `progress(done, total, what)` that draws bars on stderr while the block runs.

    Where stderr is a file or a pipe, a line is written when a `what` ends and every half minute.
    """
    if not sys.stderr.isatty():
        yield _log_lines()
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    tasks: dict[str, Any] = {}
    with Bars(*columns, console=Console(stderr=True)) as bars, _known(bars):

        def progress(done: int, total: int, what: str) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(escape(visible(what, keep="")), total=total or None)
            bars.update(tasks[what], completed=done, total=total or None)

        yield progress


@contextlib.contextmanager
def _known(bars: Any) -> Iterator[None]:
    _bars.append(bars)
    try:
        yield
    finally:
        _bars.remove(bars)


def _log_lines() -> Progress:
    last: dict[str, float] = {}

    def progress(done: int, total: int, what: str) -> None:
        now = time.monotonic()
        ended = total > 0 and done >= total
        if ended or now - last.setdefault(what, now) >= _LOG_SECONDS:
            last[what] = now
            note(f"{what}: {done}/{total or '?'}")

    return progress

"""The `sharegptvideo` command: the groups put together, and how errors reach the user."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup, TyperOption

from sharegptvideo import __version__
from sharegptvideo._install import extras_with, install_line
from sharegptvideo._io import FULL_DISK, os_error_line
from sharegptvideo._text import visible
from sharegptvideo.cli import (
    build,
    data,
    demo,
    doctor,
    leaderboard,
    model,
    study,
    submission,
    train,
)
from sharegptvideo.cli import eval as eval_
from sharegptvideo.cli._common import note
from sharegptvideo.cli._streams import prepare_streams
from sharegptvideo.errors import Interrupted, UserError

__all__ = ["app", "main"]


# As the work goes: typer would list plain commands before groups.
_ORDER = (
    "demo",
    "data",
    "model",
    "build",
    "train",
    "eval",
    "leaderboard",
    "submission",
    "study",
    "doctor",
)


class _Group(TyperGroup):
    """The group that turns a user's error into one line on stderr and an exit code."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer's signature
        return sorted(self.commands, key=_ORDER.index)

    def make_context(self, *words: Any, **more: Any) -> Any:
        try:
            return super().make_context(*words, **more)
        except KeyboardInterrupt as error:  # while options are read
            _last_words(_INTERRUPTED)
            raise typer.Exit(_exit_code(130)) from error

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            note(f"error: {error}")
            raise typer.Exit(error.exit_code) from error
        except Interrupted as error:
            _last_words(str(error))
            raise typer.Exit(_exit_code(error.exit_code)) from error
        except KeyboardInterrupt as error:
            _last_words(_INTERRUPTED)
            raise typer.Exit(_exit_code(130)) from error
        except ModuleNotFoundError as error:
            extras = extras_with((error.name or "").partition(".")[0])
            if not extras:
                raise
            fix = install_line(*filter(None, extras))
            note(f"error: this needs {error.name}, which is not installed: {fix}")
            raise typer.Exit(1) from error
        except OSError as error:
            line = _os_error_line(error)
            if line is None:
                raise
            note(f"error: {line}")
            raise typer.Exit(1) from error


_INTERRUPTED = "interrupted; run the same command again to go on"
_caught: list[int] = []  # signals that were taken for Ctrl-C


def _exit_code(code: int) -> int:
    """Return how a shell reports the signal that ended the work."""
    return 128 + _caught[-1] if _caught else code


def _last_words(text: str) -> None:
    if os.environ.get("RANK", "0") == "0":  # the first process of a launch reports for all
        with contextlib.suppress(OSError):  # a terminal that hung up takes none
            note(text)


def _signals() -> list[int]:
    names = ("SIGINT", "SIGTERM", "SIGHUP")  # the last is absent on Windows
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


def _end_as_ctrl_c() -> None:
    """Let SIGTERM and SIGHUP end the work as Ctrl-C does: what is done is kept.

    One that is ignored, as by `nohup`, stays so; worker processes end at once, as before.
    """
    process = os.getpid()

    def catch(number: int, _frame: object) -> None:
        if os.getpid() != process:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        _caught.append(number)
        if signal.getsignal(signal.SIGINT) in {signal.SIG_IGN, signal.SIG_DFL, None}:
            raise KeyboardInterrupt  # as of a job in the background
        signal.raise_signal(signal.SIGINT)

    for number in _signals():
        if number != signal.SIGINT and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, catch)


def _os_error_line(error: OSError) -> str | None:
    """Return one line for what a file system refuses, None for a fault that is ours."""
    if error.errno in FULL_DISK:
        where = f" at {error.filename}" if error.filename else ""
        return f"the disk is full{where}; free some space and run the same command again"
    return os_error_line(error, error.filename, action="used") if error.filename else None


app = typer.Typer(
    name="sharegptvideo",
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sharegptvideo {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    """Video captions, questions and preference pairs; an evaluation; SFT and DPO recipes.

    The whole loop on this machine, offline, in ten minutes:

        sharegptvideo demo --out demo-out
    """


# Every module below imports what is heavy inside its commands, so that help comes at once.
app.command()(demo.demo)
app.add_typer(data.app, name="data", help="Get, convert, check, study and publish the datasets.")
app.add_typer(model.app, name="model", help="Convert the authors' checkpoints; look at one.")
app.add_typer(
    build.app,
    name="build",
    help="From videos to preference pairs: captions, qa, candidates, rewards, preferences.",
)
app.add_typer(train.app, name="train", help="List, copy, check and run training recipes.")
app.add_typer(eval_.app, name="eval", help="Run a model on tasks, judge its answers, compare runs.")
app.command()(leaderboard.leaderboard)
app.add_typer(
    submission.app, name="submission", help="Pack a run for the leaderboard, and check it."
)
app.add_typer(
    study.app,
    name="study",
    help="Experiments on the method's open questions; a rating sheet for people.",
)
app.command()(doctor.doctor)


def _warning_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """Format our own warnings for the user: one line, without the place in the code."""
    if category.__module__.startswith("sharegptvideo."):
        return f"warning: {visible(str(message))}\n"
    return _python_format(message, category, filename, lineno, line)


_python_format = warnings.formatwarning


def _type_in_help(option: TyperOption, ctx: Any) -> str | None:
    """Return what a help page shows after an option: nothing for flags, which take no value."""
    return "" if option.is_flag else _typer_type(option, ctx)


_typer_type = TyperOption.display_type_rich
TyperOption.display_type_rich = _type_in_help  # type: ignore[method-assign, assignment]


def main() -> None:
    """Run the command line; the entry point of the `sharegptvideo` script."""
    prepare_streams()
    _end_as_ctrl_c()
    warnings.formatwarning = _warning_line
    try:
        app()
    except KeyboardInterrupt:  # before a command began
        _last_words(_INTERRUPTED)
        sys.exit(_exit_code(130))
    except SystemExit as end:
        if end.code not in {128 + number for number in _signals()}:
            raise
        # All is said: a launcher's copy of the signal ends the process without a traceback.
        for number in _signals():
            if callable(signal.getsignal(number)):  # not where it is ignored
                signal.signal(number, signal.SIG_DFL)
        raise

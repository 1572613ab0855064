"""The errors that reach a user as one line: mistakes, unknown names, interrupted work."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

__all__ = [
    "Interrupted",
    "MediaError",
    "MediaWarning",
    "UserError",
    "field_problems",
    "problem_words",
    "unknown_name",
]


class UserError(Exception):
    """A mistake that the user can fix, in one line that says what is wrong, where, and the fix.

    The command line prints it without a traceback and exits with 2 (bad usage) or, where
    `exit_code` says so, with 1 (the work failed). What is quoted from a file or a name may hold
    anything: line ends, control characters and halves of surrogate pairs are shown escaped.
    """

    def __init__(self, message: str, *, exit_code: int = 2) -> None:
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in message))
        self.exit_code = exit_code


class MediaError(UserError):
    """A clip that cannot be read, or a stem that cannot be resolved: one line, name and cause."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message, exit_code=exit_code)


class MediaWarning(UserWarning):
    """A clip that is damaged but not useless: the frames that decode were used."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM in work whose message says from where it goes on.

    The command line prints the message and exits as a shell reports the signal: with 130 after
    Ctrl-C, with 143 after SIGTERM.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def unknown_name(
    kind: str, name: str, options: Iterable[str], *, also: Iterable[str] = ()
) -> UserError:
    """Return the error for a name that is not among `options`, with the nearest ones first.

    Those of `also` are near for another reason than their letters.

    >>> str(unknown_name("task", "msvd", ["msvd_qa", "tgif_qa"]))
    "unknown task 'msvd'; did you mean msvd_qa? (known: msvd_qa, tgif_qa)"
    """
    known = sorted(options)
    near = list(also)
    near += [one for one in difflib.get_close_matches(name, known, 3, 0.5) if one not in near]
    near += [option for option in known if name and name in option and option not in near]
    hint = f"; did you mean {', '.join(near[:3])}?" if near else ""
    return UserError(f"unknown {kind} {name!r}{hint} (known: {', '.join(known)})")


_CAUSES = {
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "model_type": "must be a mapping of keys to values",
    "tuple_type": "must be a list",
}
"""Causes in YAML's words, where pydantic's are Python's, by its names for them."""


def problem_words(problem: ErrorDetails) -> str:
    """Return the cause of one problem that pydantic found."""
    return _CAUSES.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")


def field_problems(error: ValidationError, whole: str = "") -> list[str]:
    """Return `key.of.field: cause` for each value that pydantic refused.

    Args:
        error: of a file's contents.
        whole: the name of the contents, for causes that are about no single field.
    """
    problems = []
    for problem in error.errors():
        key = ".".join(map(str, problem["loc"])) or whole
        cause = problem_words(problem)
        problems.append(f"{key}: {cause}" if key else cause)
    return problems

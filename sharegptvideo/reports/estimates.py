"""Figures as text: per cent with one digit, the standard error beside it; for LaTeX likewise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sharegptvideo._text import points

__all__ = [
    "format_estimate",
    "format_interval",
    "markdown_cell",
    "markdown_table",
    "tex_escape",
    "tex_estimate",
    "tex_interval",
]

_NONE = "–"
_COLUMNS = (
    "task",
    "questions",
    "videos",
    "failed",
    "unscored",
    "accuracy %",
    "95 % interval",
    "bounds %",
    "score",
    "published counting %",
)


def format_estimate(estimate: Mapping[str, Any], *, share: bool) -> str:
    """`value ± standard error`, of a share as per cent; without the error where it is unknown."""
    value, se = estimate["value"], estimate["se"]
    if value is None:
        return _NONE
    scale, digits = (100, 1) if share else (1, 2)
    text = f"{scale * value:.{digits}f}"
    return text if se is None else f"{text} ± {scale * se:.{digits}f}"


def format_interval(ends: Sequence[float] | None) -> str:
    """Return the ends of an interval of a share, as per cent."""
    if ends is None:
        return _NONE
    low, high = ends
    return f"{points(low)} to {points(high)}"


def markdown_table(results: Mapping[str, Any]) -> str:
    """Write a results.json as a Markdown table, a row a task, below a line on model and judge.

    Pipes and line breaks in names are escaped, so that no name can break the table.
    """
    rows = [_COLUMNS, ("---", *("---:" for _ in _COLUMNS[1:]))]
    for name, task in results["tasks"].items():
        bounds = task["accuracy_bounds"]
        rows.append(
            (
                markdown_cell(name),
                f"{task['n']:,}",
                f"{task['clusters']:,}",
                f"{task['n_failed']:,}",
                f"{task['n_unscored']:,}",
                format_estimate(task["accuracy"], share=True),
                format_interval(task["accuracy"]["ci95"]),
                format_interval(bounds),
                format_estimate(task["score"], share=False),
                points(task["paper_accuracy"]),
            )
        )
    about = f"Model {markdown_cell(results['model'])}, judged by {markdown_cell(results['judge'])}."
    lines = ("| " + " | ".join(row) + " |" for row in rows)
    return about + "\n\n" + "\n".join(lines) + "\n"


def markdown_cell(text: str) -> str:
    """Return a text that cannot break the row of a table that it stands in."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")


_TEX = {char: "\\" + char for char in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def tex_escape(text: str) -> str:
    """Any text as LaTeX sets it: one line, with its special signs escaped."""
    return "".join(_TEX.get(char, char) for char in " ".join(text.split()))


def tex_estimate(estimate: Mapping[str, Any], *, share: bool) -> str:
    """Return what `format_estimate` gives, in LaTeX."""
    text = format_estimate(estimate, share=share)
    return f"${text.replace('±', chr(92) + 'pm')}$" if "±" in text else text.replace("–", "--")


def tex_interval(ends: Sequence[float] | None) -> str:
    """Return what `format_interval` gives, in LaTeX."""
    return format_interval(ends).replace(" to ", "--").replace("–", "--")

"""Figures as a reader wants them: per cent with one digit, the standard error beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["format_estimate", "format_interval", "format_share", "markdown_table"]

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


def format_share(value: float | None, *, sign: bool = False) -> str:
    """A share in [0, 1] as per cent, one digit: 0.4875 gives `48.8`; `sign` is for differences."""
    if value is None:
        return _NONE
    return f"{100 * value:+.1f}" if sign else f"{100 * value:.1f}"


def format_estimate(estimate: Mapping[str, Any], *, share: bool) -> str:
    """`value ± standard error`, of a share as per cent; without the error where it is unknown."""
    value, se = estimate["value"], estimate["se"]
    if value is None:
        return _NONE
    scale, digits = (100, 1) if share else (1, 2)
    text = f"{scale * value:.{digits}f}"
    return text if se is None else f"{text} ± {scale * se:.{digits}f}"


def format_interval(ends: Sequence[float] | None) -> str:
    """The ends of an interval of a share, as per cent.

    With two or three videos an interval reaches beyond 0 or 100 %; it is cut there.
    """
    if ends is None:
        return _NONE
    low, high = (min(max(end, 0.0), 1.0) for end in ends)
    return f"{format_share(low)} to {format_share(high)}"


def markdown_table(results: Mapping[str, Any]) -> str:
    """A results.json as a Markdown table, a row a task, with a line on model and judge above it.

    Pipes and line breaks in names are escaped, so that no name can break the table.
    """
    rows = [_COLUMNS, ("---", *("---:" for _ in _COLUMNS[1:]))]
    for name, task in results["tasks"].items():
        bounds = task["accuracy_bounds"]
        rows.append(
            (
                _cell(name),
                f"{task['n']:,}",
                f"{task['clusters']:,}",
                f"{task['n_failed']:,}",
                f"{task['n_unscored']:,}",
                format_estimate(task["accuracy"], share=True),
                format_interval(task["accuracy"]["ci95"]),
                format_interval(bounds),
                format_estimate(task["score"], share=False),
                format_share(task["paper_accuracy"]),
            )
        )
    about = f"Model {_cell(results['model'])}, judged by {_cell(results['judge'])}."
    lines = ("| " + " | ".join(row) + " |" for row in rows)
    return about + "\n\n" + "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|")

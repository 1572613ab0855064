"""Figures as text: per cent with one digit, the standard error beside it; for LaTeX likewise."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from sharegptvideo._text import points

__all__ = [
    "csv_table",
    "format_estimate",
    "format_interval",
    "format_paper",
    "markdown_cell",
    "markdown_table",
    "tex_escape",
    "tex_estimate",
    "tex_interval",
    "tex_table",
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
    "paper's counting",
)


def csv_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write rows as CSV below the names of the first one's columns."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def format_estimate(estimate: Mapping[str, Any], *, share: bool) -> str:
    """Write `value ± standard error`, of a share as per cent; an unknown error is left out."""
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


def format_paper(figures: Mapping[str, Any]) -> str:
    """Write the figures by the paper's counting as papers do: accuracy in per cent / score.

    >>> format_paper({"paper_accuracy": 0.885, "paper_score": 4.2})
    '88.50 / 4.20'
    """
    accuracy, score = figures["paper_accuracy"], figures.get("paper_score")
    if accuracy is None:
        return _NONE
    return f"{100 * accuracy:.2f}" + ("" if score is None else f" / {score:.2f}")


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
                format_paper(task),
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


def tex_table(titles: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """Write a `table` in the style of booktabs; all texts are LaTeX already."""
    body = "\n".join(" & ".join(row) + r" \\" for row in rows)
    return f"""\\begin{{table}}
\\centering
\\begin{{tabular}}{{l{"r" * (len(titles) - 1)}}}
\\toprule
{" & ".join(titles)} \\\\
\\midrule
{body}
\\bottomrule
\\end{{tabular}}
\\caption{{{caption}}}
\\end{{table}}
"""

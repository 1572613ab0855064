"""Figures of runs as tables: CSV, Markdown, LaTeX."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sharegptvideo._markdown import markdown_cell
from sharegptvideo._text import estimate, interval, number, points, rounded, visible, web_link
from sharegptvideo.eval.headline import Headline, headline

__all__ = [
    "csv_table",
    "format_estimate",
    "format_paper",
    "headline_cells",
    "headline_titles",
    "markdown_table",
    "score_cells",
    "tex_escape",
    "tex_estimate",
    "tex_headline",
    "tex_interval",
    "tex_link",
    "tex_table",
]

_NONE = "–"
_COLUMNS = (
    "task",
    "questions",
    "videos",
    "failed",
    "unscored",
)
_LAST_COLUMNS = ("bounds %", "score", "paper's counting")


def csv_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Write rows as CSV below the names of the first one's columns.

    A text that a spreadsheet would run as a formula gets an apostrophe before it; what could
    steer the terminal that shows the file is escaped.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _csv_cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def _csv_cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    shown = visible(value)
    return f"'{shown}" if value.lstrip(" ").startswith(_FORMULA) else shown


def format_estimate(figures: Mapping[str, Any], *, share: bool) -> str:
    """Write `value ± standard error` of a share or a score; an unknown error is left out."""
    return estimate(figures["value"], figures["se"], points if share else rounded)


def headline_titles(mains: Iterable[Headline], accuracy: str = "accuracy %") -> tuple[str, ...]:
    """Return the titles of the columns that `headline_cells` fills with these main figures.

    Where all are plain accuracies, the title is `accuracy`.
    """
    if all(main.label == "accuracy" for main in mains):
        return (accuracy, "95 % interval")
    return ("main figure", "value", "95 % interval")


def headline_cells(main: Headline, titles: Sequence[str]) -> tuple[str, ...]:
    """Write a main figure for a table: its name, where tasks differ, value and interval."""
    value = format_estimate(main.estimate, share=main.is_share)
    within = interval(main.estimate["ci95"], points if main.is_share else rounded)
    if "main figure" not in titles:
        return (value, within)
    return (main.label, f"{value} %" if main.is_share and value != _NONE else value, within)


def score_cells(figures: Mapping[str, Any]) -> tuple[str, str]:
    """Write a task's score and the figures by the paper's counting.

    Answers from a few that are given are right or wrong: of those neither says anything.
    """
    if headline(figures).chance is not None:
        return (_NONE, _NONE)
    return (format_estimate(figures["score"], share=False), format_paper(figures))


def format_paper(figures: Mapping[str, Any]) -> str:
    """Write the figures by the paper's counting as papers do: accuracy in per cent / score.

    >>> format_paper({"paper_accuracy": 0.885, "paper_score": 4.2})
    '88.50 / 4.20'
    """
    accuracy, score = figures["paper_accuracy"], figures.get("paper_score")
    if accuracy is None:
        return _NONE
    return rounded(100 * accuracy) + ("" if score is None else f" / {rounded(score)}")


def markdown_table(results: Mapping[str, Any]) -> str:
    """Write a results.json as a Markdown table, a row a task.

    Pipes and line breaks in names are escaped, so that no name can break the table.
    """
    mains = {name: headline(task) for name, task in results["tasks"].items()}
    titles = headline_titles(mains.values())
    columns = (*_COLUMNS, *titles, *_LAST_COLUMNS)
    rows = [columns, ("---", *("---:" for _ in columns[1:]))]
    for name, task in results["tasks"].items():
        rows.append(
            (
                markdown_cell(name),
                number(task["n"]),
                number(task["clusters"]),
                number(task["n_failed"]),
                number(task["n_unscored"]),
                *headline_cells(mains[name], titles),
                interval(mains[name].bounds),
                *score_cells(task),
            )
        )
    lines = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join(lines) + "\n"


_TEX = {char: "\\" + char for char in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}


def tex_escape(text: str) -> str:
    """Any text as LaTeX sets it: one line, with its special signs escaped."""
    return "".join(_TEX.get(char, char) for char in visible(" ".join(text.split())))


def tex_link(text: str, link: str | None) -> str:
    r"""Return what `markdown_link` does, in LaTeX with hyperref.

    >>> tex_link("a_b", "https://x.org/#a"), tex_link("a", "javascript:1")
    ('\\href{https://x.org/\\#a}{a\\_b}', 'a (javascript:1)')
    """
    if not link:
        return tex_escape(text)
    address = web_link(link)
    if not address:
        return f"{tex_escape(text)} ({tex_escape(link)})"
    return rf"\href{{{tex_escape(address.replace('~', '%7E'))}}}{{{tex_escape(text)}}}"


def tex_estimate(figures: Mapping[str, Any], *, share: bool) -> str:
    """Return what `format_estimate` gives, in LaTeX."""
    text = format_estimate(figures, share=share)
    return f"${text.replace('±', chr(92) + 'pm')}$" if "±" in text else text.replace("–", "--")


def tex_interval(ends: Sequence[float] | None, *, share: bool = True) -> str:
    """Return what `interval` gives, in LaTeX."""
    text = interval(ends, points if share else rounded)
    return text.replace(" to ", "--").replace("–", "--")


def tex_headline(main: Headline, titles: Sequence[str]) -> tuple[str, ...]:
    """Return what `headline_cells` gives, in LaTeX."""
    value = tex_estimate(main.estimate, share=main.is_share)
    within = tex_interval(main.estimate["ci95"], share=main.is_share)
    if "main figure" not in titles:
        return (value, within)
    known = main.is_share and main.estimate["value"] is not None
    return (tex_escape(main.label), value + (r"\,\%" if known else ""), within)


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

"""The leaderboard as CSV, Markdown and LaTeX: a table for every judge, as on the page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sharegptvideo._markdown import markdown_cell, markdown_link
from sharegptvideo._text import interval, number, points, rounded
from sharegptvideo.eval.headline import HEADLINES
from sharegptvideo.reports.estimates import (
    csv_table,
    format_estimate,
    format_paper,
    tex_escape,
    tex_estimate,
    tex_link,
    tex_table,
)

__all__ = [
    "board_csv",
    "board_latex",
    "board_markdown",
    "figure_name",
    "figure_text",
    "judge_about",
    "judge_line",
    "judge_title",
    "published_cell",
    "tier_text",
]

Group = Mapping[str, Any]

_NOT_MEASURED = "not measured here, never ranked with runs"
_MARK = "*"
_MARKED = (
    "not ranked: a part of the task's questions, other settings than the task's, coverage under"
    " 99 %, or withdrawn"
)
_TIERS = (
    "Rows of one tier do not differ from its first row (paired by question, clustered by video,"
    " Holm over all pairs, 0.05)"
)


def judge_line(judge: Mapping[str, Any]) -> str:
    """Describe a judge in one line: `answer-match · kind rules · version 1`."""
    about = judge_about(judge)
    return f"{judge['name']} · {about}" if about else str(judge["name"])


def judge_title(group: Group) -> str:
    """Name a group's judge in few words: with the model that answered, or the version."""
    judge = group["judge"]
    answered = [name for name in judge.get("answered_by", ()) if name not in str(judge["name"])]
    version = [f"version {judge['version']}"] if judge.get("version") is not None else []
    return ", ".join([str(judge["name"]), *(answered or version)])


def judge_about(judge: Mapping[str, Any]) -> str:
    """Return a judge's description without its name; first the models that in fact answered."""
    answered = judge.get("answered_by")
    parts = [f"answered by {', '.join(answered)}"] if answered else []
    for key, value in judge.items():
        if key == "members":
            value = ", ".join(str(member.get("name")) for member in value)
        if value == "recorded":
            parts.append("recorded, not asked")
        elif value is not None and key not in ("name", "answered_by"):
            parts.append(f"{key.replace('_', ' ')} {value}")
    return " · ".join(parts)


def figure_name(column: Mapping[str, Any]) -> str:
    """Return what a column's figure is called."""
    return HEADLINES.get(column["headline"], "mean")


def figure_text(value: float | None, column: Mapping[str, Any]) -> str:
    """Write a column's figure: a share in per cent, a score with two decimals."""
    return rounded(value) if column["headline"] == "score" else points(value)


def tier_text(tier: Mapping[str, Any] | None) -> tuple[str, str]:
    """Return a tier's number, and in brackets the tiers that its row may belong to as well.

    >>> tier_text({"number": 2, "reach": [1, 2]}), tier_text({"number": 1, "reach": [1, 1]})
    (('2', '(1 to 2)'), ('1', ''))
    """
    if tier is None:
        return "–", ""
    low, high = tier["reach"]
    return str(tier["number"]), "" if low == high else f"({low} to {high})"


def published_cell(cell: Mapping[str, Any]) -> str:
    """Write a published cell as the paper does: accuracy in per cent / score."""
    return format_paper({f"paper_{name}": value for name, value in cell.items()})


def board_csv(board: Mapping[str, Any]) -> str:
    """Write a row for every run and task, with its judge; shares from 0 to 1.

    Published figures, where the board has them, are rows without a run; they stand in the columns
    of the paper's counting alone.
    """
    rows: list[dict[str, Any]] = []
    for group in board["groups"]:
        columns = {column["id"]: column for column in group["columns"]}
        for row in group["rows"]:
            for name, cell in row["cells"].items():
                low, high = cell["accuracy"]["ci95"] or (None, None)
                tier, cost, column = cell["tier"], cell["cost"], columns[name]
                at, to = tier["reach"] if tier else (None, None)
                rows.append(
                    {
                        "judge": judge_line(group["judge"]),
                        "model": row["model"],
                        "authors": row["authors"],
                        "link": row["link"],
                        "run": row["run"],
                        "params": row["params"],
                        "licence": row["licence"],
                        "date": row["date"],
                        "withdrawn": row["withdrawn"],
                        "task": column["task"],
                        "task_version": column["version"],
                        "protocol": column["protocol"],
                        "n": cell["n"],
                        "n_failed": cell["n_failed"],
                        "n_unscored": cell["n_unscored"],
                        "coverage": cell["coverage"],
                        "clusters": cell["clusters"],
                        "part": cell["part"],
                        "ranked": cell["ranked"],
                        "apart": cell["apart"],
                        "tier": tier["number"] if tier else None,
                        "tier_from": at,
                        "tier_to": to,
                        "frames": cost["frames"],
                        "tokens_per_question": cost["tokens"],
                        "dollars_per_question": cost["dollars"],
                        "headline": column["headline"],
                        "figure": cell["figure"]["value"],
                        "figure_se": cell["figure"]["se"],
                        "accuracy": cell["accuracy"]["value"],
                        "accuracy_se": cell["accuracy"]["se"],
                        "accuracy_ci95_low": low,
                        "accuracy_ci95_high": high,
                        "score": cell["score"]["value"],
                        "score_se": cell["score"]["se"],
                        "paper_accuracy": cell["paper_accuracy"],
                        "paper_score": cell["paper_score"],
                        "published_in": None,
                    }
                )
    return csv_table([*rows, *_published_rows(board.get("published"), rows[0] if rows else ())])


def _published_rows(
    published: Mapping[str, Any] | None, columns: Iterable[str]
) -> Iterator[dict[str, Any]]:
    if published is None:
        return
    for group in published["judges"]:
        for row in group["rows"]:
            for task, cell in row["cells"].items():
                yield dict.fromkeys(columns) | {
                    "judge": group["judge"],
                    "model": row["model"],
                    "task": task,
                    "protocol": published["protocol"],
                    "ranked": False,
                    "paper_accuracy": cell["accuracy"],
                    "paper_score": cell["score"],
                    "published_in": published["source"],
                }


def board_markdown(board: Mapping[str, Any]) -> str:
    """Write a heading and a table of accuracies (%, ± standard error) for every judge."""
    parts = []
    for group in board["groups"]:
        columns = group["columns"]
        heads = [f"{markdown_cell(_title(column))} ({number(column['n'])})" for column in columns]
        lines = [
            ["model", "tier", *heads, *(["mean"] if len(columns) > 1 else [])],
            ["---", "---", *["---:"] * (len(columns) + (len(columns) > 1))],
        ]
        for row in group["rows"]:
            cells = [_cell(row, column, latex=False) for column in columns]
            tier = " ".join(filter(None, tier_text(row["tier"])))
            lines.append([_markdown_name(row), tier, *cells, *_mean(group, row, latex=False)])
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        parts.append(f"## Judge: {markdown_cell(judge_line(group['judge']))}\n\n{table}\n")
    for judge, heads, rows in _published_tables(board):
        lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
        table = "\n".join("| " + " | ".join(map(markdown_cell, line)) + " |" for line in lines)
        source = board["published"]["source"]
        parts.append(f"## Published, judge {judge}\n\n{source}; {_NOT_MEASURED}.\n\n{table}\n")
    return (
        "\n".join(parts)
        + f"\n± is one standard error, by video; in brackets: 95 % interval. {_TIERS}."
        f" {_MARK} {_MARKED}.\n"
    )


def _markdown_name(row: Mapping[str, Any]) -> str:
    by = f", {markdown_cell(row['authors'])}" if row["authors"] else ""
    return markdown_link(row["model"], row["link"]) + by


def _tex_name(row: Mapping[str, Any]) -> str:
    by = f", {tex_escape(row['authors'])}" if row["authors"] else ""
    return tex_link(row["model"], row["link"]) + by


def board_latex(board: Mapping[str, Any]) -> str:
    """Write a `table` in the style of booktabs for every judge, who is named in its caption."""
    links = any(row["link"] for group in board["groups"] for row in group["rows"])
    packages = "{booktabs,hyperref}" if links else "{booktabs}"
    parts = [f"% needs \\usepackage{packages}\n% for names in other letters than Latin: xelatex\n"]
    for group in board["groups"]:
        columns = group["columns"]
        rows = [
            [
                _tex_name(row),
                " ".join(filter(None, tier_text(row["tier"]))).replace("–", "--"),
                *(_cell(row, column, latex=True) for column in columns),
                *_mean(group, row, latex=True),
            ]
            for row in group["rows"]
        ]
        heads = [tex_escape(_title(column)) for column in columns]
        titles = ["Model", "Tier", *heads, *(["Mean"] if len(columns) > 1 else [])]
        caption = (
            "Accuracy in \\%, $\\pm$ one standard error clustered by video\n(in brackets: 95\\%"
            f" interval). Judge: {tex_escape(judge_line(group['judge']))}.\n"
            f"{_TIERS}.\n{_MARK} {tex_escape(_MARKED)}."
        )
        parts.append(tex_table(titles, rows, caption))
    for judge, heads, cells in _published_tables(board):
        caption = (
            f"Accuracy in \\% / score as published in {tex_escape(board['published']['source'])};"
            f" {_NOT_MEASURED}. Judge: {tex_escape(judge)}."
        )
        escaped = [[tex_escape(cell) for cell in row] for row in cells]
        parts.append(tex_table([tex_escape(head) for head in heads], escaped, caption))
    return "".join(parts)


def _published_tables(
    board: Mapping[str, Any],
) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Yield judge, heads and rows of each published table that the board has."""
    published = board.get("published")
    if published is None:
        return
    for group in published["judges"]:
        rows = [
            [
                row["model"],
                *(published_cell(cell) for cell in row["cells"].values()),
                rounded(100 * row["mean"]),
            ]
            for row in group["rows"]
        ]
        yield group["judge"], ["model", *published["tasks"], "mean"], rows


def _title(column: Mapping[str, Any]) -> str:
    """Return a column's name, with that of its figure where it is no accuracy."""
    name = figure_name(column)
    return str(column["id"]) if name == "accuracy" else f"{column['id']}, {name}"


def _cell(row: Mapping[str, Any], column: Mapping[str, Any], *, latex: bool) -> str:
    cell = row["cells"].get(column["id"])
    if cell is None:
        return "--" if latex else "–"
    share = column["headline"] != "score"
    return _text(cell["figure"], latex=latex, share=share) + ("" if cell["ranked"] else _MARK)


def _mean(group: Group, row: Mapping[str, Any], *, latex: bool) -> list[str]:
    if len(group["columns"]) < 2:
        return []
    if row["mean"] is None:
        return ["--" if latex else "–"]
    return [_text(row["mean"], latex=latex)]


def _text(estimate: Mapping[str, Any], *, latex: bool, share: bool = True) -> str:
    """Write a figure with its standard error, or where that is unknown its interval."""
    text = (tex_estimate if latex else format_estimate)(estimate, share=share)
    ends = estimate.get("ci95")
    if estimate["se"] is not None or ends is None:
        return text
    shown = interval(ends, points if share else rounded)
    return f"{text} ({shown.replace(' to ', '--') if latex else shown})"

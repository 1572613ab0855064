"""The leaderboard as one HTML file that loads nothing, and beside it as JSON, CSV and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from sharegptvideo._io import os_errors, write_json, write_text
from sharegptvideo._staging import replacing_files
from sharegptvideo._text import interval, percent, plural, points, rounded
from sharegptvideo.reports.estimates import format_paper
from sharegptvideo.reports.leaderboard.board import Board, collect_published, collect_runs
from sharegptvideo.reports.leaderboard.tables import (
    board_csv,
    board_latex,
    board_markdown,
    judge_about,
    published_cell,
)
from sharegptvideo.reports.parts import Cell, Name, Page, Score, Section, Table, Tag, Value, asset

__all__ = ["render_page", "write_leaderboard"]

_TITLE = "Video question answering: leaderboard"
_HELP = """<ul>
<li>Accuracy is in per cent of all questions asked. A question whose prediction failed counts as wrong.</li>
<li>± is one standard error, clustered by video; below it the 95 % interval, as a bar on a scale from 0 to 100 and in figures.</li>
<li>Every judge has its own table: figures of different judges cannot be ranked together.</li>
<li>Overlapping intervals do not mean that two models are equal: <code>sharegptvideo eval compare RUN RUN</code> tests the difference, paired by question.</li>
<li>{} marks a figure on a part of the task; {} counts answers without a readable verdict and gives the bounds, all of them wrong and all right. A part of a task, or less than 99 % coverage, is never ranked with the others.</li>
</ul>"""  # noqa: E501 - a line an entry


def write_leaderboard(runs: Sequence[Path], out: Path, *, published: bool = False) -> Board:
    """Write `out/index.html` and leaderboard.{json,csv,md,tex}, all or none; returns the JSON's.

    With `published` the paper's table comes after the runs, in tables of its own.

    Raises:
        UserError: see `collect_runs`; `out` cannot be written. Nothing is written then.
    """
    board = collect_runs(runs)
    if published:
        board["published"] = collect_published()
    page = render_page(board)
    with os_errors(out, "free some space or give another --out"), replacing_files(out) as new:
        write_json(new / "leaderboard.json", board)
        write_text(new / "leaderboard.csv", board_csv(board))
        write_text(new / "leaderboard.md", board_markdown(board))
        write_text(new / "leaderboard.tex", board_latex(board))
        write_text(new / "index.html", page)
    return board


def render_page(board: Mapping[str, Any], *, title: str = _TITLE) -> str:
    """Return the page for what `collect_runs` returns. Its script only sorts."""
    groups, published = board["groups"], board.get("published")
    runs = sum(len(group["rows"]) for group in groups)
    lead = f"{plural(runs, 'row')} under {plural(len(groups), 'judge')}."
    if len(groups) > 1:
        lead += " Figures of different judges are in tables of their own: do not compare across."
    if published is not None:
        lead += " The paper's own table is below them."
    text = Markup(_HELP).format(Tag("warn", "a part"), Tag("warn", "unscored"))
    page = Page(
        title=title,
        lead=lead,
        sections=[
            *(_group(group, paper=published is not None) for group in groups),
            *(_published(published) if published is not None else []),
            Section("How to read this", text),
        ],
        kicker="sharegptvideo leaderboard",
        script=asset("sort.js"),
    )
    return page.html()


def _published(published: Mapping[str, Any]) -> list[Section]:
    heads = [Name("Model"), Name("Mean", f"of {len(published['tasks'])} tasks")]
    heads += [Name(task, "accuracy / score") for task in published["tasks"]]
    about = (
        f"Published in {published['source']}; not measured here. Never ranked with runs. A run's"
        " figure by the paper's counting may be held against it; unless that run is recorded, its"
        " judge and its wording are others."
    )
    return [
        Section(
            f"Published, judge {group['judge']}",
            [
                Markup('<p class="about">{}</p>').format(about),
                Table(heads, [_published_row(row) for row in group["rows"]], sortable=True),
            ],
        )
        for group in published["judges"]
    ]


def _published_row(row: Mapping[str, Any]) -> list[Cell]:
    cells: list[Cell] = [Name(row["model"]), Value(row["mean"], rounded(100 * row["mean"]))]
    return cells + [Value(cell["accuracy"], published_cell(cell)) for cell in row["cells"].values()]


def _group(group: Mapping[str, Any], *, paper: bool) -> Section:
    columns, judge = group["columns"], group["judge"]
    with_mean = len(columns) > 1
    best = _best(group)
    heads = [Name("Model"), *([Name("Mean", f"of {len(columns)} tasks")] if with_mean else [])]
    heads += [
        Name(
            column["id"],
            f"{plural(column['n'], 'question')} · {column['protocol']} · v{column['version']}",
        )
        for column in columns
    ]
    rows: list[list[Cell]] = []
    for row in group["rows"]:
        weights = row["weights_hash"]
        about = [f"by {row['authors']}"] if row["authors"] else []
        about += [f"run {row['run']}", *([f"weights {weights[:10]}"] if weights else [])]
        cells: list[Cell] = [Name(str(row["model"]), " · ".join(about), row["link"])]
        if with_mean:
            cells.append(_mean(row["mean"], best.get("mean")))
        cells += [
            _score(row["cells"].get(column["id"]), column, best.get(column["id"]), paper=paper)
            for column in columns
        ]
        rows.append(cells)
    what = Markup('<p class="about">{}</p>').format(judge_about(judge))
    return Section(f"Judge: {judge['name']}", [what, Table(heads, rows, sortable=True)])


def _best(group: Mapping[str, Any]) -> dict[str, float]:
    """By column (and "mean"), the highest accuracy among figures that may be ranked together."""
    ranked: dict[str, list[float]] = {}
    for row in group["rows"]:
        if row["mean"] is not None:
            ranked.setdefault("mean", []).append(row["mean"]["value"])
        for name, cell in row["cells"].items():
            if cell["ranked"]:
                ranked.setdefault(name, []).append(cell["accuracy"]["value"])
    return {name: max(values) for name, values in ranked.items() if len(values) > 1}


def _mean(mean: Mapping[str, Any] | None, best: float | None) -> Score:
    if mean is None:
        return Score(None, note="not all tasks")
    value = mean["value"]
    return Score(value, points(value), _error(mean), best=value == best)


def _score(
    cell: Mapping[str, Any] | None,
    column: Mapping[str, Any],
    best: float | None,
    *,
    paper: bool,
) -> Score:
    if cell is None:
        return Score(None, note="not run")
    accuracy, score = cell["accuracy"], cell["score"]["value"]
    value, ends = accuracy["value"], accuracy["ci95"]
    figures = [interval(ends)] if ends else []
    figures += [f"score {rounded(score)}"] if score is not None else []
    lines = [" · ".join(figures)] if figures else []
    if paper and cell["paper_accuracy"] is not None:
        lines.append(f"by the paper's counting {format_paper(cell)}")
    if cell["by_question_type"]:
        kinds = cell["by_question_type"].items()
        lines.append(
            " · ".join(f"{kind} {points(one['accuracy']['value'])}" for kind, one in kinds)
        )
    if cell["n_failed"]:
        lines.append(f"{cell['n_failed']:,} failed, counted as wrong")
    tags = []
    if cell["partial"]:
        fewer = f"fewer questions: {cell['n']:,} of {column['n']:,}"
        tags.append(Tag("warn", cell["part"] or fewer))
    if cell["n_unscored"]:
        text = (
            f"{cell['n_unscored']:,} unscored: {interval(cell['accuracy_bounds'])},"
            f" coverage {percent(cell['coverage'])}"
        )
        tags.append(Tag("warn", text))
    return Score(
        value,
        points(value),
        "no verdict" if value is None else _error(accuracy),
        best=cell["ranked"] and value == best,
        ends=tuple(ends) if ends else None,
        lines=lines,
        tags=tags,
    )


def _error(estimate: Mapping[str, Any]) -> str:
    return "" if estimate["se"] is None else f"± {points(estimate['se'])}"

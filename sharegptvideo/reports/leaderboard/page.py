"""The leaderboard as a static site: an index, a page for each judge, and one on judge drift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import os_errors, write_json, write_text
from sharegptvideo._staging import replacing_files
from sharegptvideo._text import interval, parameters, percent, plural, points, rounded
from sharegptvideo.reports.charts import round_ticks
from sharegptvideo.reports.leaderboard.board import Board, collect_published, collect_runs
from sharegptvideo.reports.leaderboard.cells import ModelName
from sharegptvideo.reports.leaderboard.drift import drift_page
from sharegptvideo.reports.leaderboard.judge_page import judge_page
from sharegptvideo.reports.leaderboard.tables import (
    board_csv,
    board_latex,
    board_markdown,
    figure_name,
    figure_text,
    judge_about,
    judge_title,
    published_cell,
    tier_text,
)
from sharegptvideo.reports.parts import (
    Cell,
    Name,
    Page,
    Part,
    Score,
    Section,
    Table,
    Tag,
    Value,
    asset,
    pages_near,
)

__all__ = ["render_page", "write_leaderboard"]

_TITLE = "Video question answering: leaderboard"
_HELP = """<ul>
<li><b>Tiers, not ranks.</b> All pairs of rows are compared on the questions that both have: paired by question, clustered by video, two-sided, p-values after Holm for the number of pairs; where the answers to few videos changed, by an exact test. From the best row down, a row that does not differ (p below 0.05) from the first row of a tier belongs to that tier, and the first one that differs opens the next. “2 (1 to 2)” is a row of tier 2 that does not differ from some row of tier 1 either. Figures of tier 1 are in colour.</li>
<li>Accuracy is in per cent of all questions asked. A question whose prediction failed counts as wrong.</li>
<li>± is one standard error, clustered by video. The bar is the 95 % interval on the axis at the head of its column.</li>
<li>Every judge has its own table: figures of different judges cannot be ranked together.</li>
<li>Apart and without a tier stand parts of a task, runs under other settings than the task's, less than 99 % coverage, and what was withdrawn.</li>
</ul>"""  # noqa: E501 - a line an entry
_FILTERS = """<form class="filters" id="filters" hidden>
{}
<label class="wide">Words<input type="search" name="words" autocomplete="off"></label>
<button type="reset">Show all</button>
</form>
<p class="hint" id="count" role="status"></p>"""
_NOT_STATED = "not stated"
_SIZES = {"under 1B": 10**9, "1B to 10B": 10**10, "10B to 100B": 10**11, "100B and more": 2**63}
_LAST = (*_SIZES, _NOT_STATED)  # in this order, after all other choices


def write_leaderboard(
    runs: Sequence[Path],
    out: Path,
    *,
    published: bool = False,
    progress: Progress | None = None,
) -> Board:
    """Write the site and leaderboard.{json,csv,md,tex} to `out`, all or none; return the JSON's.

    Pages: `index.html`, a `judge-NAME.html` for each judge. With `published` the paper's table
    comes after the runs, in tables of its own, and there is a `drift.html`.

    Raises:
        UserError: see `collect_runs`; `out` cannot be written. Nothing is written then.
    """
    board = collect_runs(runs, progress)
    if published:
        board["published"] = collect_published()
    links = _links(board)
    pages = {f"judge-{group['id']}.html": judge_page(group, links) for group in board["groups"]}
    if published:
        pages["drift.html"] = drift_page(board, links)
    obsolete = ["judge-*.html", "drift.html"]
    with (
        os_errors(out, "free some space or give another --out"),
        replacing_files(out, obsolete) as new,
    ):
        write_json(new / "leaderboard.json", board)
        write_text(new / "leaderboard.csv", board_csv(board))
        write_text(new / "leaderboard.md", board_markdown(board))
        write_text(new / "leaderboard.tex", board_latex(board))
        for name, page in pages.items():
            write_text(new / name, page)
        write_text(new / "index.html", render_page(board, links=pages_near(out)))
    return board


def render_page(
    board: Mapping[str, Any], *, title: str = _TITLE, links: Sequence[tuple[str, str]] = ()
) -> str:
    """Return the index for what `collect_runs` returns. Its script sorts and filters.

    `links` lead to other pages than the site's own.
    """
    groups, published = board["groups"], board.get("published")
    runs = sum(len(group["rows"]) for group in groups)
    lead = f"{plural(runs, 'row')} under {plural(len(groups), 'judge')}."
    if len(groups) > 1:
        lead += " Figures of different judges are in tables of their own: do not compare across."
    if published is not None:
        lead += " The paper's own table is below them."
    page = Page(
        title=title,
        lead=lead,
        intro=[_filters(groups)],
        sections=[
            *(_group(group) for group in groups),
            *([_published(published)] if published is not None else []),
            Section("How to read this", Markup(_HELP), anchor="help"),
        ],
        kicker="sharegptvideo leaderboard",
        footer="The same figures as data: leaderboard.json, leaderboard.csv, leaderboard.md,"
        " leaderboard.tex.",
        wide=True,
        contents=len(groups) > 1,
        links=[*_links(board)[1:], *links],
        kind="Leaderboard",
        script=asset("sort.js") + asset("filter.js"),
    )
    return page.html()


def _links(board: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return address and words of every page of the site."""
    judges = [(f"judge-{each['id']}.html", judge_title(each)) for each in board["groups"]]
    drift = [("drift.html", "judge drift")] if "published" in board else []
    return [("index.html", "all tables"), *judges, *drift]


def _filters(groups: Sequence[Mapping[str, Any]]) -> Markup:
    """Return the form, which only the script shows; without it all rows are there."""
    rows = [row for group in groups for row in group["rows"]]
    columns = [column for group in groups for column in group["columns"]]
    choices = {
        ("task", "Task"): {column["task"] for column in columns},
        ("organisation", "Organisation"): {_facets(row)["organisation"] for row in rows},
        ("licence", "Licence of the weights"): {_facets(row)["licence"] for row in rows},
        ("size", "Parameters"): {_facets(row)["size"] for row in rows},
    }
    fields = Markup("\n").join(
        Markup(
            '<label>{}<select name="{}"><option value="">all</option>{}</select></label>'
        ).format(
            label,
            name,
            Markup("").join(
                Markup("<option>{}</option>").format(value)
                for value in [*sorted(values - set(_LAST)), *(v for v in _LAST if v in values)]
            ),
        )
        for (name, label), values in choices.items()
        if len(values) > 1
    )
    return Markup(_FILTERS).format(fields)


def _facets(row: Mapping[str, Any]) -> dict[str, str]:
    """Return what a row is filtered by, as the form's options have it."""
    params = row["params"]
    return {
        "organisation": row["authors"] or _NOT_STATED,
        "licence": row["licence"] or _NOT_STATED,
        "size": _NOT_STATED
        if params is None
        else next(name for name, most in _SIZES.items() if params < most),
    }


def _group(group: Mapping[str, Any]) -> Section:
    """One judge: its table of ranked rows, and what stands apart."""
    columns, judge = group["columns"], group["judge"]
    axes = {column["id"]: _axis(group, column) for column in columns}
    ranked = [row for row in group["rows"] if row["ranked"]]
    apart = [row for row in group["rows"] if not row["ranked"]]
    about = Markup('<p class="about">{}</p>').format(judge_about(judge))
    more = Markup(
        '<p><a href="judge-{}.html">Cost, question types, coverage, history and every pair of'
        " rows under this judge</a></p>"
    ).format(group["id"])
    parts: list[Part] = [about]
    if ranked:
        parts.append(_table(group, ranked, axes))
    else:
        parts.append("No row is ranked.")
    parts.append(more)
    if apart:
        parts.append(Section("Not ranked", [_table(group, apart, axes, ranked=False)]))
    return Section(f"Judge: {judge_title(group)}", parts, anchor=group["id"])


def _table(
    group: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    axes: Mapping[str, tuple[float, float]],
    *,
    ranked: bool = True,
) -> Table:
    columns = group["columns"]
    with_mean = ranked and len(columns) > 1
    mean_axis = _enclosing([row["mean"] for row in rows if row["mean"] is not None])
    heads = [Name("Model")]
    if ranked:
        heads.append(Name("Tier", "by the mean" if with_mean else ""))
    if with_mean:
        of_mean = Markup("of {} tasks{}").format(len(columns), _axis_ends(mean_axis))
        heads.append(Name("Mean", of_mean))
    heads += [Name(column["id"], _head(column, axes[column["id"]])) for column in columns]
    heads += [Name("Frames"), Name("Date")]
    table: list[list[Cell]] = []
    for row in rows:
        cells: list[Cell] = [_model(group, row)]
        if ranked:
            cells.append(_tier(row["tier"]))
        if with_mean:
            cells.append(_mean(row, mean_axis))
        cells += [
            _score(row["cells"].get(name), column, axes[name], tiers=with_mean)
            for column in columns
            for name in [column["id"]]
        ]
        cells += [_frames(row), _date(row["date"])]
        table.append(cells)
    return Table(heads, table, sortable=True)


def _axis(group: Mapping[str, Any], column: Mapping[str, Any]) -> tuple[float, float]:
    cells = (row["cells"].get(column["id"]) for row in group["rows"])
    figures = [cell["figure"] for cell in cells if cell is not None]
    return _enclosing(figures, share=column["headline"] != "score")


def _enclosing(figures: Sequence[Mapping[str, Any]], *, share: bool = True) -> tuple[float, float]:
    """Return round ends that all intervals and values lie within."""
    known = [each for each in figures if each["value"] is not None]
    values = [end for each in known for end in (each["value"], *(each["ci95"] or ()))]
    if not values:
        return 0.0, 1.0
    ticks = round_ticks(min(values), max(values), 4)
    low, high = ticks[0], ticks[-1]
    return (max(low, 0.0), min(high, 1.0)) if share else (low, high)


def _head(column: Mapping[str, Any], axis: tuple[float, float]) -> Markup:
    """Return the lines below a column's name: what it is, and the axis of its bars."""
    about = [figure_name(column), plural(column["n"], "question"), column["protocol"]]
    about.append(f"v{column['version']}")
    if column["chance"] is not None:
        about.append(f"chance {percent(column['chance'])}")
    said = Markup('<span data-task="{}">{}</span>').format(column["task"], " · ".join(about))
    return said + _axis_ends(axis, share=column["headline"] != "score")


def _axis_ends(axis: tuple[float, float], *, share: bool = True) -> Markup:
    """Return the numbers at the ends and the middle of an axis."""
    low, high = axis
    write = points if share else rounded
    marks = Markup("").join(
        Markup('<b style="left:{}%">{}</b>').format(at, write(low + at / 100 * (high - low)))
        for at in (0, 50, 100)
    )
    return Markup('<span class="axis-ends" aria-hidden="true">{}</span>').format(marks)


def _model(group: Mapping[str, Any], row: Mapping[str, Any]) -> ModelName:
    weights = row["weights_hash"]
    about = [f"by {row['authors']}"] if row["authors"] else []
    about += [f"run {row['run']}", *([f"weights {weights[:10]}"] if weights else [])]
    if row["params"]:
        about.append(f"{parameters(row['params'])} parameters")
    about += [row["licence"]] if row["licence"] else []
    return ModelName(
        row["model"],
        " · ".join(about),
        row["link"],
        anchor=f"{group['id']}.{row['id']}",
        facets=_facets(row),
    )


def _date(date: str | None) -> Value:
    return Value(float(date.replace("-", "")), date) if date else Value(None, "–")


def _tier(tier: Mapping[str, Any] | None) -> Value:
    if tier is None:
        return Value(None, "–")
    return Value(tier["number"], str(tier["number"]), tier_text(tier)[1], strong=True)


def _frames(row: Mapping[str, Any]) -> Value:
    counts = {cell["cost"]["frames"] for cell in row["cells"].values()} - {None}
    text = ", ".join(str(count) for count in sorted(counts))
    return Value(min(counts, default=None), text or "–")


def _mean(row: Mapping[str, Any], axis: tuple[float, float]) -> Score:
    if row["mean"] is None:
        return Score(None, note="not all tasks")
    value, se, ends = (row["mean"][name] for name in ("value", "se", "ci95"))
    return Score(
        value,
        points(value),
        "" if se is None else f"± {points(se)}",
        best=_is_first(row["tier"]),
        ends=tuple(ends) if ends else None,
        lines=[interval(ends)] if ends else [],
        axis=axis,
    )


def _is_first(tier: Mapping[str, Any] | None) -> bool:
    return tier is not None and tier["number"] == 1


def _score(
    cell: Mapping[str, Any] | None,
    column: Mapping[str, Any],
    axis: tuple[float, float],
    *,
    tiers: bool,
) -> Score:
    if cell is None:
        return Score(None, note="not run")
    value, ends, se = (cell["figure"][name] for name in ("value", "ci95", "se"))
    figures = [interval(ends, lambda end: figure_text(end, column))] if ends else []
    if tiers and cell["tier"] is not None:
        figures.append("tier " + " ".join(filter(None, tier_text(cell["tier"]))))
    tags = [Tag("warn", cell["apart"])] if cell["apart"] else []
    if cell["n_unscored"] and column["headline"] == "accuracy":
        text = (
            f"{cell['n_unscored']:,} unscored: {interval(cell['accuracy_bounds'])},"
            f" coverage {percent(cell['coverage'])}"
        )
        tags.append(Tag("warn", text))
    if value is None:
        return Score(None, note="no verdict", tags=tags)
    return Score(
        value,
        figure_text(value, column),
        "" if se is None else f"± {figure_text(se, column)}",
        best=_is_first(cell["tier"]),
        ends=tuple(ends) if ends else None,
        lines=[" · ".join(figures)] if figures else [],
        tags=tags,
        axis=axis,
    )


def _published(published: Mapping[str, Any]) -> Section:
    heads = [Name("Model"), Name("Mean", f"of {len(published['tasks'])} tasks")]
    heads += [Name(task, "accuracy / score") for task in published["tasks"]]
    about = Markup(
        '<p class="about">Published in {}; not measured here. Never ranked with runs. A run\'s'
        " figure by the paper's counting may be held against it; unless that run is recorded, its"
        ' judge and its wording are others. <a href="drift.html">How far figures and ranks move'
        " with the judge</a></p>"
    ).format(published["source"])
    tables = [
        Section(
            f"Judge {group['judge']}",
            [Table(heads, [_published_row(row) for row in group["rows"]], sortable=True)],
        )
        for group in published["judges"]
    ]
    return Section("Published by the paper", [about, *tables], anchor="published")


def _published_row(row: Mapping[str, Any]) -> list[Cell]:
    cells: list[Cell] = [Name(row["model"]), Value(row["mean"], rounded(100 * row["mean"]))]
    return cells + [Value(cell["accuracy"], published_cell(cell)) for cell in row["cells"].values()]

"""The page of one judge: cost, question types, coverage, history, and every pair of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sharegptvideo._text import (
    dollars,
    interval,
    number,
    p_value,
    percent,
    plural,
    points,
    shortened,
)
from sharegptvideo.eval.tiers import ALPHA
from sharegptvideo.reports.charts import Axis, Dot, Line, line_chart, log_ticks, round_ticks
from sharegptvideo.reports.estimates import format_paper
from sharegptvideo.reports.leaderboard.cells import RowLink
from sharegptvideo.reports.leaderboard.tables import (
    figure_name,
    figure_text,
    judge_about,
    judge_title,
)
from sharegptvideo.reports.parts import (
    Cell,
    Details,
    Figure,
    Name,
    Page,
    Part,
    Score,
    Section,
    Table,
    Tag,
    Value,
    asset,
)

__all__ = ["frontier", "judge_page"]

Group = Mapping[str, Any]
Row = Mapping[str, Any]

_COSTS = {
    "frames": ("frames a question", "frames"),
    "tokens": ("tokens a question, as the server counted them", "tokens"),
    "dollars": ("dollars for 1,000 questions, at list prices", "dollars"),
}
_MOST_PAIRS = 500
_MOST_NAMES = 20  # in a chart; of more rows those on the frontier alone are named


def judge_page(group: Group, links: Sequence[tuple[str, str]] = ()) -> str:
    """Return the page of a group of `collect_runs`; `links` lead to the site's other pages."""
    judge = group["judge"]
    sections = [
        Section("Accuracy against cost", _cost(group), anchor="cost"),
        *_by_type(group),
        Section("Coverage", _coverage(group), anchor="coverage"),
        Section("History", _history(group), anchor="history"),
        Section("Every pair of rows", _pairs(group), anchor="pairs"),
    ]
    about = Markup('<p class="about">{}</p>').format(judge_about(judge))
    return Page(
        title=f"Judge: {judge_title(group)}",
        lead=f"{plural(len(group['rows']), 'row')}, {plural(len(group['columns']), 'task')}.",
        intro=[about],
        sections=sections,
        kicker="sharegptvideo leaderboard",
        wide=True,
        contents=True,
        links=links,
        script=asset("sort.js"),
    ).html()


def _name(group: Group, row: Row) -> RowLink:
    """Return a model's name that leads to its row."""
    return RowLink(row["model"], anchor=f"{group['id']}.{row['id']}")


def frontier(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return the places of the (cost, figure) that none beats: no other has more for no more cost.

    They come by rising cost. Of equal ones all are on it.

    >>> frontier([(8, 0.5), (4, 0.4), (16, 0.5), (8, 0.3)])
    [1, 0]
    """
    kept = [
        place
        for place, (cost, figure) in enumerate(points)
        if not any(
            (other <= cost and better >= figure) and (other < cost or better > figure)
            for other, better in points
        )
    ]
    return sorted(kept, key=lambda place: points[place])


def _cost(group: Group) -> list[Part]:
    parts: list[Part] = []
    tables: list[Part] = []
    for column in group["columns"]:
        rows = [row for row in group["rows"] if column["id"] in row["cells"]]
        on = {key: _efficient(rows, column, key) for key in _COSTS}
        for key in _COSTS:
            figure = _scatter(rows, column, key, on[key])
            if figure is not None:
                parts.append(figure)
        table = _cost_table(group, rows, column, on)
        tables.append(Details(f"{column['id']}: costs as a table", [table]))
    if not parts:
        parts.append("No chart: no cost is known that differs between ranked rows.")
    dates = {
        cell["cost"]["price_date"]
        for row in group["rows"]
        for cell in row["cells"].values()
        if cell["cost"]["price_date"]
    }
    note = (
        "Frames are those of the run, tokens those that the server reported for prompts and"
        " answers together; a dash where none is known."
    )
    if dates:
        note += f" Dollars: by the price table of {', '.join(sorted(dates))}."
    return [*parts, note, *tables]


def _known(rows: Sequence[Row], column: Row, key: str) -> list[Row]:
    cells = ((row, row["cells"][column["id"]]) for row in rows)
    return [row for row, cell in cells if cell["ranked"] and cell["cost"][key] is not None]


def _point(row: Row, column: Row, key: str) -> tuple[float, float]:
    cell = row["cells"][column["id"]]
    return cell["cost"][key] * (1000 if key == "dollars" else 1), cell["figure"]["value"]


def _efficient(rows: Sequence[Row], column: Row, key: str) -> list[str]:
    """Return the ids of the rows that no other gives more for no more cost, by rising cost."""
    known = _known(rows, column, key)
    return [known[at]["id"] for at in frontier([_point(row, column, key) for row in known])]


def _scatter(rows: Sequence[Row], column: Row, key: str, efficient: Sequence[str]) -> Figure | None:
    """Draw figure against cost, with the frontier; None where no cost differs."""
    known = _known(rows, column, key)
    points_of = {row["id"]: _point(row, column, key) for row in known}
    costs = [cost for cost, _ in points_of.values()]
    if len(set(costs)) < 2:
        return None
    dots = []
    for row in known:
        cost, value = points_of[row["id"]]
        ends = row["cells"][column["id"]]["figure"]["ci95"]
        crowded = len(known) > _MOST_NAMES and row["id"] not in efficient
        name = " " if crowded else shortened(row["model"], 18)
        series = "orange" if row["id"] in efficient else "slate"
        dots.append(
            Dot(series, cost, value, tuple(ends) if ends else None,
                f"{row['model']}: {figure_text(value, column)}", label=name)
        )  # fmt: skip
    line = Line(
        "orange", "efficient frontier", [points_of[each] for each in efficient], dashed=True
    )
    log = min(costs) > 0 and max(costs) / min(costs) > 20
    values = [end for dot in dots for end in (dot.y, *(dot.ends or ()))]
    x = Axis(_COSTS[key][0], log_ticks(min(costs), max(costs)) if log else None, log=log)
    y = Axis(
        figure_name(column),
        round_ticks(min(values), max(values), 4),
        lambda value: figure_text(value, column),
    )
    return Figure(
        line_chart([line], x, y, says=f"{column['id']} against {_COSTS[key][0]}", dots=dots,
                   tall=240),
        f"{column['id']}: {figure_name(column)} against {_COSTS[key][1]}",
        "Whiskers: 95 % intervals. Dashed: rows that no other row gives more for no more cost.",
        [("orange", "on the frontier"), ("slate", "others")],
        dots=True,
    )  # fmt: skip


def _cost_table(
    group: Group, rows: Sequence[Row], column: Row, efficient: Mapping[str, Sequence[str]]
) -> Table:
    table: list[list[Cell]] = []
    for row in rows:
        cell = row["cells"][column["id"]]
        cost, value = cell["cost"], cell["figure"]["value"]
        money = None if cost["dollars"] is None else 1000 * cost["dollars"]
        on = [_COSTS[key][1] for key, ids in efficient.items() if row["id"] in ids]
        table.append(
            [
                _name(group, row),
                Value(value, figure_text(value, column)),
                cost["frames"],
                Value(cost["tokens"], number(cost["tokens"])),
                Value(money, "–" if money is None else dollars(money)),
                ", ".join(on),
            ]
        )
    heads: list[str | Name] = [
        "model",
        Name(column["id"], figure_name(column)),
        "frames a question",
        "tokens a question",
        "dollars for 1,000 questions",
        "on the frontier by",
    ]
    return Table(heads, table, sortable=True)


def _by_type(group: Group) -> list[Section]:
    """Accuracy by question type, a table a task that has types."""
    tables: list[Part] = []
    for column in group["columns"]:
        rows = [row for row in group["rows"] if column["id"] in row["cells"]]
        cells = [row["cells"][column["id"]]["by_question_type"] or {} for row in rows]
        kinds = list(dict.fromkeys(kind for each in cells for kind in each))
        if not kinds:
            continue
        heads: list[str | Name] = ["model", *(Name(kind, _asked(cells, kind)) for kind in kinds)]
        table: list[list[Cell]] = []
        for row, by_type in zip(rows, cells, strict=True):
            line: list[Cell] = [_name(group, row)]
            for kind in kinds:
                accuracy = by_type[kind]["accuracy"] if kind in by_type else None
                value = accuracy["value"] if accuracy else None
                ends = [interval(accuracy["ci95"])] if accuracy and accuracy["ci95"] else []
                line.append(Score(value, points(value), "–" if value is None else "", lines=ends))
            table.append(line)
        caption = f"{column['id']}: accuracy in per cent, 95 % interval"
        tables.append(Table(heads, table, caption, sortable=True))
    note = "Not corrected for the number of types; tiers are of the whole task."
    return [Section("By question type", [note, *tables], anchor="types")] if tables else []


def _asked(cells: Sequence[Mapping[str, Any]], kind: str) -> str:
    return plural(max(each[kind]["n"] for each in cells if kind in each), "question")


def _coverage(group: Group) -> list[Part]:
    parts: list[Part] = [
        "A failed prediction counts as wrong. An unscored answer has no verdict that could be read:"
        " it is left out of accuracy, and the bounds count all of them wrong and all right."
    ]
    heads: list[str | Name] = [
        *("model", "questions", "videos", "failed", "unscored", "coverage"),
        Name("accuracy", "95 % interval"),
        Name("bounds", "unscored all wrong, all right"),
        "by the paper's counting",
        "state",
    ]
    for column in group["columns"]:
        table: list[list[Cell]] = []
        for row in group["rows"]:
            cell = row["cells"].get(column["id"])
            if cell is None:
                continue
            accuracy, bounds = cell["accuracy"], cell["accuracy_bounds"]
            ends = interval(accuracy["ci95"]) if accuracy["ci95"] else ""
            table.append(
                [
                    _name(group, row),
                    *(cell[count] for count in ("n", "clusters", "n_failed", "n_unscored")),
                    Value(cell["coverage"], percent(cell["coverage"])),
                    Value(accuracy["value"], points(accuracy["value"]), ends),
                    Value(bounds[0] if bounds else None, interval(bounds)),
                    Value(cell["paper_accuracy"], format_paper(cell)),
                    Tag("warn", "not ranked") if cell["apart"] else "ranked",
                ]
            )
        parts.append(Table(heads, table, column["id"], sortable=True))
    said = [[_name(group, row), row["contamination"]] for row in group["rows"]
            if row["contamination"]]  # fmt: skip
    if said:
        parts.append(
            Section(
                "Test videos in training, as the submitters state",
                [Table(["model", "statement"], said)],
            )
        )
    if len(said) < len(group["rows"]):
        without = len(group["rows"]) - len(said)
        parts.append(
            f"Of {plural(without, 'row')} it is not known whether test videos were in training."
        )
    return parts


def _history(group: Group) -> list[Part]:
    by_id = {row["id"]: row for row in group["rows"]}
    parts: list[Part] = []
    for name, best in group["best"].items():
        if name == "mean" or len(group["columns"]) == 1 or "mean" not in group["best"]:
            column = next(
                (each for each in group["columns"] if each["id"] == name), {"headline": "mean"}
            )
            table: list[list[Cell]] = [
                [entry["date"], _name(group, by_id[entry["row"]]),
                 Value(entry["value"], figure_text(entry["value"], column))]
                for entry in reversed(best)
            ]  # fmt: skip
            title = "Mean of all tasks" if name == "mean" else name
            parts.append(
                Table(
                    ["best since", "model", title],
                    table,
                    f"{title}: which row had the highest figure",
                )
            )
    rows = sorted(group["rows"], key=lambda row: row["date"] or "", reverse=True)
    listed: list[list[Cell]] = []
    for row in rows:
        state: Cell = "ranked" if row["ranked"] else Tag("warn", _why(row))
        what = "submitted" if row["submitted"] else "run of one's own"
        listed.append(
            [row["date"] or "no date", _name(group, row), row["authors"] or "–", what, state]
        )
    parts.append(
        Table(
            ["date", "model", "organisation", "", "state"],
            listed,
            "All rows, newest first",
            sortable=True,
        )
    )
    return parts


def _why(row: Row) -> str:
    return "; ".join(
        dict.fromkeys(cell["apart"] for cell in row["cells"].values() if cell["apart"])
    )


def _pairs(group: Group) -> list[Part]:
    names = {row["id"]: row for row in group["rows"]}
    parts: list[Part] = [
        "The second row minus the first, in points, on the questions that both have; paired by"
        " question, clustered by video; p after Holm's correction for the number of pairs of its"
        f" table. Two rows differ where it is below {ALPHA:g}."
    ]
    for title, pairs in group["pairs"].items():
        if not pairs:
            continue
        shown = sorted(pairs, key=lambda pair: (pair["p_holm"] is None, pair["p_holm"] or 0.0))
        table: list[list[Cell]] = [
            [
                _name(group, names[pair["first"]]),
                _name(group, names[pair["second"]]),
                pair["n"],
                Value(pair["delta"], points(pair["delta"], sign=True)),
                Value(pair["p_value"], p_value(pair["p_value"])),
                Value(pair["p_holm"], p_value(pair["p_holm"])),
                _verdict(pair),
            ]
            for pair in shown[:_MOST_PAIRS]
        ]
        apart = sum(pair["p_holm"] is not None and pair["p_holm"] < ALPHA for pair in pairs)
        summary = f"{title}: {apart} of {plural(len(pairs), 'pair')} differ"
        if len(shown) > _MOST_PAIRS:
            summary += f"; the first {_MOST_PAIRS} are shown, leaderboard.json has all"
        heads = ["first", "second", "questions", "difference", "p", "p after Holm", ""]
        parts.append(Details(summary, [Table(heads, table, sortable=True)]))
    if len(parts) == 1:
        parts.append("There is no pair: fewer than two ranked rows have their answers here.")
    return parts


def _verdict(pair: Row) -> Tag:
    if pair["p_holm"] is None:
        return Tag("none", "nothing to compare")
    return Tag("good", "differ") if pair["p_holm"] < ALPHA else Tag("none", "not distinguishable")

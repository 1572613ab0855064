"""The page on judge drift: what a change of the judge alone does to figures and ranks."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sharegptvideo._shipped import shipped
from sharegptvideo._text import interval, p_value, points, rounded
from sharegptvideo.reports.charts import Axis, Mark, row_chart
from sharegptvideo.reports.charts import Group as Rows
from sharegptvideo.reports.leaderboard.tables import figure_text, judge_line
from sharegptvideo.reports.parts import Cell, Figure, Name, Page, Part, Section, Table, Value, asset

__all__ = ["drift_page"]

_SERIES = ("blue", "orange", "green", "purple", "pink", "red")


def drift_page(board: Mapping[str, Any], links: Sequence[tuple[str, str]] = ()) -> str:
    """Return the page for a board with `published`: its drift, and models under several judges.

    `links` lead to the site's other pages.
    """
    published = board["published"]
    levels, ranks = published["drift"]["levels"], published["drift"]["ranks"]
    judges = [group["judge"] for group in published["judges"]]
    most = max(levels, key=lambda row: row["range"])
    least = min(ranks, key=lambda row: row["tau"])
    lead = (
        f"The same models by {len(judges)} versions of one judge: a model's mean accuracy"
        f" moves by up to {points(most['range'])} points ({most['model']})."
    )
    sections = [
        Section("Levels", _levels(levels, judges), anchor="levels"),
        Section(
            "Ranks",
            [
                f"Kendall's tau between two versions is {rounded(least['tau'])} at the least"
                f" ({least['task']}; {_short(least['judges'], judges)}).",
                _ranks(ranks, judges),
                "Tau's interval is by draws of the models; a dash where no pair changes its order."
                f" {len(levels)} models say little about others.",
            ],
            anchor="ranks",
        ),
        *_here(board),
        Section("Our own experiment", _experiment(), anchor="experiment"),
    ]
    about = Markup('<p class="about">Published in {}; not measured here.</p>').format(
        published["source"]
    )
    return Page(
        title="What a change of the judge moves",
        lead=lead,
        intro=[about],
        sections=sections,
        kicker="sharegptvideo leaderboard",
        wide=True,
        contents=True,
        links=links,
        script=asset("sort.js"),
    ).html()


def _levels(levels: list[dict[str, Any]], judges: list[str]) -> list[Part]:
    series = dict(zip(judges, _SERIES, strict=False))
    chart = row_chart(
        [
            Rows(row["model"], [Mark(series[judge], "", row[judge], None, points(row[judge]))
                                for judge in judges])
            for row in levels
        ],
        Axis("mean accuracy of the tasks, per cent", [0.5, 0.6, 0.7, 0.8, 0.9], points),
        says="mean accuracy of each model under each version of the judge",
        left=14,
    )  # fmt: skip
    table: list[list[Cell]] = [
        [row["model"], *(Value(row[judge], points(row[judge])) for judge in judges),
         Value(row["range"], points(row["range"]))]
        for row in levels
    ]  # fmt: skip
    legend = [(colour, judge) for judge, colour in series.items()]
    return [
        Figure(chart, "Mean accuracy by version of the judge", legend=legend, dots=True),
        Table(["model", *judges, "range, points"], table, sortable=True),
    ]


def _short(pair: str, judges: list[str]) -> str:
    """Return the names of two judges without what all of them begin with."""
    begin = os.path.commonprefix(judges)  # noqa: RUF071 - of letters, not of folders
    return " and ".join(name.removeprefix(begin) or name for name in pair.split(", "))


def _ranks(ranks: list[dict[str, Any]], judges: list[str]) -> Table:
    table: list[list[Cell]] = [
        [
            _short(row["judges"], judges),
            row["task"],
            Value(row["tau"], rounded(row["tau"])),
            "–" if row["low"] is None else interval((row["low"], row["high"]), rounded),
            Value(row["rho"], rounded(row["rho"])),
            Value(row["p_value"], p_value(row["p_value"])),
            f"{row['pairs_changed']} of {row['pairs']}",
            Value(row["shift"], points(row["shift"], sign=True)),
        ]
        for row in ranks
    ]
    heads = ["judges", "task", "Kendall's tau", "95 % interval", "Spearman's rho", "p of tau",
             "pairs that change order", "shift, points"]  # fmt: skip
    return Table(heads, table, sortable=True)


def _here(board: Mapping[str, Any]) -> list[Section]:
    """List models of this board that stand under several judges, by task."""
    by_model: dict[tuple[str, str], dict[str, str]] = {}
    for group in board["groups"]:
        columns = {column["id"]: column for column in group["columns"]}
        for row in group["rows"]:
            for name, cell in row["cells"].items():
                text = figure_text(cell["figure"]["value"], columns[name])
                shown = f"{text} (not ranked)" if cell["apart"] else text
                key = row["model"], columns[name]["task"]
                by_model.setdefault(key, {}).setdefault(group["id"], shown)
    several = {key: each for key, each in by_model.items() if len(each) > 1}
    if not several:
        return []
    used = [
        group for group in board["groups"] if any(group["id"] in each for each in several.values())
    ]
    table: list[list[Cell]] = [
        [model, task, *(each.get(group["id"], "–") for group in used)]
        for (model, task), each in several.items()
    ]
    about = Markup(
        "<p>Models of the same name under several judges on this board. Their answers may be"
        " others; <code>sharegptvideo eval agreement RUN RUN</code> compares two judges on the same"
        " answers.</p>"
    )
    heads = ["model", "task", *(judge_line(group["judge"]) for group in used)]
    return [Section("On this board", [about, Table(heads, table)], anchor="here")]


def _experiment() -> list[Part]:
    """Say what the study's experiment found, where its table lies in the checkout."""
    parts: list[Part] = [
        Markup(
            "<p>The study asks the same, of the answers of seven small models and several seeds:"
            " under looser and stricter rules, without the caption, by an exact judge, and by the"
            " clip's own state, which is the truth. <code>sharegptvideo study run"
            " judge_drift</code> runs it; its report is section 8 of"
            " <code>docs/study/index.html</code>.</p>"
        )
    ]
    file = shipped("eval").parent / "docs" / "study" / "judge_drift.csv"
    if not file.is_file():  # an installed package has no docs/
        return parts
    table: list[list[Cell]] = []
    with file.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            known = {name: float(value) for name, value in row.items() if name != "level" and value}
            ends = (known["low"], known["high"]) if "low" in known and "high" in known else None
            table.append(
                [
                    row["level"],
                    *(Value(known.get(name), points(known.get(name)))
                      for name in ("mean_accuracy", "shift")),
                    Value(known.get("gain"), points(known.get("gain"), sign=True),
                          interval(ends, sign=True) if ends else ""),
                    Value(known.get("tau"), rounded(known.get("tau"))),
                    Value(known.get("tau_least"), rounded(known.get("tau_least"))),
                    Value(known.get("kappa"), rounded(known.get("kappa"))),
                ]
            )  # fmt: skip
    heads: list[str | Name] = [
        *("judge", "mean accuracy", "shift, points"),
        Name("gain of DPO over SFT", "points"),
        Name("Kendall's tau", "with answer-match"),
        "tau of the worst seed",
        Name("kappa", "with the clip's state"),
    ]
    return [*parts, Table(heads, table, sortable=True)]

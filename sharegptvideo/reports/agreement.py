"""The pages of `eval agreement`: how far two judges agree, or a judge with people's preferences."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sharegptvideo._io import os_errors, write_json, write_text
from sharegptvideo._staging import replacing_files
from sharegptvideo._text import dollars, interval, number, plural, points, rounded
from sharegptvideo.eval.preferences import CHOICES, PreferenceAgreement
from sharegptvideo.reports.charts import (
    Axis,
    Dot,
    Group,
    Line,
    Mark,
    line_chart,
    round_ticks,
    row_chart,
)
from sharegptvideo.reports.estimates import csv_table
from sharegptvideo.reports.parts import Cell, Figure, Page, Part, Section, Table, Value
from sharegptvideo.reports.png import write_png

__all__ = ["SHOWN_RATERS", "preference_lines", "save_agreement", "save_preferences"]

_FIRST, _SECOND = "orange", "blue"


def save_agreement(agreement: Mapping[str, Any], out: Path) -> list[Path]:
    """Write agreement.json, agreement.png and index.html to `out`, all or none; gives their paths.

    Raises:
        UserError: `out` cannot be written.
    """
    figures = [_shift(agreement), *_calibration(agreement["all"], agreement["scores"])]
    with os_errors(out, "free some space or give another --out"), replacing_files(out) as new:
        write_json(new / "agreement.json", agreement)
        write_png(new / "agreement.png", figures)
        _page(agreement, figures).write(new / "index.html")
    return [out / name for name in ("agreement.json", "agreement.png", "index.html")]


def _page(agreement: Mapping[str, Any], figures: list[Figure]) -> Page:
    first, second = agreement["first"], agreement["second"]
    whole = agreement["all"]
    charts: list[Part] = [*figures]
    if len(figures) == 1:
        charts.append("One of the two judges gives no scores: only their verdicts are compared.")
    same = points(whole["agreement"]["value"]) if whole["n"] else "–"
    names = " and ".join(Path(side["run"]).name for side in (first, second))
    return Page(
        title=f"{first['judge']} and {second['judge']}: do they agree?",
        lead=f"{plural(whole['n'], 'answer')} that both judged; the same verdict on {same} %.",
        sections=[
            Section("Verdicts and scores", charts),
            Section("Figures", _tables(agreement)),
        ],
        kicker=f"sharegptvideo eval agreement · {names}",
        kind="Agreement",
    )


def _shift(agreement: Mapping[str, Any]) -> Figure:
    """Draw the accuracy by each judge with its interval, a group a task."""
    sides = ((_FIRST, "first"), (_SECOND, "second"))
    groups = []
    for name, task in agreement["tasks"].items():
        if not task["n"]:
            continue
        marks = []
        for (series, side), accuracy in zip(sides, task["accuracy"], strict=True):
            ends = tuple(accuracy["ci95"]) if accuracy["ci95"] else None
            marks.append(Mark(series, side, accuracy["value"], ends, points(accuracy["value"])))
        groups.append(Group(name, marks))
    reach = [value for group in groups for mark in group.marks
             for value in (mark.value, *(mark.ends or ()))]  # fmt: skip
    ticks = round_ticks(min(reach, default=0.0), max(reach, default=1.0), 4)
    axis = "answers called right, %, with 95 % intervals by video"
    chart = row_chart(
        groups,
        Axis(axis, ticks, lambda value: number(100 * value)),
        says=f"{axis}: "
        + "; ".join(
            f"{group.heading} {', '.join(f'{m.name} {m.says}' for m in group.marks)}"
            for group in groups
        ),
        left=58.0,
        right=56.0,
    )
    named = [(series, f"{side}: {agreement[side]['judge']}") for series, side in sides]
    return Figure(chart, "Accuracy by each judge", legend=named)


def _calibration(whole: Mapping[str, Any], scores: Any) -> list[Figure]:
    """Draw the second judge's mean score for each score of the first."""
    levels = whole.get("calibration", [])
    if not levels:
        return []
    most = max(row["n"] for row in levels)
    ends = min(map(min, scores)), max(map(max, scores))
    same = Line("grey", "the same score", [(end, end) for end in ends], dashed=True)
    expected = [(row["score"], row["expected_score"]) for row in levels]
    dots = [
        Dot(
            _SECOND,
            row["score"],
            row["mean_score"]["value"],
            row["mean_score"]["ci95"],
            f"n = {number(row['n'])}",
            row["n"] / most,
        )
        for row in levels
    ]
    chart = line_chart(
        [same, Line(_SECOND, "map: expected score", expected)],
        Axis("score by the first judge", _room(ends)),
        Axis("mean score by the second", _room(ends)),
        says="Mean score by the second judge: "
        + "; ".join(
            f"{rounded(dot.y)} where the first gives {number(dot.x)} ({dot.says})" for dot in dots
        ),
        dots=dots,
    )
    named = [("grey", "the same score"), (_SECOND, "map: expected score")]
    note = (
        "A disc is the mean of the answers with one score by the first; its area is their number."
    )
    return [Figure(chart, "What one judge's scores mean to the other", note, named)]


def _room(ends: tuple[float, float]) -> list[float]:
    """Return ticks with room for a disc at both ends."""
    ticks = round_ticks(*ends, 4)
    step = ticks[1] - ticks[0]
    return [ticks[0] - step, *ticks, ticks[-1] + step]


def _tables(agreement: Mapping[str, Any]) -> list[Part]:
    tasks = {name: task for name, task in agreement["tasks"].items() if task["n"]}
    if len(tasks) > 1:
        tasks["all"] = agreement["all"]
    figures: list[list[Cell]] = []
    verdicts: list[list[Cell]] = []
    for name, task in tasks.items():
        first, second = task["accuracy"]
        figures.append(
            [name, task["n"], task["n_clusters"], _percent(first), _percent(second),
             _share(task["shift"], sign=True), _percent(task["agreement"]),
             *(_coefficient(task.get(what)) for what in ("kappa", "pearson", "spearman"))]
        )  # fmt: skip
        verdicts.append([name, *task["table"].values()])
    columns = (
        "task", "answers", "videos", "first %", "second %", "shift, points", "agree %", "kappa",
        "Pearson", "Spearman",
    )  # fmt: skip
    parts: list[Part] = [
        Table(columns, figures, "In brackets: 95 % intervals by video"),
        Table(("task", "right by both", "by the first only", "by the second only", "by neither"),
              verdicts, "Verdicts"),
    ]  # fmt: skip
    levels: list[list[Cell]] = [
        [number(row["score"]), row["n"], _plain(row["mean_score"]), _share(row["share_right"]),
         Value(row["expected_score"], rounded(row["expected_score"]))]
        for row in agreement["all"].get("calibration", ())
    ]  # fmt: skip
    if levels:
        heads = ("score of the first", "answers", "mean of the second", "right by the second %",
                   "expected score")  # fmt: skip
        parts.append(Table(heads, levels, "Scores"))
    left_out: list[list[Cell]] = [
        [what, count]
        for what, count in (
            ("answered differently in the two runs", agreement["n_other_answer"]),
            ("judged by the first only", agreement["n_only_first"]),
            ("judged by the second only", agreement["n_only_second"]),
            ("unscored by the first", agreement["n_unscored"]["first"]),
            ("unscored by the second", agreement["n_unscored"]["second"]),
        )
        if count
    ]
    if left_out:
        parts.append(Table(("left out", "answers"), left_out))
    if agreement["between_raters"] is not None:
        parts.append(_between(agreement["between_raters"], "verdicts"))
    return parts


def _between(figures: Mapping[str, Any], what: str) -> Table:
    """List how far any two raters agree: all pairs together, then the largest ones."""
    rows: list[list[Cell]] = [
        [name, each["n"], each["n_clusters"], _share(each["agreement"]),
         _coefficient(each["kappa"])]
        for name, each in (
            ("all", figures),
            *((f"{pair['first']}, {pair['second']}", pair)
              for pair in figures["pairs"][:SHOWN_RATERS] if len(figures["pairs"]) > 1),
        )
    ]  # fmt: skip
    heads = ("raters", f"pairs of {what}", "videos", "agree %", "kappa")
    return Table(heads, rows, "Between raters, on what two of them rated")


def save_preferences(result: PreferenceAgreement, out: Path) -> list[Path]:
    """Write agreement.json, .csv and .png, votes.csv and index.html to `out`, all or none.

    Returns:
        Their paths.

    Raises:
        UserError: `out` cannot be written.
    """
    figures = result.figures
    charts = [_agreeing(figures), *_preferred(figures)]
    with os_errors(out, "free some space or give another --out"), replacing_files(out) as new:
        write_json(new / "agreement.json", figures)
        write_text(new / "agreement.csv", csv_table(_rows(figures)))
        write_text(new / "votes.csv", csv_table(result.votes))
        write_png(new / "agreement.png", charts)
        _preference_page(figures, charts).write(new / "index.html")
    names = ("agreement.json", "agreement.csv", "votes.csv", "agreement.png", "index.html")
    return [out / name for name in names]


def preference_lines(figures: Mapping[str, Any]) -> list[str]:
    """Say in sentences how ties were counted, which run is preferred, and what verdicts cost."""
    people, judge, cost = figures["choices"]["people"], figures["choices"]["judge"], figures["cost"]
    lines = [
        f"Ties: {number(people['tie'])} of {plural(sum(people.values()), 'vote')} by people,"
        f" {number(judge['tie'])} of {plural(sum(judge.values()), 'pair')} by the judge (equal"
        ' scores). A tie is a choice like a and b; "without ties" leaves out the votes in which'
        " either side has one."
    ]
    for pair in figures.get("runs", ()):
        first, second = pair["first"]["name"], pair["second"]["name"]
        for who, unit in (("people", "votes"), ("judge", "pairs")):
            wins = pair[who]
            ends = wins["net"]["ci95"]
            lines.append(
                f"{second} against {first}, by {who}: {number(wins['second'])} for {second},"
                f" {number(wins['first'])} for {first}, {plural(wins['tie'], 'tie')} ({unit}):"
                f" net {points(wins['net']['value'], sign=True)} points"
                + (f" ({interval(ends, sign=True)})." if ends else ".")
            )
        lines.append(
            f"Of the {plural(pair['n_shared'], 'question')} that all runs answered,"
            f" {number(pair['n_same'])} have the same answer in both and were not asked; the net is"
            " over those that differ."
        )
    price = "price not known"
    if cost["dollars_per_verdict"] is not None:
        each = dollars(cost["dollars_per_verdict"])
        price = f"{dollars(cost['dollars'])}, {each} a verdict"
    lines.append(
        f"Cost: {plural(cost['n_verdicts'], 'verdict')}, {plural(cost['tokens'], 'token')}"
        f" ({number(cost['tokens_per_verdict'])} a verdict), {price}."
    )
    return lines


SHOWN_RATERS = 10
"""How many raters, and pairs of them, are shown; files have all."""


def _compared(figures: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """List by name whose choices are held against the judge's."""
    raters = figures["raters"]
    return [("judge with people", figures["all"]), *(raters.items() if len(raters) > 1 else ())]


def _rows(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of agreement.csv."""
    sides = [(name, votes, part) for name, each in _compared(figures)
             for votes, part in (("all", each), ("without ties", each["decided"]))]  # fmt: skip
    between = figures["between_raters"]
    if between is not None:
        sides.append(("between raters", "all", between))
        sides += [(f"{p['first']}, {p['second']}", "all", p) for p in between["pairs"]]
    rows = []
    for name, votes, part in sides:
        row = {"who": name, "votes": votes, "n": part["n"], "videos": part["n_clusters"]}
        for what in ("agreement", "kappa"):
            low, high = part[what]["ci95"] or (None, None)
            row |= {what: part[what]["value"], f"{what} low": low, f"{what} high": high}
        rows.append(row)
    return rows


def _agreeing(figures: Mapping[str, Any]) -> Figure:
    """Draw how often judge and people, and raters among each other, choose the same."""
    groups = []
    for name, each in _compared(figures)[: SHOWN_RATERS + 1]:
        parts = ((_SECOND, "all votes", each), (_FIRST, "no ties", each["decided"]))
        groups.append(Group(name, [_mark(*part) for part in parts if part[2]["n"]]))
    between = figures["between_raters"]
    if between is not None:
        groups.append(Group("between raters", [_mark(_SECOND, "all votes", between)]))
    axis = "the same choice, %, with 95 % intervals by video"
    chart = row_chart(
        [group for group in groups if group.marks],
        Axis(axis, [0.0, 0.25, 0.5, 0.75, 1.0], lambda value: number(100 * value)),
        says=f"{axis}: "
        + "; ".join(
            f"{group.heading} {', '.join(f'{m.name} {m.says}' for m in group.marks)}"
            for group in groups
        ),
        left=70.0,
        right=56.0,
    )
    named = [(_SECOND, "all votes"), (_FIRST, "without ties")]
    return Figure(chart, "How often two choose the same", legend=named)


def _mark(series: str, name: str, part: Mapping[str, Any]) -> Mark:
    share = part["agreement"]
    return Mark(series, name, share["value"], share["ci95"], points(share["value"]))


def _preferred(figures: Mapping[str, Any]) -> list[Figure]:
    """Draw how far the second of two runs is preferred, by people and by the judge."""
    groups = [
        Group(
            f"{pair['second']['name']} against {pair['first']['name']}",
            [
                Mark(series, who, pair[who]["net"]["value"], pair[who]["net"]["ci95"],
                     points(pair[who]["net"]["value"], sign=True))
                for series, who in ((_SECOND, "people"), (_FIRST, "judge"))
                if pair[who]["n"]
            ],
        )
        for pair in figures.get("runs", ())
    ]  # fmt: skip
    if not any(group.marks for group in groups):
        return []
    axis = "votes for minus votes against, % of all"
    chart = row_chart(
        groups,
        Axis(axis, [-1.0, -0.5, 0.0, 0.5, 1.0], lambda value: number(100 * value)),
        says=f"{axis}: "
        + "; ".join(
            f"{group.heading} {', '.join(f'{m.name} {m.says}' for m in group.marks)}"
            for group in groups
        ),
        left=70.0,
        right=56.0,
    )
    named = [(_SECOND, "people"), (_FIRST, "judge")]
    return [Figure(chart, "Which run is preferred", legend=named)]


def _preference_page(figures: Mapping[str, Any], charts: list[Figure]) -> Page:
    whole, judge = figures["all"], figures["judge"]["name"]
    same = points(whole["agreement"]["value"])
    return Page(
        title=f"Does {judge} prefer what people prefer?",
        lead=f"{plural(whole['n'], 'vote')} on"
        f" {plural(figures['n_items'] - figures['n_unscored'], 'pair')} of answers;"
        f" the same choice in {same} %.",
        sections=[
            Section("Agreement", [*charts, *preference_lines(figures)]),
            Section("Figures", _preference_tables(figures)),
        ],
        kicker="sharegptvideo eval agreement · "
        + ", ".join(Path(file).name for file in figures["files"]),
        kind="Agreement",
    )


def _preference_tables(figures: Mapping[str, Any]) -> list[Part]:
    rows: list[list[Cell]] = [
        [name, each["n"], each["n_clusters"], _share(each["agreement"]),
         _coefficient(each["kappa"]), each["decided"]["n"],
         _share(each["decided"]["agreement"]), _coefficient(each["decided"]["kappa"])]
        for name, each in _compared(figures)[: SHOWN_RATERS + 1]
    ]  # fmt: skip
    caption = "In brackets: 95 % intervals by video"
    if len(figures["raters"]) > SHOWN_RATERS:
        caption += f"; raters: the {SHOWN_RATERS} with most votes, all are in agreement.csv"
    heads = ("", "votes", "videos", "agree %", "kappa", "without ties", "agree %", "kappa")
    table = figures["all"]["table"]
    counts: list[list[Cell]] = [
        [f"people say {people}", *(table[f"{people} {judge}"] for judge in CHOICES)]
        for people in CHOICES
    ]
    parts: list[Part] = [
        Table(heads, rows, caption),
        Table(("", *(f"judge says {judge}" for judge in CHOICES)), counts, "Votes"),
    ]
    if figures["between_raters"] is not None:
        parts.append(_between(figures["between_raters"], "votes"))
    left: list[list[Cell]] = [[reason, count] for reason, count in figures["unscored"].items()]
    if left:
        parts.append(Table(("unscored, and so left out", "answers"), left))
    return parts


def _percent(figure: Mapping[str, Any]) -> Value:
    return Value(figure["value"], points(figure["value"]))


def _share(figure: Mapping[str, Any], *, sign: bool = False) -> Value:
    note = f"({interval(figure['ci95'], sign=sign)})" if figure["ci95"] else ""
    return Value(figure["value"], points(figure["value"], sign=sign), note)


def _plain(figure: Mapping[str, Any]) -> Value:
    note = f"({interval(figure['ci95'], rounded)})" if figure["ci95"] else ""
    return Value(figure["value"], rounded(figure["value"]), note)


def _coefficient(figure: Mapping[str, Any] | None) -> Value | None:
    return None if figure is None or figure["value"] is None else _plain(figure)

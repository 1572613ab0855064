"""The page of `eval agreement`: how far two judges agree, with the figures as JSON and a PNG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sharegptvideo._io import os_errors, write_json
from sharegptvideo._staging import replacing_files
from sharegptvideo._text import interval, number, plural, points, rounded
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
from sharegptvideo.reports.parts import Cell, Figure, Page, Part, Section, Table, Value
from sharegptvideo.reports.png import write_png

__all__ = ["save_agreement"]

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

"""The charts of a run's report, each from the figures that it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sharegptvideo._text import p_value, points, rounded, shortened
from sharegptvideo.errors import UserError
from sharegptvideo.eval.comparison import compare_runs
from sharegptvideo.eval.headline import headline
from sharegptvideo.reports.charts import Axis, Group, Mark, round_ticks, row_chart
from sharegptvideo.reports.estimates import format_estimate
from sharegptvideo.reports.parts import Figure
from sharegptvideo.reports.run.record import Run
from sharegptvideo.reports.run.samples import Against

__all__ = ["accuracy_charts", "difference_charts"]

_SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_CHANCE = "grey"
_WRAPPED, _LONGEST = 15, 24  # letters of a name in a line, and of one at all


def accuracy_charts(run: Run) -> list[Figure]:
    """Draw the main figure of each task with its interval, and the same by question type.

    Figures that are no shares, such as scores, are left to the table.
    """
    tasks = run.results["tasks"]
    by_task = Group("", [mark for task, each in tasks.items() for mark in _marks(task, each, each)])
    by_type = [
        Group(task, [mark for kind, one in kinds.items() for mark in _marks(kind, one, each)])
        for task, each in tasks.items()
        if (kinds := each.get("by_question_type"))
    ]
    names = {headline(each).name for each in tasks.values() if headline(each).is_share}
    axis = (
        "questions answered right, %" if names == {"accuracy"} else f"{', '.join(sorted(names))}, %"
    )
    figures = [_shares([by_task], "By task", axis)] if by_task.marks else []
    if any(group.marks for group in by_type):
        figures.append(_shares(by_type, "By question type", axis))
    return figures


def _marks(name: str, figures: Mapping[str, Any], task: Mapping[str, Any]) -> list[Mark]:
    """Return the main figure of a task, or of one type of its questions, and chance below it."""
    main = figures.get(task.get("headline", "accuracy")) or {}
    if not _is_share(main):
        return []
    marks = [_mark("blue", name, main, format_estimate(main, share=True))]
    if figures.get("chance") is not None:
        chance = float(figures["chance"])
        marks.append(Mark(_CHANCE, "chance", chance, None, points(chance)))
    return marks


def _is_share(figure: Mapping[str, Any]) -> bool:
    value = figure.get("value")
    return value is not None and 0 <= value <= 1 and max(figure.get("ci95") or (0,)) <= 1


def _mark(series: str, name: str, figure: Mapping[str, Any], says: str) -> Mark:
    ends = figure.get("ci95")
    shown = shortened(name, _LONGEST)
    return Mark(series, shown, figure["value"], tuple(ends) if ends else None, says)


def _shares(groups: Sequence[Group], title: str, axis: str) -> Figure:
    chart = row_chart(
        groups,
        Axis(axis, _SHARES, lambda value: rounded(100 * value, 0)),
        says=f"{title}, {axis}: {_read_out(groups)}",
        left=_room(groups),
        bars=True,
    )
    return Figure(chart, title, "Whiskers: 95 % intervals by video.")


def difference_charts(run: Run, against: Against) -> list[Figure]:
    """Draw main figures here minus there, paired by question, where they are shares.

    None where the two runs do not compare.
    """
    try:
        tasks = compare_runs(against.run.path, run.path)["tasks"]
    except UserError:
        return []  # other judges, or other versions of a task: the page says so in words
    tasks = {
        task: tasks[task]
        for task in run.results["tasks"]
        if task in tasks and tasks[task]["headline"] != "score"
    }
    whole = [_difference(task, each) for task, each in tasks.items() if each["n"]]
    kinds = [
        Group(task, [_difference(kind, one) for kind, one in types.items() if one["n"]])
        for task, each in tasks.items()
        if (types := each.get("by_question_type"))
    ]
    drawn = (("task", [Group("", whole)]), ("question type", kinds))
    return [
        _differences(f"Difference by {title}", groups, run, against)
        for title, groups in drawn
        if any(group.marks for group in groups)
    ]


def _differences(title: str, groups: Sequence[Group], run: Run, against: Against) -> Figure:
    ends = [end for group in groups for mark in group.marks for end in mark.ends or (mark.value,)]
    reach = max(0.01, *map(abs, ends))
    axis = Axis(
        "points, right of 0: this run is better",
        round_ticks(-reach, reach, 4),
        lambda value: rounded(100 * value, 0, sign=True) if value else "0",
    )
    says = f"{title}, {run.name} minus {against.run.name}, {axis.name}: {_read_out(groups)}"
    chart = row_chart(groups, axis, says=says, left=_room(groups), right=100.0)
    note = (
        f"{run.name} − {against.run.name}, paired by question. Whiskers: 95 % intervals by video;"
        " p-values are not corrected for their number."
    )
    return Figure(chart, title, note)


def _difference(name: str, one: Mapping[str, Any]) -> Mark:
    says = points(one["delta"], sign=True)
    if one["p_value"] is not None:
        says += f" (p {p_value(one['p_value'])})"
    ends = one["ci95"]
    return Mark("ink", shortened(name, _LONGEST), one["delta"], tuple(ends) if ends else None, says)


def _room(groups: Sequence[Group]) -> float:
    """Return the room that names take; those of several words are wrapped at `_WRAPPED` letters."""
    names = [mark.name for group in groups for mark in group.marks]
    words = [len(word) for name in names for word in name.split()]
    whole = [min(len(name), _WRAPPED) for name in names]
    return 12 + 8.3 * max([*words, *whole], default=0)


def _read_out(groups: Sequence[Group]) -> str:
    return "; ".join(
        f"{group.heading} {', '.join(f'{mark.name} {mark.says}' for mark in group.marks)}".strip()
        for group in groups
    )

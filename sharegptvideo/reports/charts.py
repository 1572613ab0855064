"""Charts as inline SVG; colours come from the page's style by class (`c-one`, `s-one`, ...)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sharegptvideo._text import percent
from sharegptvideo.reports.svg import WIDTH, Scale, drawing, node, round_ticks, text

__all__ = ["Group", "Line", "Mark", "Segment", "columns", "legend", "lines", "rows", "stacks"]

_ROW, _LABEL, _GAP, _AXIS = 19.0, 19.0, 9.0, 38.0


@dataclass(frozen=True, slots=True)
class Mark:
    """One value in a row: `series` gives the colour, `name` stands left of it, `says` right."""

    series: str
    name: str
    value: float
    ends: tuple[float, float] | None
    says: str


@dataclass(frozen=True, slots=True)
class Group:
    """Rows under one heading; a heading of "" takes no room."""

    heading: str
    marks: Sequence[Mark]


@dataclass(frozen=True, slots=True)
class Line:
    """A curve of (x, y) points in rising x."""

    series: str
    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a stacked bar, a share in [0, 1]."""

    series: str
    name: str
    share: float


def rows(
    groups: Sequence[Group],
    *,
    says: str,
    axis: str,
    ticks: Sequence[float],
    show: Callable[[float], str],
    bars: bool,
    left: float = 40.0,
    right: float = 84.0,
) -> Markup:
    """Horizontal bars from zero, or dots, with intervals as whiskers; one row a mark.

    `ticks` are the axis from end to end; what lies outside is cut there. `left` and `right` are
    the room for names and values.
    """
    scale = Scale(ticks[0], ticks[-1], left, WIDTH - right)
    parts: list[Markup] = []
    y = 4.0
    for group in groups:
        if group.heading:
            parts.append(text(0, y + 13, group.heading, kind="heading"))
            y += _LABEL
        for mark in group.marks:
            parts.append(_row(mark, y + _ROW / 2, scale, bars=bars))
            y += _ROW
        y += _GAP
    grid = []
    for tick in ticks:
        kind = "zero" if tick == 0 else "rule"
        grid.append(node("line", x1=scale(tick), x2=scale(tick), y1=2, y2=y, kind=kind))
        grid.append(text(scale(tick), y + 14, show(tick), anchor="middle"))
    grid.append(text((scale.start + scale.end) / 2, y + 31, axis, anchor="middle", kind="axis"))
    return drawing(y + _AXIS, says, [*grid, *parts])


def _row(mark: Mark, y: float, scale: Scale, *, bars: bool) -> Markup:
    parts: list[Markup] = [node("title", f"{mark.name} {mark.says}".strip())]
    if mark.name:
        parts.append(text(scale.start - 8, y + 4, mark.name, anchor="end", kind="name"))
    at, zero = scale(mark.value), scale(0.0)
    colour = f"c-{mark.series}"
    if bars:
        size = {"x": min(at, zero), "width": round(abs(at - zero), 2), "y": y - 6.5, "height": 13}
        parts.append(node("rect", kind=colour, rx=2, **size))
    if mark.ends:
        low, high = (scale(end) for end in mark.ends)
        path = f"M{low} {y}H{high}M{low} {y - 4}v8M{high} {y - 4}v8"
        parts.append(node("path", d=path, kind="whisker" if bars else f"whisker s-{mark.series}"))
    if not bars:
        parts.append(_dot(mark.series, at, y))
    parts.append(text(scale.end + 10, y + 4, mark.says, kind="value"))
    return node("g", *parts)


def _dot(series: str, x: float, y: float) -> Markup:
    """A disc, or for DPO a diamond, so that colour is not all that tells the two apart."""
    if series == "dpo":
        return node("path", d=f"M{x} {y - 6}l6 6l-6 6l-6 -6z", kind="c-dpo")
    return node("circle", cx=x, cy=y, r=4.8, kind=f"c-{series}")


def stacks(
    bars: Sequence[tuple[str, Sequence[Segment]]], *, says: str, axis: str, left: float = 40.0
) -> Markup:
    """One bar a row, cut into shares of 100 %; shares of 5 % and more are written on it.

    `left` is the room for names.
    """
    scale = Scale(0.0, 1.0, left, WIDTH - 14)
    parts: list[Markup] = []
    y = 4.0
    for name, segments in bars:
        parts.append(text(scale.start - 8, y + 19, name, anchor="end", kind="name"))
        done = 0.0
        for segment in segments:
            start, end = scale(done), scale(done + segment.share)
            done += segment.share
            title = node("title", f"{name}, {segment.name}: {percent(segment.share)}")
            size = {"x": start, "y": y, "width": max(round(end - start - 1, 2), 0), "height": 28}
            inside = [title, node("rect", kind=f"c-{segment.series}", **size)]
            if segment.share >= 0.05:
                kind = f"on on-{segment.series}"
                middle, words = round((start + end) / 2, 2), f"{100 * segment.share:.0f}"
                inside.append(text(middle, y + 18.5, words, anchor="middle", kind=kind))
            parts.append(node("g", *inside))
        y += 36
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(text(scale(tick), y + 10, f"{100 * tick:.0f}", anchor="middle"))
    parts.append(text((scale.start + scale.end) / 2, y + 27, axis, anchor="middle", kind="axis"))
    return drawing(y + 34, says, parts)


def legend(series: Sequence[tuple[str, str]]) -> Markup:
    """A drawing with the name of each (series, name) behind a square of its colour."""
    x, y, parts = 0.0, 12.0, []
    for colour, name in series:
        wide = 24.0 + 7.4 * len(name)
        if x and x + wide > WIDTH:
            x, y = 0.0, y + 18.0
        parts.append(node("rect", kind=f"c-{colour}", x=x, y=y - 10, width=11, height=11, rx=2))
        parts.append(text(x + 16, y, name, kind="name"))
        x += wide
    return drawing(y + 8, "legend: " + ", ".join(name for _, name in series), parts)


def columns(
    bins: Sequence[tuple[str, float, str, str]], *, says: str, x_axis: str, y_axis: str
) -> Markup:
    """Upright bars: (label, value, words above it, series)."""
    ticks = round_ticks(0.0, max((value for _, value, _, _ in bins), default=1.0) or 1.0, 4)
    top, bottom, left = 40.0, 190.0, 48.0
    scale = Scale(ticks[0], ticks[-1], bottom, top)
    parts = [text(0, 12, y_axis, kind="axis"), *_levels(ticks, scale, left)]
    step = (WIDTH - left) / max(len(bins), 1)
    for number, (label, value, words, series) in enumerate(bins):
        x = left + step * (number + 0.5)
        height = round(bottom - scale(value), 2)
        size = {"x": round(x - step * 0.31, 2), "width": round(step * 0.62, 2)}
        bar = node("rect", y=scale(value), height=height, rx=2, kind=f"c-{series}", **size)
        above = text(x, scale(value) - 6, words, anchor="middle", kind="value")
        below = text(x, bottom + 17, label, anchor="middle", kind="name")
        parts.append(node("g", node("title", f"{label}: {words}"), bar, above, below))
    parts.append(text((left + WIDTH) / 2, bottom + 37, x_axis, anchor="middle", kind="axis"))
    return drawing(bottom + 44, says, parts)


def lines(
    curves: Sequence[Line],
    *,
    says: str,
    x_axis: str,
    y_axis: str,
    ticks: Sequence[float] | None = None,
    level: tuple[float, str] | None = None,
) -> Markup:
    """Curves over steps. `level` is a dashed line with a name; `ticks` fixes the y axis."""
    xs = [x for line in curves for x, _ in line.points]
    ys = [y for line in curves for _, y in line.points] + ([level[0]] if level else [])
    if not xs:
        return drawing(40, says, [text(0, 20, "nothing was logged")])
    marks = list(ticks or round_ticks(min(ys), max(ys), 4))
    steps = round_ticks(0.0, max(xs), 5)
    top, bottom, left, right = 30.0, 186.0, 48.0, WIDTH - 12.0
    x_scale, y_scale = (
        Scale(steps[0], steps[-1], left, right),
        Scale(marks[0], marks[-1], bottom, top),
    )
    parts = [text(0, 12, y_axis, kind="axis"), *_levels(marks, y_scale, left)]
    for step in steps:
        parts.append(text(x_scale(step), bottom + 17, f"{step:,g}", anchor="middle"))
    if level:
        at = y_scale(level[0])
        parts.append(node("line", x1=left, x2=right, y1=at, y2=at, kind="level"))
        parts.append(text(right, at - 5, level[1], anchor="end"))
    for line in curves:
        parts.append(_curve(line, x_scale, y_scale))
    parts.append(text((left + right) / 2, bottom + 36, x_axis, anchor="middle", kind="axis"))
    return drawing(bottom + 43, says, parts)


def _curve(line: Line, x_scale: Scale, y_scale: Scale) -> Markup:
    places = [(x_scale(x), y_scale(y)) for x, y in line.points]
    path = "M" + "L".join(f"{x} {y}" for x, y in places)
    parts = [node("title", line.name), node("path", d=path, kind=f"curve s-{line.series}")]
    # Few points would look like more than they are as a bare line.
    if len(places) <= 25:
        parts += [node("circle", cx=x, cy=y, r=2.6, kind=f"c-{line.series}") for x, y in places]
    return node("g", *parts)


def _levels(ticks: Sequence[float], scale: Scale, left: float) -> list[Markup]:
    parts = []
    for tick in ticks:
        kind = "zero" if tick == 0 else "rule"
        parts.append(node("line", x1=left, x2=WIDTH, y1=scale(tick), y2=scale(tick), kind=kind))
        parts.append(text(left - 8, scale(tick) + 4, f"{tick:,g}".replace("-", "−"), anchor="end"))
    return parts

"""Charts as inline SVG: the same figures give the same bytes.

A series has the name of a colour (`blue`, `orange`, ...), and an element the classes `fill COLOUR`
or `stroke COLOUR`; `style.css` alone has the colours of a light and of a dark screen.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup, escape

from sharegptvideo._text import number, percent, rounded, visible

__all__ = [
    "SERIES",
    "WIDTH",
    "Axis",
    "Dot",
    "Group",
    "Line",
    "Mark",
    "Scale",
    "Segment",
    "column_chart",
    "legend",
    "line_chart",
    "log_ticks",
    "round_ticks",
    "row_chart",
    "stack_chart",
]

SERIES = ("blue", "orange", "green", "purple", "pink", "red")
"""Colours that differ well, for series without one of their own."""

WIDTH = 400
"""Every chart is this wide in its own units; the style sheet sizes letters for it."""

_ROW, _LABEL, _GAP, _AXIS = 19.0, 19.0, 9.0, 38.0
_LINE, _LETTER = 13.0, 7.8  # of names: the height of a line, the width of a letter


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis: its name, `ticks` from end to end (round ones if None), and words for a tick.

    One that is `log` has equal steps for equal factors, and no place for 0 or less.
    """

    name: str
    ticks: Sequence[float] | None = None
    show: Callable[[float], str] = number
    log: bool = False


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from `low` to `high` as positions from `start` to `end`; values outside are cut.

    One that is `log` places logarithms.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the position of a value."""
        low, at, high = self.low, min(max(value, self.low), self.high), self.high
        if self.log:
            low, at, high = math.log10(low), math.log10(at), math.log10(high)
        share = (at - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 2)


@dataclass(frozen=True, slots=True)
class Mark:
    """One value in a row: `name` stands left of it, `says` right, `ends` are its interval."""

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
    """A curve of (x, y) points in rising x, with a shaded band of (x, low, high) around it.

    With `whiskers` the intervals of the band are drawn one by one, and points in the shape of
    their series. `shift` moves the whole curve to the right, by units of the drawing, so that the
    whiskers of curves at the same x stand side by side.
    """

    series: str
    name: str
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float, float]] = ()
    dashed: bool = False
    whiskers: bool = False
    shift: float = 0.0


@dataclass(frozen=True, slots=True)
class Dot:
    """A disc at (x, y) with the interval `ends` of y; its area grows with `size`, up to 1.

    `says` is written above or below it. With a `label` that is written instead, where there is
    room near the dot, and the dot has the shape of its series.
    """

    series: str
    x: float
    y: float
    ends: tuple[float, float] | None
    says: str
    size: float = 0.0
    label: str = ""


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a stacked bar, a share in [0, 1]."""

    series: str
    name: str
    share: float


def round_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return multiples of 1, 2 or 5 times a power of ten that cover `low` to `high`."""
    if not high > low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(size * unit for size in (1, 2, 5, 10) if size * unit >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(place * step, 12) for place in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Return 1, 2 and 5 times powers of ten that cover `low` to `high`; of many, the powers only.

    >>> log_ticks(50, 1600), log_ticks(3e-6, 2e-3)
    ([50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0], [1e-06, 1e-05, 0.0001, 0.001, 0.01])

    Raises:
        ValueError: `low` is not above 0.
    """
    if not low > 0:
        raise ValueError(f"a logarithmic axis has no place for {low}")
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    for steps in ((1, 2, 5), (1,)):
        ticks = [float(f"{step}e{power}") for power in powers for step in steps]
        first = max(place for place, tick in enumerate(ticks) if tick <= low * (1 + 1e-9))
        last = min(place for place, tick in enumerate(ticks) if tick >= high * (1 - 1e-9))
        if first == last:  # one value: room on both sides
            first, last = first - 1, last + 1
        kept = ticks[max(first, 0) : last + 1]
        if len(kept) <= most:
            break
    return kept


def row_chart(
    groups: Sequence[Group],
    axis: Axis,
    *,
    says: str,
    bars: bool = False,
    left: float = 40.0,
    right: float = 84.0,
) -> Markup:
    """Draw horizontal bars from zero, or dots, with intervals as whiskers; one row a mark.

    A name of several words that is longer than its room goes over several lines.

    Args:
        groups: the rows.
        axis: of the values; what lies outside of its ticks is cut there.
        says: what the chart is read out as.
        bars: whether bars are drawn, not dots.
        left, right: the room for names and values.
    """
    values = [mark.value for group in groups for mark in group.marks]
    ticks = axis.ticks or round_ticks(min([0.0, *values]), max(values, default=1.0), 4)
    scale = Scale(ticks[0], ticks[-1], left, WIDTH - right)
    parts: list[Markup] = []
    y = 4.0
    for group in groups:
        if group.heading:
            parts.append(_text(0, y + 13, group.heading, kind="heading"))
            y += _LABEL
        for mark in group.marks:
            letters = max(int((left - 8) / _LETTER), 1)
            names = textwrap.wrap(visible(mark.name), letters, break_long_words=False)
            high = max(_ROW, _LINE * len(names) + 5)
            parts.append(_row(mark, names, y + high / 2, scale, bars=bars))
            y += high
        y += _GAP
    grid = []
    for tick in ticks:
        grid.append(_line(scale(tick), 2, scale(tick), y, "zero" if tick == 0 else "rule"))
        grid.append(_text(scale(tick), y + 14, axis.show(tick), anchor="middle"))
    grid.append(
        _text((scale.start + scale.end) / 2, y + 31, axis.name, anchor="middle", kind="axis")
    )
    return _drawing(y + _AXIS, says, [*grid, *parts])


def stack_chart(
    bars: Sequence[tuple[str, Sequence[Segment]]], *, says: str, axis: str, left: float = 40.0
) -> Markup:
    """Draw one bar a row, cut into shares of 100 %; shares of 5 % and more are written on it.

    `left` is the room for names.
    """
    scale = Scale(0.0, 1.0, left, WIDTH - 14)
    parts: list[Markup] = []
    y = 4.0
    for name, segments in bars:
        parts.append(_text(scale.start - 8, y + 19, name, anchor="end", kind="name"))
        done = 0.0
        for segment in segments:
            start, end = scale(done), scale(done + segment.share)
            done += segment.share
            title = _node("title", f"{name}, {segment.name}: {percent(segment.share)}")
            size = {"x": start, "y": y, "width": max(round(end - start - 1, 2), 0), "height": 28}
            inside = [title, _node("rect", kind=f"fill {segment.series}", **size)]
            if segment.share >= 0.05:
                middle, words = round((start + end) / 2, 2), rounded(100 * segment.share, 0)
                kind = f"on {segment.series}"
                inside.append(_text(middle, y + 18.5, words, anchor="middle", kind=kind))
            parts.append(_node("g", *inside))
        y += 36
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(_text(scale(tick), y + 10, rounded(100 * tick, 0), anchor="middle"))
    parts.append(_text((scale.start + scale.end) / 2, y + 27, axis, anchor="middle", kind="axis"))
    return _drawing(y + 34, says, parts)


def column_chart(
    bins: Sequence[tuple[str, float, str, str]], *, says: str, x_axis: str, y_axis: str
) -> Markup:
    """Draw a histogram of upright bars: (label, value, words above it, series)."""
    ticks = round_ticks(0.0, max((value for _, value, _, _ in bins), default=1.0) or 1.0, 4)
    top, bottom, left = 40.0, 190.0, 56.0
    scale = Scale(ticks[0], ticks[-1], bottom, top)
    parts = [_text(0, 12, y_axis, kind="axis"), *_levels(ticks, number, scale, left)]
    step = (WIDTH - left) / max(len(bins), 1)
    for place, (label, value, words, series) in enumerate(bins):
        x = left + step * (place + 0.5)
        height = round(bottom - scale(value), 2)
        size = {"x": round(x - step * 0.31, 2), "width": round(step * 0.62, 2)}
        bar = _node("rect", y=scale(value), height=height, rx=2, kind=f"fill {series}", **size)
        above = _text(x, scale(value) - 6, words, anchor="middle", kind="value")
        below = _text(x, bottom + 17, label, anchor="middle", kind="name")
        parts.append(_node("g", _node("title", f"{label}: {words}"), bar, above, below))
    parts.append(_text((left + WIDTH) / 2, bottom + 37, x_axis, anchor="middle", kind="axis"))
    return _drawing(bottom + 44, says, parts)


def line_chart(
    curves: Sequence[Line],
    x: Axis,
    y: Axis,
    *,
    says: str,
    dots: Sequence[Dot] = (),
    level: tuple[float, str] | None = None,
    tall: float = 156.0,
) -> Markup:
    """Draw curves, dots (a scatter plot), or both.

    Args:
        curves: drawn in order, the last one on top; points without a finite value are left out.
        x, y: the axes; round ticks of x begin at 0, or below where values are.
        says: what the chart is read out as.
        dots: drawn over the curves, with their words.
        level: a dashed line with a name.
        tall: the height of the y axis.
    """
    curves = [replace(line, points=[p for p in line.points if math.isfinite(p[1])])
              for line in curves]  # fmt: skip
    xs = [value for line in curves for value, _ in line.points] + [dot.x for dot in dots]
    ys = [value for line in curves for _, value in line.points] + [dot.y for dot in dots]
    ys += [end for line in curves for _, *ends in line.band for end in ends]
    ys += [end for dot in dots for end in dot.ends or ()] + ([level[0]] if level else [])
    if not xs:
        return _drawing(40, says, [_text(0, 20, "nothing was logged")])
    y_marks = y.ticks or round_ticks(min(ys), max(ys), 4)
    x_marks = x.ticks or (
        log_ticks(min(xs), max(xs)) if x.log else round_ticks(min([0.0, *xs]), max(xs), 5)
    )
    left, right = 48.0, WIDTH - 12.0
    top = 30.0 if y.name else 10.0
    bottom = top + tall
    room = max((abs(line.shift) for line in curves), default=0.0)
    x_scale = Scale(x_marks[0], x_marks[-1], left + room, right - room, x.log)
    y_scale = Scale(y_marks[0], y_marks[-1], bottom, top)
    parts = [_text(0, 12, y.name, kind="axis"), *_levels(y_marks, y.show, y_scale, left)]
    for mark in x_marks:
        parts.append(_text(x_scale(mark), bottom + 17, x.show(mark), anchor="middle"))
    if level:
        at = y_scale(level[0])
        parts.append(_line(left, at, right, at, "level"))
        parts.append(_text(right, at - 5, level[1], anchor="end"))
    parts += [_band(line, x_scale, y_scale) for line in curves if line.band]
    parts += [_curve(line, x_scale, y_scale) for line in curves]
    # Words over one dot and under the next, so that those of neighbours do not meet.
    parts += [
        _scattered(dot, x_scale, y_scale, below=bool(number % 2)) for number, dot in enumerate(dots)
    ]
    parts += _labels(dots, x_scale, y_scale)
    parts.append(_text((left + right) / 2, bottom + 36, x.name, anchor="middle", kind="axis"))
    return _drawing(bottom + 43, says, parts)


def legend(series: Sequence[tuple[str, str]], *, dots: bool = False) -> Markup:
    """Draw the name of each (series, name) after a square of its colour, or its dot."""
    x, y, parts = 0.0, 12.0, []
    for colour, name in series:
        wide = 24.0 + 7.4 * len(name)
        if x and x + wide > WIDTH:
            x, y = 0.0, y + 18.0
        square = {"x": x, "y": y - 10, "width": 11, "height": 11, "rx": 2}
        parts.append(
            _dot(colour, x + 5.5, y - 4.5)
            if dots
            else _node("rect", kind=f"fill {colour}", **square)
        )
        parts.append(_text(x + 16, y, name, kind="name"))
        x += wide
    return _drawing(y + 8, "legend: " + ", ".join(name for _, name in series), parts)


def _row(mark: Mark, names: Sequence[str], y: float, scale: Scale, *, bars: bool) -> Markup:
    parts: list[Markup] = [_node("title", f"{mark.name} {mark.says}".strip())]
    for place, name in enumerate(names):
        at = y + 4 + _LINE * (place - (len(names) - 1) / 2)
        parts.append(_text(scale.start - 8, at, name, anchor="end", kind="name"))
    at, zero = scale(mark.value), scale(0.0)
    if bars:
        size = {"x": min(at, zero), "width": round(abs(at - zero), 2), "y": y - 6.5, "height": 13}
        parts.append(_node("rect", kind=f"fill {mark.series}", rx=2, **size))
    if mark.ends:
        low, high = (scale(end) for end in mark.ends)
        kind = "whisker" if bars else f"whisker stroke {mark.series}"
        parts.append(_line(low, y, high, y, kind))
        parts += [_line(end, y - 4, end, y + 4, kind) for end in (low, high)]
    if not bars:
        parts.append(_dot(mark.series, at, y))
    parts.append(_text(scale.end + 10, y + 4, mark.says, kind="value"))
    return _node("g", *parts)


_SHAPES = {
    "blue": [(0.0, -6.0), (6.0, 0.0), (0.0, 6.0), (-6.0, 0.0)],
    "green": [(-4.4, -4.4), (4.4, -4.4), (4.4, 4.4), (-4.4, 4.4)],
    "purple": [(0.0, -6.0), (5.6, 4.2), (-5.6, 4.2)],
    "pink": [(0.0, 6.0), (5.6, -4.2), (-5.6, -4.2)],
    "red": [(-1.8, -5.8), (1.8, -5.8), (1.8, -1.8), (5.8, -1.8), (5.8, 1.8), (1.8, 1.8),
            (1.8, 5.8), (-1.8, 5.8), (-1.8, 1.8), (-5.8, 1.8), (-5.8, -1.8), (-1.8, -1.8)],
}  # fmt: skip
"""Corners of the dots of a series, so that two differ in more than colour; others are discs."""


def _dot(series: str, x: float, y: float, size: float = 1.0) -> Markup:
    if series not in _SHAPES:
        return _node("circle", cx=x, cy=y, r=round(4.8 * size, 2), kind=f"fill {series}")
    corners = [(round(x + size * dx, 2), round(y + size * dy, 2)) for dx, dy in _SHAPES[series]]
    return _node("polygon", points=_points(corners), kind=f"fill {series}")


def _curve(line: Line, x_scale: Scale, y_scale: Scale) -> Markup:
    places = [(round(x_scale(x) + line.shift, 2), y_scale(y)) for x, y in line.points]
    kind = f"curve stroke {line.series}" + (" dashed" if line.dashed else "")
    parts = [
        _node("title", line.name),
        _node("polyline", points=_points(places), kind=kind),
    ]
    if line.whiskers:
        parts += [_dot(line.series, x, y, 0.8) for x, y in places]
    # Few points would look like more than they are as a bare line.
    elif len(places) <= 25 and not line.dashed:
        fill = f"fill {line.series}"
        parts += [_node("circle", cx=x, cy=y, r=2.6, kind=fill) for x, y in places]
    return _node("g", *parts)


def _band(line: Line, x_scale: Scale, y_scale: Scale) -> Markup:
    """Shade the intervals, or draw each where that is asked for or there is one only."""
    lows = [(round(x_scale(x) + line.shift, 2), y_scale(low)) for x, low, _ in line.band]
    highs = [(round(x_scale(x) + line.shift, 2), y_scale(high)) for x, _, high in line.band]
    if line.whiskers or len(line.band) == 1:
        kind = f"whisker stroke {line.series}"
        pairs = zip(lows, highs, strict=True)
        return _node("g", *(_line(*low, *high, kind) for low, high in pairs))
    points = _points([*lows, *reversed(highs)])
    return _node("polygon", points=points, kind=f"band fill {line.series}")


def _scattered(dot: Dot, x_scale: Scale, y_scale: Scale, *, below: bool) -> Markup:
    x, y, radius = x_scale(dot.x), y_scale(dot.y), round(4 + 7 * math.sqrt(dot.size), 2)
    parts = [_node("title", dot.says)]
    top, bottom = y - radius, y + radius
    if dot.ends:
        low, high = (y_scale(end) for end in dot.ends)
        parts.append(_line(x, low, x, high, f"whisker stroke {dot.series}"))
        top, bottom = min(top, high), max(bottom, low)
    if dot.label:
        return _node("g", *parts, _dot(dot.series, x, y))
    parts.append(_node("circle", cx=x, cy=y, r=radius, kind=f"fill {dot.series}"))
    at = round(bottom + 14 if below else top - 5, 2)
    return _node("g", *parts, _text(x, at, dot.says, anchor="middle"))


_SIDES = ((1, 0), (-1, 0), (1, -1), (-1, -1), (1, 1), (-1, 1), (0, -1), (0, 1))
"""Where a label may stand from its dot, best first."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def _labels(dots: Sequence[Dot], x_scale: Scale, y_scale: Scale) -> list[Markup]:
    """Write each label where it covers least of dots, whiskers and the labels before it."""
    taken: list[Box] = []
    for dot in dots:
        x, y = x_scale(dot.x), y_scale(dot.y)
        taken.append((x - 7, y - 7, x + 7, y + 7))
        if dot.ends:
            low, high = (y_scale(end) for end in dot.ends)
            taken.append((x - 2, high, x + 2, low))
    edges = (x_scale.start, y_scale.end, x_scale.end, y_scale.start)
    parts = []
    for dot in dots:
        if not dot.label:
            continue
        wide, high = 7.6 * len(dot.label), 12.0
        x, y = x_scale(dot.x), y_scale(dot.y)
        boxes: list[Box] = []
        for far in (8.0, 20.0, 32.0):
            for to_x, to_y in _SIDES:
                left = x + to_x * (far + wide / 2) - wide / 2
                top = y + to_y * (far + high / 2) - high / 2
                boxes.append((left, top, left + wide, top + high))
        best = min(boxes, key=lambda box: _cost(box, taken, edges))
        taken.append(best)
        at = round((best[0] + best[2]) / 2, 2), round(best[3] - 2, 2)
        parts.append(_text(*at, dot.label, anchor="middle", kind="heading label"))
    return parts


def _cost(box: Box, taken: Sequence[Box], edges: Box) -> float:
    """Return how much of a box is covered; what lies outside of the edges counts ten times."""
    inside = _shared(box, edges)
    outside = (box[2] - box[0]) * (box[3] - box[1]) - inside
    return round(sum(_shared(box, other) for other in taken) + 10 * outside, 6)


def _shared(one: Box, other: Box) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(wide, 0.0) * max(high, 0.0)


def _levels(
    ticks: Sequence[float], show: Callable[[float], str], scale: Scale, left: float
) -> list[Markup]:
    parts = []
    for tick in ticks:
        at = scale(tick)
        parts.append(_line(left, at, WIDTH, at, "zero" if tick == 0 else "rule"))
        parts.append(_text(left - 8, at + 4, show(tick), anchor="end"))
    return parts


def _node(name: str, *children: Markup | str, **attributes: str | float) -> Markup:
    """Write an element. In attributes' names `_` stands for `-`, and `kind` for `class`.

    Control characters, which XML does not have, are shown escaped.
    """
    written = Markup("").join(
        Markup(' {}="{}"').format("class" if key == "kind" else key.replace("_", "-"), _seen(value))
        for key, value in attributes.items()
    )
    inside = Markup("").join(escape(_seen(child)) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), written, inside)


def _seen(value: Markup | str | float) -> Markup | str | float:
    plain = isinstance(value, str) and not isinstance(value, Markup)
    return visible(str(value)) if plain else value


def _text(x: float, y: float, words: str, *, anchor: str = "start", kind: str = "tick") -> Markup:
    """Write words with their baseline at y."""
    return _node("text", words, x=x, y=y, text_anchor=anchor, kind=kind)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return _node("line", x1=x1, y1=y1, x2=x2, y2=y2, kind=kind)


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in places)


def _drawing(height: float, says: str, parts: Sequence[Markup]) -> Markup:
    """Close a drawing; `says` is what it is read out as."""
    box = f"0 0 {WIDTH} {height:g}"
    return _node("svg", *parts, viewBox=box, role="img", aria_label=says)

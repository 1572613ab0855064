"""The charts of a study: levels as rows, lines over a setting, and all break conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from sharegptvideo._text import interval, number, plural, points, rounded, shortened
from sharegptvideo.reports.charts import (
    SERIES,
    Axis,
    Dot,
    Group,
    Line,
    Mark,
    line_chart,
    round_ticks,
    row_chart,
)
from sharegptvideo.reports.parts import Figure
from sharegptvideo.reports.study.results import Chart

__all__ = ["break_figure", "level_figure"]

_COLOURS = (*SERIES, "slate")
_NAME, _LETTER = 164.0, 7.8  # room for names of levels at most, and for one letter
_SIDE = 5.0  # between whiskers of two series at one x
_WORDS = 52  # letters that an axis' name has room for
_TALL, _TALLEST = 200.0, 300.0  # y axes of lines, and of all break conditions
_DIFFERENCES = ("gain", "difference", "delta")  # begin the names of columns whose sign matters

Row = Mapping[str, Any]


def level_figure(chart: Chart, table: Sequence[Row], file: str) -> Figure | None:
    """Draw a table as its chart says; None where no row has a figure.

    Lines need numbers as x, and above 0 on a logarithmic axis; rows without are left out, and
    counted in the note. Where no row has one, levels are drawn as rows.
    """
    rows = [row for row in table if row[chart.y] is not None]
    if not rows:
        return None
    if chart.form == "lines":
        placed = [row for row in rows if _has_place(row[chart.x], log=chart.log_x)]
        if placed:
            return _lines(chart, placed, len(rows) - len(placed), file)
    return _points(chart, rows, file)


def _has_place(x: object, *, log: bool) -> bool:
    plain = isinstance(x, int | float) and not isinstance(x, bool)
    return plain and (not log or float(x) > 0)  # type: ignore[arg-type]  # a number, as asked


def _points(chart: Chart, rows: Sequence[Row], file: str) -> Figure:
    write = _writer(chart, rows)
    colours = _colours(chart, rows)
    names = "level" if chart.form == "lines" and "level" in rows[0] else chart.x
    groups = []
    # Rows of a series that follow each other stand closer.
    for series, members in groupby(rows, lambda row: _series(chart, row)):
        marks = [
            Mark(colours[series], str(row[names]), row[chart.y], _ends(chart, row),
                 write(row[chart.y]))
            for row in members
        ]  # fmt: skip
        groups.append(Group("", marks))
    if all(len(group.marks) == 1 for group in groups):  # every row its own: no gaps
        groups = [Group("", [mark for group in groups for mark in group.marks])]
    longest = max(len(str(row[names])) for row in rows)
    drawn = row_chart(
        groups,
        Axis(_unit_words(chart), _ticks(chart, rows), _tick_writer(chart)),
        says=_read_out(chart, rows, names, write),
        left=min(_NAME, _LETTER * longest + 14),
        right=56.0,
    )
    return _figure(chart, drawn, colours, _interval_note(chart, rows), file)


def _lines(chart: Chart, rows: Sequence[Row], left_out: int, file: str) -> Figure:
    colours = _colours(chart, rows)
    apart = _SIDE if any(_ends(chart, row) for row in rows) else 0.0
    curves = []
    for place, (series, colour) in enumerate(colours.items()):
        members = sorted(
            (row for row in rows if _series(chart, row) == series), key=lambda row: row[chart.x]
        )
        band = [(row[chart.x], *ends) for row in members if (ends := _ends(chart, row))]
        curves.append(
            Line(
                colour,
                series or chart.y,
                [(row[chart.x], row[chart.y]) for row in members],
                band,
                whiskers=True,
                shift=apart * (place - (len(colours) - 1) / 2),
            )
        )
    write = _writer(chart, rows)
    drawn = line_chart(
        curves,
        Axis(shortened(chart.x_title or chart.x, _WORDS), log=chart.log_x),
        Axis(_unit_words(chart), _ticks(chart, rows), _tick_writer(chart)),
        says=_read_out(chart, rows, chart.x, write),
        tall=_TALL,
    )
    notes = [_interval_note(chart, rows)]
    if apart and len(colours) > 1:
        notes.append("Lines stand a little apart so that intervals can be seen.")
    if left_out:
        notes.append(f"{plural(left_out, 'row')} without a place on the axis: in the table only.")
    return _figure(chart, drawn, colours, " ".join(filter(None, notes)), file)


def break_figure(rows: Sequence[Row], file: str) -> Figure | None:
    """Draw gain against kappa, a dot a level, in the colour and shape of its experiment's title.

    Args:
        rows: {number, title, level, kappa, gain, low, high}; those without kappa or gain are
            left out. The number is written beside the dot.
        file: the drawing's name.
    """
    known = [row for row in rows if row["kappa"] is not None and row["gain"] is not None]
    if not known:
        return None
    titles = list(dict.fromkeys(row["title"] for row in rows))
    colours = {title: _COLOURS[place % len(_COLOURS)] for place, title in enumerate(titles)}
    dots = [
        Dot(
            colours[row["title"]],
            row["kappa"],
            row["gain"],
            _pair(row["low"], row["high"]),
            f"{row['number']} {row['level']}: κ {rounded(row['kappa'])},"
            f" gain {points(row['gain'], sign=True)}"
            f" ({interval(_pair(row['low'], row['high']), sign=True)})",
            label=str(row["number"]),
        )
        for row in known
    ]
    reach = [value for row in known for value in (row["gain"], row["low"], row["high"])
             if value is not None]  # fmt: skip
    kappas = [row["kappa"] for row in known]
    drawn = line_chart(
        [],
        Axis("κ of the judge's verdicts with the truth", round_ticks(min([0.0, *kappas]), 1.0, 5)),
        Axis("gain, points", round_ticks(min([0.0, *reach]), max([0.0, *reach]), 5), _points_tick),
        says="Gain in points against the judge's kappa: " + "; ".join(dot.says for dot in dots),
        dots=dots,
        tall=_TALLEST,
    )
    drawn_titles = [title for title in titles if any(row["title"] == title for row in known)]
    return Figure(
        drawn,
        "Gain against the judge's agreement with the truth",
        "Numbers are those of the table. Whiskers: 95 % intervals over seeds. κ is 1 where"
        " the judge gives the true verdict on every candidate, 0 where it agrees as often as by"
        " chance.",
        [(colours[title], title) for title in drawn_titles],
        dots=True,
        file=file,
    )


def _series(chart: Chart, row: Row) -> str:
    value = row[chart.series] if chart.series else None
    return "" if value is None else str(value)


def _colours(chart: Chart, rows: Sequence[Row]) -> dict[str, str]:
    """Return a colour for each series, in the order of rows."""
    names = list(dict.fromkeys(_series(chart, row) for row in rows))
    return {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(names)}


def _figure(chart: Chart, drawn: Any, colours: Mapping[str, str], note: str, file: str) -> Figure:
    legend = [(colour, name or "other") for name, colour in colours.items()]
    title = chart.y_title or chart.y.replace("_", " ")
    return Figure(drawn, title[:1].upper() + title[1:], note, legend, dots=True, file=file)


def _ends(chart: Chart, row: Row) -> tuple[float, float] | None:
    return _pair(row[chart.low], row[chart.high]) if chart.low and chart.high else None


def _pair(low: float | None, high: float | None) -> tuple[float, float] | None:
    return None if low is None or high is None else (low, high)


def _values(chart: Chart, rows: Sequence[Row]) -> list[float]:
    return [value for row in rows for value in (row[chart.y], *(_ends(chart, row) or ()))]


def _ticks(chart: Chart, rows: Sequence[Row]) -> list[float]:
    values = _values(chart, rows)
    # Points are gains and shares: both are read from 0.
    base = [0.0] if chart.unit == "points" else []
    return round_ticks(min([*base, *values]), max([*base, *values]), 4)


def _writer(chart: Chart, rows: Sequence[Row]) -> Any:
    """Return what writes a value; differences, which may be below 0, have their signs."""
    if chart.unit != "points":
        return number
    sign = chart.y.startswith(_DIFFERENCES) or min(_values(chart, rows)) < 0
    return lambda value: points(value, sign=sign)


def _tick_writer(chart: Chart) -> Any:
    return _points_tick if chart.unit == "points" else number


def _points_tick(value: float) -> str:
    return number(round(100 * value, 10))


def _unit_words(chart: Chart) -> str:
    return "percentage points" if chart.unit == "points" else shortened(chart.unit, _WORDS)


def _interval_note(chart: Chart, rows: Sequence[Row]) -> str:
    if not chart.low:
        return ""
    without = sum(_ends(chart, row) is None for row in rows)
    if without == len(rows):
        return "No intervals: they take two seeds that differ."
    note = "Whiskers: 95 % intervals over seeds."
    return f"{note} {plural(without, 'row')} without one." if without else note


def _read_out(chart: Chart, rows: Sequence[Row], names: str, write: Any) -> str:
    said = []
    for row in rows:
        series, ends = _series(chart, row), _ends(chart, row)
        who = f"{series}, {row[names]}" if series else str(row[names])
        said.append(f"{who}: {write(row[chart.y])}" + (
            f" ({' to '.join(map(write, ends))})" if ends else ""
        ))  # fmt: skip
    return f"{chart.y_title or chart.y}: " + "; ".join(said)

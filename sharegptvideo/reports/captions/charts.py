"""The study's charts. Colours tell four sources apart; the tables hold all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import Markup

from sharegptvideo._text import percent
from sharegptvideo.reports.charts import Group, Line, Mark, Segment, legend, lines, rows, stacks
from sharegptvideo.reports.svg import round_ticks

__all__ = ["aspects", "density", "growth", "lengths", "support"]

_SERIES = ("one", "two", "three", "four")
_SUPPORT = (
    ("three", "full", "supported"),
    ("two", "part", "in part"),
    ("four", "none", "not at all"),
)


def _drawn(figures: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """(series, name, figures) of the largest sources."""
    sources = list(figures["by_source"].items())[: len(_SERIES)]
    return [(series, *source) for series, source in zip(_SERIES, sources, strict=False)]


def _with_legend(figures: Mapping[str, Any], chart: Markup) -> Markup:
    named = [(series, name) for series, name, _ in _drawn(figures)]
    return legend(named) + chart if len(named) > 1 else chart


def lengths(figures: Mapping[str, Any]) -> Markup:
    """The share of each source's captions by length."""
    curves = []
    for series, name, part in _drawn(figures):
        wide = part["length"]["bin"]
        # From zero to zero, so that a source with one length shows a peak, not a point.
        counts = [*part["length"]["histogram"], 0]
        points = [(0.0, 0.0)] + [
            (wide * (place + 0.5), 100.0 * count / part["captions"])
            for place, count in enumerate(counts)
        ]
        curves.append(Line(series, name, points))
    chart = lines(
        curves,
        says="Share of captions by their number of words",
        x_axis="words, in steps of ten",
        y_axis="% of the captions",
    )
    return _with_legend(figures, chart)


def growth(figures: Mapping[str, Any]) -> Markup:
    """Different words against words read."""
    curves = []
    most = max((part["vocabulary"]["tokens"] for _, _, part in _drawn(figures)), default=0)
    unit, word = (1000, "thousand words read") if most >= 20_000 else (1, "words read")
    for series, name, part in _drawn(figures):
        points = [(0.0, 0.0)]
        points += [(n / unit, float(types)) for n, types in part["vocabulary"]["growth"]]
        curves.append(Line(series, name, points))
    chart = lines(
        curves, says="Different words by words read", x_axis=word, y_axis="different words"
    )
    return _with_legend(figures, chart)


def aspects(figures: Mapping[str, Any]) -> Markup:
    """The share of each source's captions that speak of each aspect."""
    groups = _aspect_groups(figures, "share", percent)
    chart = rows(
        groups,
        says="Share of captions by aspect and source",
        axis="% of the captions",
        ticks=[0.0, 0.25, 0.5, 0.75, 1.0],
        show=lambda value: f"{100 * value:.0f}",
        bars=True,
        left=8.0,
        right=70.0,
    )
    return _with_legend(figures, chart)


def density(figures: Mapping[str, Any]) -> Markup:
    """How often each source's captions speak of each aspect."""
    groups = _aspect_groups(figures, "per_100_words", lambda value: f"{value:.2f}")
    most = max((mark.value for group in groups for mark in group.marks), default=1.0)
    chart = rows(
        groups,
        says="Words of each aspect in 100 words, by source",
        axis="in 100 words",
        ticks=round_ticks(0.0, most or 1.0, 4),
        show=lambda value: f"{value:g}",
        bars=True,
        left=8.0,
        right=70.0,
    )
    return _with_legend(figures, chart)


def _aspect_groups(
    figures: Mapping[str, Any], which: str, show: Callable[[float], str]
) -> list[Group]:
    groups = []
    for aspect in figures["whole"]["aspects"]:
        marks = []
        for series, _, part in _drawn(figures):
            value = part["aspects"][aspect][which]
            marks.append(Mark(series, "", value, None, show(value)))
        groups.append(Group(aspect, marks))
    return groups


def support(measured: Mapping[str, Mapping[str, Any]]) -> Markup:
    """Answers that a caption supports in full, in part, not at all, by config."""
    bars = [
        (name, [Segment(series, words, one[key]) for series, key, words in _SUPPORT])
        for name, one in measured.items()
    ]
    chart = stacks(
        bars,
        says="Answers by how much of them the caption supports",
        axis="% of the questions",
        left=20.0 + 7.0 * max(map(len, measured)),
    )
    return legend([(series, words) for series, _, words in _SUPPORT]) + chart

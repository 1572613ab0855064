"""Charts: what they show, and that a PNG shows what the SVG does."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from markupsafe import Markup
from PIL import Image

from sharegptvideo.reports.charts import (
    Axis,
    Dot,
    Group,
    Line,
    Mark,
    Segment,
    column_chart,
    line_chart,
    log_ticks,
    row_chart,
    stack_chart,
)
from sharegptvideo.reports.estimates import csv_table
from sharegptvideo.reports.parts import Figure, asset
from sharegptvideo.reports.png import write_png

_MARKS = [Mark("blue", "b", 0.5, (0.25, 0.75), "50"), Mark("orange", "<o>", 1.0, None, "100")]


def _rows(*, bars: bool) -> str:
    return str(
        row_chart(
            [Group("group", _MARKS)],
            Axis("share", [0.0, 0.5, 1.0], lambda value: f"{100 * value:.0f}"),
            says="all",
            bars=bars,
            left=100.0,
            right=100.0,
        )
    )


def _of(svg: str, tag: str, kind: str) -> list[dict[str, str]]:
    elements = ElementTree.fromstring(svg).iter(tag)
    return [element.attrib for element in elements if element.get("class") == kind]


def test_bars_and_dots_stand_at_their_values() -> None:
    # The axis goes from 100 to 300.
    (bar,) = _of(_rows(bars=True), "rect", "fill blue")
    assert (bar["x"], bar["width"]) == ("100.0", "100.0")
    (long, *ends) = _of(_rows(bars=True), "line", "whisker")
    assert (long["x1"], long["x2"], [end["x1"] for end in ends]) == (
        "150.0",
        "250.0",
        ["150.0", "250.0"],
    )
    (dot,) = _of(_rows(bars=False), "circle", "fill orange")
    assert dot["cx"] == "300.0"
    (diamond,) = _of(_rows(bars=False), "polygon", "fill blue")
    assert diamond["points"].startswith("200.0,")
    assert "<o>" in ElementTree.fromstring(_rows(bars=False)).itertext()


def test_small_parts_of_a_stack_carry_no_words() -> None:
    parts = [Segment("green", "most", 0.96), Segment("red", "rest", 0.04)]
    svg = str(stack_chart([("all", parts)], says="x", axis="%"))
    assert [text.get("class") for text in ElementTree.fromstring(svg).iter("text")].count(
        "on green"
    ) == 1
    assert not _of(svg, "text", "on red")
    assert "all, rest: 4.0" in svg


def test_a_curve_has_its_band_and_a_scatter_its_intervals() -> None:
    line = Line("blue", "b", [(0, 0), (10, 10)], [(0, 0, 5), (10, 5, 10)])
    dots = [Dot("red", 5, 5, (0, 10), "n = 4", 1.0), Dot("red", 10, 5, None, "n = 1", 0.25)]
    svg = str(line_chart([line], Axis("", [0, 10]), Axis(""), says="x", dots=dots))
    (band,) = _of(svg, "polygon", "band fill blue")
    assert len(band["points"].split()) == 4
    (whisker,) = _of(svg, "line", "whisker stroke red")
    assert whisker["x1"] == whisker["x2"] == "218.0"
    sizes = [float(dot["r"]) for dot in _of(svg, "circle", "fill red")]
    assert sizes == [11.0, 7.5]
    lost = Line("blue", "b", [(0, 1.0), (1, float("nan")), (2, float("inf")), (3, 2.0)])
    kept = str(line_chart([lost], Axis(""), Axis(""), says="x"))
    assert len(_of(kept, "polyline", "curve stroke blue")[0]["points"].split()) == 2
    bare = line_chart([Line("blue", "b", [])], Axis(""), Axis(""), says="x")
    assert "nothing was logged" in bare


def test_a_logarithmic_axis_has_equal_steps_for_equal_factors() -> None:
    assert log_ticks(50, 1600) == [50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0]
    assert log_ticks(3e-6, 2e-3) == [1e-6, 1e-5, 1e-4, 1e-3, 1e-2]
    assert log_ticks(100, 100) == [50.0, 100.0, 200.0]
    with pytest.raises(ValueError, match="no place for 0"):
        log_ticks(0, 10)
    curve = Line("orange", "o", [(1, 0.0), (10, 1.0), (100, 0.0)])
    svg = str(line_chart([curve], Axis("", log=True), Axis(""), says="x"))
    (points,) = (one["points"] for one in _of(svg, "polyline", "curve stroke orange"))
    # From 48 to 388, half way at 10.
    assert [pair.split(",")[0] for pair in points.split()] == ["48.0", "218.0", "388.0"]


def test_curves_with_whiskers_stand_side_by_side() -> None:
    curves = [
        Line(series, series, [(0, 0.5), (10, 0.5)], [(0, 0, 1), (10, 0, 1)], whiskers=True,
             shift=shift)
        for series, shift in (("blue", -4.0), ("green", 4.0))
    ]  # fmt: skip
    svg = str(line_chart(curves, Axis("", [0, 10]), Axis("", [0, 1]), says="x"))
    # The axis goes from 48 + 4 to 388 - 4, so that both curves are inside of 48 to 388.
    for series, places in (("blue", ["48.0", "380.0"]), ("green", ["56.0", "388.0"])):
        whiskers = _of(svg, "line", f"whisker stroke {series}")
        assert [each["x1"] for each in whiskers] == [each["x2"] for each in whiskers] == places
        assert {each["y1"] for each in whiskers} != {each["y2"] for each in whiskers}
        assert len(_of(svg, "polygon", f"fill {series}")) == 2  # dots in the series' shape
    assert not _of(svg, "polygon", "band fill blue")


def test_labels_of_dots_do_not_meet() -> None:
    # 20 dots within 20 units of each other.
    dots = [Dot("blue", 0.5 + place % 5 / 100, place // 5 / 10, None, "", label=str(place))
            for place in range(20)]  # fmt: skip
    svg = str(line_chart([], Axis("", [0, 1]), Axis("", [0, 1]), says="x", dots=dots))
    labels = [each for each in ElementTree.fromstring(svg).iter("text")
              if each.get("class") == "heading label"]  # fmt: skip
    assert [each.text for each in labels] == [str(place) for place in range(20)]
    places = [(float(each.attrib["x"]), float(each.attrib["y"])) for each in labels]
    for place, (x, y) in enumerate(places):
        assert 48 <= x <= 388
        assert all(abs(x - u) >= 7.6 or abs(y - v) >= 11.9 for u, v in places[:place])


def test_a_long_name_goes_over_several_lines() -> None:
    marks = [Mark("blue", "a name of five words", 0.5, None, "1"), Mark("blue", "b", 0.5, None, "")]
    # 78 units are room for ten letters.
    svg = str(row_chart([Group("", marks)], Axis("x"), says="x", left=86.0))
    names = [each for each in ElementTree.fromstring(svg).iter("text")
             if each.get("class") == "name"]  # fmt: skip
    assert [each.text for each in names] == ["a name of", "five words", "b"]
    heights = [float(each.attrib["y"]) for each in names]
    assert heights[1] - heights[0] == 13
    assert heights[2] - heights[1] > 13


def test_dots_of_series_differ_in_shape() -> None:
    series = ("blue", "orange", "green", "purple", "pink", "red")
    marks = [Mark(colour, "", 0.5, None, "") for colour in series]
    svg = str(row_chart([Group("", marks)], Axis("x", [0, 1]), says="x"))
    corners = [_of(svg, "polygon", f"fill {colour}") for colour in series]
    assert [len(found[0]["points"].split()) if found else 0 for found in corners] == [
        4, 0, 4, 3, 3, 12,
    ]  # fmt: skip
    assert len(_of(svg, "circle", "fill orange")) == 1


def test_every_colour_is_in_both_styles() -> None:
    light, dark = re.findall(r":root \{(.*?)\}", asset("style.css"), re.DOTALL)
    colours = set(re.findall(r"\.([a-z]+) \{ --c: var\(--\1\)", asset("style.css")))
    assert {"blue", "orange", "green", "purple", "pink", "red"} <= colours
    for name in colours:
        assert f"--{name}: #" in light
        assert f"--{name}: #" in dark


@pytest.mark.parametrize("chart", ["bars", "dots", "columns", "lines"])
def test_a_png_shows_what_the_svg_does(tmp_path: Path, chart: str) -> None:
    dashed = Line("orange", "o", [(0, 1), (9, 0)], dashed=True)
    svg = {
        "bars": _rows(bars=True),
        "dots": _rows(bars=False),
        "columns": column_chart(
            [("1", 3.0, "3", "blue"), ("2", 0.0, "0", "orange"), ("3", 1.0, "β κ é 中", "orange")],
            says="x", x_axis="x", y_axis="y",
        ),
        "lines": line_chart(
            [Line("blue", "b", [(0, 0), (9, 1)]), dashed], Axis("x"), Axis("y"), says="x",
            level=(0.5, "half"),
        ),
    }[chart]  # fmt: skip
    figure = Figure(Markup(svg), "a title", legend=[("blue", "b"), ("orange", "o")])
    write_png(tmp_path / "a" / "1.png", [figure], "title")
    write_png(tmp_path / "2.png", [figure], "title")
    assert (tmp_path / "a" / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()
    with Image.open(tmp_path / "2.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    for colour in ((0x25, 0x63, 0xC9), (0xC9, 0x6A, 0x12)):
        assert (np.abs(pixels - np.array(colour)).sum(axis=2) < 6).sum() > 100


def test_control_characters_of_names_are_no_broken_xml() -> None:
    marks = [Mark("blue", "a\x1b[2Jb", 0.5, None, "\0")]
    chart = row_chart([Group("c\x07", marks)], Axis("x"), says="d\x1be")
    texts = list(ElementTree.fromstring(str(chart)).itertext())
    assert {r"a\x1b[2Jb", r"\x00", r"c\x07"} <= set(texts)


def test_csv_steers_no_terminal() -> None:
    assert csv_table([{"a": "\x1b[2J=1", "b": "\r=2"}]) == "a,b\n\\x1b[2J=1,'\\r=2\n"

"""Charts as a PNG, for places that show no SVG: a model's card, a run folder."""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from sharegptvideo._io import os_errors, replacing_bytes
from sharegptvideo.reports.charts import WIDTH, legend
from sharegptvideo.reports.parts import Figure, asset

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

__all__ = ["write_png"]

_SCALE = 1.5  # pixels for a unit of a chart
_OVER = 3  # drawn so much larger, then reduced: edges come out smooth
_MARGIN, _GAP, _TITLE = 14.0, 28.0, 24.0
_BAND = 0.14  # as .band in style.css

_NUMBERS = ("x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "width", "height")

# Pillow's own font knows little beyond ASCII.
_ASCII = str.maketrans({"−": "-", "β": "beta", "κ": "kappa", "×": "x", "’": "'"})
_KNOWN = frozenset("±·–“”…")


def write_png(path: Path, figures: Sequence[Figure], title: str = "") -> None:
    """Write figures side by side to `path`, in the colours of a light screen.

    The same figures give the same bytes.

    Raises:
        UserError: the disk is full, or the folder may not be written.
    """
    from PIL import Image, ImageDraw

    charts = [_elements(figure) for figure in figures]
    top = _MARGIN + (_TITLE if title else 0)
    wide = 2 * _MARGIN + len(charts) * WIDTH + (len(charts) - 1) * _GAP
    high = top + max(height for _, height in charts) + _MARGIN
    size = round(wide * _SCALE), round(high * _SCALE)
    canvas = Image.new("RGB", (size[0] * _OVER, size[1] * _OVER), _colours()["paper"])
    brush = _Brush(ImageDraw.Draw(canvas))
    if title:
        brush.words(wide / 2, _MARGIN + 10, title, size=17, anchor="ms")
    for number, (pieces, _) in enumerate(charts):
        x = _MARGIN + number * (WIDTH + _GAP)
        for element, y in pieces:
            brush.draw(element, x, top + y)
    picture = io.BytesIO()  # Pillow takes no notice of what a full disk cuts off
    canvas.reduce(_OVER).save(picture, "PNG")
    with os_errors(path, "free some space or give another --out"), replacing_bytes(path) as file:
        file.write(picture.getvalue())


def _elements(figure: Figure) -> tuple[list[tuple[ElementTree.Element, float]], float]:
    """List the drawings of a figure from top to bottom with their places, and its height."""
    heading = f'<svg viewBox="0 0 {WIDTH} {_TITLE}"><text x="0" y="13" class="title"/></svg>'
    drawings = [ElementTree.fromstring(heading)]
    drawings[0][0].text = figure.title
    if len(figure.legend) > 1:
        drawings.append(ElementTree.fromstring(legend(figure.legend)))
    drawings.append(ElementTree.fromstring(str(figure.picture)))
    placed, y = [], 0.0
    for drawing in drawings:
        placed.append((drawing, y))
        y += float(drawing.attrib["viewBox"].split()[3])
    return placed, y


class _Brush:
    """Draw the elements that `charts` writes: rect, line, polyline, polygon, circle, text."""

    def __init__(self, canvas: ImageDraw) -> None:
        self._canvas = canvas
        self._unit = _SCALE * _OVER

    def draw(self, element: ElementTree.Element, x: float, y: float) -> None:
        """Draw an element and what is in it, moved by (x, y)."""
        for child in element.iter():
            classes = child.get("class", "").split()
            at = {name: float(child.get(name, 0)) for name in _NUMBERS}
            match child.tag:
                case "rect":
                    corner = at["x"] + at["width"], at["y"] + at["height"]
                    if at["width"] > 0 and at["height"] > 0:
                        box = self._places([(at["x"], at["y"]), corner], x, y)
                        self._canvas.rectangle(box, fill=_colour(classes))
                case "circle":
                    low, high = (
                        (at["cx"] + way * at["r"], at["cy"] + way * at["r"]) for way in (-1, 1)
                    )
                    self._canvas.ellipse(self._places([low, high], x, y), fill=_colour(classes))
                case "line":
                    ends = [(at["x1"], at["y1"]), (at["x2"], at["y2"])]
                    self._stroke(self._places(ends, x, y), classes)
                case "polyline" | "polygon":
                    pairs = (pair.split(",") for pair in child.attrib["points"].split())
                    places = self._places([(float(a), float(b)) for a, b in pairs], x, y)
                    if child.tag == "polygon":
                        self._canvas.polygon(places, fill=_colour(classes))
                    else:
                        self._stroke(places, classes)
                case "text":
                    anchor = {"middle": "ms", "end": "rs"}.get(child.get("text-anchor", ""), "ls")
                    self.words(
                        x + at["x"], y + at["y"], child.text or "", anchor=anchor,
                        size=15 if "title" in classes else 12.5, colour=_colour(classes),
                    )  # fmt: skip

    def words(
        self, x: float, y: float, text: str, *, size: float, anchor: str, colour: str = "#17202a"
    ) -> None:
        """Write a line of text at its baseline."""
        self._canvas.text(
            (x * self._unit, y * self._unit), _plain(text), fill=colour, anchor=anchor,
            font=_font(size * self._unit),
        )  # fmt: skip

    def _places(
        self, places: Sequence[tuple[float, float]], x: float, y: float
    ) -> list[tuple[float, float]]:
        return [((x + a) * self._unit, (y + b) * self._unit) for a, b in places]

    def _stroke(self, places: list[tuple[float, float]], classes: Sequence[str]) -> None:
        width = {"curve": 2.0, "whisker": 1.5}.get(classes[0], 1.0)
        pen: dict[str, Any] = {"fill": _colour(classes), "width": round(width * self._unit)}
        if "dashed" not in classes and "level" not in classes:
            self._canvas.line(places, joint="curve", **pen)
            return
        dash = 3.5 * self._unit
        for (x1, y1), (x2, y2) in pairwise(places):
            long = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
            if not long:  # from a point to itself, as of an axis with a single value
                continue
            for number in range(0, int(long / dash) + 1, 2):
                start, end = (min(place * dash / long, 1.0) for place in (number, number + 1))
                ends = [(x1 + (x2 - x1) * share, y1 + (y2 - y1) * share) for share in (start, end)]
                self._canvas.line(ends, **pen)


@cache
def _colours() -> dict[str, str]:
    """Read the colours of a light screen from the style sheet."""
    block = asset("style.css").partition("}")[0]
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))


def _colour(classes: Sequence[str]) -> str:
    """Return the colour that the style sheet gives to an element of these classes."""
    colours = _colours()
    if "on" in classes:
        return colours["ink"] if {"pale", "pink"} & set(classes) else colours["paper"]
    series = next((name for name in classes[1:] if name in colours), None)
    if series is None:
        return {
            "rule": colours["grid"],
            "zero": colours["zero"],
            "level": colours["zero"],
            "tick": colours["quiet"],
            "axis": colours["quiet"],
        }.get(classes[0] if classes else "", colours["ink"])
    if "band" in classes:
        pairs = zip(_channels(colours["paper"]), _channels(colours[series]), strict=True)
        return "#" + "".join(f"{round(a + _BAND * (b - a)):02x}" for a, b in pairs)
    return colours[series]


def _channels(colour: str) -> list[int]:
    return [int(colour[place : place + 2], 16) for place in (1, 3, 5)]


@cache
def _font(size: float) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _plain(text: str) -> str:
    """Replace what the font has no letter for."""
    letters = unicodedata.normalize("NFKD", text.translate(_ASCII))
    shown = (sign for sign in letters if not unicodedata.combining(sign))
    return "".join(sign if sign.isascii() or sign in _KNOWN else "?" for sign in shown)

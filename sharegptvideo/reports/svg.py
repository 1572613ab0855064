"""Pieces of SVG drawings: escaped elements, linear scales with round ticks, axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

__all__ = ["WIDTH", "Scale", "drawing", "node", "round_ticks", "text"]

# Every drawing is this wide in its own units; style sheets size letters for it.
WIDTH = 400


@dataclass(frozen=True, slots=True)
class Scale:
    """Values from `low` to `high` as positions from `start` to `end`; values outside are cut."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The position of a value."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)


def node(name: str, *children: Markup | str, **attributes: str | float) -> Markup:
    """An element. In attributes' names `_` stands for `-`, and `kind` for `class`."""
    written = Markup("").join(
        Markup(' {}="{}"').format("class" if key == "kind" else key.replace("_", "-"), value)
        for key, value in attributes.items()
    )
    inside = Markup("").join(escape(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(name), written, inside)


def text(x: float, y: float, words: str, *, anchor: str = "start", kind: str = "tick") -> Markup:
    """Words with their baseline at y."""
    return node("text", words, x=x, y=y, text_anchor=anchor, kind=kind)


def drawing(height: float, says: str, parts: Sequence[Markup]) -> Markup:
    """A whole drawing; `says` is what it is read out as."""
    box = f"0 0 {WIDTH} {height:g}"
    return node("svg", *parts, viewBox=box, role="img", aria_label=says)


def round_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, from low or below to high or above."""
    if not high > low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(size * unit for size in (1, 2, 5, 10) if size * unit >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]

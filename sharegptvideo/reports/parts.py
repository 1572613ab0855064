"""What a page is made of. Plain `str` is always escaped; `Markup` is taken as it is."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sharegptvideo._text import percent

__all__ = ["Bar", "Cell", "Details", "Figure", "Part", "Section", "Table", "cell_text"]


@dataclass(frozen=True, slots=True)
class Bar:
    """A share from 0 to 1 as a cell: its percentage, and a bar of that length below."""

    share: float


Cell = str | int | float | Bar | None
"""A cell of a table. Numbers are set with separators and to the right, None as a dash; a
`Markup` is a `str` that is not escaped."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows below named columns. Columns that hold numbers only are set to the right.

    Raises:
        ValueError: a row has more or fewer cells than there are columns.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows, start=1):
            if len(row) != len(self.columns):
                raise ValueError(f"row {number}: {len(row)} cells for {len(self.columns)} columns")

    @property
    def numeric(self) -> list[bool]:
        """For each column, whether all its cells are numbers or None, and one is a number."""
        return [
            _is_numeric([row[place] for row in self.rows]) for place in range(len(self.columns))
        ]


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing (SVG as `Markup`) or a picture (bytes of a PNG), with a title and a note.

    `title` is also what a picture is read out as.
    """

    picture: Markup | bytes
    title: str
    note: str = ""

    @property
    def url(self) -> str:
        """A picture as a `data:` URL; empty for a drawing."""
        if isinstance(self.picture, bytes):
            return "data:image/png;base64," + base64.b64encode(self.picture).decode()
        return ""


@dataclass(frozen=True, slots=True)
class Details:
    """Parts that are folded away below a line to click on."""

    summary: str
    parts: Sequence[str | Table | Figure]


Part = str | Table | Figure | Details
"""A paragraph (escaped), HTML (`Markup`), a table, a figure, or something folded away."""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, and one part or several below it. Figures that follow each other share a row."""

    title: str
    body: Part | Sequence[Part]

    @property
    def parts(self) -> list[Part | list[Figure]]:
        """The parts in order; neighbouring figures are put together."""
        # A text is a sequence too, of letters.
        body = self.body
        parts = [body] if isinstance(body, str | Table | Figure | Details) else body
        grouped: list[Part | list[Figure]] = []
        for part in parts:
            last = grouped[-1] if grouped else None
            if not isinstance(part, Figure):
                grouped.append(part)
            elif isinstance(last, list):
                last.append(part)
            else:
                grouped.append([part])
        return grouped


def _is_numeric(cells: Sequence[Cell]) -> bool:
    held = [cell for cell in cells if cell is not None]
    return bool(held) and all(isinstance(cell, int | float) for cell in held)


def cell_text(cell: Cell) -> str:
    """A cell as it is shown: `1,234`, `0.1235`, a dash for None.

    >>> cell_text(1234567), cell_text(0.123456), cell_text(98765.4), cell_text(None)
    ('1,234,567', '0.1235', '98,765', '–')
    """
    if cell is None:
        return "–"
    if isinstance(cell, Bar):
        return percent(cell.share, space="\N{NO-BREAK SPACE}")
    if isinstance(cell, str):
        return cell
    if isinstance(cell, float):
        # Four digits, but never an exponent for what is merely large.
        return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.4g}"
    return f"{cell:,}"

"""What a page is made of, and the page as one HTML file.

Plain `str` is always escaped; `Markup` is taken as it is.
"""

from __future__ import annotations

import base64
import hashlib
import html
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup, escape

from sharegptvideo._io import write_text
from sharegptvideo._text import interval, number, percent, rounded, web_link

__all__ = [
    "Bar",
    "Card",
    "Cell",
    "Clip",
    "Details",
    "Figure",
    "Grid",
    "Headline",
    "Legend",
    "Name",
    "Page",
    "Part",
    "Score",
    "Section",
    "Table",
    "Tag",
    "Value",
    "asset",
    "cell_text",
    "key",
    "link",
    "pages_near",
]

Series = Sequence[tuple[str, str]]
"""Colours of `style.css`, each with its name."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A share from 0 to 1 as a cell: its percentage, and a bar of that length below."""

    share: float


@dataclass(frozen=True, slots=True)
class Tag:
    """A word in a coloured pill: `good`, `bad`, `warn`, or `none` without a colour."""

    kind: str
    text: str
    sign: str = ""

    def __html__(self) -> str:
        """Return the tag's HTML, in a template or in `Markup.format`."""
        sign = Markup('<span aria-hidden="true">{}</span> ').format(self.sign) if self.sign else ""
        return Markup('<span class="mark {}">{}{}</span>').format(self.kind, sign, self.text)


@dataclass(frozen=True, slots=True)
class Name:
    """The name of a row or a column, with a quiet line below.

    With a `link` the name leads there.
    """

    text: str
    sub: str = ""
    link: str | None = None

    @property
    def linked(self) -> Markup:
        """The name's HTML."""
        return link(self.text, self.link)


@dataclass(frozen=True, slots=True)
class Value:
    """A number in words of its own, with a quiet note after it; sorted by `number`."""

    number: float | None
    text: str
    note: str = ""
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Score:
    """A large figure: below it the interval `ends` as a bar on `axis`, lines, and tags.

    What lies beyond the axis is cut there. Without a number only the note is shown.
    """

    number: float | None
    text: str = ""
    note: str = ""
    best: bool = False
    ends: tuple[float, float] | None = None
    lines: Sequence[str] = ()
    tags: Sequence[Tag] = ()
    axis: tuple[float, float] = (0.0, 1.0)

    @property
    def says(self) -> str:
        """What the bar is read out as."""
        return f"95 % interval {interval(self.ends)}"

    def place(self, value: float) -> float:
        """Where a value lies on the bar, in per cent of its length."""
        low, high = self.axis
        return 100 * (min(max(value, low), high) - low) / (high - low)


Cell = str | int | float | Bar | Tag | Name | Value | Score | None
"""A cell of a table. Numbers are set with separators and to the right, None as a dash; a
`Markup` is a `str` that is not escaped."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows below named columns. Columns that hold numbers only are set to the right.

    A table without any name of a column has no head. One that is `stacked` shows a row's cells
    below each other on narrow screens, each with its column's name. A `sortable` one has buttons
    as heads: the page needs `sort.js`.

    Raises:
        ValueError: a row has more or fewer cells than there are columns.
    """

    columns: Sequence[str | Name]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    stacked: bool = False
    sortable: bool = False

    def __post_init__(self) -> None:
        for place, row in enumerate(self.rows, start=1):
            if len(row) != len(self.columns):
                raise ValueError(f"row {place}: {len(row)} cells for {len(self.columns)} columns")

    @property
    def heads(self) -> list[Name]:
        """The columns' names, each with a line below or without."""
        return [each if isinstance(each, Name) else Name(each) for each in self.columns]

    @property
    def numeric(self) -> list[bool]:
        """For each column, whether all its cells are numbers or empty, and one is a number."""
        return [self._holds(place, int | float | Value) for place in range(len(self.columns))]

    @property
    def textual(self) -> list[bool]:
        """For each column, whether it is sorted as text."""
        return [self._holds(place, str | Name) for place in range(len(self.columns))]

    def _holds(self, place: int, kind: object) -> bool:
        cells = [row[place] for row in self.rows if row[place] not in (None, "")]
        return bool(cells) and all(isinstance(cell, kind) for cell in cells)  # type: ignore[arg-type]  # a union of types


@dataclass(frozen=True, slots=True)
class Legend:
    """The names of series after their colours, then a hint; `dots` as dots of a chart have them."""

    series: Series
    hint: str = ""
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Headline:
    """A few large figures in a row, each as (name, figure, a line below it)."""

    figures: Sequence[tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Figure:
    """An SVG (as `Markup`) or a PNG (as bytes), with a title above and a note below it.

    The legend has squares, or `dots` as a chart has them. `file` names the drawing where pages
    keep it as a file of its own.
    """

    picture: Markup | bytes
    title: str
    note: str = ""
    legend: Series = ()
    dots: bool = False
    file: str = ""

    @property
    def url(self) -> str:
        """A picture as a `data:` URL; empty for a drawing."""
        if isinstance(self.picture, bytes):
            return "data:image/png;base64," + base64.b64encode(self.picture).decode()
        return ""


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip that plays, its line of time with marks where frames were sampled, and these frames.

    Without a file that browsers play, or where it is not there, the frames are shown in turn. The
    page has to be one with `clips`, and `clips.js` among its scripts.

    Attributes:
        name: what the clip is called.
        frames: address of a picture of the sampled frames, from left to right: relative to the
            page, or a `data:` URL.
        size: width and height of one frame in it, pixels.
        indices: the number of each frame in the clip, from 0.
        times: when a player shows each, seconds; empty where that is not known.
        seconds: how long the clip is; 0 where that is not known.
        file: address of the clip, relative to the page; "" where there is none to play.
    """

    name: str
    frames: str
    size: tuple[int, int]
    indices: Sequence[int]
    times: Sequence[float] = ()
    seconds: float = 0.0
    file: str = ""

    @property
    def marks(self) -> list[tuple[float, str, float | None]]:
        """For each frame its place on the line in per cent, a label or "", and its seconds.

        The viewer of a run (`viewer.js`) draws the same line.
        """
        last = max(len(self.indices) - 1, 1)
        every = -(-len(self.indices) // _LABELS)  # so many that they do not run into each other
        marks = []
        for place, index in enumerate(self.indices):
            time = self.times[place] if self.times else None
            share = place / last if time is None else time / (self.seconds or 1.0)
            # Halves up, as browsers round: the two must say the same.
            tenth = None if time is None else math.floor(10 * time + 0.5) / 10
            label = str(index) if tenth is None else f"{rounded(tenth, 1)} s"
            marks.append((100 * min(share, 1.0), "" if place % every else label, time))
        return marks


_LABELS = 8


@dataclass(frozen=True, slots=True)
class Grid:
    """Parts side by side as far as they fit; a sequence of parts is one column."""

    items: Sequence[Part | Sequence[Part]]
    narrow: bool = False


@dataclass(frozen=True, slots=True)
class Details:
    """Parts that are folded away below a line to click on."""

    summary: str
    body: Part | Sequence[Part]
    open: bool = False


@dataclass(frozen=True, slots=True)
class Card:
    """Parts in a frame, below a title with small tags. A `note` has a ground of its own."""

    title: str
    body: Part | Sequence[Part]
    tags: Sequence[str] = ()
    note: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, and one part or several below it. Figures that follow each other share a row.

    A section within a section has a smaller heading. Links to `#anchor` lead to one.
    """

    title: str
    body: Part | Sequence[Part]
    anchor: str = ""


Part = str | Table | Headline | Figure | Legend | Clip | Grid | Details | Card | Section
"""A paragraph (escaped), HTML (`Markup`), or one of the classes above."""


@dataclass(frozen=True, slots=True)
class Page:
    """One HTML file. The same parts give the same bytes.

    Attributes:
        title: the heading; also the name of the tab, unless `tab` is.
        first: parts right below it, before the lead.
        lead: one or two sentences below it.
        sections: in order.
        kicker: a small line above the title: which command wrote the page, on what.
        intro: parts between the lead and the first section.
        footer: a small line at the end: versions, settings.
        tab: name of the tab.
        wide: whether it takes the room of a wide screen.
        script: JavaScript in the page.
        scripts: files beside the page that it loads, by relative path. A page without any may
            load nothing at all; one with some, scripts and pictures of its own place.
        clips: whether it shows clips and pictures of its own place.
        contents: whether a list of its sections stands before the first one.
        links: other pages that stand above it: (relative address, words).
        kind: what it is called where another page leads to it; see `pages_near`.
    """

    title: str
    lead: str
    sections: Sequence[Section]
    kicker: str = "sharegptvideo"
    intro: Sequence[Part] = ()
    footer: str = ""
    tab: str = ""
    wide: bool = False
    script: str = ""
    scripts: Sequence[str] = field(default=())
    clips: bool = False
    contents: bool = False
    links: Sequence[tuple[str, str]] = ()
    kind: str = ""
    first: Sequence[Part] = ()

    @property
    def listed(self) -> list[tuple[str, str]]:
        """The sections of the list of contents, each with its anchor; none without a list."""
        return [(self.anchor(each), each.title) for each in self.sections if self.contents]

    def anchor(self, section: Section) -> str:
        """Return the anchor of a section; where a list names it, made of its title if need be."""
        if section.anchor or not self.contents:
            return section.anchor
        return "-".join(re.findall(r"\w+", section.title.lower()))

    @property
    def policy(self) -> str:
        """What a browser may load for the page."""
        digest = base64.b64encode(hashlib.sha256(self.script.encode()).digest()).decode()
        allowed = [f"'sha256-{digest}'"] if self.script else []
        allowed += ["'self' file:"] if self.scripts else []
        pictures = "data: 'self' file:" if self.scripts or self.clips else "data:"
        clips = " media-src 'self' file:;" if self.clips else ""
        scripts = f" script-src {' '.join(allowed)};" if allowed else ""
        return f"default-src 'none'; img-src {pictures};{clips}{scripts} style-src 'unsafe-inline'"

    def html(self) -> str:
        """Return the file's text."""
        from jinja2 import Environment, StrictUndefined

        environment = Environment(
            autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        environment.filters |= {"cell": cell_text, "listed": _listed, "arranged": _arranged}
        environment.globals["key"] = key
        for kind in (Bar, Name, Value, Score, Table, Headline, Legend, Figure, Clip, Grid, Details,
                     Card, Section, Markup):  # fmt: skip
            environment.tests[kind.__name__.lower()] = lambda value, kind=kind: isinstance(
                value, kind
            )
        # The assets are ours, and no user's text goes into them.
        text = environment.from_string(asset("page.html")).render(
            page=self, style=Markup(asset("style.css")), script=Markup(self.script)
        )
        # Data under study may hold half surrogate pairs, which no file can.
        return text.encode("utf-8", "replace").decode()

    def write(self, path: Path) -> Path:
        """Write the page to `path`, whole or not at all, and make its folder.

        Raises:
            OSError: the disk is full, or the folder may not be written.
        """
        write_text(path, self.html())
        return path


def asset(name: str) -> str:
    """Return the text of a file beside this module."""
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def link(text: str, address: str | None) -> Markup:
    """Return a text that leads to an address of the web; to any other, both as text.

    >>> print(link("x & y", "https://x.org/?a&b"), link("x", "javascript:1"))
    <a href="https://x.org/?a&amp;b" rel="noopener noreferrer">x &amp; y</a> x (javascript:1)
    """
    if not address:
        return escape(text)
    href = web_link(address)
    if href is None:
        return Markup("{} ({})").format(text, address)
    return Markup('<a href="{}" rel="noopener noreferrer">{}</a>').format(href, text)


def key(series: str, *, dots: bool = False) -> Markup:
    """Return a small square of a series' colour, or its dot as charts have it."""
    return Markup('<i class="key {}{}"></i>').format(series, " dot" if dots else "")


_KIND = re.compile(r'<meta name="sharegptvideo-page" content="([^"]+)">')
_NEAR = 8


def pages_near(folder: Path) -> list[tuple[str, str]]:
    """List the pages of ours that lie around a page's folder, as links of `Page.links`.

    That is `index.html` in the folder above, in those below it, and in those beside it, as they
    are now, and no more than a line of them. Only pages with a `kind` are listed.
    """
    around = [folder.parent, *_folders(folder), *_folders(folder.parent)]
    links: list[tuple[str, str]] = []
    for place in around:
        if place.resolve() == folder.resolve() or len(links) == _NEAR:
            continue
        address = Path(os.path.relpath(place / "index.html", folder)).as_posix()
        try:
            with (place / "index.html").open(encoding="utf-8", errors="replace") as page:
                named = _KIND.search(page.read(1000))
        except OSError:
            continue
        if named:
            links.append((quote(address), html.unescape(named[1])))
    return links


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(each for each in folder.iterdir() if each.is_dir())
    except OSError:
        return []


def cell_text(cell: str | float | Bar | None) -> str:
    """Return a cell as it is shown: `1,234`, `0.1235`, a dash for None.

    >>> cell_text(1234567), cell_text(0.123456), cell_text(98765.4), cell_text(None)
    ('1,234,567', '0.1235', '98,765', '–')
    """
    if cell is None:
        return number(None)
    if isinstance(cell, Bar):
        return percent(cell.share, space="\N{NO-BREAK SPACE}")
    return number(cell) if isinstance(cell, int | float) else cell


def _arranged(body: Part | Sequence[Part]) -> list[Part]:
    """List the parts; neighbouring figures become a grid."""
    arranged: list[Part] = []
    figures: list[Part] = []
    for part in _listed(body):
        if isinstance(part, Figure):
            figures.append(part)
            continue
        if figures:
            arranged.append(Grid(figures))
            figures = []
        arranged.append(part)
    return [*arranged, *([Grid(figures)] if figures else [])]


def _listed(body: Part | Sequence[Part]) -> Sequence[Part]:
    # A text is a sequence too, of letters.
    return [body] if isinstance(body, Part) else body

"""Put a page together from its parts."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from sharegptvideo._io import write_text
from sharegptvideo.reports.parts import Bar, Details, Figure, Section, Table, cell_text

__all__ = ["page_text", "write_page"]


def write_page(
    path: Path,
    *,
    title: str,
    lead: str,
    sections: Sequence[Section],
    kicker: str = "sharegptvideo",
    footer: str = "",
    style: str = "",
    scripts: Sequence[str] = (),
) -> Path:
    """Write a page to `path`, whole or not at all; returns `path`. The same parts, the same bytes.

    Args:
        path: the file; its folder is made.
        title: the heading, and the name of the tab.
        lead: one or two sentences below it.
        sections: in order.
        kicker: a small line above the title: which command wrote the page, on what.
        footer: a small line at the end: versions, settings.
        style: CSS behind that of all pages; taken as it is.
        scripts: files beside the page that it loads, by relative path. A page without any may
            load nothing at all; one with some, scripts and pictures of its own place.

    Raises:
        OSError: the disk is full, or the folder may not be written.
    """
    text = page_text(
        title=title,
        lead=lead,
        sections=sections,
        kicker=kicker,
        footer=footer,
        style=style,
        scripts=scripts,
    )
    write_text(path, text)
    return path


def page_text(
    *,
    title: str,
    lead: str,
    sections: Sequence[Section],
    kicker: str = "sharegptvideo",
    footer: str = "",
    style: str = "",
    scripts: Sequence[str] = (),
) -> str:
    """The page of `write_page` as a text."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["cell"] = cell_text
    kinds = {"table": Table, "figure": Figure, "details": Details, "bar": Bar, "row": list}
    for name, kind in kinds.items():
        environment.tests[name] = lambda value, kind=kind: isinstance(value, kind)
    environment.tests["html"] = lambda value: isinstance(value, Markup)
    text = environment.from_string(_asset("page.html")).render(
        style=Markup(_asset("page.css") + style),  # ours, and no user's text goes into it
        title=title,
        lead=lead,
        sections=sections,
        kicker=kicker,
        footer=footer,
        scripts=scripts,
    )
    # Data under study may hold half surrogate pairs, which no file can.
    return text.encode("utf-8", "replace").decode()


def _asset(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")

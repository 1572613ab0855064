"""The pages that commands write: what is in them is all there, escaped, and nothing is loaded."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markupsafe import Markup

from sharegptvideo.reports import Bar, Details, Figure, Page, Section, Table

_VOID = {"meta", "img", "br"}


class _Tree(HTMLParser):
    """Fails on a tag that is not closed in order; keeps tags and the text outside of style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def names(self) -> list[str]:
        return [name for name, _ in self.tags]


def _write(path: Path, *sections: Section) -> _Tree:
    written = Page("A & B", "<led>", sections).write(path / "deep" / "page.html")
    return _Tree(written.read_text(encoding="utf-8"))


def test_every_part_is_written_and_escaped(tmp_path: Path) -> None:
    table = Table(["name", "rows", "share"], [["<b>x</b>", 12345, Bar(0.25)], ["y", None, Bar(2)]])
    drawing = Figure(Markup("<svg viewBox='0 0 1 1'></svg>"), "Lengths", "a note")
    picture = Figure(b"\x89PNG", "A <picture>")
    page = _write(
        tmp_path,
        Section("First", ["1 < 2", Markup("<em>kept</em>"), table, drawing, picture]),
        Section("Second", Details("more", [Table(["a"], [[0.12345]]), "folded"])),
        Section("Third", "only a text"),
    )
    for text in ("A & B", "<led>", "1 < 2", "kept", "<b>x</b>", "12,345", "25.0\u00a0%", "–"):
        assert text in page.text
    for text in ("Lengths", "a note", "A <picture>", "more", "folded", "0.1235", "only a text"):
        assert text in page.text
    names = page.names()
    assert "b" not in names
    assert (names.count("em"), names.count("svg"), names.count("img")) == (1, 1, 1)
    # Two figures in a row share one grid; a share above one does not leave its cell.
    assert [a.get("class") for n, a in page.tags if n == "div"].count("grid") == 1
    assert [a["style"] for n, a in page.tags if n == "i"] == ["width: 25.0%", "width: 100.0%"]


def test_numbers_stand_right_and_texts_left(tmp_path: Path) -> None:
    page = _write(tmp_path, Section("s", Table(["a", "n"], [["x", 1], ["y", None]])))
    heads = [attributes for name, attributes in page.tags if name == "th"][:2]
    assert [head.get("class") for head in heads] == [None, "n"]


def test_nothing_is_loaded_and_equal_parts_give_equal_bytes(tmp_path: Path) -> None:
    section = Section("s", [Figure(b"png", "p"), "half \ud800 a pair"])
    first = Page("t", "l", [section]).write(tmp_path / "1.html")
    again = Page("t", "l", [section]).write(tmp_path / "2.html")
    assert first.read_bytes() == again.read_bytes()
    text = first.read_text(encoding="utf-8")
    assert not re.search(r"https?:|@import|url\(|src=\"(?!data:)", text)
    assert "prefers-color-scheme: dark" in text
    assert "half ? a pair" in text


def test_row_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="row 2: 1 cells for 2 columns"):
        Table(["a", "b"], [[1, 2], [3]])

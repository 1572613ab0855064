"""Texts of others in Markdown: what each function gives, and that nothing breaks out."""

from __future__ import annotations

import doctest

import pytest

from sharegptvideo import _markdown
from sharegptvideo._markdown import fenced, markdown_cell, markdown_code, markdown_link

ODD = [
    "<b>x</b>",
    "a|b",
    "[x](y)",
    "`c`",
    "a\nb",
    "*s* _u_ ~t~ $m$",
    "``` \n---\n# head",
    "\x1b[2J",
]


def test_examples_in_the_docstrings() -> None:
    outcome = doctest.testmod(_markdown)
    assert outcome.attempted >= len(_markdown.__all__)
    assert outcome.failed == 0


@pytest.mark.parametrize("text", ODD)
def test_a_cell_shows_the_text_and_nothing_else(text: str) -> None:
    cell = markdown_cell(text)
    assert "\n" not in cell + markdown_code(text)
    assert "<" not in cell
    assert "\x1b" not in cell + markdown_code(text) + fenced(text)
    for at, sign in enumerate(cell):
        if sign in "|`[]*~$":
            assert cell[at - 1] == "\\", cell


def test_no_line_of_a_block_ends_it() -> None:
    lines = fenced("a\n  ````\n```\nb", "yaml").splitlines()
    assert (lines[0], lines[-1]) == ("`````yaml", "`````")


def test_links_lead_to_the_web_only() -> None:
    assert markdown_link("m", "https://x.org/a b") == "m (https://x.org/a b)"
    assert markdown_link("m]", "https://x.org/a(b)|c") == r"[m\]](https://x.org/a%28b%29%7Cc)"
    for link in ("javascript:alert(1)", "data:text/html,x", "//x.org", "file:///etc", "http:x", ""):
        assert "](" not in markdown_link("m", link)

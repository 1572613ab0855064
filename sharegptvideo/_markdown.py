"""Texts of others in Markdown: names, ids, settings that must not become markup, links or rows."""

from __future__ import annotations

import re

from sharegptvideo._text import visible, web_link

__all__ = ["fenced", "markdown_cell", "markdown_code", "markdown_link"]

_SIGNS = {char: "\\" + char for char in "\\|`[]*~$"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
_EDGE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")  # an underscore within a word marks nothing


def markdown_cell(text: str) -> str:
    r"""Return a text as Markdown shows it: one line, no HTML, no link, no end of a table's cell.

    >>> markdown_cell("a|b <i> [x](y)"), markdown_cell("msvd_qa _x_")
    ('a\\|b &lt;i&gt; \\[x\\](y)', 'msvd_qa \\_x\\_')
    """
    line = visible(" ".join(text.split()))
    return _EDGE.sub(r"\\_", "".join(_SIGNS.get(char, char) for char in line))


def markdown_code(text: str) -> str:
    """Return a text as a piece of code in one line.

    >>> markdown_code("msvd_qa"), markdown_code("a`b")
    ('`msvd_qa`', '`` a`b ``')
    """
    line = visible(" ".join(text.split())) or " "
    marks = "`" * (_longest_run(line) + 1)
    pad = " " if "`" in line else ""
    return f"{marks}{pad}{line}{pad}{marks}"


def markdown_link(text: str, link: str | None) -> str:
    r"""Return a text that leads to an address of the web; to any other link, both as text.

    >>> markdown_link("a|b", "https://x.org"), markdown_link("a", "javascript:1")
    ('[a\\|b](https://x.org)', 'a (javascript:1)')
    """
    shown = markdown_cell(text)
    if not link:
        return shown
    address = web_link(link)
    return f"[{shown}]({address})" if address else f"{shown} ({markdown_cell(link)})"


def fenced(text: str, language: str = "") -> str:
    r"""Return lines as a block of code that nothing in them can end.

    >>> fenced("a\n", "yaml"), fenced("a\n```\nb")
    ('```yaml\na\n```', '````\na\n```\nb\n````')
    """
    marks = "`" * max(3, _longest_run(text) + 1)
    lines = visible(text.rstrip("\n"))
    return f"{marks}{language}\n{lines}\n{marks}"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)

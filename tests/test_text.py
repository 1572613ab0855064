"""Words for numbers and lists: what each function gives, in tables."""

from __future__ import annotations

import ast
import doctest
import re
from pathlib import Path

import pytest

import sharegptvideo
from sharegptvideo import _text
from sharegptvideo._text import (
    and_more,
    byte_size,
    duration,
    few,
    interval,
    magnitude,
    number,
    percent,
    plural,
    points,
    rough_duration,
    rounded,
    shortened,
    web_link,
)


def test_examples_in_the_docstrings() -> None:
    outcome = doctest.testmod(_text)
    assert outcome.attempted >= len(_text.__all__)
    assert outcome.failed == 0


@pytest.mark.parametrize(
    ("count", "nouns", "expected"),
    [
        (0, None, "0 rows"),
        (1, None, "1 row"),
        (2, None, "2 rows"),
        (12_345, None, "12,345 rows"),
        (1, "rows were", "1 row"),
        (3, "rows were", "3 rows were"),
    ],
)
def test_plural(count: int, nouns: str | None, expected: str) -> None:
    assert plural(count, "row", nouns) == expected


@pytest.mark.parametrize(
    ("names", "most", "total", "where", "expected"),
    [
        ("", 2, None, "", ""),
        ("a", 2, None, "", "a"),
        ("ab", 2, None, "log", "a, b"),
        ("abc", 2, None, "", "a, b and 1 more"),
        ("abc", 2, None, "log", "a, b and 1 more (log)"),
        ("ab", 2, 2, "", "a, b"),
        ("ab", 2, 1_502, "", "a, b and 1,500 more"),
        ("abc", 5, 5, "", "a, b, c and 2 more"),
    ],
)
def test_and_more(names: str, most: int, total: int | None, where: str, expected: str) -> None:
    assert and_more(list(names), most, total=total, where=where) == expected


def test_and_more_keeps_the_commas_and_the_words_of_names() -> None:
    assert and_more(["a, b", "and 1 more", "c"], 2) == "a, b, and 1 more and 1 more"


@pytest.mark.parametrize(
    ("names", "total", "expected"),
    [
        ("", None, ""),
        ("ab", None, "a; b"),
        ("abcd", None, "a; b; and 2 more"),
        ("ab", 7, "a; b; and 5 more"),
    ],
)
def test_few(names: str, total: int | None, expected: str) -> None:
    assert "; ".join(few(list(names), 2, total=total)) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1.0 kB"),
        (1000, "1.0 kB"),
        (3_351, "3.4 kB"),
        (999_949, "999.9 kB"),
        (999_960, "1.0 MB"),
        (64_000_000_000, "64.0 GB"),
        (2.5e12, "2.5 TB"),
        (1_234e12, "1,234.0 TB"),
    ],
)
def test_byte_size(count: float, expected: str) -> None:
    assert byte_size(count) == expected


@pytest.mark.parametrize(
    ("count", "digits", "expected"),
    [
        (0, 3, "0"),
        (58, 3, "58"),
        (999.7, 3, "1.00 k"),
        (1_500, 2, "1.5 k"),
        (23_456, 2, "23 k"),
        (123_456, 2, "123 k"),
        (999_700, 3, "1.00 M"),
        (7_370_000_000, 3, "7.37 B"),
        (70e9, 3, "70.0 B"),
        (1.5e15, 3, "1,500 T"),
    ],
)
def test_magnitude(count: float, digits: int, expected: str) -> None:
    assert magnitude(count, digits) == expected


@pytest.mark.parametrize(
    ("seconds", "measured", "estimated"),
    [
        (0, "0.0 s", "1 s"),
        (3.21, "3.2 s", "3 s"),
        (9.97, "10 s", "10 s"),
        (42.4, "42 s", "42 s"),
        (59.7, "1 min 0 s", "60 s"),
        (119.7, "2 min 0 s", "2 min"),
        (377.8, "6 min 18 s", "6 min"),
        (3_599.7, "1 h 0 min", "60 min"),
        (7_500, "2 h 5 min", "2.1 h"),
        (7_199.7, "2 h 0 min", "2.0 h"),
        (4.5e6, "1,250 h 0 min", "1,250.0 h"),
    ],
)
def test_durations(seconds: float, measured: str, estimated: str) -> None:
    assert duration(seconds) == measured
    assert rough_duration(seconds) == estimated


@pytest.mark.parametrize(
    ("share", "as_percent", "as_points", "signed"),
    [
        (0.0, "0.0 %", "0.0", "+0.0"),
        (0.4875, "48.8 %", "48.8", "+48.8"),
        (1.0, "100.0 %", "100.0", "+100.0"),
        (-0.012, "−1.2 %", "−1.2", "−1.2"),
        (None, "–", "–", "–"),
    ],
)
def test_shares(share: float | None, as_percent: str, as_points: str, signed: str) -> None:
    assert percent(share) == as_percent
    assert points(share) == as_points
    assert points(share, sign=True) == signed


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("", 5, ""),
        ("12345", 5, "12345"),
        ("123456", 5, "1234…"),
        ("123 456", 5, "123…"),
    ],
)
def test_shortened(text: str, limit: int, expected: str) -> None:
    assert shortened(text, limit) == expected


@pytest.mark.parametrize(
    "link",
    [
        "javascript:alert(1)",
        "JaVaScript:alert(1)",
        "java\nscript:alert(1)",
        " https://x.org",
        "https://x.org/\u202egpj",
        "data:text/html,<b>",
        "//x.org",
        "x.org",
        "https://",
        "http://[",
        "",
        None,
    ],
)
def test_links_that_no_page_gets(link: str | None) -> None:
    assert web_link(link) is None


def test_links_that_pages_get_end_no_attribute() -> None:
    assert web_link("HTTPS://x.org/ä?a=1&b=2#c") == "HTTPS://x.org/%C3%A4?a=1&b=2#c"
    assert web_link("https://x.org/a%20b") == "https://x.org/a%20b"
    assert web_link('https://x.org/"><script>|`$') == "https://x.org/%22%3E%3Cscript%3E%7C%60%24"


def test_figures_have_one_style() -> None:
    """Figures with decimals are written by `_text` alone; a pixel and 3.1e-05 are none."""
    package = Path(sharegptvideo.__file__).parent
    free = {"_text.py", "reports/charts.py", "training/plan.py"}
    found = []
    for path in package.rglob("*.py"):
        if path.relative_to(package).as_posix() in free:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FormattedValue) and node.format_spec is not None:
                spec = ast.unparse(node.format_spec)
                if re.search(r"\.\S*[fg%]", spec):
                    found.append(f"{path.name}:{node.lineno}: {spec}")
    assert found == []
    assert "±" not in (package / "cli/demo.py").read_text(encoding="utf-8")
    assert interval([0.1, 0.2]) == "10.0 to 20.0"
    assert [number(value) for value in (0, 1.0, 0.0, -3, 999.96)] == ["0", "1", "0", "−3", "1,000"]
    assert rounded(-0.001) == "0.00"

"""Numbers and lists as words: plurals, the first few of many, sizes, durations, shares, cut texts.

Everything may use this module; it uses nothing of the package.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

__all__ = [
    "and_more",
    "byte_size",
    "duration",
    "few",
    "magnitude",
    "percent",
    "plural",
    "points",
    "rough_duration",
    "shortened",
    "visible",
]

_NONE = "–"
_BYTES = ("B", "kB", "MB", "GB", "TB")
_MAGNITUDES = ("", "k", "M", "B", "T")


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """Return a count with its noun; `nouns` is the plural where it is not the noun with an s.

    >>> plural(1, "row"), plural(2000, "row"), plural(0, "reply", "replies")
    ('1 row', '2,000 rows', '0 replies')
    """
    return f"{count:,} {noun if count == 1 else nouns or f'{noun}s'}"


def few(items: Sequence[str], most: int, *, total: int | None = None, where: str = "") -> list[str]:
    """Return the first `most` items and, as one more, how many are left out.

    Args:
        total: how many there are, where `items` are not all of them.
        where: the place that lists all; it is named where some are left out.

    >>> few(["a", "b", "c"], 2), few(["a", "b"], 2), few(["a"], 1, total=9, where="log.txt")
    (['a', 'b', 'and 1 more'], ['a', 'b'], ['a', 'and 8 more (log.txt)'])
    """
    shown = list(items[:most])
    left = (len(items) if total is None else total) - len(shown)
    if left > 0:
        shown.append(f"and {left:,} more" + (f" ({where})" if where else ""))
    return shown


def and_more(
    names: Sequence[str], most: int = 5, *, total: int | None = None, where: str = ""
) -> str:
    """Return the first `most` names in a row of commas, and how many are left out.

    Args:
        total: how many there are, where `names` are not all of them.
        where: the place that lists all; it is named where some are left out.

    >>> and_more(["a", "b", "c", "d"], 3), and_more(["a", "b"])
    ('a, b, c and 1 more', 'a, b')
    """
    shown = few(names, most, total=total, where=where)
    kept = min(len(names), most)
    return " ".join([", ".join(shown[:kept]), *shown[kept:]])


def byte_size(count: float) -> str:
    """Return a number of bytes with one decimal and a unit of ten.

    >>> byte_size(999), byte_size(3_351), byte_size(64e9)
    ('999 B', '3.4 kB', '64.0 GB')
    """
    scaled, unit = _scaled(count, _BYTES, 1)
    return f"{scaled:,.1f} {unit}" if unit != "B" else f"{scaled:.0f} B"


def magnitude(number: float, digits: int = 3) -> str:
    """Return a large number with so many digits, in thousands, millions or billions.

    >>> magnitude(7.37e9), magnitude(58), magnitude(6_123_456, 2)
    ('7.37 B', '58', '6.1 M')
    """
    scaled, unit = _scaled(number, _MAGNITUDES, 0)
    if not unit:
        return f"{scaled:.0f}"
    return f"{scaled:,.{max(0, digits - len(f'{scaled:.0f}'))}f} {unit}"


def _scaled(number: float, units: Sequence[str], decimals: int) -> tuple[float, str]:
    for unit in units[:-1]:
        if round(number, decimals if unit != units[0] else 0) < 1000:
            return number, unit
        number /= 1000
    return number, units[-1]


def duration(seconds: float) -> str:
    """Return a time that was measured.

    >>> duration(3.21), duration(42), duration(378), duration(7500)
    ('3.2 s', '42 s', '6 min 18 s', '2 h 5 min')
    """
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes} min"


def rough_duration(seconds: float) -> str:
    """Return a time that was estimated, in one unit and at least a second.

    >>> rough_duration(0.2), rough_duration(89), rough_duration(1900), rough_duration(7200)
    ('1 s', '89 s', '32 min', '2.0 h')
    """
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:,.1f} h"


def points(share: float | None, *, sign: bool = False) -> str:
    """Return a share in [0, 1], or with `sign` a difference of two, in percentage points.

    >>> points(0.4875), points(-0.012, sign=True), points(None)
    ('48.8', '-1.2', '–')
    """
    if share is None:
        return _NONE
    return f"{100 * share:+.1f}" if sign else f"{100 * share:.1f}"


def percent(share: float | None, digits: int = 1, *, space: str = " ") -> str:
    r"""Return a share in [0, 1] as per cent; `space` stands before the sign.

    >>> percent(0.4875), percent(0.5, 0, space="\N{NO-BREAK SPACE}"), percent(None)
    ('48.8 %', '50\xa0%', '–')
    """
    return _NONE if share is None else f"{100 * share:.{digits}f}{space}%"


def shortened(text: str, limit: int) -> str:
    """Return the text, or as much of its beginning as fits into `limit` characters with a mark.

    >>> shortened("a dog runs", 10), shortened("a dog runs", 7)
    ('a dog runs', 'a dog…')
    """
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


# What turns the direction of the text after it.
_BIDI = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def visible(text: str, *, keep: str = "\n\t") -> str:
    r"""Return a text in which nothing can steer a terminal: control characters are escaped.

    So are halves of surrogate pairs, and marks that turn the direction of text.

    >>> visible("a\x1b[2Jb\r"), visible("한글 é"), visible("a\nb"), visible("a\nb", keep="")
    ('a\\x1b[2Jb\\r', '한글 é', 'a\nb', 'a\\nb')
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or not _steers(c) else _escaped(c) for c in text)


def _steers(character: str) -> bool:
    return character in _BIDI or unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")

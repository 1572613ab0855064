"""Numbers and lists as words, in one style everywhere.

Counts, sizes, durations, money, shares, scores, intervals, p-values; plurals, lists, cut texts.

Everything may use this module; it uses nothing of the package.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from urllib.parse import quote, urlsplit

__all__ = [
    "and_more",
    "byte_size",
    "dollars",
    "duration",
    "estimate",
    "few",
    "interval",
    "magnitude",
    "number",
    "p_value",
    "parameters",
    "percent",
    "plural",
    "points",
    "rough_duration",
    "rounded",
    "shortened",
    "visible",
    "web_link",
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


def parameters(count: int) -> str:
    """Return a number of parameters as models are named.

    >>> parameters(7_000_000_000), parameters(13_500_000_000), parameters(135_000_000)
    ('7B', '13.5B', '135M')
    """
    return f"{count / 1e9:.3g}B" if count >= 10**9 else f"{count / 1e6:.3g}M"


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
    ('48.8', '−1.2', '–')
    """
    return rounded(None if share is None else 100 * share, 1, sign=sign)


def rounded(value: float | None, digits: int = 2, *, sign: bool = False) -> str:
    """Return a number with so many decimals: a score, or a coefficient such as kappa, with two.

    >>> rounded(4.2), rounded(-0.125, sign=True), rounded(None)
    ('4.20', '−0.12', '–')
    """
    if value is None:
        return _NONE
    return f"{value:{'+' if sign else '-'}z,.{digits}f}".replace("-", "−")


def number(value: float | None, digits: int = 4) -> str:
    """Return a number of any size, such as a loss or a rate, with so many digits.

    >>> number(1234567), number(0.123456), number(-98765.4), number(5e-07), number(None)
    ('1,234,567', '0.1235', '−98,765', '5e-07', '–')
    """
    if value is None:
        return _NONE
    size = abs(value)
    # So many digits, but never an exponent for what is merely large.
    whole = isinstance(value, int) or size >= 999.95
    return ("−" if value < 0 else "") + (f"{size:,.0f}" if whole else f"{size:.{digits}g}")


def estimate(
    value: float | None, se: float | None, write: Callable[[float | None], str] = points
) -> str:
    """Return `value ± standard error`, of a share as per cent; an unknown error is left out.

    >>> estimate(0.885, 0.0123), estimate(4.2, None, rounded), estimate(None, None)
    ('88.5 ± 1.2', '4.20', '–')
    """
    return write(value) if None in (value, se) else f"{write(value)} ± {write(se)}"


def interval(
    ends: Sequence[float] | None,
    write: Callable[[float | None], str] = points,
    *,
    sign: bool = False,
) -> str:
    """Return the ends of an interval, of a share as per cent, of a difference with their signs.

    >>> interval((0.4, 0.525)), interval((-0.01, 0.03), sign=True), interval((0.4, 1), rounded)
    ('40.0 to 52.5', '−1.0 to +3.0', '0.40 to 1.00')
    """
    if ends is None:
        return _NONE
    if sign:
        return " to ".join(points(end, sign=True) for end in ends)
    return " to ".join(map(write, ends))


def p_value(value: float | None) -> str:
    """Return a p-value with two digits, or below which bound it lies.

    >>> p_value(0.0312), p_value(1e-9), p_value(1.0), p_value(None)
    ('0.031', '< 0.0001', '1', '–')
    """
    if value is None:
        return _NONE
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}"


def dollars(amount: float) -> str:
    """Return an amount as text.

    >>> dollars(1234.5), dollars(0.00042), dollars(0)
    ('$1,234.50', '$0.00042', '$0.00')
    """
    return f"${amount:,.2f}" if amount >= 0.1 or amount == 0 else f"${amount:.2g}"


def percent(share: float | None, digits: int = 1, *, space: str = " ") -> str:
    r"""Return a share in [0, 1] as per cent; `space` stands before the sign.

    >>> percent(0.4875), percent(0.5, 0, space="\N{NO-BREAK SPACE}"), percent(None)
    ('48.8 %', '50\xa0%', '–')
    """
    return _NONE if share is None else f"{rounded(100 * share, digits)}{space}%"


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


def web_link(text: str | None) -> str | None:
    """Return an address of the web as a page may link to it; None for every other text.

    That is one with http or https and a host. Signs that mean something to HTML, Markdown or a
    table are written as `%XX`.

    >>> web_link("https://example.org/a(b)"), web_link("javascript:alert(1)"), web_link("x.org")
    ('https://example.org/a%28b%29', None, None)
    """
    if not text or any(c.isspace() or _steers(c) for c in text):
        return None
    try:
        parts = urlsplit(text)
    except ValueError:  # as of "http://["
        return None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return None
    return quote(text, safe=":/?#@!&*+,;=%")

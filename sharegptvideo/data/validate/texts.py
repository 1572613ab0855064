"""Checks of the texts of one row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sharegptvideo._text import shortened
from sharegptvideo.data.schema import Config, PreferenceRow
from sharegptvideo.data.validate.report import Severity

__all__ = ["MAX_CHARS", "excerpt", "row_findings"]

MAX_CHARS = 8000
"""Longer texts are reported. A context of 4,096 tokens less the 2,048 of LLaVA-Hound's
eight frames leaves 2,048, and English has about four letters to a token."""

RowProblem = tuple[str, str, Severity | None]
"""Check, message, and a severity where it is not the check's own."""

_TEXTS = ("prompt", "question", "answer", "caption", "chosen", "rejected")
_EXACT = re.compile(r"<(?:video|image)>")
_ANY_TAG = re.compile(r"</?\s*(?:video|image|vid|img)[\s_]*\d*\s*/?>", re.IGNORECASE)
_ODD = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffd]")
_WORD = re.compile(r"[^\W_]")
_SHOWN = 60


def excerpt(text: str) -> str:
    """Return a text as it fits into a message: on one line, cut, quoted."""
    return repr(shortened(" ".join(text.split()), _SHOWN))


def row_findings(
    config: Config,
    raw: Mapping[str, Any],
    row: Mapping[str, Any],
    *,
    cleaned: bool,
    max_chars: int,
) -> Iterator[RowProblem]:
    """Yield what is wrong with a row that keeps to the schema.

    Args:
        config: whose row it is.
        raw: as it stands in the file.
        row: as the reader gives it.
        cleaned: whether the reader takes the tags out for every user (the release layout) or
            the file is what they get (Parquet).
        max_chars: see `MAX_CHARS`.
    """
    texts = list(_texts(row))
    for name, text in texts:
        if len(text) > max_chars:
            yield "long-text", f"{name!r} has {len(text):,} characters", None
        if text and not _WORD.search(text):
            yield "no-words", f"{name!r} is {excerpt(text)}", None
        # A quick look first: few texts have more than printable characters.
        if "\ufffd" in text or not text.isprintable():
            odd = _ODD.search(text)
            if odd:
                yield "odd-characters", f"{name!r} holds U+{ord(odd.group()):04X}", None
        if "<" in text:
            tag = _ANY_TAG.search(text)
            if tag:
                yield "tag-left", f"{name!r} holds {tag.group()}", None
    yield from _tags(raw, cleaned)
    if config.row is PreferenceRow:
        yield from _pair(row)


def _texts(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in _TEXTS:
        text = row.get(name)
        if text is not None:
            yield name, text
    for number, message in enumerate(row.get("messages") or (), start=1):
        yield f"message {number}", message["content"]


def _tags(raw: Mapping[str, Any], cleaned: bool) -> Iterator[RowProblem]:
    """Yield exact tags in the raw row; the reader has taken them out of the other one.

    In the release every question has one `<video>` in front: that is its form, not a fault.
    """
    for name, text, asked in _raw_texts(raw):
        tags = _EXACT.findall(text)
        if not tags:
            continue
        if not cleaned:
            yield "tag-left", f"{name!r} holds {tags[0]}", None
        elif not asked or len(tags) > 1:
            times = f" {len(tags)} times" if len(tags) > 1 else ""
            yield "tag-left", f"{name!r} holds {tags[0]}{times}; the reader drops it", "warning"


def _raw_texts(raw: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Yield (name, text, whether it is the place for a tag) of every text of a raw row."""
    for name in _TEXTS:
        value = raw.get(name)
        if isinstance(value, Mapping):
            value = value.get("value")
        if isinstance(value, str) and "<" in value:
            yield name, value, name in {"prompt", "question"}
    for turns, key in ((raw.get("conversations"), "value"), (raw.get("messages"), "content")):
        for number, turn in enumerate(turns if isinstance(turns, list) else (), start=1):
            value = turn.get(key) if isinstance(turn, Mapping) else None
            if isinstance(value, str) and "<" in value:
                yield f"turn {number}", value, number == 1


def _pair(row: Mapping[str, Any]) -> Iterator[RowProblem]:
    if " ".join(row["chosen"].split()).casefold() == " ".join(row["rejected"].split()).casefold():
        yield "equal-sides", f"both are {excerpt(row['chosen'])}", None
    chosen, rejected = row["chosen_score"], row["rejected_score"]
    if chosen is None or rejected is None:
        return
    if chosen < rejected:
        yield "reversed-scores", f"chosen has {chosen:g}, rejected has {rejected:g}", None
    elif chosen == rejected:
        yield "equal-scores", f"both have {chosen:g}", None

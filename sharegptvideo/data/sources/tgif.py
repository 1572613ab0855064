"""TGIF-QA as its authors published it: tab-separated tables, in spite of their `.csv`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sharegptvideo.data.sources.base import Row
from sharegptvideo.data.sources.originals import Entry, OnBad, fail, read_table
from sharegptvideo.data.sources.rows import RowError
from sharegptvideo.errors import UserError

__all__ = ["read_tgif_frameqa", "tgif_entries", "tgif_row"]

_COLUMNS = ("gif_name", "question", "answer", "vid_id")
_FRAMEQA = ("gif_name", "question", "answer", "type", "vid_id")
_OPTIONS = ("a1", "a2", "a3", "a4", "a5")

# The paper numbers the kinds of FrameQA questions; the file holds the numbers.
_TYPES = {"0": "object", "1": "number", "2": "color", "3": "location"}
# The two kinds with options have the same columns; what they are stands in their ids.
_CHOICES = {"ACTION": "action", "TRANS": "transition"}


def read_tgif_frameqa(path: Path) -> Iterator[Row]:
    """Yield rows with id, video, question, answer, caption and question_type of a FrameQA table.

    `id` is the table's `vid_id` (unique to a question in spite of its name), `video` the GIF's
    name, `caption` its human description (None where the table has no such column), and
    `question_type` object, number, color or location.

    Raises:
        UserError: `FILE:LINE: cause` for a table or line that is not of this form.
    """
    for where, entry in _table(path, _FRAMEQA, "is this the FrameQA table?"):
        try:
            yield tgif_row(entry)
        except RowError as error:
            raise UserError(f"{where}: {error}") from error


def tgif_entries(path: Path, on_bad: OnBad = fail) -> Iterator[Entry]:
    """The lines of any of the four tables: FrameQA, Count, Action, Transition.

    Raises:
        UserError: `FILE:LINE: cause` for a table that is not of this form; for a line of it,
            `on_bad`.
    """
    return _table(path, _COLUMNS, "is this a table of TGIF-QA?", on_bad)


def _table(path: Path, needed: tuple[str, ...], hint: str, on_bad: OnBad = fail) -> Iterator[Entry]:
    return read_table(path, "\t", quoted=False, needed=needed, hint=hint, on_bad=on_bad)


def tgif_row(entry: Mapping[str, Any]) -> Row:
    """A line of one of the four tables as a row.

    The table is known by its columns: FrameQA has `type`; Action and Transition have `a1` to
    `a5`, which are written below the question, and `answer` counts them from 0; the rest is
    Count. The GIF's `description` is the caption.

    Raises:
        RowError: a type, an option or an id that these tables do not have.
    """
    question, answer = entry["question"], entry["answer"]
    if "type" in entry:
        if entry["type"] not in _TYPES:
            raise RowError(f"type {entry['type']!r} is none of 0, 1, 2, 3")
        kind = _TYPES[entry["type"]]
    elif any(name in entry for name in _OPTIONS):
        kind = _choice_kind(entry["vid_id"])
        question, answer = _with_options(question, _options(entry), answer)
    else:
        kind = "count"
        if not answer.strip().isdecimal():
            raise RowError(f"answer {answer!r} is no number, and the table has no options")
    return {
        "id": entry["vid_id"],
        "video": entry["gif_name"],
        "question": question,
        "answer": answer,
        "caption": entry.get("description") or None,
        "question_type": kind,
    }


def _choice_kind(name: str) -> str:
    for start, kind in _CHOICES.items():
        if name.startswith(start):
            return kind
    raise RowError(f"vid_id {name!r} begins with neither ACTION nor TRANS")


def _options(entry: Mapping[str, Any]) -> list[str]:
    options = [str(entry.get(name) or "").strip() for name in _OPTIONS]
    empty = [name for name, option in zip(_OPTIONS, options, strict=True) if not option]
    if empty:
        raise RowError(f"option {', '.join(empty)} is empty or absent")
    return options


def _with_options(question: str, options: list[str], answer: str) -> tuple[str, str]:
    places = {str(place): option for place, option in enumerate(options)}
    if answer not in places:
        raise RowError(f"answer {answer!r} is none of {', '.join(places)}")
    listed = "\n".join(f"- {option}" for option in options)
    return f"{question}\nAnswer with one of these:\n{listed}", places[answer]

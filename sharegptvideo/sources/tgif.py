"""TGIF-QA as its authors published it: tab-separated tables, in spite of their `.csv`."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sharegptvideo.errors import UserError

__all__ = ["read_tgif_frameqa"]

_COLUMNS = ("gif_name", "question", "answer", "type", "vid_id")

# The paper numbers the kinds of FrameQA questions; the file holds the numbers.
_TYPES = {"0": "object", "1": "number", "2": "color", "3": "location"}


def read_tgif_frameqa(path: Path) -> Iterator[dict[str, Any]]:
    """Yield rows with id, video, question, answer, caption and question_type of a FrameQA table.

    `id` is the table's `vid_id` (unique to a question in spite of its name), `video` the GIF's
    name, `caption` its human description (None where the table has no such column), and
    `question_type` object, number, color or location.

    Raises:
        UserError: `FILE:LINE: cause` for a table or line that is not of this form.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from _rows(path, csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from error


def _rows(path: Path, table: csv.DictReader[str]) -> Iterator[dict[str, Any]]:
    absent = [column for column in _COLUMNS if column not in (table.fieldnames or ())]
    if absent:
        raise UserError(f"{path}:1: no column {', '.join(absent)}; is this the FrameQA table?")
    for row in table:
        if None in row or any(row[column] is None for column in _COLUMNS):
            count = len(table.fieldnames or ())
            raise UserError(f"{path}:{table.line_num}: needs {count} columns, tab-separated")
        if row["type"] not in _TYPES:
            raise UserError(f"{path}:{table.line_num}: type {row['type']!r} is none of 0, 1, 2, 3")
        yield {
            "id": row["vid_id"],
            "video": row["gif_name"],
            "question": row["question"],
            "answer": row["answer"],
            "caption": row.get("description") or None,
            "question_type": _TYPES[row["type"]],
        }

"""MSVD-QA as its authors published it: one JSON list, and a table of clip names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sharegptvideo.data.sources.base import Row
from sharegptvideo.data.sources.originals import read_lines, read_list, text_or_number
from sharegptvideo.data.sources.rows import RowError
from sharegptvideo.errors import UserError

__all__ = [
    "clip_number",
    "msvd_row",
    "numbered_row",
    "read_msvd",
    "read_msvd_mapping",
    "read_numbered",
]

_COLUMNS = ("id", "video_id", "question", "answer")


def read_msvd(questions: Path, mapping: Path | None = None) -> Iterator[Row]:
    """Yield rows with id, video, question, answer, caption and question_type of `*_qa.json`.

    Args:
        questions: list of objects with id, video_id, question and answer (Xu et al. 2017).
        mapping: lines of `clip_name vidN`. With it `video` is the clip's name, which is what its
            file is called; without it `vidN`.

    `question_type` is the question's first word, as in the paper's tables (what, who, how, when,
    where); `caption` is always None, since MSVD-QA has none.

    Raises:
        UserError: not such a file, an entry lacks a column, or a clip lacks its name.
    """
    return read_numbered(questions, mapping, msvd_row)


def read_numbered(
    questions: Path,
    mapping: Path | None,
    row_of: Callable[[Mapping[str, Any], Mapping[str, str] | None], Row],
) -> Iterator[Row]:
    """The rows of a list of questions about numbered clips, `row_of` making each.

    Raises:
        UserError: see `read_msvd`.
    """
    names = read_msvd_mapping(mapping) if mapping else None
    for where, entry in read_list(questions):
        try:
            yield row_of(entry, names)
        except RowError as error:
            raise UserError(f"{where}: {error}") from error


def msvd_row(entry: Mapping[str, Any], names: Mapping[str, str] | None) -> Row:
    """One entry of `*_qa.json` as a row; `names` as `read_msvd_mapping` gives it.

    Raises:
        RowError: a column is missing or of the wrong kind, or the clip has no name.
    """
    return numbered_row(entry, "vid", names)


def numbered_row(entry: Mapping[str, Any], prefix: str, names: Mapping[str, str] | None) -> Row:
    """A row of MSVD-QA or MSRVTT-QA, whose clips are a prefix and a number.

    Raises:
        RowError: see `msvd_row`.
    """
    absent = [column for column in _COLUMNS if entry.get(column) is None]
    if absent:
        raise RowError(f"no {', '.join(absent)}")
    video = f"{prefix}{clip_number(entry)}"
    if names is not None and video not in names:
        raise RowError(f"the mapping has no name for {video}")
    question = text_or_number(entry, "question")
    return {
        "id": text_or_number(entry, "id"),
        "video": names[video] if names is not None else video,
        "question": question,
        "answer": text_or_number(entry, "answer"),
        "caption": None,
        "question_type": next(iter(question.split()), None),
    }


def clip_number(entry: Mapping[str, Any]) -> int:
    """The number of an entry's clip: `video_id` is 1451, "1451", "vid1451" or "video1451".

    Raises:
        RowError: it is none of these.
    """
    given = text_or_number(entry, "video_id")
    found = re.fullmatch(r"(?:vid|video)?([0-9]{1,6})", given)
    if not found:
        raise RowError(f"'video_id' is {given!r} where a number belongs")
    return int(found[1])


def read_msvd_mapping(path: Path) -> dict[str, str]:
    """Read `vidN` → clip name from lines of `clip_name vidN`.

    Raises:
        UserError: the file cannot be read, a line does not have two words, or names a clip twice.
    """
    names: dict[str, str] = {}
    for number, line in read_lines(path):
        words = line.split()
        if len(words) != 2:
            raise UserError(f"{path}:{number}: needs a clip's name and its vidN, got {line[:80]!r}")
        if names.setdefault(words[1], words[0]) != words[0]:
            raise UserError(f"{path}:{number}: a second name for {words[1]}")
    return names

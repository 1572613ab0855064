"""MSRVTT-QA as its authors published it: lists like those of MSVD-QA, clips called `videoN`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sharegptvideo.errors import UserError
from sharegptvideo.sources.base import Row
from sharegptvideo.sources.msvd import numbered_row, read_msvd_mapping
from sharegptvideo.sources.originals import read_list
from sharegptvideo.sources.rows import RowError

__all__ = ["msrvtt_row", "read_msrvtt"]


def read_msrvtt(questions: Path, mapping: Path | None = None) -> Iterator[Row]:
    """Yield rows with id, video, question, answer, caption and question_type of `*_qa.json`.

    Args:
        questions: list of objects with id, video_id, question and answer (Xu et al. 2017); the
            video's category, which the authors' files have too, is left out.
        mapping: lines of `clip_name videoN`, where the clips are not called `videoN`.

    `question_type` is the question's first word and `caption` None, as in `read_msvd`.

    Raises:
        UserError: not such a file, an entry lacks a column, or a clip lacks its name.
    """
    names = read_msvd_mapping(mapping) if mapping else None
    for where, entry in read_list(questions):
        try:
            yield msrvtt_row(entry, names)
        except RowError as error:
            raise UserError(f"{where}: {error}") from error


def msrvtt_row(entry: Mapping[str, Any], names: Mapping[str, str] | None) -> Row:
    """One entry of `*_qa.json` as a row.

    Raises:
        RowError: a column is missing or of the wrong kind, or the clip has no name.
    """
    return numbered_row(entry, "video", names)

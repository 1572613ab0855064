"""MSRVTT-QA as its authors published it: lists like those of MSVD-QA, clips called `videoN`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sharegptvideo.data.sources.base import Row
from sharegptvideo.data.sources.msvd import numbered_row, read_numbered

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
    return read_numbered(questions, mapping, msrvtt_row)


def msrvtt_row(entry: Mapping[str, Any], names: Mapping[str, str] | None) -> Row:
    """One entry of `*_qa.json` as a row.

    Raises:
        RowError: a column is missing or of the wrong kind, or the clip has no name.
    """
    return numbered_row(entry, "video", names)

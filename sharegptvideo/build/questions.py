"""The questions that candidates are drawn for, with their captions and clips."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sharegptvideo.build.stage import Row
from sharegptvideo.data.load import read_rows
from sharegptvideo.data.sources.synthetic import world_folder

__all__ = ["read_questions", "with_captions"]


def read_questions(
    source: str | Path,
    *,
    split: str = "train",
    media: str | Path | None = None,
    limit: int | None = None,
) -> list[Row]:
    """Rows of the config `qa` with `video_path` and, where the source has it, the caption.

    Args:
        source: a folder in the release layout, or "synthetic".
        split: "train", "validation" or "train+validation".
        media: the folder with the clips; default: the source.
        limit: take the first rows only.

    Raises:
        UserError: no such source, no questions in it, a broken line.
    """
    root = world_folder() if str(source) == "synthetic" else Path(source)
    rows = read_rows("qa", root, split, media=root if media is None else media)
    questions = list(itertools.islice(rows, limit))
    if all(row["caption"] for row in questions):
        return questions
    captions = read_rows("captions", root, "train+validation")
    wanted = {row["video"] for row in questions}
    return list(with_captions(questions, (row for row in captions if row["video"] in wanted)))


def with_captions(
    rows: Iterable[Mapping[str, Any]], captions: Iterable[Mapping[str, Any]]
) -> Iterator[Row]:
    """Give each row that has no caption the first one of its video, where `captions` has it.

    The release keeps captions and questions in separate files; the judge needs both.
    """
    by_video: dict[str, str] = {}
    for row in captions:
        by_video.setdefault(str(row["video"]), row["caption"])
    for row in rows:
        yield dict(row) | {"caption": row.get("caption") or by_video.get(str(row["video"]))}

"""The question and answer files of Video-ChatGPT, and of those who kept to its form.

| file | an entry |
| --- | --- |
| `VideoInstruct100K.json` | q, a, video_id |
| `generic_qa.json`, `temporal_qa.json` | Q, A, video_name |
| `consistency_qa.json` | Q1, Q2, A, video_name: two questions with one answer |
| `*_q.json` and `*_a.json` | as ActivityNet-QA; so came the 5k test questions of four sets |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sharegptvideo.data.sources.activitynet import answered, answers_beside
from sharegptvideo.data.sources.base import Row
from sharegptvideo.data.sources.originals import (
    Entry,
    OnBad,
    fail,
    read_list,
    text_of,
    text_or_number,
)
from sharegptvideo.data.sources.rows import RowError
from sharegptvideo.errors import UserError

__all__ = ["read_video_chatgpt", "video_chatgpt_entries", "video_chatgpt_row"]

_VIDEO = ("video_name", "video_id", "video")
_QUESTION = ("question", "Q", "q")
_ANSWER = ("answer", "A", "a")
_ASPECTS = ("generic", "temporal", "consistency")


def read_video_chatgpt(path: Path) -> Iterator[Row]:
    """Yield rows with id, video, question, answer, caption and question_type of one file or pair.

    `id` is the file's own where it has one, else the file's name and the entry's number;
    `question_type` is generic, temporal or consistency for the files that say so in their name.

    Raises:
        UserError: not such a file, or an entry lacks what it needs.
    """
    for where, entry in video_chatgpt_entries(path):
        try:
            yield video_chatgpt_row(entry)
        except RowError as error:
            raise UserError(f"{where}: {error}") from error


def video_chatgpt_entries(
    path: Path, answers: Path | None = None, on_bad: OnBad = fail
) -> Iterator[Entry]:
    """The entries of a file, each with one question, an id and a question_type.

    Args:
        path: a file of any form above; for `*_q.json`, its answers are looked for beside it.
        answers: the answers' file, where it lies elsewhere.
        on_bad: for an entry that is no object; a pair of files is always read whole.

    Raises:
        UserError: not such a file.
    """
    if path.name.lower().endswith("_q.json"):
        yield from answered(path, answers or answers_beside(path))
        return
    stem = path.name.removesuffix(".json")
    aspect = next((name for name in _ASPECTS if stem.lower().startswith(name)), None)
    for number, (where, entry) in enumerate(read_list(path, on_bad), start=1):
        given = entry.get("id")
        named = {**entry, "id": f"{stem}-{number}" if given is None else given}
        named["question_type"] = aspect
        if "Q1" in entry or "Q2" in entry:
            for part in ("1", "2"):
                yield where, {**named, "id": f"{named['id']}-{part}", "Q": entry.get(f"Q{part}")}
        else:
            yield where, named


def video_chatgpt_row(entry: Mapping[str, Any]) -> Row:
    """An entry of `video_chatgpt_entries` as a row.

    Raises:
        RowError: a column is missing or of the wrong kind.
    """
    return {
        "id": text_or_number(entry, "question_id", "id"),
        "video": text_of(entry, *_VIDEO),
        "question": text_of(entry, *_QUESTION),
        "answer": text_or_number(entry, *_ANSWER),
        "caption": None,
        "question_type": entry.get("question_type"),
    }

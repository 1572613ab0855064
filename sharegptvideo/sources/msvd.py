"""MSVD-QA as its authors published it: one JSON list, and a table of clip names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sharegptvideo.errors import UserError
from sharegptvideo.storage import read_json

__all__ = ["read_msvd", "read_msvd_mapping"]

_COLUMNS = ("id", "video_id", "question", "answer")


def read_msvd(questions: Path, mapping: Path | None = None) -> Iterator[dict[str, Any]]:
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
    entries = read_json(questions)
    if not isinstance(entries, list):
        raise UserError(f"{questions}: a list of questions is needed, as in MSVD-QA's *_qa.json")
    names = read_msvd_mapping(mapping) if mapping else None
    for number, entry in enumerate(entries, start=1):
        absent = [c for c in _COLUMNS if not isinstance(entry, dict) or entry.get(c) is None]
        if absent:
            raise UserError(f"{questions}: entry {number} has no {', '.join(absent)}")
        video = f"vid{entry['video_id']}"
        if names is not None and video not in names:
            raise UserError(f"{mapping}: no name for {video} (entry {number} of {questions.name})")
        question = str(entry["question"])
        yield {
            "id": str(entry["id"]),
            "video": names[video] if names is not None else video,
            "question": question,
            "answer": str(entry["answer"]),
            "caption": None,
            "question_type": next(iter(question.split()), None),
        }


def read_msvd_mapping(path: Path) -> dict[str, str]:
    """Read `vidN` → clip name from lines of `clip_name vidN`.

    Raises:
        UserError: the file cannot be read, or a line does not have two words.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    names: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2:
            raise UserError(f"{path}:{number}: needs a clip's name and its vidN, got {line!r}")
        names[words[1]] = words[0]
    return names

"""ActivityNet-QA as its authors published it: a list of questions and one of their answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sharegptvideo._text import and_more
from sharegptvideo.data.sources.base import Row
from sharegptvideo.data.sources.originals import Entry, read_list, text_of, text_or_number
from sharegptvideo.data.sources.rows import RowError
from sharegptvideo.errors import UserError

__all__ = ["activitynet_row", "answered", "answers_beside", "read_activitynet"]

# Yu et al. 2019: kinds of question up to 2, then free questions by the kind of their answer.
_TYPES = (
    *("motion", "spatial", "temporal", "yes/no", "color", "object", "location", "number"),
    "other",
)
_NAME = re.compile(r"v_.{11}")
_PAIR = re.compile(r"(?:(.*)_)?q\.json", re.IGNORECASE | re.DOTALL)


def read_activitynet(questions: Path, answers: Path | None = None) -> Iterator[Row]:
    """Yield rows with id, video, question, answer, caption and question_type of a pair of files.

    Args:
        questions: `*_q.json`, objects with question_id, video_name and question.
        answers: `*_a.json`, objects with question_id, answer and type; by default the file of
            that name beside the questions.

    `video` is `v_` and the YouTube id, as ActivityNet calls its clips; `caption` is None.

    Raises:
        UserError: not such files, or a question without answer or an answer without question.
    """
    for where, entry in answered(questions, answers or answers_beside(questions)):
        try:
            yield activitynet_row(entry)
        except RowError as error:
            raise UserError(f"{where}: {error}") from error


def activitynet_row(entry: Mapping[str, Any]) -> Row:
    """A question with its answer, as `answered` gives them, as a row.

    Raises:
        RowError: a column is missing or of the wrong kind.
    """
    name = text_of(entry, "video_name")
    return {
        "id": text_or_number(entry, "question_id"),
        "video": name if _NAME.fullmatch(name) else f"v_{name}",
        "question": text_of(entry, "question"),
        "answer": text_or_number(entry, "answer"),
        "caption": None,
        "question_type": _type(entry),
    }


def _type(entry: Mapping[str, Any]) -> str | None:
    if entry.get("type") is None:
        return None
    given = text_or_number(entry, "type")
    if given not in map(str, range(len(_TYPES))):
        raise RowError(f"type {given!r} is none of 0 to {len(_TYPES) - 1}")
    return _TYPES[int(given)]


def answers_beside(questions: Path) -> Path:
    """The file `*_a.json` that belongs to a `*_q.json`, in the same folder.

    Raises:
        UserError: the name does not end in `q.json`, or there is no such file.
    """
    found = _PAIR.fullmatch(questions.name)
    if not found:
        raise UserError(f"{questions}: a file of questions is called *_q.json")
    # The letter alone changes: `Test_Q.json` goes with `Test_A.json`.
    letter = questions.name[-6]
    name = f"{questions.name[:-6]}{'A' if letter == 'Q' else 'a'}{questions.name[-5:]}"
    answers = questions.with_name(name)
    if not answers.is_file():
        raise UserError(f"{questions}: its answers, {answers.name}, are not beside it")
    return answers


def answered(questions: Path, answers: Path) -> Iterator[Entry]:
    """The questions in their order, each with all that its answer says.

    Raises:
        UserError: the two files do not fit: an id that is in one of them only, or twice.
    """
    table: dict[str, Row] = {}
    for where, entry in read_list(answers):
        key = _key(where, entry)
        if key in table:
            raise UserError(f"{where}: a second answer to {key!r}")
        table[key] = entry
    left = set(table)
    for where, entry in read_list(questions):
        key = _key(where, entry)
        if key not in table:
            raise UserError(f"{where}: no answer to {key!r} in {answers.name}; one split each?")
        left.discard(key)
        yield where, {**table[key], **entry}
    if left:
        raise UserError(
            f"{answers}: {len(left)} answers without a question in {questions.name} "
            f"({and_more(sorted(left), 3)}); one split each?"
        )


def _key(where: str, entry: Mapping[str, Any]) -> str:
    try:
        return text_or_number(entry, "question_id", "id")
    except RowError as error:
        raise UserError(f"{where}: {error}") from error

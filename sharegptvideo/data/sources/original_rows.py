"""Questions and answers of published sets, as their authors' files have them.

| set | files |
| --- | --- |
| MSVD-QA, MSRVTT-QA | `*_qa.json`: one list about numbered clips; a table of clip names |
| TGIF-QA | four tables, tab-separated in spite of their `.csv` |
| ActivityNet-QA | `*_q.json` and `*_a.json`: a list of questions and one of their answers |
| Video-ChatGPT | `VideoInstruct100K.json`: q, a, video_id |
| | `generic_qa.json`, `temporal_qa.json`: Q, A, video_name |
| | `consistency_qa.json`: Q1, Q2, A, video_name: two questions with one answer |
| | `*_q.json` and `*_a.json`, as ActivityNet-QA; so came the 5k test questions of four sets |

`read_*` gives the rows of a file; `*_entries` and `*_row` are its two steps, for `data convert`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sharegptvideo._text import and_more
from sharegptvideo.data.sources.base import Row
from sharegptvideo.data.sources.originals import (
    Entry,
    OnBad,
    fail,
    read_lines,
    read_list,
    read_table,
    text_of,
    text_or_number,
)
from sharegptvideo.data.sources.rows import RowError
from sharegptvideo.errors import UserError

__all__ = [
    "activitynet_row",
    "answered",
    "answers_beside",
    "clip_number",
    "msrvtt_row",
    "msvd_row",
    "read_activitynet",
    "read_msrvtt",
    "read_msvd",
    "read_msvd_mapping",
    "read_tgif_frameqa",
    "read_video_chatgpt",
    "rows_of_entries",
    "tgif_entries",
    "tgif_row",
    "video_chatgpt_entries",
    "video_chatgpt_row",
]

_NUMBERED = ("id", "video_id", "question", "answer")
_TGIF = ("gif_name", "question", "answer", "vid_id")
_FRAMEQA = ("gif_name", "question", "answer", "type", "vid_id")
_OPTIONS = ("a1", "a2", "a3", "a4", "a5")

# The paper numbers the kinds of FrameQA questions; the file holds the numbers.
_FRAMEQA_TYPES = {"0": "object", "1": "number", "2": "color", "3": "location"}
# The two kinds with options have the same columns; what they are stands in their ids.
_CHOICES = {"ACTION": "action", "TRANS": "transition"}
# Yu et al. 2019: kinds of question up to 2, then free questions by the kind of their answer.
_ACTIVITYNET_TYPES = (
    *("motion", "spatial", "temporal", "yes/no", "color", "object", "location", "number"),
    "other",
)
_ACTIVITYNET_NAME = re.compile(r"v_.{11}")
_QUESTIONS = re.compile(r"(?:(.*)_)?q\.json", re.IGNORECASE | re.DOTALL)
_CHATGPT_VIDEO = ("video_name", "video_id", "video")
_CHATGPT_QUESTION = ("question", "Q", "q")
_CHATGPT_ANSWER = ("answer", "A", "a")
_ASPECTS = ("generic", "temporal", "consistency")


def rows_of_entries(
    entries: Iterable[Entry], row_of: Callable[[Mapping[str, Any]], Row]
) -> Iterator[Row]:
    """Yield the row that `row_of` makes of each entry.

    Raises:
        UserError: where the entry stands, and why it is no row.
    """
    for where, entry in entries:
        try:
            yield row_of(entry)
        except RowError as error:
            raise UserError(f"{where}: {error}") from error


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
    return _numbered(questions, "vid", mapping)


def _numbered(questions: Path, prefix: str, mapping: Path | None) -> Iterator[Row]:
    names = read_msvd_mapping(mapping) if mapping else None
    return rows_of_entries(read_list(questions), lambda entry: _numbered_row(entry, prefix, names))


def msvd_row(entry: Mapping[str, Any], names: Mapping[str, str] | None) -> Row:
    """One entry of `*_qa.json` as a row; `names` as `read_msvd_mapping` gives it.

    Raises:
        RowError: a column is missing or of the wrong kind, or the clip has no name.
    """
    return _numbered_row(entry, "vid", names)


def _numbered_row(entry: Mapping[str, Any], prefix: str, names: Mapping[str, str] | None) -> Row:
    """Return a row of MSVD-QA or MSRVTT-QA, whose clips are a prefix and a number.

    Raises:
        RowError: see `msvd_row`.
    """
    absent = [column for column in _NUMBERED if entry.get(column) is None]
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
    """Return the number of an entry's clip: `video_id` is 1451, "1451", "vid1451" or "video1451".

    Raises:
        RowError: it is none of these.
    """
    given = text_or_number(entry, "video_id")
    match = re.fullmatch(r"(?:vid|video)?([0-9]{1,6})", given)
    if not match:
        raise RowError(f"'video_id' is {given!r} where a number belongs")
    return int(match[1])


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
    return _numbered(questions, "video", mapping)


def msrvtt_row(entry: Mapping[str, Any], names: Mapping[str, str] | None) -> Row:
    """One entry of `*_qa.json` as a row.

    Raises:
        RowError: a column is missing or of the wrong kind, or the clip has no name.
    """
    return _numbered_row(entry, "video", names)


def read_tgif_frameqa(path: Path) -> Iterator[Row]:
    """Yield rows with id, video, question, answer, caption and question_type of a FrameQA table.

    `id` is the table's `vid_id` (unique to a question in spite of its name), `video` the GIF's
    name, `caption` its human description (None where the table has no such column), and
    `question_type` object, number, color or location.

    Raises:
        UserError: `FILE:LINE: cause` for a table or line that is not of this form.
    """
    return rows_of_entries(_table(path, _FRAMEQA, "is this the FrameQA table?"), tgif_row)


def tgif_entries(path: Path, on_bad: OnBad = fail) -> Iterator[Entry]:
    """Yield the lines of any of the four tables: FrameQA, Count, Action, Transition.

    Raises:
        UserError: `FILE:LINE: cause` for a table that is not of this form; for a line of it,
            `on_bad`.
    """
    return _table(path, _TGIF, "is this a table of TGIF-QA?", on_bad)


def _table(path: Path, needed: tuple[str, ...], hint: str, on_bad: OnBad = fail) -> Iterator[Entry]:
    return read_table(path, "\t", quoted=False, needed=needed, hint=hint, on_bad=on_bad)


def tgif_row(entry: Mapping[str, Any]) -> Row:
    """Return a line of one of the four tables as a row.

    The table is known by its columns: FrameQA has `type`; Action and Transition have `a1` to
    `a5`, which are written below the question, and `answer` counts them from 0; the rest is
    Count. The GIF's `description` is the caption.

    Raises:
        RowError: a type, an option or an id that these tables do not have.
    """
    question, answer = entry["question"], entry["answer"]
    if "type" in entry:
        if entry["type"] not in _FRAMEQA_TYPES:
            raise RowError(f"type {entry['type']!r} is none of 0, 1, 2, 3")
        kind = _FRAMEQA_TYPES[entry["type"]]
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
    entries = answered(questions, answers or answers_beside(questions))
    return rows_of_entries(entries, activitynet_row)


def activitynet_row(entry: Mapping[str, Any]) -> Row:
    """Return a question with its answer, as `answered` gives them, as a row.

    Raises:
        RowError: a column is missing or of the wrong kind.
    """
    name = text_of(entry, "video_name")
    return {
        "id": text_or_number(entry, "question_id"),
        "video": name if _ACTIVITYNET_NAME.fullmatch(name) else f"v_{name}",
        "question": text_of(entry, "question"),
        "answer": text_or_number(entry, "answer"),
        "caption": None,
        "question_type": _activitynet_type(entry),
    }


def _activitynet_type(entry: Mapping[str, Any]) -> str | None:
    if entry.get("type") is None:
        return None
    given = text_or_number(entry, "type")
    if given not in map(str, range(len(_ACTIVITYNET_TYPES))):
        raise RowError(f"type {given!r} is none of 0 to {len(_ACTIVITYNET_TYPES) - 1}")
    return _ACTIVITYNET_TYPES[int(given)]


def answers_beside(questions: Path) -> Path:
    """Return the file `*_a.json` that belongs to a `*_q.json`, in the same folder.

    Raises:
        UserError: the name does not end in `q.json`, or there is no such file.
    """
    match = _QUESTIONS.fullmatch(questions.name)
    if not match:
        raise UserError(f"{questions}: a file of questions is called *_q.json")
    # The letter alone changes: `Test_Q.json` goes with `Test_A.json`.
    letter = questions.name[-6]
    name = f"{questions.name[:-6]}{'A' if letter == 'Q' else 'a'}{questions.name[-5:]}"
    answers = questions.with_name(name)
    if not answers.is_file():
        raise UserError(f"{questions}: its answers, {answers.name}, are not beside it")
    return answers


def answered(questions: Path, answers: Path) -> Iterator[Entry]:
    """Yield the questions in their order, each with all that its answer says.

    Raises:
        UserError: the two files do not fit: an id that is in one of them only, or twice.
    """
    table: dict[str, Row] = {}
    for where, entry in read_list(answers):
        key = _question_id(where, entry)
        if key in table:
            raise UserError(f"{where}: a second answer to {key!r}")
        table[key] = entry
    left = set(table)
    for where, entry in read_list(questions):
        key = _question_id(where, entry)
        if key not in table:
            raise UserError(f"{where}: no answer to {key!r} in {answers.name}; one split each?")
        left.discard(key)
        yield where, {**table[key], **entry}
    if left:
        raise UserError(
            f"{answers}: {len(left)} answers without a question in {questions.name} "
            f"({and_more(sorted(left), 3)}); one split each?"
        )


def _question_id(where: str, entry: Mapping[str, Any]) -> str:
    try:
        return text_or_number(entry, "question_id", "id")
    except RowError as error:
        raise UserError(f"{where}: {error}") from error


def read_video_chatgpt(path: Path) -> Iterator[Row]:
    """Yield rows with id, video, question, answer, caption and question_type of one file or pair.

    `id` is the file's own where it has one, else the file's name and the entry's number;
    `question_type` is generic, temporal or consistency for the files that say so in their name.
    Of two questions with one answer each row has a `pair` too, the id of the entry.

    Raises:
        UserError: not such a file, or an entry lacks what it needs.
    """

    def row_of(entry: Mapping[str, Any]) -> Row:
        row = video_chatgpt_row(entry)
        return row | {"pair": row["id"][:-2]} if "Q1" in entry or "Q2" in entry else row

    return rows_of_entries(video_chatgpt_entries(path), row_of)


def video_chatgpt_entries(
    path: Path, answers: Path | None = None, on_bad: OnBad = fail
) -> Iterator[Entry]:
    """Yield the entries of a file, each with one question, an id and a question_type.

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
    """Return an entry of `video_chatgpt_entries` as a row.

    Raises:
        RowError: a column is missing or of the wrong kind.
    """
    return {
        "id": text_or_number(entry, "question_id", "id"),
        "video": text_of(entry, *_CHATGPT_VIDEO),
        "question": text_of(entry, *_CHATGPT_QUESTION),
        "answer": text_or_number(entry, *_CHATGPT_ANSWER),
        "caption": None,
        "question_type": entry.get("question_type"),
    }

"""Questions of public benchmarks with answers from a few: yes or no, and options to choose from.

| set | files |
| --- | --- |
| VideoHallucer | a JSON list a kind: `basic` and `hallucination`, each video, question, answer |
| EventHallusion | `*_questions.json`, a list of clips: id, `questions`, each question, answer |
| TempCompass | by clip and aspect question and answer; options are lines of the question |
| NExT-QA | a table: video, question, answer (from 0), qid, type, a0 to a4 |
| MVBench | a JSON list a kind: video, question, candidates, answer, for some start and end |
| Video-MME | Parquet or a JSON list: videoID, question_id, question, options, answer (a letter) |
| EgoSchema | `questions.json`: q_uid, question, `option 0` to `option 4`; `subset_answers.json` |

Rows have id, video, question, answer and question_type; `options`, the texts to choose from, one
of them the answer; `pair`, the name of the two questions that count together; `clips`, where the
clip may lie below the media folder, if not under the name of its video; `span`, the seconds of the
video that the question is on, where it is not on all of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sharegptvideo._io import kind_of, read_json
from sharegptvideo._text import and_more
from sharegptvideo.data.sources.base import Row
from sharegptvideo.data.sources.original_rows import rows_of_entries
from sharegptvideo.data.sources.originals import (
    Entry,
    read_list,
    read_table,
    text_of,
    text_or_number,
)
from sharegptvideo.data.sources.rows import RowError
from sharegptvideo.errors import UserError

__all__ = ["BENCHMARKS"]

Files = Sequence[Path]

_LETTERS = "ABCDEFGH"
_LETTERED = re.compile(r"\s*\(?([A-H])[.):]\s*(.+)", re.DOTALL)
_ENDING = re.compile(r"\.(?:mp4|avi|mkv|webm|mov|gif)$", re.IGNORECASE)
_NEXTQA = ("video", "question", "answer", "qid", "type", "a0", "a1", "a2", "a3", "a4")
# By the first letter of the table's types (CH, CW; TC, TN, TP; DB, DC, DL, DO).
_NEXTQA_TYPES = {"C": "causal", "T": "temporal", "D": "descriptive"}
# Where the authors' archive has the clips of each list; several have clips of one name. Below it
# what a later archive has in its place: parts cut out of videos, or files that more programs read.
_MVBENCH_FOLDERS = {
    "action_antonym": "ssv2_video",
    "action_count": "perception/videos",
    "action_localization": "sta/sta_video",
    "action_prediction": "star/Charades_v1_480",
    "action_sequence": "star/Charades_v1_480",
    "character_order": "perception/videos",
    "counterfactual_inference": "clevrer/video_validation",
    "egocentric_navigation": "vlnqa",
    "episodic_reasoning": "tvqa/frames_fps3_hq",
    "fine_grained_action": "Moments_in_Time_Raw/videos",
    "fine_grained_pose": "nturgbd",
    "moving_attribute": "clevrer/video_validation",
    "moving_count": "clevrer/video_validation",
    "moving_direction": "clevrer/video_validation",
    "object_existence": "clevrer/video_validation",
    "object_interaction": "star/Charades_v1_480",
    "object_shuffle": "perception/videos",
    "scene_transition": "scene_qa/video",
    "state_change": "perception/videos",
    "unexpected_action": "FunQA_test/test",
}
_MVBENCH_LATER = {
    "nturgbd": "nturgbd_convert",
    "ssv2_video": "ssv2_video_mp4",
    "sta/sta_video": "sta/sta_video_segment",
    "star/Charades_v1_480": "star/Charades_segment",
    "tvqa/frames_fps3_hq": "tvqa/video_fps3_hq_segment",
}


def _stem(video: str) -> str:
    """Return a clip's name without the ending of a video."""
    return _ENDING.sub("", video)


def _yes_no(entry: Mapping[str, Any]) -> str:
    answer = text_of(entry, "answer").strip().rstrip(".").lower()
    if answer not in ("yes", "no"):
        raise RowError(f"'answer' is {entry['answer']!r} where yes or no belongs")
    return answer


def _options(value: object) -> list[str]:
    """Return a list of at least two texts."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise RowError("its options are no list of texts")
    options = [each.strip() for each in value]
    if len(options) < 2 or not all(options):
        raise RowError("it has fewer than two options, or an empty one")
    return options


def _one_of(answer: str, options: Sequence[str]) -> str:
    if answer not in options:
        raise RowError(f"its answer {answer!r} is none of its options")
    return answer


def _unlettered(lines: Sequence[str]) -> list[str]:
    """Return options without their letters, which have to be A, B, C, ..."""
    matches = [_LETTERED.fullmatch(line) for line in lines]
    pairs = [(match[1], match[2].strip()) for match in matches if match]
    if [letter for letter, _ in pairs] != list(_LETTERS[: len(lines)]):
        raise RowError(f"its options are not lettered A, B, C, ...: {list(lines)!r}")
    return [text for _, text in pairs]


def _inner(where: str, value: object, kind: type) -> Any:
    """Return a part of an entry that has to be a list or an object."""
    if not isinstance(value, kind):
        needed = "a list" if kind is list else "an object"
        raise UserError(f"{where}: {kind_of(value)} where {needed} belongs")
    return value


def _read_videohallucer(files: Files, _: Path | None) -> Iterator[Row]:
    """Yield two rows a pair; question_type is the file's name (object_relation, temporal, ...)."""
    return rows_of_entries(_halves(files), _videohallucer_row)


def _halves(files: Files) -> Iterator[Entry]:
    for file in files:
        for number, (where, entry) in enumerate(read_list(file), start=1):
            about = {"kind": file.stem, "pair": f"{file.stem}_{number:03}"}
            for half in ("basic", "hallucination"):
                place = f"{where}, {half}"
                yield place, {**_inner(place, entry.get(half), dict), **about, "half": half}


def _videohallucer_row(entry: Mapping[str, Any]) -> Row:
    video = _stem(text_of(entry, "video"))
    return {
        "id": f"{entry['pair']}_{entry['half']}",
        "video": video,
        "clips": [f"{entry['kind']}/videos/{video}"],  # two kinds have the same clips, each its own
        "question": text_of(entry, "question"),
        "answer": _yes_no(entry),
        "question_type": entry["kind"],
        "pair": entry["pair"],
    }


def _read_eventhallusion(files: Files, _: Path | None) -> Iterator[Row]:
    """Yield the questions on each clip; question_type is entire, interleave or misleading."""
    return rows_of_entries(_eventhallusion_entries(files), _eventhallusion_row)


def _eventhallusion_entries(files: Files) -> Iterator[Entry]:
    for file in files:
        kind = file.stem.removesuffix("_questions")
        for where, entry in read_list(file):
            for number, each in enumerate(_inner(where, entry.get("questions"), list), start=1):
                place = f"{where}, question {number}"
                about = {"clip": entry.get("id"), "number": number, "kind": kind}
                yield place, {**_inner(place, each, dict), **about}


def _eventhallusion_row(entry: Mapping[str, Any]) -> Row:
    video = text_of(entry, "clip")
    return {
        "id": f"{video}_{entry['number']}",
        "video": video,
        "clips": [f"{entry['kind']}/{video}"],
        "question": text_of(entry, "question"),
        "answer": _yes_no(entry),
        "question_type": entry["kind"],
    }


def _read_tempcompass(files: Files, _: Path | None) -> Iterator[Row]:
    """Yield the questions of a file; question_type is the aspect (action, direction, ...)."""
    return rows_of_entries(_tempcompass_entries(files), _tempcompass_row)


def _tempcompass_entries(files: Files) -> Iterator[Entry]:
    for file in files:
        for clip, aspects in _inner(str(file), read_json(file, finite=True), dict).items():
            for aspect, questions in _inner(f"{file}: {clip}", aspects, dict).items():
                place = f"{file}: {clip}, {aspect}"
                for number, each in enumerate(_inner(place, questions, list), start=1):
                    where = f"{place}, question {number}"
                    about = {"clip": clip, "aspect": aspect, "number": number}
                    yield where, {**_inner(where, each, dict), **about}


def _tempcompass_row(entry: Mapping[str, Any]) -> Row:
    """Return a question; the lines below it are its options, and without them it is yes or no."""
    question, *lines = text_of(entry, "question").strip().split("\n")
    row = {
        "id": f"{entry['clip']}_{entry['aspect']}_{entry['number']}",
        "video": entry["clip"],
        "question": question.strip(),
        "question_type": entry["aspect"],
    }
    listed = [line for line in lines if line.strip()]
    if not listed:
        return row | {"answer": _yes_no(entry)}
    options, answer = _unlettered(listed), text_of(entry, "answer")
    match = _LETTERED.fullmatch(answer)
    return row | {
        "options": options,
        "answer": _one_of(match[2].strip() if match else answer, options),
    }


def _read_nextqa(files: Files, _: Path | None) -> Iterator[Row]:
    """Yield the lines of a table; question_type is causal, temporal or descriptive."""
    hint = "is this the table of multiple choice?"
    for file in files:
        yield from rows_of_entries(read_table(file, ",", needed=_NEXTQA, hint=hint), _nextqa_row)


def _nextqa_row(entry: Mapping[str, Any]) -> Row:
    options = _options([entry[f"a{at}"] for at in range(5)])
    if entry["answer"] not in ("0", "1", "2", "3", "4"):
        raise RowError(f"answer {entry['answer']!r} is no number from 0 to 4")
    kind = _NEXTQA_TYPES.get(entry["type"][:1])
    if kind is None:
        raise RowError(f"type {entry['type']!r} begins with none of {', '.join(_NEXTQA_TYPES)}")
    return {
        "id": f"{entry['video']}_{entry['qid']}",
        "video": entry["video"],
        "question": entry["question"],
        "options": options,
        "answer": options[int(entry["answer"])],
        "question_type": kind,
    }


def _read_mvbench(files: Files, _: Path | None) -> Iterator[Row]:
    """Yield the entries of all lists; question_type is the list's name, as action_sequence."""
    return rows_of_entries(_mvbench_entries(files), _mvbench_row)


def _mvbench_entries(files: Files) -> Iterator[Entry]:
    for file in files:
        for number, (where, entry) in enumerate(read_list(file), start=1):
            yield where, {**entry, "kind": file.stem, "number": number}


def _mvbench_row(entry: Mapping[str, Any]) -> Row:
    kind, options = entry["kind"], _options(entry.get("candidates"))
    folder, video = _MVBENCH_FOLDERS.get(kind, ""), _stem(text_of(entry, "video"))
    row = {
        "id": f"{kind}_{entry['number']:03}",
        "video": f"{folder}/{video}" if folder else video,
        "clips": [f"{place}/{video}" for place in (_MVBENCH_LATER.get(folder), folder) if place],
        "question": text_of(entry, "question"),
        "options": options,
        "answer": _one_of(text_of(entry, "answer").strip(), options),
        "question_type": kind,
    }
    ends = [entry.get("start"), entry.get("end")]
    if all(isinstance(end, int | float) for end in ends):
        row["span"] = ends
    return row


def _read_videomme(files: Files, _: Path | None) -> Iterator[Row]:
    """Yield the rows of Parquet or of a JSON list; question_type is short, medium or long."""
    for file in files:
        entries = _parquet_entries(file) if file.suffix == ".parquet" else read_list(file)
        yield from rows_of_entries(entries, _videomme_row)


def _parquet_entries(file: Path) -> Iterator[Entry]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file}: no Parquet file that can be read ({error})") from error
    for number, entry in enumerate(table.to_pylist(), start=1):
        yield f"{file}: row {number}", entry


def _videomme_row(entry: Mapping[str, Any]) -> Row:
    options = _unlettered(_options(entry.get("options")))
    letter = text_of(entry, "answer").strip()
    if letter not in list(_LETTERS[: len(options)]):
        raise RowError(f"answer {letter!r} is the letter of none of its {len(options)} options")
    return {
        "id": text_or_number(entry, "question_id"),
        "video": text_of(entry, "videoID"),
        "question": text_of(entry, "question"),
        "options": options,
        "answer": options[_LETTERS.index(letter)],
        "question_type": text_of(entry, "duration"),
    }


def _read_egoschema(files: Files, answers: Path | None) -> Iterator[Row]:
    """Yield the questions whose answers are public: those that a second file has, by q_uid."""
    if answers is None:
        raise UserError(f"{files[0]}: its answers, subset_answers.json, are not there")
    places = _inner(str(answers), read_json(answers, finite=True), dict)
    entries = [
        (where, {**entry, "place": places[entry["q_uid"]]})
        for where, entry in read_list(files[0])
        if entry.get("q_uid") in places
    ]
    if left := sorted(places.keys() - {entry["q_uid"] for _, entry in entries}):
        raise UserError(
            f"{answers}: {len(left)} answers without a question in {files[0].name}"
            f" ({and_more(left, 3)})"
        )
    return rows_of_entries(entries, _egoschema_row)


def _egoschema_row(entry: Mapping[str, Any]) -> Row:
    options = _options([entry.get(f"option {at}") for at in range(5)])
    place = text_or_number(entry, "place")
    if place not in ("0", "1", "2", "3", "4"):
        raise RowError(f"its answer is {place!r}, no number from 0 to 4")
    return {
        "id": entry["q_uid"],
        "video": entry["q_uid"],
        "question": text_of(entry, "question"),
        "options": options,
        "answer": options[int(place)],
    }


BENCHMARKS: dict[str, Callable[[Files, Path | None], Iterator[Row]]] = {
    "videohallucer": _read_videohallucer,
    "eventhallusion": _read_eventhallusion,
    "tempcompass": _read_tempcompass,
    "nextqa": _read_nextqa,
    "mvbench": _read_mvbench,
    "videomme": _read_videomme,
    "egoschema": _read_egoschema,
}
"""Readers by the name that a task file gives: of its files, and of a second one where it has it."""

"""Rows of each set's original form, against values written down from the forms' descriptions."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo.data.sources.original_rows import (
    read_activitynet,
    read_msrvtt,
    read_msvd,
    read_tgif_frameqa,
    read_video_chatgpt,
    tgif_entries,
    tgif_row,
)
from sharegptvideo.data.sources.plain import read_captions
from sharegptvideo.data.sources.rows import RowError
from sharegptvideo.errors import UserError

Json = list[dict[str, Any]]


def write(path: Path, content: Json | str) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def row(name: str, video: str, question: str, answer: str, kind: str | None) -> dict[str, Any]:
    return {
        "id": name,
        "video": video,
        "question": question,
        "answer": answer,
        "caption": None,
        "question_type": kind,
    }


def test_msrvtt(tmp_path: Path) -> None:
    entry = {"answer": "game", "category_id": 9, "id": 170859, "question": "what is it?"}
    file = write(tmp_path / "test_qa.json", [{**entry, "video_id": 7010}])
    assert list(read_msrvtt(file)) == [row("170859", "video7010", "what is it?", "game", "what")]
    names = write(tmp_path / "names.txt", "my_clip video7010\n")
    assert next(read_msrvtt(file, names))["video"] == "my_clip"


@pytest.mark.parametrize("number", [1451, "1451", "vid1451"])
def test_ids_and_clips_as_numbers_or_texts(tmp_path: Path, number: int | str) -> None:
    entry = {"id": "5", "question": "how many?", "answer": 3, "video_id": number, "extra": [1]}
    file = write(tmp_path / "test_qa.json", [entry])
    assert list(read_msvd(file)) == [row("5", "vid1451", "how many?", "3", "how")]


@pytest.mark.parametrize("number", [True, 1.5, [1], "x1", "-4", 10**30])
def test_clips_that_are_no_numbers(tmp_path: Path, number: Any) -> None:
    file = write(
        tmp_path / "qa.json", [{"id": 1, "question": "q", "answer": "a", "video_id": number}]
    )
    with pytest.raises(UserError, match=r"qa\.json: entry 1: "):
        list(read_msvd(file))


def test_a_clip_with_two_names(tmp_path: Path) -> None:
    names = write(tmp_path / "names.txt", "a vid1\n\nb vid1\n")
    with pytest.raises(UserError, match=r"names\.txt:3: a second name for vid1"):
        list(read_msvd(write(tmp_path / "qa.json", []), names))


def tgif(tmp_path: Path, *lines: str) -> Iterator[dict[str, Any]]:
    file = write(tmp_path / "q.csv", "\n".join(lines).replace(" | ", "\t") + "\n")
    return (tgif_row(entry) for _, entry in tgif_entries(file))


def test_tgif_count(tmp_path: Path) -> None:
    rows = tgif(
        tmp_path,
        "gif_name | question | answer | vid_id | key",
        "tumblr_a | How many times does the man step up ? | 10 | COUNT46 | 168",
    )
    question = "How many times does the man step up ?"
    assert list(rows) == [row("COUNT46", "tumblr_a", question, "10", "count")]


CHOICES = "gif_name | question | a1 | a2 | a3 | a4 | a5 | answer | vid_id | key"


@pytest.mark.parametrize(("name", "kind"), [("ACTION4", "action"), ("TRANS23", "transition")])
def test_tgif_options(tmp_path: Path, name: str, kind: str) -> None:
    line = (
        f"tumblr_b | What does the cat do ? | sit | fall over | talk | flap | nod | 1 | {name} | 2"
    )
    options = "- sit\n- fall over\n- talk\n- flap\n- nod"
    asked = f"What does the cat do ?\nAnswer with one of these:\n{options}"
    assert list(tgif(tmp_path, CHOICES, line)) == [row(name, "tumblr_b", asked, "fall over", kind)]


@pytest.mark.parametrize(
    ("heading", "line", "message"),
    [
        (CHOICES, "g | q | a | b | c | d | e | 5 | ACTION1 | 2", "'5' is none of 0, 1, 2, 3, 4"),
        (CHOICES, "g | q | a | b | c | d | e | a | ACTION1 | 2", "'a' is none of 0, 1, 2, 3, 4"),
        (CHOICES, "g | q | a |  | c | d | e | 1 | ACTION1 | 2", "option a2 is empty"),
        (CHOICES, "g | q | a | b | c | d | e | 1 | X1 | 2", "neither ACTION nor TRANS"),
        ("gif_name | question | answer | vid_id", "g | q | cat | COUNT1", "'cat' is no number"),
    ],
)
def test_broken_tgif_lines(tmp_path: Path, heading: str, line: str, message: str) -> None:
    with pytest.raises(RowError, match=message):
        list(tgif(tmp_path, heading, line))


QUESTIONS = [
    {"video_name": "1QIUV7WYKXg", "question": "is it red", "question_id": "v_1QIUV7WYKXg_3"},
    {"video_name": "v_1QIUV7WYKXg", "question": "how many", "question_id": "v_1QIUV7WYKXg_4"},
    # This one's YouTube id begins with v_ itself.
    {"video_name": "v_abcdefghi", "question": "where", "question_id": 7},
]
ANSWERS = [
    {"answer": "in the yard", "type": 6, "question_id": 7},
    {"answer": 2, "type": 7, "question_id": "v_1QIUV7WYKXg_4"},
    {"answer": "yes", "type": 3, "question_id": "v_1QIUV7WYKXg_3"},
]


def test_activitynet_joins_by_id_and_names_the_types(tmp_path: Path) -> None:
    file = write(tmp_path / "test_q.json", QUESTIONS)
    write(tmp_path / "test_a.json", ANSWERS)
    assert list(read_activitynet(file)) == [
        row("v_1QIUV7WYKXg_3", "v_1QIUV7WYKXg", "is it red", "yes", "yes/no"),
        row("v_1QIUV7WYKXg_4", "v_1QIUV7WYKXg", "how many", "2", "number"),
        row("7", "v_v_abcdefghi", "where", "in the yard", "location"),
    ]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (ANSWERS[:2], r"test_q\.json: entry 1: no answer to 'v_1QIUV7WYKXg_3' in test_a\.json"),
        ([*ANSWERS, {**ANSWERS[0], "question_id": 8}], r"test_a\.json: 1 answers without .* \(8\)"),
        ([*ANSWERS, ANSWERS[0]], r"test_a\.json: entry 4: a second answer to '7'"),
        ([{**ANSWERS[0], "type": 9}, *ANSWERS[1:]], r"entry 3: type '9' is none of 0 to 8"),
        ([{"answer": "x"}], r"test_a\.json: entry 1: no question_id or id"),
    ],
)
def test_questions_and_answers_that_do_not_fit(tmp_path: Path, answers: Json, message: str) -> None:
    file = write(tmp_path / "test_q.json", QUESTIONS)
    write(tmp_path / "test_a.json", answers)
    with pytest.raises(UserError, match=message):
        list(read_activitynet(file))


def test_answers_are_looked_for_beside_the_questions(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"its answers, Val_A\.json, are not beside it"):
        list(read_activitynet(write(tmp_path / "Val_Q.json", QUESTIONS)))
    with pytest.raises(UserError, match=r"called \*_q\.json"):
        list(read_activitynet(write(tmp_path / "val.json", QUESTIONS)))


def test_video_chatgpt_forms(tmp_path: Path) -> None:
    file = write(
        tmp_path / "VideoInstruct100K.json", [{"q": "Why?", "a": "So.", "video_id": "v_x"}]
    )
    assert list(read_video_chatgpt(file)) == [
        row("VideoInstruct100K-1", "v_x", "Why?", "So.", None)
    ]
    file = write(tmp_path / "generic_qa.json", [{"Q": "Who?", "A": "He.", "video_name": "v_y"}])
    assert list(read_video_chatgpt(file)) == [row("generic_qa-1", "v_y", "Who?", "He.", "generic")]
    pair = {"Q1": "What?", "Q2": "Which?", "A": "It.", "video_name": "v_z"}
    file = write(tmp_path / "consistency_qa.json", [pair])
    assert list(read_video_chatgpt(file)) == [
        row("consistency_qa-1-1", "v_z", "What?", "It.", "consistency")
        | {"pair": "consistency_qa-1"},
        row("consistency_qa-1-2", "v_z", "Which?", "It.", "consistency")
        | {"pair": "consistency_qa-1"},
    ]
    file = write(tmp_path / "test_q.json", [{"video_name": "c", "question": "q", "question_id": 4}])
    write(tmp_path / "test_a.json", [{"answer": "a", "type": "what", "question_id": 4}])
    assert list(read_video_chatgpt(file)) == [row("4", "c", "q", "a", None)]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"Q": "q", "A": "a"}, "entry 1: no video_name or video_id or video"),
        ({"Q1": "q", "A": "a", "video_name": "v"}, "entry 1: no question or Q or q"),
        ({"Q": {"text": "q"}, "A": "a", "video_name": "v"}, "'question' is an object where"),
    ],
)
def test_broken_video_chatgpt_entries(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        list(read_video_chatgpt(write(tmp_path / "generic_qa.json", [entry])))


def test_captions_of_every_form(tmp_path: Path) -> None:
    table = write(tmp_path / "a.csv", "video,caption\nclips/one.mp4,First.\none,Second.\n")
    quoted = 'gif_name\tquestion\tdescription\ntumblr_a\tq\t"odd quote\n'
    gifs = write(tmp_path / "frameqa.csv", quoted)
    turns = [{"from": "human", "value": "<video>\nDescribe."}, {"from": "gpt", "value": "Two."}]
    release = write(
        tmp_path / "c.jsonl", json.dumps({"id": "x", "video": "two", "conversations": turns})
    )
    found = read_captions([table, gifs, release])
    assert found == {"one": "First.", "tumblr_a": '"odd quote', "two": "Two."}
    with pytest.raises(UserError, match=r"d\.csv:2: no caption or description"):
        read_captions([write(tmp_path / "d.csv", "video,text\nx,y\n")])


def test_all_of_activitynet(shared_data: Path) -> None:
    rows = list(read_activitynet(shared_data / "annotations" / "activitynet_qa_test_q.json"))
    assert len(rows) == len({r["id"] for r in rows}) == 8000
    assert len({r["video"] for r in rows}) == 800
    # Yu et al. 2019 ask each clip one question on motion, space and time.
    counts = Counter(r["question_type"] for r in rows)
    assert counts["motion"] == counts["spatial"] == counts["temporal"] == 800
    assert {r["answer"] for r in rows if r["question_type"] == "yes/no"} >= {"yes", "no"}
    yes_no = [r["answer"] for r in rows if r["question_type"] == "yes/no"]
    assert sum(answer in ("yes", "no") for answer in yes_no) > 0.99 * len(yes_no)


def test_all_of_tgif_count(shared_data: Path) -> None:
    file = shared_data / "annotations" / "tgif_qa_Test_count_question.csv"
    rows = [tgif_row(entry) for _, entry in tgif_entries(file)]
    assert len(rows) == len({r["id"] for r in rows}) == 3554
    assert {r["answer"] for r in rows} == {"0", *map(str, range(2, 11))}
    frames = shared_data / "annotations" / "tgif_qa_Test_frameqa_question.csv"
    assert len(read_captions([frames])) == len({r["video"] for r in read_tgif_frameqa(frames)})

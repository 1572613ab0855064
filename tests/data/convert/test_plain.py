"""Rows of one's own: columns found by name, or named; one clear line where that fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo import read_rows
from sharegptvideo.data.convert import convert
from sharegptvideo.data.schema import CONFIGS
from sharegptvideo.data.sources.plain import read_plain
from sharegptvideo.errors import UserError


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def qa_row(**changes: Any) -> dict[str, Any]:
    row = {"id": "1", "video": "a/b.mp4", "source": "plain", "question": "Who?", "answer": "A, b."}
    return {**row, "caption": None, **changes}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("my.csv", 'id,video,question,answer,other\n1,a/b.mp4,Who?,"A, b.",x\n'),
        ("my.csv", 'ID, Video ,QUESTION,Answer,caption\n1,a/b.mp4,Who?,"A, b.",\n'),
        ("my.tsv", "id\tvideo\tquestion\tanswer\n1\ta/b.mp4\tWho?\tA, b.\n"),
        ("my.jsonl", '{"id":1,"video":"a/b.mp4","question":"Who?","answer":"A, b.","x":[]}\n'),
        ("my.json", '[{"id":1,"video":"a/b.mp4","question":"Who?","answer":"A, b."}]'),
    ],
)
def test_the_same_row_in_every_form(tmp_path: Path, name: str, text: str) -> None:
    assert list(read_plain(write(tmp_path / name, text), CONFIGS["qa"])) == [qa_row()]


def test_a_quoted_value_over_lines_and_the_number_of_its_last_line(tmp_path: Path) -> None:
    text = 'id,video,question,answer\n1,v,Who?,"A\n\nb"\n2,w,,c\n'
    rows = read_plain(write(tmp_path / "my.csv", text), CONFIGS["qa"])
    assert next(rows)["answer"] == "A\n\nb"
    with pytest.raises(UserError, match=r"my\.csv:5: "):
        next(rows)


def test_columns_by_other_names(tmp_path: Path) -> None:
    file = write(tmp_path / "my.csv", "nr,clip,q,answer\n7,v,Who?,He.\n")
    columns = {"id": "nr", "video": "clip", "question": "q"}
    assert list(read_plain(file, CONFIGS["qa"], columns)) == [
        qa_row(id="7", video="v", answer="He.")
    ]


@pytest.mark.parametrize(
    ("heading", "columns", "message"),
    [
        (
            "video,question,answr",
            {},
            r"no column 'answer', the nearest is 'answr'; .* --column answer=",
        ),
        ("video_file,question,answer", {}, "no column 'video', the nearest is 'video_file'"),
        ("x,question,answer", {}, r"no column 'video'; say .* \(columns: x, question, answer\)"),
        ("video,question,answer", {"vide": "x"}, "unknown column of qa 'vide'; did you mean video"),
        (
            "video,question,answer",
            {"answer": "anser"},
            "no column 'anser' for 'answer', the nearest",
        ),
    ],
)
def test_columns_that_are_not_there(
    tmp_path: Path, heading: str, columns: dict[str, str], message: str
) -> None:
    file = write(tmp_path / "my.csv", f"{heading}\nv,q,a\n")
    with pytest.raises(UserError, match=message):
        list(read_plain(file, CONFIGS["qa"], columns))


def test_ids_are_made_where_there_are_none(tmp_path: Path) -> None:
    text = "".join(json.dumps({"video": v, "question": "q", "answer": "a"}) + "\n" for v in "ab")
    rows = read_plain(write(tmp_path / "my.set.jsonl", text), CONFIGS["qa"])
    assert [row["id"] for row in rows] == ["my-1", "my-2"]


def test_source_is_read_from_the_row_or_its_path(tmp_path: Path) -> None:
    text = "video,question,answer,source\nmsvd/x,q,a,\ny,q,a,Mine\n"
    rows = read_plain(write(tmp_path / "my.csv", text), CONFIGS["qa"])
    assert [row["source"] for row in rows] == ["MSVD", "Mine"]


def test_preferences_from_a_table(tmp_path: Path) -> None:
    text = "id,video,prompt,chosen,rejected,chosen score,rejected-score\n1,v,p,c,,5,1.5\n"
    text += "2,v,p,c,r,high,1\n"
    rows = read_plain(write(tmp_path / "my.csv", text), CONFIGS["preferences"])
    with pytest.raises(UserError, match=r"my\.csv:2: no 'rejected'"):
        next(rows)
    text = text.replace("p,c,,5", "p,c,r,5")
    rows = read_plain(write(tmp_path / "my.csv", text), CONFIGS["preferences"])
    row = next(rows)
    assert (row["chosen_score"], row["rejected_score"]) == (5.0, 1.5)
    with pytest.raises(UserError, match=r"my\.csv:3: 'chosen_score' is 'high' where a number"):
        next(rows)


MESSAGES = [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "He."}]


@pytest.mark.parametrize("name", ["my.jsonl", "my.csv"])
def test_conversations_as_messages_or_as_in_the_release(tmp_path: Path, name: str) -> None:
    turns = [{"from": "human", "value": "<video>\nWho?"}, {"from": "gpt", "value": "He."}]
    for column, value in (("messages", MESSAGES), ("conversations", turns)):
        if name == "my.jsonl":
            text = json.dumps({"id": 3, "video": "v", column: value})
        else:
            quoted = json.dumps(value).replace('"', '""')
            text = f'id,video,{column}\n3,v,"{quoted}"\n'
        rows = list(read_plain(write(tmp_path / name, text), CONFIGS["sft"]))
        assert rows == [{"id": "3", "video": "v", "image": None, "messages": MESSAGES}]


def test_rows_of_the_release_pass_as_they_are(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "release" / "video_instruction" / "train"
    for name, file in (
        ("captions", "pretrain/video_caption_pretrain.jsonl"),
        ("preferences", "dpo/sft_dpo_17k.jsonl"),
    ):
        convert("plain", [folder / file], tmp_path, config=name, split="train")
        rows = list(read_rows(name, tmp_path, "train"))
        expected = [
            *read_rows(name, shared_data / "release"),
            *read_rows(name, shared_data / "release", "validation"),
        ]
        reported = {row["id"]: {**row, "source": None} for row in expected}
        assert {row["id"]: {**row, "source": None} for row in rows} == reported


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ends in \.jsonl, \.json, \.csv, \.tsv is needed"):
        list(read_plain(write(tmp_path / "my.xlsx", ""), CONFIGS["qa"]))


def test_what_the_rows_are_and_which_split_has_to_be_said(tmp_path: Path) -> None:
    file = write(tmp_path / "my.csv", "video,question,answer\nv,q,a\n")
    with pytest.raises(UserError, match="say what the rows are with --config"):
        convert("plain", [file], tmp_path / "out", split="train")
    with pytest.raises(UserError, match="pass --split"):
        convert("plain", [file], tmp_path / "out", config="qa")
    with pytest.raises(UserError, match="give the file itself"):
        convert("plain", [tmp_path], tmp_path / "out", config="qa", split="train")


def test_two_columns_for_one_are_not_guessed(tmp_path: Path) -> None:
    file = write(tmp_path / "my.csv", "id,video,Video,question,answer\n1,v,w,Who?,He.\n")
    with pytest.raises(UserError, match=r"my\.csv:2: 'video' and 'Video' may each be 'video'; say"):
        list(read_plain(file, CONFIGS["qa"]))
    (row,) = read_plain(file, CONFIGS["qa"], {"video": "Video"})
    assert row["video"] == "w"


@pytest.mark.parametrize("name", ["my.json", "my.jsonl"])
def test_no_number_of_json_in_a_field_that_is_not_read(tmp_path: Path, name: str) -> None:
    row = '{"id":1,"video":"v","question":"Who?","answer":"He.","x":Infinity}'
    file = write(tmp_path / name, f"[{row}]" if name == "my.json" else row)
    with pytest.raises(UserError, match="Infinity is no number of JSON; write null"):
        list(read_plain(file, CONFIGS["qa"]))

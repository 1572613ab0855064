"""Task files, their prompts, and where their questions come from."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo.data.schema import CONFIGS
from sharegptvideo.data.sources.original_rows import read_msvd, read_msvd_mapping, read_tgif_frameqa
from sharegptvideo.errors import UserError
from sharegptvideo.eval.tasks import (
    list_tasks,
    load_questions,
    load_task,
    media_folder,
    parse_task,
    task_names,
)


def test_every_file_is_a_task_and_every_test_set_has_one() -> None:
    files = {p.stem for p in (Path(__file__).parents[2] / "eval" / "tasks").glob("*.yaml")}
    assert files == set(task_names())
    open_ones = [t for t in list_tasks() if t.config is not None]
    assert {t.config for t in open_ones} == {n for n, c in CONFIGS.items() if c.is_task}
    for task in open_ones:
        assert task.split in CONFIGS[str(task.config)].splits
        assert (task.protocol == "official") == task.name.endswith("_official")
    assert {task.frames for task in list_tasks()} == {8}


def test_a_template_changes_the_hash() -> None:
    task = load_task("msvd_qa")
    other = task.model_copy(update={"prompt": "{question} Answer in one word."})
    assert other.prompt_hash != task.prompt_hash
    assert other.render("Who?") == "Who? Answer in one word."


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown task 'mvsd_qa'; did you mean msvd_qa"):
        load_task("mvsd_qa")


GOOD = """
name: mine
title: Mine
version: 1
config: msvd_qa
split: test
prompt: "{question}"
protocol: official
frames: 8
max_new_tokens: 16
source: here
citation: me
"""


def test_all_faults_of_a_file_are_told_in_one_line() -> None:
    assert parse_task(GOOD, "mine").frames == 8
    bad = GOOD.replace("frames: 8", "frames: 0\nframe: 8").replace('"{question}"', "Answer!")
    with pytest.raises(UserError) as caught:
        parse_task(bad, "mine")
    text = str(caught.value)
    assert "\n" not in text
    assert all(part in text for part in ("mine.yaml", "frames:", "frame: Extra", "{question}"))
    with pytest.raises(UserError, match="name and file have to agree"):
        parse_task(GOOD, "other")
    with pytest.raises(UserError, match="not YAML"):
        parse_task("name: [", "mine")
    with pytest.raises(UserError, match="key: value"):
        parse_task("- name", "mine")


MSVD = [
    {"answer": "dog", "id": 7, "question": "what is barking?", "video_id": 2},
    {"answer": "two", "id": 8, "question": "how many men sing?", "video_id": 1},
]


def test_msvd_rows(tmp_path: Path) -> None:
    file, mapping = tmp_path / "qa.json", tmp_path / "mapping.txt"
    file.write_text(json.dumps(MSVD))
    mapping.write_text("-4wsuPCjDBc_5_15 vid1\n-7KMZQEsJW4_205_208 vid2\n")
    assert next(read_msvd(file, mapping)) == {
        "id": "7",
        "video": "-7KMZQEsJW4_205_208",
        "question": "what is barking?",
        "answer": "dog",
        "caption": None,
        "question_type": "what",
    }
    assert [row["video"] for row in read_msvd(file)] == ["vid2", "vid1"]


@pytest.mark.parametrize(
    ("questions", "names", "message"),
    [
        ("{}", "", "a list of questions is needed"),
        ("[", "", r"qa\.json:1: not JSON"),
        ('[{"id": 1, "question": "q"}]', "", "entry 1: no video_id, answer"),
        ("[3]", "", "entry 1: a number, not an object"),
        (json.dumps(MSVD), "one vid1\n", "entry 1: the mapping has no name for vid2"),
        (json.dumps(MSVD), "one vid1\ntwo vid2 x\n", r"mapping\.txt:2: needs"),
    ],
)
def test_broken_msvd_files(tmp_path: Path, questions: str, names: str, message: str) -> None:
    file, mapping = tmp_path / "qa.json", tmp_path / "mapping.txt"
    file.write_text(questions)
    mapping.write_text(names)
    with pytest.raises(UserError, match=message):
        list(read_msvd(file, mapping))


HEADER = "gif_name\tquestion\tanswer\ttype\tvid_id\tkey\tdescription\r\n"


def test_tgif_rows(tmp_path: Path) -> None:
    file = tmp_path / "q.csv"
    file.write_text(HEADER + 'tumblr_x\twhat is "it" ?\tcat\t0\tFRAMEQA1\t9\ta "cat\r\n')
    assert list(read_tgif_frameqa(file)) == [
        {
            "id": "FRAMEQA1",
            "video": "tumblr_x",
            "question": 'what is "it" ?',
            "answer": "cat",
            "caption": 'a "cat',
            "question_type": "object",
        }
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gif_name,question\n", r"q\.csv:1: no column gif_name, question, answer, type, vid_id"),
        (HEADER + "x\ty\n", r"q\.csv:2: needs 7 columns"),
        (HEADER + "x\ty\tz\t0\tF\t9\td\te\n", r"q\.csv:2: needs 7 columns"),
        (HEADER + "x\ty\tz\t4\tF\t9\td\n", r"q\.csv:2: type '4'"),
    ],
)
def test_broken_tgif_files(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "q.csv"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        list(read_tgif_frameqa(file))


def test_questions_from_annotation_files_by_name(tmp_path: Path) -> None:
    (tmp_path / "msvd_qa_test_qa.json").write_text(json.dumps(MSVD))
    clip = tmp_path / "clips" / "vid2.mp4"
    clip.parent.mkdir()
    clip.touch()
    questions = load_questions(load_task("msvd_qa"), tmp_path, tmp_path / "clips")
    assert [(q.id, q.video, q.video_path) for q in questions] == [
        ("7", "vid2", str(clip)),
        ("8", "vid1", None),
    ]
    assert questions[0].key == "msvd_qa/7"


def test_a_double_id_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "msvd_qa_test_qa.json").write_text(json.dumps([MSVD[0], MSVD[0], MSVD[1]]))
    with pytest.raises(UserError, match=r"1 duplicate id in .* \(7\)"):
        load_questions(load_task("msvd_qa"), tmp_path)


def test_no_question_at_all_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "msvd_qa_test_qa.json").write_text("[]")
    with pytest.raises(UserError, match="holds no question"):
        load_questions(load_task("msvd_qa"), tmp_path)


def test_questions_of_a_release(small_release: Any) -> None:
    questions = load_questions(load_task("msvd_qa"), small_release.folder)
    assert len(questions) == 6
    assert questions[0].video == "test/msvd/a"
    assert questions[0].question == "What colour fills it?"
    assert questions[0].video_path is None


def test_where_clips_are_looked_for(tmp_path: Path) -> None:
    task = load_task("msvd_qa")
    assert media_folder(task, tmp_path, None) == tmp_path
    assert media_folder(task, tmp_path, tmp_path / "clips") == tmp_path / "clips"
    assert media_folder(task, None, None) is None


def test_all_of_msvd(shared_data: Path) -> None:
    questions = load_questions(load_task("msvd_qa"), shared_data / "annotations")
    names = read_msvd_mapping(shared_data / "annotations" / "msvd_youtube_mapping.txt")
    assert len(questions) == 13_157
    assert len({q.video for q in questions}) == 504
    assert {q.video for q in questions} <= set(names.values())
    # Xu et al. 2017 give 8,149 what, 4,552 who, 370 how, 58 when, 28 where.
    assert Counter(q.question_type for q in questions) == {
        "what": 8149,
        "who": 4552,
        "how": 370,
        "when": 58,
        "where": 28,
    }


def test_all_of_tgif_frameqa(shared_data: Path) -> None:
    questions = load_questions(load_task("tgif_qa"), shared_data / "annotations")
    assert len(questions) == 13_691
    assert len({q.video for q in questions}) == 7_132
    assert all(q.caption for q in questions)
    assert Counter(q.question_type for q in questions) == {
        "object": 5586,
        "color": 3904,
        "number": 3148,
        "location": 1053,
    }

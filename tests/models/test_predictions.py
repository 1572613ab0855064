"""Answers in the files of other programs: their keys, their forms, and what is not known."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharegptvideo._io import read_json, read_jsonl, write_json, write_jsonl
from sharegptvideo.cli import app
from sharegptvideo.errors import UserError
from sharegptvideo.models import Question, Request, SamplingParams
from sharegptvideo.models.batches import answer_batches
from sharegptvideo.models.predictions import PredictionsInfo, PredictionsModel

QUESTION = Question("q0", "t", "v", "What colour is the square?", "grey")


def answer_in(file: Path, info: PredictionsInfo | None = None) -> tuple[str | None, str | None]:
    model = PredictionsModel(str(file), info)
    (answer,) = answer_batches(model, [[Request("", question=QUESTION)]], SamplingParams())
    return answer.text, answer.error


ROWS: list[dict[str, Any]] = [
    {"prediction": "It is grey."},
    {"prediction": "It is grey.", "answer": "grey", "response": "Score: 4"},
    {"pred": "It is grey.", "question": "What?", "answer": "grey"},
    {"response": "It is grey."},
    {"query": "What?", "answer": "grey", "model_prediction": {"message": "It is grey."}},
    {"model_prediction": {"status": "success", "message": "It is grey."}},
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "+".join(row))
@pytest.mark.parametrize("form", ["lines", "list", "pretty"])
def test_the_keys_of_other_programs_are_read(tmp_path: Path, row: Any, form: str) -> None:
    row = {"id": "q0"} | row
    texts = {
        "lines": json.dumps(row) + "\n",
        "list": json.dumps([row]),
        "pretty": "\ufeff" + json.dumps([row], indent=1),
    }
    (tmp_path / "p.json").write_text(texts[form], encoding="utf-8")
    assert answer_in(tmp_path / "p.json") == ("It is grey.", None)


@pytest.mark.parametrize("name", ["p.csv", "p.tsv"])
def test_tables_are_read(tmp_path: Path, name: str) -> None:
    mark = "," if name == "p.csv" else "\t"
    lines = [f"question_id{mark}pred", f'q0{mark}"It is grey,\nI think."', f"7{mark}"]
    (tmp_path / name).write_text("\r\n".join(lines) + "\r\n", newline="")
    assert answer_in(tmp_path / name) == ("It is grey,\nI think.", None)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("semicolons.csv", "id;pred\nq0;It is grey, I think.\n"),
        ("tabs.csv", "id\tpred\nq0\tIt is grey, I think.\n"),
        ("blanks.csv", 'id, pred\nq0,"It is grey, I think."\n'),
        ("packed.csv.gz", 'id,pred\nq0,"It is grey, I think."\n'),
        ("packed.json.gz", '[{"id": "q0", "pred": "It is grey, I think."}]'),
    ],
)
def test_tables_of_other_marks_and_packed_files_are_read(
    tmp_path: Path, name: str, text: str
) -> None:
    content = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert answer_in(tmp_path / name) == ("It is grey, I think.", None)


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("p.csv", b"id,pred,pred\nq0,a,b\n", "two columns of one name"),
        ("p.csv", b"index,pred\n0,a\n", "no id .*; it has the keys index, pred"),
        ("p.jsonl.gz", gzip.compress(b'{"id": "q0"}' * 9)[:-20], "gzip data cut short"),
    ],
    ids=["twice", "index", "cut"],
)
def test_what_no_answer_can_be_read_from_is_one_line(
    tmp_path: Path, name: str, content: bytes, cause: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=cause):
        answer_in(tmp_path / name)


def test_answers_to_another_task_name_it(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "p.jsonl", [{"id": "q0", "task": "u", "prediction": "grey"}])
    with pytest.raises(UserError, match=r"is of the task u, not t$"):
        PredictionsModel(str(tmp_path / "p.jsonl")).check([QUESTION], [QUESTION])


@pytest.mark.parametrize("text", ["id,pred\nq0\n", "id,pred\nq0,a,b\n", 'id,pred\nq0,"a\n'])
def test_a_broken_table_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(UserError, match=r"p\.csv:[23]: not "):
        answer_in(tmp_path / "p.csv")


@pytest.mark.parametrize(
    ("row", "key", "answer"),
    [
        ({"answer": "It is grey."}, "answer", "It is grey."),
        ({"pred": "red", "output": "It is grey."}, "output", "It is grey."),
        ({"out": {"text": "It is grey."}}, "out.text", "It is grey."),
        ({"out.text": "It is grey."}, "out.text", "It is grey."),
    ],
)
def test_the_key_can_be_named(tmp_path: Path, row: Any, key: str, answer: str) -> None:
    write_jsonl(tmp_path / "p.jsonl", [{"id": "q0"} | row])
    assert answer_in(tmp_path / "p.jsonl", PredictionsInfo(key)) == (answer, None)


@pytest.mark.parametrize(
    ("row", "key", "message"),
    [
        # Taken for the answer, the reference would be right every time.
        (
            {"question": "What?", "answer": "grey"},
            None,
            "keys id, question, answer; .*--prediction",
        ),
        ({"answer": "grey"}, None, "the keys id, answer; .*--prediction-key"),
        ({"pred": "red", "response": "grey"}, None, "pred and response differ; .*--prediction-key"),
        ({"pred": "red"}, "output", "no output in it; it has the keys id, pred"),
        ({"pred": "red"}, "pred.text", r"no pred\.text in it"),
        ({"pred": ["red"]}, None, "pred must be a string"),
    ],
)
def test_what_is_not_sure_is_asked_for(
    tmp_path: Path, row: Any, key: str | None, message: str
) -> None:
    write_jsonl(tmp_path / "p.jsonl", [{"id": "q0"} | row])
    with pytest.raises(UserError, match=rf"p\.jsonl:1: .*{message}"):
        answer_in(tmp_path / "p.jsonl", PredictionsInfo(key))


def test_a_failure_in_the_file_stays_one(tmp_path: Path) -> None:
    row = {"id": "q0", "model_prediction": {"status": "error", "message": "no frames"}}
    write_jsonl(tmp_path / "p.jsonl", [row])
    assert answer_in(tmp_path / "p.jsonl") == (None, "failed when recorded: no frames")


def test_reasoning_in_a_file_is_no_part_of_the_answer(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "p.jsonl", [{"id": "q0", "pred": "<think>Red?</think>It is grey."}])
    assert answer_in(tmp_path / "p.jsonl") == ("It is grey.", None)
    write_jsonl(tmp_path / "p.jsonl", [{"id": "q0", "pred": "<think>Red? No"}])
    text, error = answer_in(tmp_path / "p.jsonl")
    assert text is None
    assert "reasoning and no answer" in (error or "")


def _judge(release: Any, predictions: Path, out: Path, *options: str) -> Any:
    command = [
        "eval", "judge", "--predictions", str(predictions), "--task", "msvd_qa", "--judge",
        "answer-match", "--data-dir", str(release.folder), "--out", str(out), *options,
    ]  # fmt: skip
    ran = CliRunner().invoke(app, command)
    assert ran.exit_code == 0, ran.output
    return ran


def test_what_is_not_known_of_answers_is_null(small_release: Any, tmp_path: Path) -> None:
    rows = [{"id": f"{clip}_{n}", "output": "red"} for clip in "abc" for n in (0, 1)]
    write_jsonl(tmp_path / "p.jsonl", rows)
    options = ("--prediction-key", "output", "--model-name", "Hound", "--authors", "A and B")
    _judge(small_release, tmp_path / "p.jsonl", tmp_path / "run", *options, "--link", "https://a.b")
    run = read_json(tmp_path / "run" / "run.json")
    assert {name: run["model"][name] for name in ("name", "authors", "link")} == {
        "name": "Hound",
        "authors": "A and B",
        "link": "https://a.b",
    }
    task = run["tasks"]["msvd_qa"]
    assert (task["frames"], task["max_new_tokens"]) == (None, None)
    # Those of a run that knew its frames keep them.
    known = run | {"tasks": {"msvd_qa": task | {"frames": 4, "max_new_tokens": 9}}}
    write_json(tmp_path / "run" / "run.json", known)
    _judge(small_release, tmp_path / "run" / "predictions.jsonl", tmp_path / "again")
    task = read_json(tmp_path / "again" / "run.json")["tasks"]["msvd_qa"]
    assert (task["frames"], task["max_new_tokens"]) == (4, 9)
    # A folder of an earlier version, which wrote the task's own, is gone on with.
    _judge(small_release, tmp_path / "p.jsonl", tmp_path / "run", *options)


def test_a_very_long_answer_is_judged_by_its_beginning_and_said_so(
    small_release: Any, tmp_path: Path
) -> None:
    rows = [{"id": f"{clip}_{n}", "prediction": "red"} for clip in "abc" for n in (0, 1)]
    rows[0]["prediction"] = "red " + "word " * 100_000
    write_jsonl(tmp_path / "p.jsonl", rows)
    ran = _judge(small_release, tmp_path / "p.jsonl", tmp_path / "run")
    assert "1 answer longer than the judge reads" in ran.stderr
    figures = read_json(tmp_path / "run" / "results.json")["tasks"]["msvd_qa"]
    assert figures["n_answers_cut"] == 1
    judged = {row["id"]: row for _, row in read_jsonl(tmp_path / "run" / "judgements.jsonl")}
    assert judged["a_0"]["judge"]["answer_cut"] is True
    assert "answer_cut" not in judged["a_1"]["judge"]
    # Of a panel an answer counts once, however many members cut it.
    panel = ("--judge", "panel:exact,answer-match")
    ran = _judge(small_release, tmp_path / "p.jsonl", tmp_path / "panel", *panel)
    assert "1 answer longer than the judge reads" in ran.stderr
    figures = read_json(tmp_path / "panel" / "results.json")["tasks"]["msvd_qa"]
    assert figures["n_answers_cut"] == 1

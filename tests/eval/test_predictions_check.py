"""`eval judge --check`: what is wrong with a file of answers, before any is judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharegptvideo.cli import app
from sharegptvideo.eval import check_predictions
from sharegptvideo.models.predictions import PredictionsInfo
from tests.support.eval_fixtures import SmallRelease

IDS = ("a_0", "a_1", "b_0", "b_1", "c_0", "c_1")


def checked(file: Path, text: str | bytes, release: SmallRelease, **more: Any) -> dict[str, Any]:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return check_predictions(file, ["msvd_qa"], data_dir=release.folder, **more)


def csv_of(header: str, ids: tuple[str, ...] = IDS, answer: str = "red") -> str:
    return "\n".join([header, *(f"{name},{answer}" for name in ids)]) + "\n"


def test_a_file_that_is_right(small_release: SmallRelease, tmp_path: Path) -> None:
    report = checked(tmp_path / "a.csv", csv_of("id,prediction"), small_release)
    assert report["problems"] == []
    figures = report["tasks"]["msvd_qa"]
    assert (figures["n"], figures["n_answered"], figures["n_missing"]) == (6, 6, 0)


def test_missing_unknown_twice_empty_and_garbled(
    small_release: SmallRelease, tmp_path: Path
) -> None:
    rows = [
        {"id": "a_0", "prediction": "red"},
        {"id": "a_0", "prediction": "blue"},
        {"id": "a_1", "prediction": " "},
        {"id": "b_0", "prediction": "caf\ufffd"},
        {"id": "b_1", "prediction": None, "status": "failed", "error": "out of memory"},
        {"id": "zz", "prediction": "red"},
    ]
    text = "\n".join(map(json.dumps, rows))
    report = checked(tmp_path / "a.jsonl", text, small_release)
    assert report["tasks"]["msvd_qa"] == {
        "version": 1,
        "protocol": "caption-grounded",
        "n": 6,
        "n_answered": 3,
        "n_empty": 1,
        "n_failed": 1,
        "n_missing": 2,
        "n_unknown": 1,
    }
    file = tmp_path / "a.jsonl"
    assert report["problems"] == [
        f"{file}: 1 id with more than one prediction: a_0 (lines 1, 2); keep one line each",
        "msvd_qa: 2 questions (c_0, c_1) without an answer: they will count as failed, and so as"
        " wrong",
        "msvd_qa: 1 answer (zz) to no question of the task: they will be left out",
        "msvd_qa: 1 answer (a_1) empty: they are judged, and so wrong",
        "msvd_qa: 1 answer (b_0) with the sign \ufffd: the file was written in another encoding"
        " than it was read in; write it in UTF-8",
    ]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (
            csv_of("id,predicton"),
            "is predicton the model's answer? Then --prediction-key predicton",
        ),
        (csv_of("id,Output"), "it has the keys id, Output; name the one with the model's answer"),
        (csv_of("idd,prediction"), "is idd the id? Then call it id (and 5 more lines)"),
        (csv_of("id,prediction").encode("utf-16"), "UTF-16 text; save the file as UTF-8"),
        (b"id,prediction\na_0,caf\xe9\n", "not UTF-8 text"),
        ('{"id": "a_0", "prediction": "red"}\n{"id"', ":2: not JSON"),
        ('{"id": "a_0", "prediction": ["red"]}', "must be a string"),
        (csv_of("id,prediction", ("x", "y")), "none of its 2 ids (such as 'x') is a question"),
        ("", "no prediction in it"),
    ],
)
def test_a_file_that_cannot_be_read_as_answers(
    small_release: SmallRelease, tmp_path: Path, text: str | bytes, cause: str
) -> None:
    ending = "jsonl" if str(text)[:1] == "{" else "csv"
    report = checked(tmp_path / f"a.{ending}", text, small_release)
    assert len([line for line in report["problems"] if cause in line]) == 1, report["problems"]


def test_all_lines_after_a_wrong_one_are_read(small_release: SmallRelease, tmp_path: Path) -> None:
    rows = [{"id": name, "prediction": "red" if name != "b_0" else 5} for name in IDS]
    report = checked(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)), small_release)
    assert report["tasks"]["msvd_qa"]["n_answered"] == 5
    assert "a.jsonl:3: prediction must be a string" in report["problems"][0]


def test_another_key_and_a_limit(small_release: SmallRelease, tmp_path: Path) -> None:
    info = PredictionsInfo(key="Output")
    text = csv_of("id,Output", IDS[:2])
    report = checked(tmp_path / "a.csv", text, small_release, info=info, limit=2)
    assert report["problems"] == []
    assert report["tasks"]["msvd_qa"]["n"] == 2


def test_the_command(small_release: SmallRelease, tmp_path: Path) -> None:
    """It writes nothing, and asks no judge, not even that one is there."""
    file = tmp_path / "a.csv"
    words = ["eval", "judge", "--predictions", str(file), "--task", "msvd_qa", "--judge",
             "openai:none", "--data-dir", str(small_release.folder), "--check"]  # fmt: skip
    file.write_text(csv_of("id,prediction"))
    before = sorted(tmp_path.rglob("*"))
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert result.stdout.split()[-8:] == ["msvd_qa", "1", "6", "6", "0", "0", "0", "0"]
    file.write_text(csv_of("id,prediction", IDS[1:]))
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert "1 question (a_0) without an answer" in result.stdout
    assert sorted(tmp_path.rglob("*")) == before
    result = CliRunner().invoke(app, [word for word in words if word != "--check"])
    assert result.exit_code == 2
    assert "--out: name the run folder" in result.stderr
    result = CliRunner().invoke(app, [*words[:3], str(tmp_path / "none"), *words[4:]])
    assert "none: no such file" in result.stderr

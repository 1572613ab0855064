"""`sharegptvideo data convert` as it is typed, and the tasks that read the same files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharegptvideo.cli import app
from sharegptvideo.eval.tasks import load_questions, load_task

Cli = Callable[..., Any]


@pytest.fixture
def cli() -> Cli:
    runner = CliRunner(env={"COLUMNS": "200"})
    return lambda *words: runner.invoke(app, ["data", "convert", *map(str, words)])


@pytest.fixture
def msrvtt(tmp_path: Path) -> Path:
    entry = {"answer": "game", "category_id": 9, "question": "what is it?"}
    path = tmp_path / "test_qa.json"
    path.write_text(json.dumps([{**entry, "id": n, "video_id": 7010 + n} for n in range(2)]))
    return path


def test_figures_as_json_alone_on_stdout(cli: Cli, msrvtt: Path, tmp_path: Path) -> None:
    ran = cli("msrvtt-qa", msrvtt, "--to", tmp_path / "out", "--json")
    assert ran.exit_code == 0, ran.output
    figures = json.loads(ran.stdout)
    size = figures["splits"]["test"].pop("bytes")
    assert size == sum(p.stat().st_size for p in (tmp_path / "out").rglob("*.parquet"))
    assert figures == {
        "config": "msrvtt_qa_official",
        "folder": str(tmp_path / "out"),
        "splits": {"test": {"rows": 2, "videos": 2, "images": 0, "files": 1, "complete": False}},
        "with_caption": 0,
        "skipped": 0,
    }


def test_what_the_reader_is_told(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "my.csv").write_text("clip,question,answer\nv,q,a\nw,,a\n")
    words = ["plain", tmp_path / "my.csv", "--to", tmp_path / "out", "--config", "qa"]
    words += ["--split", "train", "--column", "video=clip", "--on-error", "skip"]
    ran = cli(*words)
    assert ran.exit_code == 0, ran.output
    assert "splits.train.rows    1" in ran.stdout
    assert "1 row skipped, breaking the schema" in ran.stderr
    assert "my.csv:3: 'question' is null where a text belongs" in ran.stderr
    assert 'load it with load_dataset("qa", "train", data_dir=' in ran.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--column", "video"], "--column video: write it as OURS=THEIRS, such as video=clip"),
        (["--column", "=x"], "write it as OURS=THEIRS"),
    ],
)
def test_columns_that_are_no_pairs(
    cli: Cli, tmp_path: Path, words: list[str], message: str
) -> None:
    ran = cli("plain", tmp_path / "my.csv", "--to", tmp_path / "out", "--config", "qa", *words)
    assert ran.exit_code == 2
    assert message in ran.stderr


def test_without_a_target_it_is_bad_usage(cli: Cli, msrvtt: Path) -> None:
    ran = cli("msrvtt-qa", msrvtt)
    assert ran.exit_code == 2
    assert "--to" in ran.output


def test_tasks_read_msrvtt_and_activitynet_originals(msrvtt: Path, tmp_path: Path) -> None:
    for task in ("msrvtt_qa", "msrvtt_qa_official"):
        questions = load_questions(load_task(task), msrvtt.parent)
        assert [(q.id, q.video) for q in questions] == [("0", "video7010"), ("1", "video7011")]
    question = {"video_name": "1QIUV7WYKXg", "question": "is it?", "question_id": "v_1_3"}
    (tmp_path / "test_q.json").write_text(json.dumps([question]))
    answer = {"answer": "no", "type": 3, "question_id": "v_1_3"}
    (tmp_path / "test_a.json").write_text(json.dumps([answer]))
    (found,) = load_questions(load_task("activitynet_qa_official"), tmp_path)
    assert (found.video, found.answer, found.question_type) == ("v_1QIUV7WYKXg", "no", "yes/no")


def test_a_task_reads_the_converted_folder_as_the_original(
    cli: Cli, shared_data: Path, tmp_path: Path
) -> None:
    folder = shared_data / "annotations"
    ran = cli("activitynet-qa", folder / "activitynet_qa_test_q.json", "--to", tmp_path)
    assert ran.exit_code == 0, ran.output
    assert "splits.test.complete  True" in ran.stdout
    task = load_task("activitynet_qa_official")
    assert load_questions(task, tmp_path) == load_questions(task, folder)

"""`sharegptvideo data list` and `data show`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharegptvideo.cli import app
from sharegptvideo.data.schema import CONFIGS

Row = Callable[..., dict[str, Any]]
Write = Callable[..., Path]


@pytest.fixture
def cli() -> Callable[..., Any]:
    runner = CliRunner(env={"COLUMNS": "200"})
    return lambda *words: runner.invoke(app, ["data", *map(str, words)])


def test_list(cli: Callable[..., Any]) -> None:
    shown = cli("list")
    assert shown.exit_code == 0
    assert all(f"{name} " in shown.stdout for name in CONFIGS)
    table = json.loads(cli("list", "--json").stdout)
    assert table["sft"]["columns"] == ["id", "video", "image", "messages"]
    assert table["msvd_qa"]["splits"] == ["test"]


def test_show_rows_that_can_be_read(cli: Callable[..., Any], shared_data: Path) -> None:
    shown = cli("show", "sft", "--data-dir", shared_data / "release", "-n", 1)
    assert shown.exit_code == 0, shown.output
    assert "sft train: 12 rows on 3 videos" in shown.stdout
    assert "user: What is the woman in the maroon uniform holding at the start?" in shown.stdout
    assert "2 rows left out, repeating" in shown.stderr
    assert "DataWarning" not in shown.output


def test_show_as_json(
    cli: Callable[..., Any], release: Path, write: Write, qa_row: Row, tmp_path: Path
) -> None:
    write("test/msvd.qa.jsonl", qa_row(1), qa_row(2), "{}", qa_row(3, "clip_1"))
    (tmp_path / "clip_1.mp4").write_bytes(b"x")
    words = ("--data-dir", release, "--media", tmp_path, "--on-error", "skip", "--json", "-n", 1)
    shown = cli("show", "msvd_qa", *words)
    assert json.loads(shown.stdout) == {
        "name": "msvd_qa",
        "split": "test",
        "rows": 3,
        "videos": 2,
        "columns": [*CONFIGS["msvd_qa"].columns, "video_path"],
        "skipped": 1,
        "repeated": 0,
        "missing_videos": 1,
        "missing_images": 0,
        "examples": [
            {
                "id": "q1",
                "video": "clip_1",
                "question": "What is 1?",
                "answer": "It is 1.",
                "caption": None,
                "question_type": None,
                "video_path": str(tmp_path / "clip_1.mp4"),
            }
        ],
    }
    assert "clip_2" in shown.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("show", "captoins"),
            "error: unknown dataset 'captoins'; did you mean captions, ",
        ),
        (("show", "qa", "--split", "test"), "error: unknown split of qa 'test'"),
        (("show", "qa", "--data-dir", "no/where"), "error: no/where: no such folder"),
    ],
)
def test_mistakes_are_one_line(
    cli: Callable[..., Any], words: tuple[str, ...], message: str
) -> None:
    shown = cli(*words)
    assert shown.exit_code == 2
    assert shown.stderr.startswith(message)
    assert len(shown.stderr.splitlines()) == 1
    assert shown.stdout == ""

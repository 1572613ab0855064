"""Run folders as others may write them: refused in one line that names the value."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharegptvideo._io import write_jsonl
from sharegptvideo.cli import app

COMMANDS: dict[str, Callable[[Path, Path], list[str]]] = {
    "leaderboard": lambda run, out: ["leaderboard", str(run), "--out", str(out)],
    "report": lambda run, out: ["eval", "report", str(run), "--no-samples", "--out", str(out)],
    "compare": lambda run, _: ["eval", "compare", str(run), str(run)],
    "agreement": lambda run, _: ["eval", "agreement", str(run), str(run)],
}
TASK = "msvd_qa"
# File, keys down to a value, another value, what the line must name.
CASES: list[tuple[str, tuple[Any, ...], Any, str]] = [
    ("run.json", (), [], "run.json: "),
    ("run.json", ("model",), "m", "model: "),
    ("run.json", ("judge",), None, "judge: "),
    ("run.json", ("tasks", TASK, "judge"), "exact", f"tasks.{TASK}.judge: "),
    ("run.json", ("tasks", TASK, "version"), float("nan"), "version: "),
    ("run.json", ("seeds",), {"questions": float("inf")}, "holds NaN or an infinity"),
    ("run.json", ("data",), 3, "data: "),
    ("results.json", ("tasks",), [], "tasks: "),
    ("results.json", ("tasks", TASK, "n"), -1, ".n: "),
    ("results.json", ("tasks", TASK, "n"), True, ".n: "),
    ("results.json", ("tasks", TASK, "n_scored"), 10**6, "its counts do not add up"),
    ("results.json", ("tasks", TASK, "accuracy", "value"), 1.5, "accuracy.value: "),
    ("results.json", ("tasks", TASK, "accuracy", "value"), float("nan"), "accuracy.value: "),
    ("results.json", ("tasks", TASK, "accuracy"), 0.5, "accuracy: "),
    ("results.json", ("tasks", TASK, "coverage"), "all", "coverage: "),
]


@pytest.fixture
def run(small_release: Any, tmp_path: Path) -> Path:
    answers, out = tmp_path / "answers.jsonl", tmp_path / "run"
    write_jsonl(
        answers, [{"id": f"{clip}_{n}", "prediction": "red"} for clip in "abc" for n in (0, 1)]
    )
    ran = CliRunner().invoke(
        app,
        ["eval", "judge", "--predictions", str(answers), "--task", TASK, "--judge", "exact",
         "--data-dir", str(small_release.folder), "--out", str(out)],
    )  # fmt: skip
    assert ran.exit_code == 0, ran.output
    return out


def one_line(argv: list[str]) -> str:
    ran = CliRunner().invoke(app, argv)
    assert isinstance(ran.exception, SystemExit), ran.output
    assert ran.exit_code == 2
    return ran.stderr.replace("\n", "")


def change(file: Path, keys: tuple[Any, ...], value: Any) -> None:
    content = json.loads(file.read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    if keys:
        inner[keys[-1]] = value
    file.write_text(json.dumps(content if keys else value))


def test_values_that_no_run_writes(run: Path, tmp_path: Path) -> None:
    """Every case by one command and the next by another: each reads by the same function."""
    for number, (name, keys, value, named) in enumerate(CASES):
        folder = tmp_path / f"case{number}"
        shutil.copytree(run, folder)
        change(folder / name, keys, value)
        command = list(COMMANDS)[number % len(COMMANDS)]
        said = one_line(COMMANDS[command](folder, tmp_path / "out"))
        assert str(folder / name) in said, (command, name, keys, said)
        assert named in said, (command, name, keys, said)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("predictions.jsonl", {"video": 3}),
        ("predictions.jsonl", {"prediction": None}),
        ("predictions.jsonl", {"status": "perhaps"}),
        ("judgements.jsonl", {"correct": None}),
        ("judgements.jsonl", {"score": float("nan")}),
        ("judgements.jsonl", {"judge": [1]}),
        ("judgements.jsonl", {"id": 1}),
    ],
)
def test_rows_that_no_run_writes(run: Path, tmp_path: Path, name: str, change: Any) -> None:
    lines = (run / name).read_text().splitlines()
    lines[0] = json.dumps(json.loads(lines[0]) | change)
    (run / name).write_text("\n".join(lines) + "\n")
    said = one_line(COMMANDS["report"](run, tmp_path / "out"))
    assert f"{run / name}:1: {next(iter(change))}" in said or f"{run / name}:1: its status" in said
    assert not (tmp_path / "out").exists()

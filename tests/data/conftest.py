"""A small release on disk, written row by row, and readers in a process of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.fresh_python import run_python

Write = Callable[..., Path]


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """An empty release folder."""
    root = tmp_path / "release"
    (root / "video_instruction").mkdir(parents=True)
    return root


@pytest.fixture
def write(release: Path) -> Write:
    """`write("train/qa/a.jsonl", row, row, ...)`: rows are objects, or lines as they stand."""

    def write_rows(name: str, *rows: dict[str, Any] | str, head: str = "", end: str = "\n") -> Path:
        path = release / "video_instruction" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path.write_bytes((head + "".join(line + end for line in lines)).encode())
        return path

    return write_rows


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., str]:
    """Run code in a fresh interpreter; gives its stdout. Fails the test where it fails."""

    def run(code: str, *, cwd: Path = tmp_path, **environment: str) -> str:
        return run_python(code, cwd, **{"HF_HOME": str(tmp_path / "hf"), **environment})

    return run


@pytest.fixture
def qa_row() -> Callable[..., dict[str, Any]]:
    """`qa_row(number, video=None, **extra)`: a row of a QA file, as the release writes it."""

    def row(number: int, video: str | None = None, **extra: Any) -> dict[str, Any]:
        return {
            "id": f"q{number}",
            "video": video or f"clip_{number}",
            "conversations": [
                {"from": "human", "value": f"<video>\nWhat is {number}?"},
                {"from": "gpt", "value": f"It is {number}."},
            ],
            **extra,
        }

    return row

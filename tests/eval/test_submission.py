"""Submissions: packed whole and clean, scored anew, and refused where anything was altered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sharegptvideo._io import write_json
from sharegptvideo.errors import UserError
from sharegptvideo.eval.submission import read_submission

RECORD: dict[str, Any] = {
    "version": 1,
    "name": "Small Hound 1B",
    "organisation": "Example Lab",
    "link": "https://example.org/small-hound",
    "params": 1_000_000_000,
    "licence": "Apache-2.0",
    "submitted": "2026-11-27",
    "package": "0.1.0",
    "judge": "answer-match",
    "task_versions": {"msvd_qa": 1},
    "judge_prompt_hashes": {"msvd_qa": None},
    "files": {"run.json": "0" * 64},
}


def test_a_record_is_read(tmp_path: Path) -> None:
    write_json(tmp_path / "submission.json", RECORD)
    record = read_submission(tmp_path)
    assert record is not None
    assert (record.name, record.params, record.withdrawn) == ("Small Hound 1B", 10**9, None)


def test_a_run_of_ones_own_is_no_submission(tmp_path: Path) -> None:
    assert read_submission(tmp_path) is None


@pytest.mark.parametrize(
    ("key", "value", "cause"),
    [
        ("link", "javascript:alert(1)", "https"),
        ("link", "http://example.org", "https"),
        ("link", "https://alice:secret@example.org/", "no user name or password"),
        ("link", "https://example.org/ onmouseover=alert(1)", "https"),
        ("link", "https://example.org/" + "a" * 300, "at most 300"),
        ("name", "<script>alert(1)</script>", "< or >"),
        ("name", "", "1 to 100"),
        ("name", "a" * 101, "1 to 100"),
        ("name", "Hound\n| 99 |", "line ends"),
        ("name", "Hound \u202e dnuoH", "control characters"),
        ("organisation", "Lab \x1b[31m", "control characters"),
        ("params", True, "number"),
        ("params", 0, "greater than or equal to 1"),
        ("submitted", "27.11.2026", "must be a day"),
        ("submitted", "2026-02-30", "day"),
        ("version", 2, "1"),
        ("files", {"run.json": "../../etc/passwd"}, "pattern"),
        ("rank", 1, "Extra inputs"),
    ],
)
def test_a_record_that_says_the_impossible(
    tmp_path: Path, key: str, value: object, cause: str
) -> None:
    write_json(tmp_path / "submission.json", RECORD | {key: value})
    with pytest.raises(UserError, match=cause) as caught:
        read_submission(tmp_path)
    assert key in str(caught.value)


def test_names_of_any_script_are_taken(tmp_path: Path) -> None:
    write_json(tmp_path / "submission.json", RECORD | {"name": "視頻獵犬 7B – Ünïcode"})
    record = read_submission(tmp_path)
    assert record is not None
    assert record.name == "視頻獵犬 7B – Ünïcode"

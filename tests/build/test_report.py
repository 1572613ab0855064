"""What a folder of building says of itself: counts and costs, from its files alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharegptvideo._io import write_json, write_jsonl
from sharegptvideo.build.report import read_report
from sharegptvideo.cli import app
from sharegptvideo.endpoint import ReplyStore
from sharegptvideo.endpoint.messages import Reply
from sharegptvideo.errors import UserError

Row = dict[str, Any]


Tokens = tuple[int, int | None, int]


def made(model: str, answered_by: list[str], tokens: Tokens, dollars: float | None) -> Row:
    return {
        "model": model,
        "answered_by": answered_by,
        "prompt_version": 1,
        "prompt_hash": "ab",
        "sampling": {"temperature": 0.0, "seed": None},
        "frame_indices": [0, 3],
        "tokens": dict(zip(("prompt", "cached", "completion"), tokens, strict=True)),
        "dollars": dollars,
        "attempts": 2,
        "engine": "local",
        "package_version": "0.1.0",
    }


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Captions that are half done, in a sitting that ended and one that was killed."""
    write_json(tmp_path / "captions.json", {"settings": {"model": "openai:a"}, "report": None})
    lines: list[Row] = [
        {"id": "1", "error": None, "made": made("openai:a", ["a-2026"], (100, 60, 10), 0.5)},
        {"id": "2", "error": "refusal", "made": made("openai:a", ["a-2026"], (100, None, 1), 0.25)},
        {"id": "2", "error": "no such clip", "made": made("openai:a", [], (0, None, 0), None)},
        {"id": "3", "error": None, "dropped": [{"gate": "alike"}, {"gate": "alike"}],
         "made": made("hf:b", [], (7, None, 5), None)},
    ]  # fmt: skip
    write_jsonl(tmp_path / "captions.jsonl", lines)
    with (tmp_path / "captions.jsonl").open("a") as log:
        log.write('{"id": "4", "err')  # a process is at work
    begun: Row = {"stage": "captions", "engine": "local", "total": 9}
    write_jsonl(tmp_path / "sittings.jsonl", [begun, begun | {"rows": 2, "seconds": 3.0}, begun])
    gates = {"by_gate": {"refusal": 1, "short": 0}, "skipped": {"leak-name": "no test set"}}
    write_json(tmp_path / "captions_gates.json", {"rows": 3, "flagged": 1} | gates)
    with ReplyStore(tmp_path / "replies") as store:
        reply = Reply("a", "a-2026", None, "stop", tokens=110, dollars=0.5)
        store.put("a" * 64, reply)
        store.put("b" * 64, replace(reply, cached=True))
    return tmp_path


def test_each_row_counts_once_with_its_last_line(out: Path) -> None:
    (figures,) = read_report(out).stages
    assert (figures.n_rows, figures.n_failed, figures.failures) == (3, 1, {"no such clip": 1})
    assert figures.dropped == {"alike": 2}
    asked = {model.model: model for model in figures.models}
    assert asked["openai:a"].tokens == {"prompt": 100, "cached": 60, "completion": 10}
    assert (asked["openai:a"].dollars, asked["hf:b"].dollars) == (0.5, None)
    assert asked["openai:a"].answered_by == ["a-2026"]
    assert figures.provenance["frames"] == {"2": 3}
    assert (figures.n_sittings, figures.n_killed, figures.seconds) == (2, 1, 3.0)


def test_what_is_ahead_follows_from_what_was_made(out: Path) -> None:
    (figures,) = read_report(out).stages
    # Of 9 rows 2 are made; 7 are left, and 3 took 122 tokens. How long a killed sitting took is
    # not known.
    expected = {"rows": 7, "tokens": 122 * 7 / 3, "dollars": 0.5 * 7 / 3, "seconds": None}
    assert figures.ahead == expected
    write_json(out / "captions.json", {"settings": {}, "report": {"n_rows": 3}})
    (figures,) = read_report(out).stages
    assert figures.ahead is None


def test_the_command_prints_lines_or_one_object(out: Path) -> None:
    result = CliRunner().invoke(app, ["build", "report", str(out)])
    assert result.exit_code == 0, result.output
    for line in (
        "captions: openai:a was answered by a-2026",
        "captions: failed: no such clip (1 of 3)",
        "captions: dropped: alike (2)",
        "captions: flagged by gates: refusal 1",
        "captions: gate leak-name skipped: no test set",
        "captions: ahead: 7 rows, about $1.17",
    ):
        assert line in result.output.splitlines(), result.output
    result = CliRunner().invoke(app, ["build", "report", str(out), "--json"])
    figures = json.loads(result.output)
    assert figures["totals"]["tokens"] == {"prompt": 107, "cached": 60, "completion": 15}
    assert figures["totals"]["dollars"] == 0.5
    assert figures["replies"] == {"count": 2, "paid": 1, "tokens": 110, "dollars": 0.5}


def test_a_folder_without_a_stage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no stage of building is here"):
        read_report(tmp_path)

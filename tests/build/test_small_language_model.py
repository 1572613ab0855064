"""Questions and scores by a real small language model: transport, tokens, time, babble as such."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from sharegptvideo import load_dataset
from sharegptvideo._io import read_jsonl, write_json, write_jsonl
from sharegptvideo.build.outputs import FILES, write_dataset
from sharegptvideo.build.report import read_report
from sharegptvideo.cli import app
from tests.build.test_outputs import rows_of
from tests.support.smollm import MODEL

CAPTION = "A brown dog runs over a green meadow, then it jumps over a red ball and lies down."


def build(*words: object) -> Any:
    return CliRunner().invoke(app, ["build", *map(str, words), "--json"])


def test_questions_are_read_or_counted_as_babble(smollm_url: str, tmp_path: Path) -> None:
    (caption,) = rows_of("captions", 1)
    write_dataset("captions", [caption | {"caption": CAPTION}], tmp_path)
    result = build(
        "qa", "--input", tmp_path, "--out", tmp_path, "--model", f"openai:{MODEL}", "-n", 1,
        "--base-url", smollm_url, "--max-new-tokens", 64, "--no-cache",
    )  # fmt: skip
    figures = json.loads(result.stdout)
    rows = [row for _, row in read_jsonl(tmp_path / "qa.jsonl")]
    assert [row["id"] for row in rows] == ["r0"]
    kept = sum(len(row["questions"] or ()) for row in rows if row["error"] is None)
    assert figures["n_made"] == kept
    assert figures["n_failed"] == sum(row["error"] is not None for row in rows)
    for row in rows:
        made = row["made"]
        assert made["answered_by"] == [MODEL]
        assert made["tokens"]["prompt"] > 200  # the prompt file and the caption
        assert 0 < made["tokens"]["completion"] <= 2 * 64  # one answer, and at the most one repair
        assert row["error"] or row["questions"] or row["dropped"]
    (stage,) = [each for each in read_report(tmp_path).stages if each.stage == "qa"]
    assert stage.seconds > 0
    assert stage.tokens("completion") == figures["tokens"]["completion"]
    in_dataset = figures.get("dataset", {}).get("n_rows", 0)
    assert result.exit_code == (0 if in_dataset else 1)
    if in_dataset:
        assert len(load_dataset("qa", data_dir=tmp_path)) == in_dataset
    else:
        assert not (tmp_path / FILES["qa"]).exists()


def test_scores_are_read_or_counted_as_unscored(smollm_url: str, tmp_path: Path) -> None:
    item = {
        "id": "q0", "video": "v0", "source": None, "question": "What does the dog do at first?",
        "answer": "It runs.", "caption": CAPTION, "frame_indices": [0], "error": None,
        "candidates": ["It sleeps in a car."] * 2,  # judged once
    }  # fmt: skip
    write_jsonl(tmp_path / "candidates.jsonl", [item])
    write_json(tmp_path / "candidates.json", {"settings": {}, "report": {}})
    result = build(
        "rewards", "--input", tmp_path, "--out", tmp_path, "--judge", f"openai:{MODEL}",
        "--base-url", smollm_url, "--no-cache",
    )  # fmt: skip
    figures = json.loads(result.stdout)
    (row,) = [row for _, row in read_jsonl(tmp_path / "rewards.jsonl")]
    scored = [answer["score"] for answer in row["answers"] if answer["score"] is not None]
    assert (figures["n_scored"], figures["n_unscored"]) == (len(scored), 1 - len(scored))
    assert sum(figures["reasons"].values()) == 1 - len(scored)
    assert all(1 <= score <= 5 for score in scored)
    assert row["made"]["answered_by"] == [MODEL]
    assert row["made"]["tokens"]["prompt"] > 100
    assert row["made"]["tokens"]["completion"] > 0
    assert result.exit_code == (0 if scored else 1)

"""Real clips and real test sets: a bad model, a real endpoint, and every question accounted for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharegptvideo._io import read_jsonl, write_jsonl
from sharegptvideo.cli import app
from sharegptvideo.data.sources.original_rows import read_msvd, read_tgif_frameqa

# Questions in the miniature release, counted by hand.
ASKED = {
    "webvid_qa": 6,
    "msrvtt_qa": 3,
    "tgif_qa": 6,
    "msrvtt_qa_official": 1,
    "tgif_qa_official": 1,
}


def call(*words: str | Path) -> tuple[dict[str, Any], str]:
    """Figures and stderr of `sharegptvideo ... --json`, which has to succeed."""
    result = CliRunner().invoke(app, [*map(str, words), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["tasks"], result.stderr


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Video-LLaVA: 4 frames of 16×16 pixels."""
    from sharegptvideo.models import build_tiny

    texts = ["What is the baby doing? The baby is turning pages.", "A cat in a sink."]
    return build_tiny(texts, tmp_path_factory.mktemp("checkpoint"), seed=0, size="tiny")


def grade(body: dict[str, Any]) -> str:
    """A verdict that the test can work out by itself; no verdict on the cat's whereabouts."""
    block = re.search(r"```json\n(.*?)\n```", body["messages"][1]["content"], re.DOTALL)
    assert block is not None
    item = json.loads(block[1])
    if "Where is the cat" in item["question"]:
        return "I would rather not say."
    if "description" not in item:
        return json.dumps({"correct": "yes", "score": 4})
    assert len(item["description"].split()) > 30
    return json.dumps({"explanation": "by length", "score": 1 + len(item["question"]) % 5})


def official(shared_data: Path, name: str) -> list[dict[str, Any]]:
    file = shared_data / "release" / "video_instruction" / "test" / f"{name}.jsonl"
    return [row for _, row in read_jsonl(file)]


def test_a_release_about_real_clips_judged_over_http(
    checkpoint: Path, shared_data: Path, tmp_path: Path, chat_server: Any
) -> None:
    # Of five clips one is missing and one is no video.
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in ("videos/baby_reading.mp4", "videos/msrvtt_clip.mp4", "gifs/tgif_cat_drinks.gif"):
        (clips / Path(name).name).symlink_to(shared_data / name)
    (clips / "tgif_bulldog_hose.gif").write_text("not a picture")
    chat_server.models = ["grader"]
    chat_server.answer = grade
    command: list[str | Path] = ["eval", "run", "--model", f"hf:{checkpoint}"]
    command += ["--task", ",".join(ASKED), "--data-dir", shared_data / "release"]
    command += ["--media", clips, "--max-new-tokens", "12", "--out", tmp_path / "run"]
    command += ["--judge", "openai:grader", "--base-url", chat_server.url]
    tasks, said = call(*command)

    assert {name: task["n"] for name, task in tasks.items()} == ASKED
    for task in tasks.values():
        assert task["n"] == task["n_predicted"] + task["n_failed"]
        assert task["n_predicted"] == task["n_scored"] + task["n_unscored"]
    assert tasks["webvid_qa"]["missing_clips"] == ["test/webvid/baby_living_room"]
    assert "1 clip missing: test/webvid/baby_living_room" in said
    assert tasks["webvid_qa"]["n_failed"] == 3
    assert tasks["tgif_qa"]["n_failed"] == 3
    (cause,) = tasks["tgif_qa"]["failures"]
    assert "tgif_bulldog_hose.gif" in cause
    assert tasks["tgif_qa_official"]["n_failed"] == 1
    assert (tasks["tgif_qa"]["n_unscored"], tasks["tgif_qa"]["coverage"]) == (1, 5 / 6)

    # Accuracy of the questions about clips that are there, worked out from the rows.
    shown = [r for r in official(shared_data, "webvid.qa") if "baby_reading" in r["video"]]
    right = sum(len(_question(row)) % 5 >= 2 for row in shown)  # 1 + length mod 5 is 3 or more
    assert tasks["webvid_qa"]["accuracy"]["value"] == pytest.approx(right / 6)
    assert tasks["msrvtt_qa_official"]["accuracy"]["value"] == 1.0
    assert tasks["msrvtt_qa_official"]["score"]["value"] == 4.0

    # One request a verdict, one more to repair the reply that cannot be read; none the second time.
    answered = sum(task["n_predicted"] for task in tasks.values())
    assert answered == 17 - 3 - 3 - 1
    assert len(chat_server.requests) == answered + 1
    assert call(*command)[0] == tasks
    assert len(chat_server.requests) == answered + 1

    predictions = [row for _, row in read_jsonl(tmp_path / "run" / "predictions.jsonl")]
    assert len(predictions) == 17
    assert {len(r["frame_indices"]) for r in predictions if r["status"] == "ok"} == {4}
    judgements = [row for _, row in read_jsonl(tmp_path / "run" / "judgements.jsonl")]
    assert {row["judge"]["answered_by"] for row in judgements} == {"grader-0613"}


def _question(row: dict[str, Any]) -> str:
    return str(row["conversations"][0]["value"]).removeprefix("<video>\n")


def test_all_clips_of_the_release_are_found(
    checkpoint: Path, shared_data: Path, tmp_path: Path
) -> None:
    command: list[str | Path] = ["eval", "run", "--model", f"hf:{checkpoint}"]
    command += ["--task", ",".join(ASKED), "--data-dir", shared_data / "release"]
    command += ["--media", shared_data, "--max-new-tokens", "2", "--out", tmp_path / "run"]
    tasks, _ = call(*command, "--judge", "answer-match")
    assert {name: task["n_scored"] for name, task in tasks.items()} == ASKED
    assert all(task["missing_clips"] == [] for task in tasks.values())


@pytest.mark.parametrize(
    ("task", "count", "videos"), [("msvd_qa", 13_157, 504), ("tgif_qa", 13_691, 7_132)]
)
def test_a_whole_test_set_of_predictions(
    shared_data: Path, tmp_path: Path, task: str, count: int, videos: int
) -> None:
    folder = shared_data / "annotations"
    if task == "msvd_qa":
        rows = list(read_msvd(folder / "msvd_qa_test_qa.json"))
    else:
        rows = list(read_tgif_frameqa(folder / "tgif_qa_Test_frameqa_question.csv"))
    # In turn: right, right in a sentence's clothes, wrong, empty, not there.
    lines, right, absent = [], 0, []
    for number, row in enumerate(rows):
        kind = number % 5
        if kind == 4:
            absent.append(row["id"])
            continue
        right += kind < 2
        text = (row["answer"], f"{row['answer'].capitalize()}.", "qwzx vrtk", "")[kind]
        lines.append({"id": row["id"], "prediction": text})
    write_jsonl(tmp_path / "answers.jsonl", reversed(lines))
    tasks, said = call(
        *("eval", "judge", "--predictions", tmp_path / "answers.jsonl", "--task", task),
        *("--judge", "answer-match", "--data-dir", folder, "--out", tmp_path / "run"),
    )
    figures = tasks[task]
    assert (figures["n"], figures["n_predicted"], figures["n_failed"]) == (
        count,
        len(lines),
        len(absent),
    )
    assert figures["n_scored"] == len(lines)
    assert figures["clusters"] == videos
    assert figures["coverage"] == 1.0
    assert figures["accuracy"]["value"] == pytest.approx(right / count, abs=1e-12)
    assert figures["missing_predictions"] == absent
    assert f"{len(absent):,} questions without a prediction: {absent[0]}, " in said
    assert f"and {len(absent) - 10:,} more" in said

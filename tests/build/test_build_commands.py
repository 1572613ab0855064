"""`build candidates | rewards | preferences` one after the other, on a release-like folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from typer.testing import CliRunner

from sharegptvideo import load_dataset
from sharegptvideo._io import read_jsonl, write_jsonl
from sharegptvideo.cli import app
from sharegptvideo.models import build_tiny


def run(*words: str) -> Any:
    result = CliRunner().invoke(app, ["build", *words, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def talk(name: str, question: str, answer: str) -> dict[str, Any]:
    turns = [{"from": "human", "value": f"<video>\n{question}"}, {"from": "gpt", "value": answer}]
    return {"id": name, "video": name.split("_")[0], "conversations": turns}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips of noise; the model below says every word it knows at random."""
    root = tmp_path_factory.mktemp("world")
    (root / "videos").mkdir()
    for number in range(4):
        noise = np.random.default_rng(number).integers(0, 256, (8, 48, 64, 3), dtype=np.uint8)
        with av.open(str(root / "videos" / f"clip{number}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=8)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for picture in noise:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            container.mux(stream.encode())
    train = root / "video_instruction" / "train"
    write_jsonl(
        train / "qa" / "video_qa.jsonl",
        [
            talk(f"clip{clip}_{number}", question, "A red ball.")
            for clip in range(4)
            for number, question in enumerate(("What is it?", "What moves?"))
        ],
    )
    write_jsonl(
        train / "pretrain" / "video_caption_pretrain.jsonl",
        [talk(f"clip{clip}", "Describe it.", "A red ball rolls to the left.") for clip in range(4)],
    )
    return root


def test_from_questions_to_pairs(world: Path, tmp_path: Path) -> None:
    model = str(build_tiny(["red ball cat blue"] * 3, tmp_path / "model", seed=1, size="tiny"))
    loop, pairs = str(tmp_path / "loop"), str(tmp_path / "pairs")
    drawn = run(
        *("candidates", "--input", str(world), "--model", model, "--out", loop),
        *("--max-new-tokens", "6", "--split", "train+validation"),
    )
    assert (drawn["n_questions"], drawn["n_failed"], drawn["n_candidates"]) == (8, 0, 48)
    scored = run("rewards", "--input", loop, "--out", loop)
    assert scored["n_items"] == 8
    assert scored["n_answers"] == 48
    assert scored["n_scored"] + scored["n_unscored"] == scored["n_distinct"]
    assert all(row["caption"] for _, row in read_jsonl(tmp_path / "loop" / "rewards.jsonl"))
    # A random model is rarely right: the threshold is set where it divides this model's answers.
    scores = sorted(
        {
            answer["score"]
            for _, row in read_jsonl(tmp_path / "loop" / "rewards.jsonl")
            for answer in row["answers"]
            if answer["score"] is not None
        }
    )
    assert len(scores) > 1
    made = run("preferences", "--input", loop, "--out", pairs, "--threshold", str(scores[-1]))
    assert made["n_items"] == 8
    assert made["n_pairs"] + sum(made["without_pair"].values()) == 8
    assert made["n_pairs"] >= 1
    dataset = load_dataset("preferences", data_dir=pairs, media=world)
    assert len(dataset) == made["n_pairs"]
    assert all(row["chosen_score"] > row["rejected_score"] for row in dataset)
    assert all(Path(row["video_path"]).is_file() for row in dataset)


def test_nothing_could_be_read(tmp_path: Path) -> None:
    train = tmp_path / "world" / "video_instruction" / "train"
    write_jsonl(train / "qa" / "video_qa.jsonl", [talk("gone_0", "What is it?", "A ball.")])
    write_jsonl(
        train / "pretrain" / "video_caption_pretrain.jsonl",
        [talk("gone", "Describe it.", "A ball")],
    )
    model = str(build_tiny(["a ball"], tmp_path / "model", seed=1, size="tiny"))
    words = ["build", "candidates", "--input", str(tmp_path / "world"), "--model", model]
    with pytest.warns(UserWarning, match="1 video not found"):
        result = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "loop")])
    assert result.exit_code == 1
    assert "failed: no media found for gone (1 of 1 questions)" in result.stderr

"""A model of another family answers while it is trained, and its training does not notice."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharegptvideo._io import read_jsonl, write_jsonl
from sharegptvideo.training import load_recipe, run_recipe
from sharegptvideo.training.run_dir import read_evaluations
from tests.support.modern_release import build_release
from tests.support.tiny_video_models import build

pytestmark = pytest.mark.peers
pytest.importorskip("torchvision", reason="transformers' video processors need torchvision")


@pytest.mark.parametrize("kind", ["qwen3_vl", "llava_onevision"])
def test_the_same_weights_with_evaluations_and_without(kind: str, tmp_path: Path) -> None:
    release = build_release(tmp_path / "release")
    model = build(kind, tmp_path / "model")
    clips = sorted(path for path in release.rglob("*") if path.suffix == ".mp4")
    assert clips
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "mine.yaml").write_text(
        "name: mine\ninclude: [grounded]\ntitle: Mine\nversion: 1\nconfig: msvd_qa\n"
        "source: made here\ncitation: none\nframes: 4\nannotations:\n  reader: plain\n"
        "  questions: [mine.jsonl]\n"
    )
    write_jsonl(
        tasks / "mine.jsonl",
        [
            {"id": f"{clip.stem}{n}", "video": clip.stem, "question": asked, "answer": "It is red."}
            for clip in clips
            for n, asked in enumerate(("What colour is it?", "Is it red?"))
        ],
    )
    common = [
        f"model={model}", f"data.data_dir={release}", f"data.media={release}",
        "data.split=train+validation", "frames=4", "optimisation.epochs=null",
        "optimisation.max_steps=4", "optimisation.per_device_batch_size=2",
        "optimisation.learning_rate=0.01", "log_every=1",
    ]  # fmt: skip
    evaluated = [
        "eval.tasks=[mine]", "eval.every=2", "eval.samples=4", f"eval.media={release}",
        f"eval.task_path={tasks}", "eval.max_new_tokens=6",
    ]  # fmt: skip
    plain = load_recipe("demo/sft", [*common, f"output={tmp_path / 'plain'}"])
    recipe = load_recipe("demo/sft", [*common, *evaluated, f"output={tmp_path / 'eval'}"])
    assert recipe.eval is not None
    run_recipe(plain)
    run_recipe(recipe)
    rows = read_evaluations(tmp_path / "eval")
    assert [(row["step"], row["status"]) for row in rows] == [(0, "ok"), (2, "ok"), (4, "ok")], rows
    answers = [
        [row["status"] for _, row in read_jsonl(folder / "predictions.jsonl")]
        for folder in sorted((tmp_path / "eval" / "evaluations").iterdir())
    ]
    assert answers == [["ok"] * 4] * 3
    first, second = (
        (tmp_path / name / "model.safetensors").read_bytes() for name in ("plain", "eval")
    )
    assert first == second

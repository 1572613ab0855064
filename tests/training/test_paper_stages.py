"""The paper's stages one after the other: from its parts, and in as many steps as it had."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo._io import write_jsonl
from sharegptvideo.errors import UserError
from sharegptvideo.models import open_model
from sharegptvideo.models.prompts import VICUNA_SYSTEM
from sharegptvideo.training import load_recipe, load_steps, run_recipe
from sharegptvideo.training.gpus import parse_gpus
from sharegptvideo.training.plan import dry_run_steps
from tests.support.authors_checkpoint import write_parts

STEPS = {
    "llava_hound/pretrain": [12_109],
    "llava_hound/sft": [6_680],
    "llava_hound/sft_two_step": [7_031, 2_773],
    "llava_hound/dpo": [399],
    "llava_hound/dpo_lora": [399],
}
"""Of the paper and its released checkpoints, in batches of 128."""

_SHARE = 64  # a row for so many of the release, in batches of 2
ROWS = {
    "pretrain/video_caption_pretrain.jsonl": 900_000,
    "pretrain/image_caption_pretrain.jsonl": 649_900,
    "sft/image_instruction_600k.jsonl": 599_950,
    "sft/image_instruction_100k.jsonl": 99_900,
    "sft/video_caption_300k.jsonl": 300_000,
    "sft/video_240k_caption_15k.jsonl": 255_000,
}


USED = {"pretrain": 8, "captions": 8, "answers": 12, "dpo": 4, "dpo_lora": 4}
"""Rows of `paper_release` by stage: four images, four clips with one row each or two."""


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHAREGPTVIDEO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def rows(file: str, count: int) -> Iterator[dict[str, Any]]:
    """So many rows about one clip or image, which take no time to find."""
    kind = "image" if "image" in file else "video"
    turns = [{"from": "human", "value": f"<{kind}>\nWhy?"}, {"from": "gpt", "value": "So."}]
    for number in range(count):
        yield {"id": str(number), kind: f"a.{'png' if kind == 'image' else 'mp4'}"} | {
            "conversations": turns
        }


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release's training files, a 64th of their rows, and all 17k pairs."""
    root = tmp_path_factory.mktemp("tables")
    train = root / "video_instruction" / "train"
    for file, count in ROWS.items():
        share = count // _SHARE if "image" in file else math.ceil(count / _SHARE)
        write_jsonl(train / file, rows(file, share))
    pair = {"video": "a", "prompt": "Why?", "chosen": "So.", "rejected": "No.", "answer": "So."}
    scores = {"chosen_score": 5, "rejected_score": 1}
    pairs = ({"id": str(number)} | pair | scores for number in range(17_000))
    write_jsonl(train / "dpo" / "sft_dpo_17k.jsonl", pairs)
    (root / "videos").mkdir()
    (root / "videos" / "a.mp4").touch()
    (root / "a.png").touch()
    return root


@pytest.mark.parametrize("name", STEPS)
def test_the_steps_are_the_papers(name: str, tables: Path) -> None:
    """Rows a 64th, a batch a 64th: the steps are those of all rows in batches of 128."""
    changes = [f"data.data_dir={tables}", f"data.media={tables}"]
    gpus = parse_gpus("1xA100-80" if name.endswith("lora") else "8xA100-80")
    if "dpo" not in name:
        changes.append("optimisation.per_device_batch_size=1")
        gpus = parse_gpus("2xA100-80")
    found = dry_run_steps(load_steps(name, changes), gpus)
    assert [one.plan.steps for one in found if one.plan] == STEPS[name]
    assert [one.data.missing for one in found if one.data] == [0] * len(found)
    assert [one.shape.kind for one in found if one.shape] == ["llava_hound"] * len(found)


@pytest.mark.parametrize("name", STEPS)
def test_the_steps_before_a_download_are_the_papers(name: str) -> None:
    """By the counts that are kept; those that the tables of the test above have a 64th of."""
    gpus = parse_gpus("1xA100-80" if name.endswith("lora") else "8xA100-80")
    found = dry_run_steps(load_steps(name), gpus)
    assert [one.plan.steps for one in found if one.plan] == STEPS[name]
    if name == "llava_hound/pretrain":
        assert found[0].data is not None
        assert (
            found[0].data.rows
            == ROWS["pretrain/video_caption_pretrain.jsonl"]
            + (ROWS["pretrain/image_caption_pretrain.jsonl"])
        )


def test_from_the_parts_to_preferences(paper_release: Path, tmp_path: Path) -> None:
    """Tiny parts are assembled, and trained on clips and images, a step of each stage."""
    write_parts(tmp_path / "parts")
    common = [
        f"data.data_dir={paper_release}",
        f"data.media={paper_release}",
        "data.workers=0",
        "frames=4",
        "optimisation.per_device_batch_size=2",
        "optimisation.gradient_accumulation=1",
        "optimisation.epochs=null",
        "optimisation.max_steps=1",
    ]
    parts = ("language", "image_tower", "video_tower", "projector")
    stages = {
        "pretrain": [f"model.{name}={tmp_path / 'parts' / name}" for name in parts],
        "sft_two_step": [f"model={tmp_path / 'pretrain'}"],
        "dpo": [f"model={tmp_path / 'sft_two_step' / 'answers'}"],
        "dpo_lora": [f"model={tmp_path / 'sft_two_step' / 'answers'}"],
    }
    for stage, changes in stages.items():
        out = [f"output={tmp_path / stage}"]
        for recipe in load_steps(f"llava_hound/{stage}", [*common, *changes, *out]):
            result = run_recipe(recipe)
            assert result.steps == 1
            assert result.rows == USED[Path(recipe.output).name]
    first = json.loads((tmp_path / "pretrain" / "run.json").read_text())
    assert first["model"] == " + ".join(str(tmp_path / "parts" / name) for name in parts)
    assert list((tmp_path / "cache" / "assembled").glob("language-*/model.safetensors"))
    for stage in ("dpo", "dpo_lora"):
        model: Any = open_model(f"hf:{tmp_path / stage}")
        assert model.render("Why?").startswith(f"<s> {VICUNA_SYSTEM} USER:")
        assert model.pixels.bilinear


@pytest.mark.parametrize("missing", ["data_dir", "media"])
def test_data_are_looked_for_before_parts_are_fetched(
    missing: str, paper_release: Path, tmp_path: Path
) -> None:
    folders = {"data_dir": paper_release, "media": paper_release} | {missing: tmp_path / "nowhere"}
    recipe = load_recipe(
        "llava_hound/pretrain",
        [
            *(f"data.{key}={folder}" for key, folder in folders.items()),
            f"output={tmp_path / 'out'}",
        ],
    )
    with pytest.raises(UserError, match="nowhere"):
        run_recipe(recipe)
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "out").exists()

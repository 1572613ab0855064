"""LLaVA-Hound in training and in use: shared, plain and from kept features it is the same model."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sharegptvideo.models import Request, SamplingParams, build_tiny, load_model, open_model
from sharegptvideo.models.prompts import conversation, encode, expand_video, video_token_count
from sharegptvideo.training import DpoRecipe, SftRecipe, run_recipe


@pytest.fixture(scope="module")
def hound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = ["What colour is the picture? It is red, green, blue, yellow all the time."] * 3
    out = tmp_path_factory.mktemp("hound") / "model"
    return build_tiny(texts, out, seed=0, size="tiny", architecture="llava_hound")


def test_answers_are_those_of_plain_generate(hound: Path) -> None:
    """Two clips, two questions each, token for token; a frame takes its patches alone."""
    model: Any = open_model(f"hf:{hound}")
    clips = np.random.default_rng(0).integers(0, 256, (2, 4, 20, 28, 3), dtype=np.uint8)
    prompts = ["What colour is it?", "Is it red all the time?"]
    requests = [Request(prompt, clip) for clip in clips for prompt in prompts]
    answers = list(model.generate(requests, SamplingParams(max_new_tokens=8)))
    config = model.model.config
    assert config.model_type == "llava_hound"
    count = video_token_count(config, 4)
    assert count == config.video_seq_length == 4 * 4
    for request, answer in zip(requests, answers, strict=True):
        ids, mask = encode(model.tokenizer, conversation(request.prompt))
        ids, _ = expand_video(ids, mask, config.video_token_id, count)
        row = torch.tensor([ids])
        plain = model.model.generate(
            input_ids=row,
            attention_mask=torch.ones_like(row),
            pixel_values_videos=model.pixels(request.frames)[None],
            max_new_tokens=8,
            do_sample=False,
        )
        text = model.tokenizer.decode(plain[0, len(ids) :], skip_special_tokens=True)
        assert answer.text == text.strip()


def test_shared_plain_and_kept_features_train_alike(
    sft_recipe: SftRecipe, change: Callable[..., Any], hound: Path, tmp_path: Path
) -> None:
    base = change(
        sft_recipe,
        model=str(hound),
        freeze={"vision_tower": True},
        # One batch of all eight rows, so that each way sees the same ones.
        optimisation={"max_steps": 2, "per_device_batch_size": 8},
    )
    ways: dict[str, dict[str, Any]] = {
        "shared": {},
        "plain": {"sharing": {"video": False}},
        "kept": {"features": {"enabled": True, "folder": str(tmp_path / "features")}},
    }
    losses = {}
    for name, more in ways.items():
        recipe = change(base, output=str(tmp_path / name), **more)
        losses[name] = [entry["loss"] for entry in run_recipe(recipe).log]
    assert len(losses["shared"]) == 2
    assert losses["plain"] == pytest.approx(losses["shared"], abs=1e-5)
    assert losses["kept"] == pytest.approx(losses["shared"], abs=1e-5)


def test_a_pair_is_trained_on(
    dpo_recipe: DpoRecipe, change: Callable[..., Any], hound: Path
) -> None:
    """Before the first step policy and reference are one: the loss is ln 2."""
    recipe = change(dpo_recipe, model=str(hound), optimisation={"max_steps": 1})
    (entry,) = run_recipe(recipe).log
    assert entry["loss"] == pytest.approx(math.log(2), abs=1e-5)


def test_a_tower_that_learns_learns_over_time(
    sft_recipe: SftRecipe, change: Callable[..., Any], hound: Path
) -> None:
    """Temporal weights change in every layer, and the trained model is one again."""
    done = run_recipe(change(sft_recipe, model=str(hound), optimisation={"max_steps": 2}))
    before, after = (load_model(str(path), dtype="float32") for path in (hound, done.output))
    old, new = dict(before.named_parameters()), dict(after.named_parameters())
    temporal = [name for name in old if "temporal" in name and "k_proj.bias" not in name]
    assert len(temporal) == 2 * 10  # a key's bias has no gradient: softmax takes it out
    assert [name for name in temporal if torch.equal(old[name], new[name])] == []

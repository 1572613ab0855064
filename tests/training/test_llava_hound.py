"""LLaVA-Hound in training and in use: shared, plain and from kept features it is the same model."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sharegptvideo.errors import UserError
from sharegptvideo.models import (
    Request,
    SamplingParams,
    VideoLlavaModel,
    build_tiny,
    load_model,
    open_model,
    outline,
)
from sharegptvideo.models.llava_hound import LlavaHoundConfig
from sharegptvideo.models.prompts import conversation, encode, expand_video, video_token_count
from sharegptvideo.training import DpoRecipe, SftRecipe, load_recipe, run_recipe
from sharegptvideo.training.dataset_stats import DatasetStats, Lengths
from sharegptvideo.training.estimate import shape_of, workload_of
from sharegptvideo.training.families import bare_family
from sharegptvideo.training.gpus import parse_gpus
from sharegptvideo.training.plan import clip_positions, dry_run
from sharegptvideo.training.recipes import Lora
from tests.support.fresh_python import run_python


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


def test_pairs_are_trained_on_alike_in_every_way(
    dpo_recipe: DpoRecipe, change: Callable[..., Any], hound: Path, tmp_path: Path
) -> None:
    """Shared and plain rows, reference in memory and given, kept features: losses to 1e-5.

    Before the first step policy and reference are one: that loss is ln 2.
    """
    base = change(
        dpo_recipe,
        model=str(hound),
        optimisation={"max_steps": 3, "per_device_batch_size": 4, "learning_rate": 5e-3},
    )
    features = {"enabled": True, "folder": str(tmp_path / "features")}
    ways: dict[str, dict[str, Any]] = {
        "shared": {},
        "plain": {"sharing": {"video": False}},
        "in memory": {"dpo": {"reference": "model"}},
        "kept": {"features": features},
        "recomputed": {"optimisation": {"gradient_checkpointing": True}},
    }
    losses = {}
    for name, more in ways.items():
        recipe = change(change(base, **more), output=str(tmp_path / name))
        losses[name] = [entry["loss"] for entry in run_recipe(recipe).log]
    assert losses["shared"][0] == pytest.approx(math.log(2), abs=1e-5)
    assert losses["shared"][-1] < losses["shared"][0] - 0.01
    for name in ways:
        assert losses[name] == pytest.approx(losses["shared"], abs=1e-5), name


def test_adapters_merged_are_a_whole_model(
    sft_recipe: SftRecipe, change: Callable[..., Any], hound: Path
) -> None:
    """Adapters stand in the language model's layers alone; towers and projector stay."""
    recipe = change(
        sft_recipe,
        model=str(hound),
        freeze={"vision_tower": True, "projector": True},
        optimisation={"max_steps": 2, "learning_rate": 5e-3},
    ).model_copy(update={"lora": Lora(rank=4, alpha=16)})
    done = run_recipe(recipe)
    before, after = (load_model(str(p), dtype="float32").state_dict() for p in (hound, done.output))
    assert before.keys() == after.keys()
    for name, weight in before.items():
        adapted = name.startswith("model.language_model.layers.") and "_proj." in name
        assert torch.equal(weight, after[name]) != adapted, name


def test_recomputed_layers_of_the_tower_learn_the_same(
    sft_recipe: SftRecipe, change: Callable[..., Any], hound: Path, tmp_path: Path
) -> None:
    """Gradient checkpointing keeps the number of frames that a layer is called with."""
    base = change(sft_recipe, model=str(hound), optimisation={"max_steps": 2})
    models = []
    for again in (False, True):
        recipe = change(
            base, output=str(tmp_path / str(again)), optimisation={"gradient_checkpointing": again}
        )
        models.append(load_model(str(run_recipe(recipe).output), dtype="float32"))
    pairs = zip(models[0].named_parameters(), models[1].parameters(), strict=True)
    for (name, one), two in pairs:
        assert torch.allclose(one, two, atol=1e-5), name


def test_more_frames_than_the_tower_has_embeddings_for(
    sft_recipe: SftRecipe, change: Callable[..., Any], hound: Path
) -> None:
    recipe = change(sft_recipe, model=str(hound), frames=6)
    with pytest.raises(UserError, match=r"frames 6: .* 4 frames of a clip at most; set frames=4"):
        run_recipe(recipe)
    assert any("set frames=4" in problem for problem in dry_run(recipe).problems)


def test_a_dry_run_says_what_the_run_will_be(
    dpo_recipe: DpoRecipe, change: Callable[..., Any], hound: Path
) -> None:
    recipe = change(dpo_recipe, model=str(hound))
    found = dry_run(recipe, parse_gpus("1xH100"))
    assert found.problems == []
    assert found.shape is not None
    assert found.data is not None
    model = load_model(str(hound), dtype="float32")
    assert found.shape.kind == "llava_hound"
    assert found.shape.parameters == sum(w.numel() for w in model.parameters())
    text = (model.model.language_model, model.lm_head)
    assert found.shape.trainable == sum(w.numel() for part in text for w in part.parameters())
    assert found.data.video_tokens == model.config.video_seq_length == 16
    assert found.plan is not None
    assert found.plan.steps == 6


def test_sizes_of_the_real_model() -> None:
    """By hand: CLIP's ViT-L twice, 11 tensors over time in 24 layers, and 2,048 positions a clip.

    A layer has four linear maps of the width for attention over time, a norm, and an embedding
    for each of 8 frames: 24 × (4 (w² + w) + 2 w + 8 w) = 101.0 M.
    """
    kind: Any = LlavaHoundConfig
    model = outline(kind(), dtype=torch.float32)
    width = 1024
    over_time = 24 * (4 * (width * width + width) + 2 * width + 8 * width)
    assert round(over_time / 1e6, 1) == 101.0
    recipe = load_recipe("llava_hound/dpo")
    found = shape_of(recipe, bare_family(model))
    towers = [model.model.image_tower, model.model.video_tower]
    image, video = (sum(w.numel() for w in tower.parameters()) for tower in towers)
    assert (video - image, found.tower) == (over_time, image + over_time)
    assert clip_positions(model.config, 8) == 2048
    assert found.tower_positions == 257 / 256
    assert found.tower_span == 257 + 8
    pairs = DatasetStats(17_000, 17_000, Lengths(40, (30, 30)), 2048.0)
    plan = workload_of(recipe, found, pairs, devices=8)
    assert plan.tokens_shared == 128 * (2048 + 40 + 30 + 30)
    assert plan.tokens_plain == 128 * 2 * (2048 + 40 + 30)


def test_it_opens_in_a_fresh_process(hound: Path, tmp_path: Path) -> None:
    """`import sharegptvideo.models` is all that transformers' own classes need, in any order."""
    code = f"""
        from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoTokenizer
        import sharegptvideo.models
        from sharegptvideo.models.pixels import VideoPixels
        one = AutoModelForImageTextToText.from_pretrained({str(hound)!r})
        inner = AutoModel.from_pretrained({str(hound)!r})
        config = AutoConfig.from_pretrained({str(hound)!r})
        print(type(one).__name__, type(inner).__name__, type(config).__name__)
        one.save_pretrained("again")
        AutoTokenizer.from_pretrained({str(hound)!r}).save_pretrained("again")
    """
    names = run_python(textwrap.dedent(code), tmp_path)
    assert names.split() == [
        "LlavaHoundForConditionalGeneration", "LlavaHoundModel", "LlavaHoundConfig",
    ]  # fmt: skip
    turned = run_python(
        "import sharegptvideo.models\nfrom transformers import AutoModel\n"
        "print(type(AutoModel.from_pretrained('again')).__name__)",
        tmp_path,
    )
    assert turned.strip() == "LlavaHoundModel"
    first, again = (load_model(str(p), dtype="float32") for p in (hound, tmp_path / "again"))
    assert first.config.to_dict() | {"_name_or_path": ""} == again.config.to_dict() | {
        "_name_or_path": ""
    }
    state = again.state_dict()
    assert all(torch.equal(w, state[name]) for name, w in first.state_dict().items())


def test_a_tower_that_learns_learns_over_time(
    sft_recipe: SftRecipe, change: Callable[..., Any], hound: Path
) -> None:
    """Temporal weights change in every layer, and the trained model is one again.

    Its processor and tokenizer come with it: the same pixels and prompts as before.
    """
    done = run_recipe(change(sft_recipe, model=str(hound), optimisation={"max_steps": 2}))
    before, after = (load_model(str(path), dtype="float32") for path in (hound, done.output))
    opened = [open_model(f"hf:{path}") for path in (hound, done.output)]
    start, trained = (model for model in opened if isinstance(model, VideoLlavaModel))
    assert trained.pixels == start.pixels
    assert trained.pixels.bilinear
    assert trained.render("What moves?") == start.render("What moves?")
    old, new = dict(before.named_parameters()), dict(after.named_parameters())
    temporal = [name for name in old if "temporal" in name and "k_proj.bias" not in name]
    assert len(temporal) == 2 * 10  # a key's bias has no gradient: softmax takes it out
    assert [name for name in temporal if torch.equal(old[name], new[name])] == []

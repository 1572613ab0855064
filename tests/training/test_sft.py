"""Supervised training: the loss by hand, what learns and what does not, what is left behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sharegptvideo._io import read_json, read_jsonl, write_jsonl
from sharegptvideo.errors import UserError
from sharegptvideo.media import sample_frames
from sharegptvideo.models import (
    Request,
    SamplingParams,
    VideoPixels,
    load_model,
    open_model,
    weights_hash,
)
from sharegptvideo.training import SftRecipe, TrainResult, run_sft
from sharegptvideo.training.collators import ClipCache, SftCollator
from sharegptvideo.training.examples import sft_dataset
from sharegptvideo.training.families import open_family
from sharegptvideo.training.families.base import filler_of
from sharegptvideo.training.recipes import LengthLimit


def test_first_loss_is_the_answers_mean_negative_log_probability(
    sft_recipe: SftRecipe, change: Callable[..., Any]
) -> None:
    """All eight rows in one batch; the expected loss is summed position by position.

    -log softmax(logits at t - 1)[token at t], over the tokens that the assistant speaks, divided
    by their number over the whole batch.
    """
    recipe = change(sft_recipe, optimisation={"per_device_batch_size": 8, "max_steps": 1})
    result = run_sft(recipe)

    model = load_model(recipe.model, dtype="float32")
    pixels = VideoPixels.from_pretrained(recipe.model)
    rows, _ = sft_dataset(recipe.data, open_family(recipe), limit=LengthLimit(128))
    total, count = 0.0, 0
    for row in rows:
        ids = [i for i in row["ids"] if i != model.config.video_token_id]
        at = row["ids"].index(model.config.video_token_id)
        ids = ids[:at] + [model.config.video_token_id] * 20 + ids[at:]
        answer_length = sum(row["assistant_mask"])
        clip = pixels(sample_frames(row["video_path"], 4).frames)
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids]), pixel_values_videos=clip[None]).logits[0]
        for t in range(len(ids) - answer_length, len(ids)):
            total -= float(logits[t - 1].log_softmax(-1)[ids[t]])
            count += 1
    assert len(rows) == 8
    assert result.log[0]["loss"] == pytest.approx(total / count, abs=1e-5)


def test_gradient_accumulation_weighs_tokens_not_batches(
    sft_recipe: SftRecipe, change: Callable[..., Any]
) -> None:
    whole = change(
        sft_recipe,
        optimisation={"per_device_batch_size": 8, "max_steps": 1},
        output=f"{sft_recipe.output}-whole",
    )
    parts = change(
        sft_recipe,
        optimisation={"per_device_batch_size": 2, "gradient_accumulation": 4, "max_steps": 1},
    )
    one, four = run_sft(whole).log[0], run_sft(parts).log[0]
    assert four["loss"] == pytest.approx(one["loss"], abs=1e-5)
    assert four["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)


def test_the_clip_is_learnt(
    sft_recipe: SftRecipe, change: Callable[..., Any], colours: dict[str, tuple[int, int, int]]
) -> None:
    """On eight rows by heart: the answers follow the colours, which only the pixels show."""
    recipe = change(
        sft_recipe,
        optimisation={"max_steps": 200, "per_device_batch_size": 8, "learning_rate": 3e-3},
    )
    result = run_sft(recipe)
    losses = [entry["loss"] for entry in result.log]
    assert losses[-1] < 0.1 < losses[0]
    model = open_model(f"hf:{result.output}")
    media = Path(str(recipe.data.media))
    clips = [sample_frames(media / "videos" / f"clip_{name}.mp4", 4).frames for name in colours]
    asked = [Request("What colour is the picture?", clip) for clip in clips]
    answers = [answer.text for answer in model.generate(asked, SamplingParams())]
    assert answers == [f"It is {name}." for name in colours]


@pytest.mark.parametrize("frozen", ["vision_tower", "projector", "language_model"])
def test_frozen_parts_stay_and_the_others_learn(
    frozen: str, sft_recipe: SftRecipe, change: Callable[..., Any]
) -> None:
    recipe = change(sft_recipe, freeze={frozen: True}, optimisation={"max_steps": 2})
    run_sft(recipe)
    before = load_model(recipe.model, dtype="float32").state_dict()
    after = load_model(recipe.output, dtype="float32").state_dict()
    parts = {
        "vision_tower": ("model.video_tower.",),
        "projector": ("model.multi_modal_projector.",),
        "language_model": ("model.language_model.", "lm_head."),
    }
    for name, value in before.items():
        if name.startswith("model.image_tower.") or "post_layernorm" in name:
            continue  # no image passes, and the last layer is read before its norm
        kept = name.startswith(parts[frozen])
        if name == "model.language_model.embed_tokens.weight" and not kept:
            assert not torch.equal(value, after[name])
        elif name.endswith(("k_proj.bias", "key.bias")):
            continue  # a key's bias moves all scores alike: its gradient is nothing but rounding
        else:
            assert torch.equal(value, after[name]) == kept, name


def test_what_a_training_leaves_behind(sft_run: tuple[SftRecipe, TrainResult]) -> None:
    sft_recipe, result = sft_run
    folder = Path(sft_recipe.output)
    assert {"recipe.yaml", "run.json", "log.jsonl", "loss.png", "model.safetensors"} <= {
        file.name for file in folder.iterdir()
    }
    assert not (folder / "checkpoints").exists()
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    record = read_json(folder / "run.json")
    assert record["status"] == "finished"
    assert record["model_sha256"] == weights_hash(sft_recipe.model)
    assert record["weights_sha256"] == weights_hash(folder)
    assert record["versions"]["trl"] != "not installed"
    steps = [row["step"] for _, row in read_jsonl(folder / "log.jsonl")]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert (result.steps, result.rows, result.already_done) == (6, 8, False)


def test_a_finished_training_is_not_run_again(sft_run: tuple[SftRecipe, TrainResult]) -> None:
    sft_recipe, first = sft_run
    stamp = (first.output / "model.safetensors").stat().st_mtime_ns
    again = run_sft(sft_recipe)
    assert again.already_done
    assert (again.steps, again.loss, again.log) == (first.steps, first.loss, first.log)
    assert (first.output / "model.safetensors").stat().st_mtime_ns == stamp


def test_another_recipe_or_folder_is_not_overwritten(
    sft_run: tuple[SftRecipe, TrainResult], tmp_path: Path, change: Callable[..., Any]
) -> None:
    sft_recipe, _ = sft_run
    with pytest.raises(UserError, match=r"another recipe: seed 0 there, 9 here\. "):
        run_sft(change(sft_recipe, seed=9))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(UserError, match="not empty and not a training"):
        run_sft(change(sft_recipe, output=str(tmp_path / "mine")))


@pytest.fixture
def holes(
    sft_recipe: SftRecipe,
    tmp_path: Path,
    change: Callable[..., Any],
    talk: Callable[..., dict[str, object]],
) -> SftRecipe:
    """The recipe on a release where one row's clip is missing and another row has none."""
    rows = [
        talk("clip_red", "a", "What colour is the picture?", "It is red."),
        talk("clip_gone", "b", "What colour is the picture?", "It is blue."),
    ]
    folder = tmp_path / "holes" / "video_instruction" / "train" / "sft"
    write_jsonl(folder / "video_240k_caption_15k.jsonl", rows)
    return change(sft_recipe, data={"data_dir": str(tmp_path / "holes")})  # type: ignore[no-any-return]


def test_missing_clips_are_refused_or_listed(holes: SftRecipe, change: Callable[..., Any]) -> None:
    with pytest.raises(
        UserError, match=r"1 rows have no clip.*b \(clip_gone\).*missing_media=skip"
    ):
        run_sft(holes)
    assert not Path(holes.output).exists()
    result = run_sft(change(holes, data={"missing_media": "skip"}, optimisation={"max_steps": 1}))
    assert result.rows == 1
    assert result.notes == ["1 rows without a clip or readable image left out: b (clip_gone)"]


def test_long_answers_are_cut_and_counted(
    sft_recipe: SftRecipe, change: Callable[..., Any]
) -> None:
    rows, _ = sft_dataset(sft_recipe.data, open_family(sft_recipe), limit=LengthLimit(128))
    lengths = sorted(len(row["ids"]) - 1 + 20 for row in rows)
    longer = [length for length in lengths if length > lengths[0]]
    assert longer, "the test needs rows of different lengths"
    limit = {"max_length": lengths[0], "max_steps": 1}
    result = run_sft(change(sft_recipe, optimisation=limit))
    assert result.notes == [f"{len(longer)} of 8 rows cut to max_length"]
    with pytest.raises(UserError, match="no room for an answer after their clip"):
        run_sft(change(sft_recipe, optimisation={"max_length": 25}, output=sft_recipe.output + "2"))


def test_a_loss_that_is_no_number_stops_the_training(
    sft_recipe: SftRecipe, change: Callable[..., Any]
) -> None:
    recipe = change(
        sft_recipe, optimisation={"learning_rate": 1e30, "max_grad_norm": 0.0, "warmup_ratio": 0.0}
    )
    with pytest.raises(UserError, match=r"lower optimisation\.learning_rate"):
        run_sft(recipe)


def test_collated_ids_are_those_of_the_rows(sft_recipe: SftRecipe) -> None:
    family = open_family(sft_recipe)
    rows, report = sft_dataset(sft_recipe.data, family, limit=LengthLimit(128))
    batch = SftCollator(ClipCache(family.reader), LengthLimit(128))([rows[0]])
    said = batch["input_ids"][batch["labels"] != -100]
    assert family.tokenizer.decode(said) == " It is red.</s>"
    assert (report.used, report.missing, report.cut) == (8, [], 0)


def test_the_text_alone_may_be_what_is_limited(
    sft_recipe: SftRecipe, change: Callable[..., Any], tmp_path: Path
) -> None:
    """The limit of all positions that cuts nothing, less what the clip adds to its one token."""
    family = open_family(sft_recipe)
    rows, _ = sft_dataset(sft_recipe.data, family, limit=LengthLimit(128))
    text = max(rows["length"]) - family.reader.video_tokens + 1
    for tokens, cut in ((text, 0), (text - 1, rows["length"].count(max(rows["length"])))):
        limited = {"max_length": tokens, "max_length_counts": "text", "max_steps": 1}
        run = change(sft_recipe, optimisation=limited, output=str(tmp_path / str(tokens)))
        result = run_sft(run)
        assert result.notes == ([f"{cut} of 8 rows cut to max_length"] if cut else [])


@pytest.mark.parametrize("order", ["random", "plain"])
def test_rows_in_random_order_train(
    order: str, sft_recipe: SftRecipe, change: Callable[..., Any], tmp_path: Path
) -> None:
    plan = change(sft_recipe, data={"order": order}, output=str(tmp_path / order))
    result = run_sft(change(plan, optimisation={"max_steps": 2}))
    assert result.steps == 2


def test_rows_are_filled_with_the_end_token_where_there_is_no_other(
    sft_recipe: SftRecipe, change: Callable[..., Any], tmp_path: Path
) -> None:
    """As Llama's tokenizers are; what is filled is masked, so the losses are the same."""
    shutil.copytree(sft_recipe.model, tmp_path / "model")
    file = tmp_path / "model" / "tokenizer_config.json"
    config = read_json(file)
    assert config.pop("pad_token")
    file.write_text(json.dumps(config))
    recipe = change(sft_recipe, optimisation={"max_steps": 2})
    without = change(recipe, model=str(tmp_path / "model"), output=str(tmp_path / "out"))
    family = open_family(without)
    assert family.tokenizer.pad_token_id is None
    assert family.reader.pad_id == family.tokenizer.eos_token_id
    losses = [[row["loss"] for row in run_sft(one).log] for one in (recipe, without)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_a_tokenizer_that_can_fill_no_row() -> None:
    with pytest.raises(UserError, match="neither a pad token nor an end token"):
        filler_of(SimpleNamespace(pad_token_id=None, eos_token_id=None), 9)
    # A pad token that was added to the tokenizer alone has no row of the embeddings.
    assert filler_of(SimpleNamespace(pad_token_id=9, eos_token_id=2), 9) == 2
    assert filler_of(SimpleNamespace(pad_token_id=8, eos_token_id=2), 9) == 8

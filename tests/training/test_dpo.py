"""Preference training: the loss by hand, the reference, what stays frozen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sharegptvideo.media import sample_frames
from sharegptvideo.models import load_model
from sharegptvideo.training import DpoRecipe, TrainResult, run_dpo
from sharegptvideo.training.collators import ClipCache, PreferenceCollator
from sharegptvideo.training.dpo import loss_arguments
from sharegptvideo.training.examples import preference_dataset
from sharegptvideo.training.families import open_family
from sharegptvideo.training.recipes import LengthLimit
from sharegptvideo.training.run_dir import TrainingDir
from sharegptvideo.training.trainers import (
    VideoDPOTrainer,
    quiet_and_quick,
    trainer_arguments,
)


@pytest.fixture(autouse=True)
def _as_in_training() -> Iterator[None]:
    with quiet_and_quick():
        yield


def trainer_of(recipe: DpoRecipe, policy: Any) -> tuple[VideoDPOTrainer, Any]:
    """A trainer whose policy is `policy` and whose reference is the recipe's model; the rows."""
    from trl import DPOConfig

    family = open_family(recipe)
    family.model = policy
    rows, _ = preference_dataset(recipe.data, family, limit=LengthLimit(128))
    family.freeze(recipe.freeze)
    arguments = trainer_arguments(recipe, TrainingDir(recipe).checkpoints)
    trainer = VideoDPOTrainer(
        model=policy,
        ref_model=load_model(recipe.model, dtype="float32"),
        args=DPOConfig(**arguments, beta=recipe.dpo.beta, **loss_arguments(recipe.dpo)),
        data_collator=PreferenceCollator(
            ClipCache(family.reader), LengthLimit(128), share=recipe.sharing.video
        ),
        train_dataset=rows,
        processing_class=family.tokenizer,
    )
    trainer.share(family, recipe.sharing)
    return trainer, rows


def log_probability(model: Any, clip: torch.Tensor, prompt: list[int], answer: list[int]) -> float:
    """Sum of log p over the answer's tokens, position by position, by a plain forward pass."""
    video = model.config.video_token_id
    at = prompt.index(video)
    ids = prompt[:at] + [video] * 20 + prompt[at + 1 :] + answer
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids]), pixel_values_videos=clip[None]).logits[0]
    return sum(
        float(logits[t - 1].log_softmax(-1)[ids[t]])
        for t in range(len(ids) - len(answer), len(ids))
    )


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize(("towers_frozen", "sft_weight"), [(True, 0.0), (False, 0.0), (True, 0.5)])
def test_loss_is_minus_log_sigmoid_of_the_reward_margin(
    towers_frozen: bool,
    sft_weight: float,
    share: bool,
    dpo_recipe: DpoRecipe,
    change: Callable[..., Any],
) -> None:
    """Mean over pairs of -log σ(β ((log π(c) - log ref(c)) - (log π(r) - log ref(r)))).

    With `sft_weight` w, plus w times the mean over all tokens of chosen answers of -log π.

    The policy is the starting model with noise on its language model, and, where the towers
    learn, on the projector too, so that policy and reference see different features.
    """
    recipe = change(
        dpo_recipe,
        freeze={"vision_tower": towers_frozen, "projector": towers_frozen},
        dpo={"beta": 0.7, "sft_weight": sft_weight},
        sharing={"video": share},
    )
    policy, reference = (load_model(recipe.model, dtype="float32") for _ in range(2))
    torch.manual_seed(0)
    noisy = [*policy.model.language_model.parameters()]
    if not towers_frozen:
        noisy += policy.model.multi_modal_projector.parameters()
    with torch.no_grad():
        for parameter in noisy:
            parameter.add_(0.1 * torch.randn_like(parameter))
    trainer, rows = trainer_of(recipe, policy)
    batch = trainer.data_collator(list(rows))
    loss = float(trainer.compute_loss(trainer.model, batch).detach())

    pixels = trainer.data_collator.clips.reader.pixels
    expected, margins, chosen, tokens = 0.0, [], 0.0, 0
    for row in rows:
        clip = pixels(sample_frames(row["video_path"], 4).frames)
        sides = ("chosen_ids", "rejected_ids")
        said = [log_probability(policy, clip, row["prompt_ids"], row[side]) for side in sides]
        ratios = [
            value - log_probability(reference, clip, row["prompt_ids"], row[side])
            for side, value in zip(sides, said, strict=True)
        ]
        chosen, tokens = chosen + said[0], tokens + len(row["chosen_ids"])
        margins.append(0.7 * (ratios[0] - ratios[1]))
        expected += math.log1p(math.exp(-margins[-1])) / len(rows)
    expected -= sft_weight * chosen / tokens
    assert len(rows) == 4
    assert max(margins) - min(margins) > 0.01, "the test needs pairs that differ"
    assert loss == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("towers_frozen", [True, False])
def test_gradients_are_those_of_plain_rows(
    towers_frozen: bool, dpo_recipe: DpoRecipe, change: Callable[..., Any]
) -> None:
    """All pairs in one batch, shared and row by row: loss and gradients within 1e-5 of the largest.

    Gradients that are nothing but rounding are passed over: those of keys' biases, which move all
    scores alike.
    """
    losses, gradients = [], []
    for share in (True, False):
        recipe = change(
            dpo_recipe,
            output=f"{dpo_recipe.output}-{'shared' if share else 'plain'}",
            freeze={"vision_tower": towers_frozen, "projector": towers_frozen},
            sharing={"video": share},
            dpo={"beta": 0.7},
        )
        policy = load_model(recipe.model, dtype="float32")
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in policy.model.language_model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        trainer, rows = trainer_of(recipe, policy)
        batch = trainer.data_collator(list(rows))
        assert ("shared_layout" in batch) == share
        loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        losses.append(float(loss.detach()))
        gradients.append(
            {name: p.grad for name, p in policy.named_parameters() if p.grad is not None}
        )
    shared, plain = gradients
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert shared.keys() == plain.keys()
    assert any("video_tower" in name for name in plain) != towers_frozen
    for name, gradient in plain.items():
        if not name.endswith(("k_proj.bias", "key.bias")):
            apart = (shared[name] - gradient).abs().max()
            assert float(apart) <= 1e-5 * float(gradient.abs().max()), name


def test_the_first_loss_is_log_two_and_the_margin_grows(
    dpo_recipe: DpoRecipe, change: Callable[..., Any]
) -> None:
    """At the start policy and reference are the same model, so every margin is nought."""
    recipe = change(dpo_recipe, optimisation={"max_steps": 20, "learning_rate": 1e-3})
    log = run_dpo(recipe).log
    assert log[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert log[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-6)
    assert log[-1]["rewards/margins"] > 0.1
    assert log[-1]["rewards/accuracies"] == 1.0


def test_towers_and_projector_stay(dpo_run: tuple[DpoRecipe, TrainResult]) -> None:
    dpo_recipe, _ = dpo_run
    before = load_model(dpo_recipe.model, dtype="float32").state_dict()
    after = load_model(dpo_recipe.output, dtype="float32").state_dict()
    for name, value in before.items():
        kept = name.startswith(("model.video_tower", "model.image_tower", "model.multi_modal"))
        assert torch.equal(value, after[name]) == kept, name
    assert (Path(dpo_recipe.output) / "loss.png").stat().st_size > 10_000


def test_a_frozen_tower_runs_once_for_all_four_passes(dpo_recipe: DpoRecipe) -> None:
    policy = load_model(dpo_recipe.model, dtype="float32")
    trainer, rows = trainer_of(dpo_recipe, policy)
    seen: list[int] = []
    for model in (trainer.model, trainer.ref_model):
        model.model.video_tower.register_forward_hook(
            lambda _module, _inputs, output: seen.append(output[0].shape[0])
        )
    trainer.compute_loss(trainer.model, trainer.data_collator([rows[0], rows[1]]))
    assert seen == [2 * 4], "two clips of four frames, once"

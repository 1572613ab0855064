"""Layers computed again in the backward pass see the layout of the forward pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sharegptvideo.training import Recipe, run_recipe
from sharegptvideo.training.estimate import (
    USABLE,
    MicroBatch,
    activation_room,
    recomputed_layers,
    shape_of,
)
from sharegptvideo.training.families import open_family
from sharegptvideo.training.recipes import Lora
from sharegptvideo.training.run_dir import TrainingDir
from sharegptvideo.training.sharing import attention
from sharegptvideo.training.trainers import on_this_device


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_the_same_weights_with_and_without(
    stage: str,
    request: pytest.FixtureRequest,
    change: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the bit; and shared attention does run again in each of three steps, in so many layers.

    DPO switches it off and on around each pass of the reference. `auto` is none on a CPU.
    """
    calls: list[int] = []
    original = attention.split

    def counted(*args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(1)
        return original(*args, **kwargs)

    for name in attention.ATTENTIONS.values():
        monkeypatch.setitem(
            attention.AttentionInterface._global_mapping, name, attention.as_attention(counted)
        )
    recipe: Recipe = request.getfixturevalue(f"{stage}_recipe")
    if stage == "dpo":  # else the first run alone would compute the reference
        recipe = change(recipe, dpo={"reference": "model"})
    counts, weights = [], []
    ways: tuple[bool | int | str, ...] = (False, True, 1, "auto")
    for checkpointing in ways:
        calls.clear()
        result = run_recipe(
            change(
                recipe,
                output=f"{recipe.output}-{checkpointing}",
                optimisation={"gradient_checkpointing": checkpointing, "max_steps": 3},
            )
        )
        counts.append(len(calls))
        weights.append((result.output / "model.safetensors").read_bytes())
        kept = json.loads((result.output / "run.json").read_text())["recomputed_layers"]
        assert kept == [0, 2, 1, 0][len(counts) - 1]
    assert len(set(weights)) == 1
    assert [count - counts[0] for count in counts] == [0, 3 * 2, 3 * 1, 0]


@pytest.mark.parametrize("frozen", [True, False])
def test_a_frozen_tower_is_not_computed_again(
    sft_recipe: Recipe, change: Callable[..., Any], frozen: bool
) -> None:
    """Its projector learns, to the same weights; a tower that learns is computed again."""
    calls = [0]

    def count(module: torch.nn.Module, *_: Any) -> None:
        calls[0] += type(module).__name__ == "CLIPMLP"

    hook = torch.nn.modules.module.register_module_forward_pre_hook(count)
    counts, weights = [], []
    try:
        for again in (False, True):
            recipe = change(
                sft_recipe,
                output=f"{sft_recipe.output}-{again}",
                freeze={"vision_tower": frozen},
                optimisation={"gradient_checkpointing": again, "max_steps": 2},
            )
            calls[0] = 0
            result = run_recipe(recipe)
            counts.append(calls[0])
            weights.append((result.output / "model.safetensors").read_bytes())
    finally:
        hook.remove()
    assert weights[0] == weights[1]
    assert counts[0] > 0
    assert (counts[0] == counts[1]) is frozen


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_adapters_learn_the_same_with_and_without(
    stage: str, request: pytest.FixtureRequest, change: Callable[..., Any]
) -> None:
    """To the bit, with both layers and with one computed again; two steps, since B begins at 0."""
    recipe: Recipe = request.getfixturevalue(f"{stage}_recipe")
    recipe = change(
        recipe.model_copy(update={"lora": Lora(rank=4, alpha=16, merge=False)}),
        freeze={"vision_tower": True, "projector": True},
    )
    if stage == "dpo":
        recipe = change(recipe, dpo={"reference": "model"})
    weights, kept = [], []
    for checkpointing in (False, True, 1):
        optimisation = {
            "gradient_checkpointing": checkpointing,
            "max_steps": 2,
            "learning_rate": 1e-2,
        }
        output = f"{recipe.output}-{checkpointing}"
        result = run_recipe(change(recipe, output=output, optimisation=optimisation))
        weights.append(load_file(result.output / "adapter_model.safetensors"))
        run = json.loads((result.output / "run.json").read_text())
        kept.append(run["recomputed_layers"])
    assert kept == [0, 2, 1]
    plain, *others = weights
    assert all(plain[name].abs().max() > 0 for name in plain)
    for other in others:
        assert plain.keys() == other.keys()
        assert all(torch.equal(plain[name], other[name]) for name in plain)


def test_auto_is_as_many_layers_as_a_gpu_asks_for(
    request: pytest.FixtureRequest, change: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two: none in much memory, both in little, one in between; the run says how many."""
    recipe: Recipe = request.getfixturevalue("dpo_recipe")
    recipe = change(recipe, optimisation={"gradient_checkpointing": "auto"})
    family = open_family(recipe)
    shape = shape_of(recipe, family)
    batch = MicroBatch.longest(recipe, 40, family.reader.video_tokens)
    lines: list[str] = []
    run = TrainingDir(recipe, lines.append)
    need = {n: batch.activations(shape, n, bf16=False) for n in (0, 1, 2)}
    other = -activation_room(recipe, shape, 0)
    for layers, room in ((0, need[0]), (1, need[1]), (2, 0)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        size = SimpleNamespace(total_memory=int((room + other) / USABLE) + 9)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _number, size=size: size)
        planned = on_this_device(recipe, run, family, [30, 40])
        monkeypatch.undo()
        assert recomputed_layers(planned.optimisation, shape) == layers
        assert run.state["recomputed_layers"] == layers
        assert lines[-1] == f"gradient checkpointing: {layers} of 2 layers"

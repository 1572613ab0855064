"""Layers computed again in the backward pass see the layout of the forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from sharegptvideo.training import Recipe, run_recipe
from sharegptvideo.training.sharing import attention


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_the_same_weights_with_and_without(
    stage: str,
    request: pytest.FixtureRequest,
    change: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the bit; and the shared attention of both layers does run again in each of three steps."""
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
    for checkpointing in (False, True):
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
    assert weights[0] == weights[1]
    assert counts[1] - counts[0] == 3 * 2

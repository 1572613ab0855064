"""Packs of clips: every row once, within the budget, and the same loss as unpacked rows."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from sharegptvideo.errors import UserError
from sharegptvideo.training import SftRecipe, run_sft
from sharegptvideo.training.packing import flat_length, pack
from sharegptvideo.training.recipes import LengthLimit

VIDEO = 9


def rows(count: int) -> list[dict[str, Any]]:
    """Three questions a clip, of random lengths."""
    draw = random.Random(3)
    made = []
    for number in range(count):
        question = [draw.randrange(10, 90) for _ in range(draw.randrange(1, 12))]
        answer = [draw.randrange(10, 90) for _ in range(draw.randrange(1, 20))]
        ids = [1, VIDEO, *question, *answer]
        made.append(
            {
                "video_path": f"clip{number // 3}",
                "image_path": None,
                "ids": ids,
                "assistant_mask": [False] * (len(question) + 2) + [True] * len(answer),
                "length": len(ids),
            }
        )
    return made


def test_every_row_is_in_one_pack_and_packs_keep_to_the_budget() -> None:
    single = rows(60)
    packs = pack(Dataset.from_list(single), 150, positions=lambda _: 20, limit=LengthLimit(128))
    inside = [row for one in packs for row in one["rows"]]
    key = str
    assert sorted(map(key, inside)) == sorted(map(key, single))
    assert max(packs["length"]) <= 150
    assert len(packs) < 20  # fewer than clips
    # What a pack says it takes is what its clips take.
    for one in packs:
        clips: dict[str, list[Any]] = {}
        for row in one["rows"]:
            clips.setdefault(row["video_path"], []).append(row)
        assert one["length"] == sum(flat_length(group, 20, 128) for group in clips.values())


def test_the_length_of_two_questions_by_hand() -> None:
    """<s>, the clip's 20, the common 5: once; then 6 7 and 8 of each, the answers with them."""
    first = {"ids": [1, VIDEO, 5, 6, 7], "assistant_mask": [False] * 4 + [True]}
    second = {"ids": [1, VIDEO, 5, 8], "assistant_mask": [False] * 3 + [True]}
    # The last common token predicts the second answer, so it stays with both.
    assert flat_length([first, second], 20, 128) == 21 + 3 + 2
    assert flat_length([first], 20, 128) == 24
    assert flat_length([first, second], 20, 23) == 21 + 2 + 2  # the longer one is cut


def test_a_budget_below_one_clip_is_refused() -> None:
    with pytest.raises(UserError, match=r"sharing\.pack_tokens 30: .* give at least so many"):
        pack(Dataset.from_list(rows(6)), 30, positions=lambda _: 20, limit=LengthLimit(128))


def test_packs_train_as_rows_do(sft_recipe: SftRecipe, change: Callable[..., Any]) -> None:
    """All eight rows in one step, as rows and as one pack: the same loss and gradient."""
    whole = change(sft_recipe, optimisation={"per_device_batch_size": 8, "max_steps": 1})
    packed = change(
        sft_recipe,
        optimisation={"per_device_batch_size": 1, "max_steps": 1},
        sharing={"pack_tokens": 4096},
        output=f"{sft_recipe.output}-packed",
    )
    one, other = run_sft(whole).log[0], run_sft(packed).log[0]
    assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)
    assert (Path(packed.output) / "model.safetensors").exists()

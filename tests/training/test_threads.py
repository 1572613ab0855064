"""A small model trains and answers in one thread, however many torch began with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sharegptvideo import _concurrency
from sharegptvideo._io import read_json
from sharegptvideo.models import Request, SamplingParams, VideoLlavaModel
from sharegptvideo.training import DpoRecipe, SftRecipe, run_recipe


@pytest.fixture(autouse=True)
def three_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a machine of three cores, for a user who has set nothing."""
    import torch

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(_concurrency, "available_cores", lambda: 3)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("stage", ["sft_recipe", "dpo_recipe"])
def test_a_small_model_trains_in_one_thread(stage: str, request: pytest.FixtureRequest) -> None:
    import torch

    recipe: SftRecipe | DpoRecipe = request.getfixturevalue(stage)
    seen = set()
    run_recipe(recipe, progress=lambda *_: seen.add(torch.get_num_threads()))
    assert seen == {1}
    (sitting,) = read_json(Path(recipe.output) / "run.json")["sittings"]
    assert sitting["environment"]["threads"] == 1


def test_a_larger_one_in_all(sft_recipe: SftRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(_concurrency, "SMALL_MODEL", 1000)
    seen = set()
    run_recipe(sft_recipe, progress=lambda *_: seen.add(torch.get_num_threads()))
    assert seen == {3}


def test_unless_told_otherwise(sft_recipe: SftRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    seen = set()
    run_recipe(sft_recipe, progress=lambda *_: seen.add(torch.get_num_threads()))
    assert seen == {3}


def test_a_small_model_answers_in_one_thread(tiny: Path) -> None:
    import torch

    model = VideoLlavaModel(str(tiny), device="cpu")
    assert torch.get_num_threads() == 3
    request = Request("What colour is the picture?", np.zeros((4, 16, 16, 3), np.uint8))
    (answer,) = model.generate([request], SamplingParams(max_new_tokens=2))
    assert answer.error is None
    assert torch.get_num_threads() == 1

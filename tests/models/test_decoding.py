"""Answers decoded in slots of fixed shapes are those decoded in batches, and `generate`'s own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import VideoLlavaForConditionalGeneration

from sharegptvideo.errors import UserError
from sharegptvideo.models import Request, SamplingParams, VideoLlavaModel
from sharegptvideo.models.pixels import Frames

QUESTIONS = ("What colour is the picture?", "Describe the video.", "Red?", "Why? " * 9, "Who?")
Items = list[tuple[Frames, str]]


@pytest.fixture(scope="module", params=["", "grouped-queries"])
def model(tiny: Path, request: pytest.FixtureRequest) -> VideoLlavaModel:
    """The random model with its logits stretched, so that its answers vary with the input."""
    loaded = VideoLlavaModel(str(tiny), device="cpu")
    if request.param:
        config = loaded.model.config
        config.text_config.num_key_value_heads = 1
        config.text_config.initializer_range = 0.2
        torch.manual_seed(3)
        other = VideoLlavaForConditionalGeneration(config).eval()
        loaded = VideoLlavaModel(str(tiny), model=other)
    with torch.no_grad():
        loaded.model.lm_head.weight.mul_(40)
        for parameter in loaded.model.model.multi_modal_projector.parameters():
            parameter.mul_(20)
    return loaded


@pytest.fixture(scope="module")
def clips() -> list[Frames]:
    numbers = np.random.default_rng(0)
    return [numbers.integers(0, 256, (4, 20, 24, 3), dtype=np.uint8) for _ in range(4)]


@pytest.fixture(scope="module")
def items(clips: list[Frames]) -> Items:
    """Five questions to one clip, one to the next, two, three; not in the order of the clips."""
    asked = [(clip, q) for clip, n in zip(clips, (5, 1, 2, 3), strict=True) for q in QUESTIONS[:n]]
    return [asked[at] for at in (5, 0, 1, 8, 6, 2, 9, 3, 7, 10, 4)]


def ask(model: VideoLlavaModel, items: Items, slots: bool, rows: int, **draw: Any) -> list[Any]:
    model.in_slots, model.batch_size = slots, rows
    requests = [Request(question, frames) for frames, question in items]
    answers = list(model.generate(requests, SamplingParams(**draw)))
    assert [answer.request for answer in answers] == requests
    return [answer.error or list(answer.texts) for answer in answers]


@pytest.mark.parametrize("rows", [99, 6, 3])
@pytest.mark.parametrize("draw", [{}, {"n": 3, "temperature": 1.0, "top_p": 0.9, "seed": 5}])
def test_slots_give_what_batches_give(
    model: VideoLlavaModel, items: Items, rows: int, draw: dict[str, Any]
) -> None:
    """Rows that end early, whose places others take; more clips than slots, unlike in questions."""
    draw = draw | {"max_new_tokens": 13}
    expected = ask(model, items, False, 99, **draw)
    assert ask(model, items, True, rows, **draw) == expected
    assert len({text for texts in expected for text in texts}) > 6, "answers have to differ"


def test_x(model, items, clips, monkeypatch) -> None:
    a = ask(model, items, False, 99, max_new_tokens=8)
    mixed = [(f[:3], q) if i % 2 else (f, q) for i, (f, q) in enumerate(items)]
    assert ask(model, mixed, True, 99, max_new_tokens=8) == ask(
        model, mixed, False, 99, max_new_tokens=8
    )

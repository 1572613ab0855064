"""Our pixel path against the video processor of transformers, which needs torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sharegptvideo.media import sample_frames
from sharegptvideo.models import VideoPixels

pytestmark = pytest.mark.peers
pytest.importorskip("torchvision", reason="transformers' video processors need torchvision")


def theirs(frames: Any, **settings: Any) -> torch.Tensor:
    from transformers import VideoLlavaVideoProcessor

    video = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    pixels = VideoLlavaVideoProcessor(**settings)(video, return_tensors="pt")
    return pixels["pixel_values_videos"][0]


@pytest.mark.parametrize(
    ("height", "width"),
    [(224, 224), (240, 320), (360, 640), (640, 360), (337, 501), (100, 90), (17, 400), (448, 448)],
)
def test_noise_of_every_shape_is_equal_to_the_bit(height: int, width: int) -> None:
    shape = (3, height, width, 3)
    frames = np.random.default_rng(height + width).integers(0, 256, shape, dtype=np.uint8)
    assert torch.equal(VideoPixels()(frames), theirs(frames))


@pytest.mark.parametrize("side", [32, 48, 64])
def test_small_models_processor(side: int) -> None:
    frames = np.random.default_rng(side).integers(0, 256, (8, 96, 128, 3), dtype=np.uint8)
    ours = VideoPixels(shortest_edge=side, crop_height=side, crop_width=side)
    settings = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    assert torch.equal(ours(frames), theirs(frames, **settings))


def test_real_clips(shared_data: Path) -> None:
    clips = [*sorted((shared_data / "videos").iterdir()), *sorted((shared_data / "gifs").iterdir())]
    assert clips
    for clip in clips:
        frames, _ = sample_frames(clip, 8)
        assert torch.equal(VideoPixels()(frames), theirs(frames))

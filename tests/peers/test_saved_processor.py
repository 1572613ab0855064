"""What `build_tiny` saves, read by transformers' own processor, which needs torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sharegptvideo._io import read_json
from sharegptvideo.models import (
    VideoPixels,
    build_tiny,
    conversation,
    encode,
    expand_video,
    load_tokenizer,
)

pytestmark = pytest.mark.peers
pytest.importorskip("torchvision", reason="transformers' video processors need torchvision")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts = ["What colour is it? It is red."] * 3
    return build_tiny(texts, tmp_path_factory.mktemp("model"), seed=0, size="tiny")


@pytest.fixture(scope="module")
def processor(saved: Path) -> Any:
    from transformers import AutoProcessor, VideoLlavaProcessor

    loaded = AutoProcessor.from_pretrained(saved)
    assert isinstance(loaded, VideoLlavaProcessor)
    return loaded


def test_prompt_and_pixels_are_those_we_make(saved: Path, processor: Any) -> None:
    """Chat template, expansion of the video token, token ids and pixel values."""
    frames = np.random.default_rng(0).integers(0, 256, (4, 40, 60, 3), dtype=np.uint8)
    content = [{"type": "video"}, {"type": "text", "text": "What colour is it?"}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    theirs = processor(text=text, videos=[frames], return_tensors="pt")

    tokenizer = load_tokenizer(str(saved))
    ids, assistant_mask = encode(tokenizer, conversation("What colour is it?"))
    video = read_json(saved / "config.json")["video_token_index"]
    ids, _ = expand_video(ids, assistant_mask, video, 4 * (2 * 2 + 1))
    assert theirs["input_ids"].tolist() == [ids]
    pixels = VideoPixels.from_pretrained(str(saved))(frames)
    assert torch.equal(theirs["pixel_values_videos"][0], pixels)


def test_the_config_is_the_one_transformers_writes(
    saved: Path, processor: Any, tmp_path: Path
) -> None:
    processor.save_pretrained(tmp_path)
    assert read_json(tmp_path / "processor_config.json") == read_json(
        saved / "processor_config.json"
    )

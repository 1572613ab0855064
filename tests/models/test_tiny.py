"""Building, saving, loading and naming small models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sharegptvideo._io import read_json, write_json
from sharegptvideo.errors import UserError
from sharegptvideo.models import (
    ModelSize,
    VideoLlavaModel,
    build_tiny,
    load_model,
    open_model,
    weights_hash,
)

SMALL = ModelSize(
    frames=2, image=8, patch=4, vision_hidden=8, vision_layers=1, vision_heads=1, vision_mlp=8,
    text_hidden=16, text_layers=1, text_heads=1, text_mlp=16, vocabulary=300, positions=64,
)  # fmt: skip


def test_same_seed_same_bytes_other_seed_other_weights(tmp_path: Path) -> None:
    first, again, other = (
        build_tiny(["a red ball"], tmp_path / name, seed=seed, size=SMALL)
        for name, seed in (("first", 5), ("again", 5), ("other", 6))
    )
    for file in sorted(first.iterdir()):
        assert file.read_bytes() == (again / file.name).read_bytes(), file.name
    assert weights_hash(first) == weights_hash(again) != weights_hash(other)


def test_building_leaves_the_callers_random_numbers_alone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    build_tiny(["a"], tmp_path, seed=9, size=SMALL)
    assert torch.equal(torch.rand(3), expected)


def test_sizes_are_those_asked_for(tmp_path: Path) -> None:
    model = load_model(str(build_tiny(["a"], tmp_path, seed=0, size=SMALL)), dtype="float32")
    config = model.config
    assert (config.vision_config.image_size, config.vision_config.hidden_size) == (8, 8)
    assert (config.text_config.hidden_size, config.text_config.num_hidden_layers) == (16, 1)
    # 2 frames of 2×2 patches and one class token each.
    assert config.video_seq_length == SMALL.video_tokens == 10


def test_embeddings_are_drawn_as_wide_as_asked_for(tmp_path: Path) -> None:
    size = replace(SMALL, frames=8, position_std=2.0, patch_std=3.0, time_std=4.0, word_std=5.0)
    built = build_tiny(["a"], tmp_path, seed=0, size=size, architecture="llava_hound")
    weights = load_model(str(built), dtype="float32").state_dict()
    expected = {
        "embeddings.position_embedding.weight": 2.0,
        "embeddings.patch_embedding.weight": 3.0,
        "temporal_embedding": 4.0,
        "embed_tokens.weight": 5.0,
    }
    for ending, std in expected.items():
        found = [weight for name, weight in weights.items() if name.endswith(ending)]
        assert found, ending
        for weight in found:  # of 40 numbers and more
            assert weight.std().item() == pytest.approx(std, rel=0.3), ending


def test_what_is_loaded_is_what_was_saved(tiny: Path, tmp_path: Path) -> None:
    loaded = VideoLlavaModel(str(tiny), device="cpu")
    loaded.model.save_pretrained(tmp_path)
    before, after = loaded.model.state_dict(), load_model(str(tmp_path), dtype="float32")
    assert loaded.frames == 4
    for name, value in after.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert weights_hash(tmp_path) == weights_hash(tiny)


def test_another_size_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown model size 'tny'; did you mean tiny"):
        build_tiny(["a"], tmp_path, seed=0, size="tny")


def test_another_architecture_is_refused(tiny: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"model_type": "llama"})
    with pytest.raises(UserError, match="architecture 'llama'"):
        open_model(f"hf:{tmp_path}")
    with pytest.raises(UserError, match="no checkpoint there"):
        open_model(f"hf:{tmp_path / 'nothing'}")
    (tmp_path / "config.json").write_text((tiny / "config.json").read_text())
    with pytest.raises(UserError, match="weights cannot be read"):
        load_model(str(tmp_path), dtype="float32")


def test_a_tokenizer_that_knows_no_clips_is_refused(tiny: Path, tmp_path: Path) -> None:
    for file in tiny.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tokenizer = (tmp_path / "tokenizer.json").read_text()
    (tmp_path / "tokenizer.json").write_text(tokenizer.replace("<video>", "<vidoe>"))
    config = read_json(tmp_path / "tokenizer_config.json")
    config = json.loads(json.dumps(config).replace("<video>", "<vidoe>"))
    write_json(tmp_path / "tokenizer_config.json", config)
    with pytest.raises(UserError, match="no <video> token"):
        open_model(f"hf:{tmp_path}")


def test_a_folder_without_weights_has_no_hash(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no safetensors"):
        weights_hash(tmp_path)

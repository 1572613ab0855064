"""LLaVA-Hound's architecture against a reference in plain tensor algebra, in float64."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from sharegptvideo.models.llava_hound import (
    LlavaHoundConfig,
    LlavaHoundForConditionalGeneration,
    LlavaHoundVideoTower,
)

IMAGE, VIDEO = 90, 91
FRAMES, PATCHES, HEADS = 4, 4, 4
Weights = Mapping[str, torch.Tensor]


def small(**video: Any) -> LlavaHoundConfig:
    tower = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": HEADS,
        "image_size": 28,
        "patch_size": 14,
        "projection_dim": 32,
    }
    return LlavaHoundConfig(
        vision_config=tower | {"model_type": "clip_vision_model"},
        video_config=tower | {"model_type": "llava_hound_video", "num_frames": FRAMES} | video,
        text_config={
            "model_type": "llama",
            "hidden_size": 48,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": HEADS,
            "vocab_size": 100,
        },
        image_token_index=IMAGE,
        video_token_index=VIDEO,
    )


@pytest.fixture(scope="module")
def model() -> Any:
    """A model in float64 with all weights drawn wide, so that every part moves the result."""
    torch.manual_seed(0)
    model: Any = LlavaHoundForConditionalGeneration(small())
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return model.double().eval()


def linear(x: torch.Tensor, w: Weights, name: str) -> torch.Tensor:
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", torch.zeros((), dtype=x.dtype))


def norm(x: torch.Tensor, w: Weights, name: str) -> torch.Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def attention(x: torch.Tensor, w: Weights, name: str, causal: bool = False) -> torch.Tensor:
    """Attention over rows of one sequence, length×width, written out head by head."""
    size = x.shape[-1] // HEADS
    q, k, v = (linear(x, w, f"{name}.{part}_proj") for part in "qkv")
    heads = []
    for head in range(HEADS):
        one = slice(head * size, (head + 1) * size)
        a, b = (rotary(part[:, one]) if causal else part[:, one] for part in (q, k))
        weights = a @ b.T / size**0.5
        if causal:
            weights = weights + torch.full_like(weights, -torch.inf).triu(1)
        heads.append(weights.softmax(-1) @ v[:, one])
    return linear(torch.cat(heads, -1), w, f"{name}.{'o' if causal else 'out'}_proj")


def rotary(x: torch.Tensor) -> torch.Tensor:
    """Turn pairs (i, i + half) of each row by its place times 10000^(-i / half)."""
    half = x.shape[-1] // 2
    rates = 10000.0 ** (-torch.arange(half, dtype=x.dtype) / half)
    angles = torch.arange(len(x), dtype=x.dtype)[:, None] * rates
    first, second = x[:, :half], x[:, half:]
    turned = (first * angles.cos() - second * angles.sin(),)
    return torch.cat([*turned, second * angles.cos() + first * angles.sin()], -1)


def tower(frames: torch.Tensor, w: Weights, name: str, temporal: bool) -> torch.Tensor:
    """Hidden states of the last layer but one without the class token: frames×patches×width."""
    layers = 3
    patch = w[f"{name}.embeddings.patch_embedding.weight"]
    side, half = 14, 2
    x = torch.stack(
        [
            torch.stack(
                [w[f"{name}.embeddings.class_embedding"]]
                + [
                    (patch * frame[:, r * side : (r + 1) * side, c * side : (c + 1) * side]).sum(
                        (1, 2, 3)
                    )
                    for r in range(half)
                    for c in range(half)
                ]
            )
            for frame in frames
        ]
    )
    x = norm(x + w[f"{name}.embeddings.position_embedding.weight"], w, f"{name}.pre_layrnorm")
    for layer in range(layers - 1):
        at = f"{name}.encoder.layers.{layer}"
        if temporal:
            x = x.clone()
            for place in range(x.shape[1]):
                row = x[:, place] + w[f"{at}.temporal_embedding"][0, : len(frames)]
                normed = norm(row, w, f"{at}.temporal_layer_norm1")
                x[:, place] = row + attention(normed, w, f"{at}.temporal_attn")
        for frame in range(len(frames)):
            y = x[frame] + attention(norm(x[frame], w, f"{at}.layer_norm1"), w, f"{at}.self_attn")
            z = linear(norm(y, w, f"{at}.layer_norm2"), w, f"{at}.mlp.fc1")
            x[frame] = y + linear(z * torch.sigmoid(1.702 * z), w, f"{at}.mlp.fc2")
    return x[:, 1:]


def reference(
    ids: list[int],
    w: Weights,
    clip: Any = None,
    image: Any = None,
    marks: tuple[int, int] = (IMAGE, VIDEO),
) -> torch.Tensor:
    """Logits of one row, length×vocabulary, from the weights alone."""
    x = w["model.language_model.embed_tokens.weight"][ids].clone()
    for frames, mark, name in ((clip, marks[1], "video"), (image, marks[0], "image")):
        if frames is not None:
            seen = tower(frames, w, f"model.{name}_tower", temporal=name == "video")
            seen = linear(seen, w, "model.multi_modal_projector.linear_1")
            seen = seen * 0.5 * (1 + torch.erf(seen / 2**0.5))
            seen = linear(seen, w, "model.multi_modal_projector.linear_2").flatten(0, 1)
            x[torch.tensor(ids) == mark] = seen

    def rms(x: torch.Tensor, name: str) -> torch.Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * w[f"{name}.weight"]

    for layer in range(2):
        at = f"model.language_model.layers.{layer}"
        x = x + attention(rms(x, f"{at}.input_layernorm"), w, f"{at}.self_attn", causal=True)
        y = rms(x, f"{at}.post_attention_layernorm")
        gate = linear(y, w, f"{at}.mlp.gate_proj")
        gate = gate * torch.sigmoid(gate) * linear(y, w, f"{at}.mlp.up_proj")
        x = x + linear(gate, w, f"{at}.mlp.down_proj")
    return rms(x, "model.language_model.norm") @ w["lm_head.weight"].T


CLIP = [1, 5, *[VIDEO] * FRAMES * PATCHES, 7, 8]
PICTURE = [1, 3, *[IMAGE] * PATCHES, 9]


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, 3, 28, 28, dtype=torch.float64, generator=torch.Generator())


def test_positions_follow_from_the_towers() -> None:
    assert LlavaHoundConfig().video_seq_length == 2048
    assert LlavaHoundConfig().image_seq_length == 256
    config = small()
    assert (config.video_seq_length, config.image_seq_length) == (FRAMES * PATCHES, PATCHES)


def test_temporal_weights_are_eleven_tensors_a_layer() -> None:
    """Eleven a layer and, at CLIP's ViT-L, 264 tensors with 101.0 M parameters in all."""
    with torch.device("meta"):
        large = LlavaHoundVideoTower(LlavaHoundConfig().video_config)
    temporal = {name: w for name, w in large.named_parameters() if "temporal" in name}
    assert len(temporal) == 264
    assert round(sum(w.numel() for w in temporal.values()) / 1e6, 1) == 101.0


def test_a_clip_gives_the_logits_of_the_reference(model: Any) -> None:
    clips = draw(2, FRAMES)
    rows = [CLIP, [*CLIP[:-1], 12]]
    logits = model(input_ids=torch.tensor(rows), pixel_values_videos=clips).logits
    for row, clip, ids in zip(logits, clips, rows, strict=True):
        assert torch.allclose(row, reference(ids, model.state_dict(), clip=clip), atol=1e-5)


def test_an_image_gives_the_logits_of_the_reference(model: Any) -> None:
    image = draw(1)
    logits = model(input_ids=torch.tensor([PICTURE]), pixel_values_images=image).logits[0]
    assert torch.allclose(logits, reference(PICTURE, model.state_dict(), image=image), atol=1e-5)


def test_a_clip_and_an_image_in_one_row(model: Any) -> None:
    clip, image, ids = draw(1, FRAMES), draw(1), [*CLIP, *PICTURE[1:]]
    logits = model(
        input_ids=torch.tensor([ids]), pixel_values_videos=clip, pixel_values_images=image
    ).logits[0]
    expected = reference(ids, model.state_dict(), clip=clip[0], image=image)
    assert torch.allclose(logits, expected, atol=1e-5)


def test_frames_of_one_clip_do_not_reach_another(model: Any) -> None:
    """The features of a clip are the same whatever is beside it, and its order matters."""
    clips = draw(3, FRAMES)
    features = model.model.get_video_features(clips).pooler_output.unflatten(0, (3, FRAMES))
    for number in range(3):
        alone = model.model.get_video_features(clips[number : number + 1]).pooler_output
        assert torch.allclose(features[number], alone, atol=1e-10)
    turned = model.model.get_video_features(clips[:1].flip(1)).pooler_output.flip(0)
    assert not torch.allclose(turned, features[0], atol=1e-3)


def test_saved_and_loaded_it_is_the_same(model: Any, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForImageTextToText

    model.save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).model_type == "llava_hound"
    again: Any = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype="auto")
    assert isinstance(again, LlavaHoundForConditionalGeneration)
    state = again.state_dict()
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(w, state[name]) for name, w in model.state_dict().items())


def test_more_frames_than_embeddings_are_refused(model: Any) -> None:
    with pytest.raises(ValueError, match="at most 4 frames, got 5"):
        model.model.get_video_features(draw(1, 5))
    with pytest.raises(ValueError, match="6 frames are no whole clips of 4"):
        model.model.video_tower(draw(6))


def test_without_temporal_attention_the_tower_is_clip() -> None:
    model: Any = LlavaHoundForConditionalGeneration(small(add_time_attn=False))
    assert not any("temporal" in name for name, _ in model.named_parameters())
    assert model.model.get_video_features(draw(1, 2).float()).pooler_output.shape[:2] == (
        2,
        PATCHES,
    )

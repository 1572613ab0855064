"""Models, clips and rows of LLaVA-Hound's shape for benchmarks: 8 frames.

Two architectures: `llava_hound`, with attention over time and 2,048 video tokens, and transformers'
`video_llava`, without it and with 2,056. Three shapes: `small` (a language model of about 20
million parameters, for a CPU), `7b` (the real one's, random weights in bfloat16, for a GPU) and
`tiny`, to rehearse a benchmark. All sides of a benchmark get the same rows, clips, weights and
optimiser; what differs is how often a clip's tokens pass.

Weights are drawn so wide that answers depend on their clip and logits spread: with near-uniform
logits every way agrees with every other, right or wrong.
"""

from __future__ import annotations

import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from sharegptvideo._io import sha256_file, write_json
from sharegptvideo.models import (
    ModelSize,
    VideoPixels,
    build_tiny,
    load_model,
    quiet_transformers,
    video_token_count,
)
from sharegptvideo.training.families.video_llava import VideoLlavaReader
from sharegptvideo.training.fused import FusedChoice
from sharegptvideo.training.trainers import recompute_first
from tests.support.child_runs import print_line

__all__ = [
    "ARCHITECTURES",
    "SHAPES",
    "SHARED",
    "WORDS",
    "Setting",
    "build_shape",
    "default_shape",
    "device_name",
    "distinct_clips",
    "no_tokenizer",
    "on_device",
    "open_setting",
    "open_shape",
    "outline_7b",
    "recompute_layers",
    "share",
    "spread",
    "text",
    "timed",
    "widen",
]

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
WORDS = ("a", "man", "in", "red", "walks", "his", "dog", "along", "the", "river", "and", "looks")
Architecture = Literal["llava_hound", "video_llava"]
ARCHITECTURES: tuple[Architecture, ...] = get_args(Architecture)
_WIDTH = 1.28  # what a layer multiplies its input's size by: 0.02 × √4096, the 7B's
_LOGITS = 3.0  # standard deviation of a position's logits


def _wide(size: ModelSize) -> ModelSize:
    return replace(size, init_std=_WIDTH / math.sqrt(size.text_hidden), position_std=0.5)


SHAPES = {
    "tiny": _wide(
        ModelSize(
            frames=8,
            image=16,
            vision_hidden=32,
            vision_layers=2,
            vision_heads=2,
            vision_mlp=64,
            text_hidden=64,
            text_layers=2,
            text_heads=2,
            text_mlp=128,
            positions=1024,
        )
    ),
    "small": _wide(
        ModelSize(
            frames=8,
            image=224,
            patch=14,
            vision_hidden=128,
            vision_layers=4,
            vision_heads=4,
            vision_mlp=512,
            text_hidden=512,
            text_layers=6,
            text_heads=8,
            text_mlp=1376,
            positions=4096,
        )
    ),
    "7b": ModelSize(
        frames=8,
        image=224,
        patch=14,
        vision_hidden=1024,
        vision_layers=24,
        vision_heads=16,
        vision_mlp=4096,
        text_hidden=4096,
        text_layers=32,
        text_heads=32,
        text_mlp=11008,
        vocabulary=32064,
        positions=4096,
        init_std=0.02,
    ),
}
"""Sizes of models by name."""


@dataclass
class Setting:
    """A model on its device, and what collators need.

    `logits` has the spread of its next-token distributions, as `spread` gives it; `fused` is that
    of our trainings, as recipes have it.
    """

    model: Any
    reader: VideoLlavaReader
    device: torch.device
    parameters: int
    logits: dict[str, float]
    fused: FusedChoice = "auto"

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype  # type: ignore[no-any-return]


def default_shape(device: str) -> str:
    """The shape that a device is measured with."""
    return "7b" if device.startswith("cuda") else "small"


def device_name(device: torch.device) -> str:
    """A GPU's name, or `cpu` with its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"


def build_shape(
    shape: str,
    out: Path,
    *,
    device: str,
    layers: int | None = None,
    architecture: Architecture = "video_llava",
) -> Path:
    """Save a random model of a shape to `out` as `from_pretrained` loads it.

    Args:
        layers: of the language model, in place of the shape's.
    """
    if shape != "7b":
        size = SHAPES[shape]
        size = replace(size, text_layers=layers or size.text_layers)
        build_tiny([" ".join(WORDS)] * 3, out, seed=0, size=size, architecture=architecture)
        model: Any = load_model(str(out), dtype="float32")
        widen(model)
    else:
        outline_7b(out, layers, architecture)
        model = _draw_7b(out, torch.device(device))
    with quiet_transformers():
        model.save_pretrained(out, max_shard_size="5GB")  # as those of 7B on the Hub are
    return out


def outline_7b(out: Path, layers: int | None, architecture: Architecture = "video_llava") -> None:
    """Everything of a 7B's checkpoint but its weights."""
    from transformers import AutoConfig

    size = SHAPES["7b"]
    small = replace(SHAPES["small"], text_layers=1)
    build_tiny([" ".join(WORDS)] * 3, out, seed=0, size=small, architecture=architecture)
    (out / "model.safetensors").unlink()
    config: Any = AutoConfig.from_pretrained(out)
    towers = [config.vision_config]
    if architecture == "llava_hound":
        towers.append(config.video_config)
    for tower in towers:
        tower.update(
            {
                "hidden_size": size.vision_hidden,
                "intermediate_size": size.vision_mlp,
                "num_hidden_layers": size.vision_layers,
                "num_attention_heads": size.vision_heads,
                "projection_dim": 768,
            }
        )
    config.text_config.update(
        {
            "vocab_size": size.vocabulary,
            "hidden_size": size.text_hidden,
            "intermediate_size": size.text_mlp,
            "num_hidden_layers": layers or size.text_layers,
            "num_attention_heads": size.text_heads,
            "num_key_value_heads": size.text_heads,
            "head_dim": size.text_hidden // size.text_heads,
            "initializer_range": size.init_std,
        }
    )
    config.vision_feature_layer = -2
    write_json(out / "config.json", config.to_dict())


def _draw_7b(folder: Path, place: torch.device) -> Any:
    """Draw a 7B's weights in bfloat16 where they are to lie."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    kind: Any = AutoModelForImageTextToText
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with place:
            model = kind.from_config(AutoConfig.from_pretrained(folder), dtype=torch.bfloat16)
    finally:
        torch.set_default_dtype(before)
    for tower in (model.model.image_tower, model.model.video_tower):
        torch.nn.init.normal_(tower.get_parameter("embeddings.position_embedding.weight"), std=0.5)
    widen(model)
    return model


def widen(model: Any) -> None:
    """Scale the head so that a position's logits have a standard deviation of about 3.

    Behind the last norm a position has size √hidden, so its logits spread by √hidden × the
    standard deviation of the head's weights.
    """
    head = model.lm_head.weight
    with torch.no_grad():
        head.mul_(_LOGITS / (head.float().std() * math.sqrt(head.shape[1])))


@torch.no_grad()
def spread(model: Any) -> dict[str, float]:
    """How far next-token distributions are from uniform, over a text without a clip.

    Raises:
        AssertionError: logits so even that agreement between two ways would prove nothing.
    """
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(5, model.lm_head.weight.shape[0], (1, 64), generator=draw)
    hidden = model.model.language_model(input_ids=ids.to(model.device)).last_hidden_state
    logits = model.lm_head(hidden).float()
    entropy = torch.distributions.Categorical(logits=logits).entropy()
    found = {
        "logits_std": logits.std(-1).mean(),
        "entropy_nats": entropy.mean(),
        "entropy_std": entropy.std(),
    }
    figures = {name: round(float(value), 3) for name, value in found.items()}
    figures["uniform_nats"] = round(math.log(logits.shape[-1]), 3)
    assert figures["logits_std"] > 1, figures
    return figures


def open_shape(
    shape: str,
    folder: Path,
    *,
    device: str,
    layers: int | None = None,
    architecture: Architecture = "video_llava",
) -> Any:
    """Draw a model of a shape on `device`; its tokenizer and processor go to `folder`."""
    if shape == "7b":
        outline_7b(folder, layers, architecture)
        return _draw_7b(folder, torch.device(device))
    build_shape(shape, folder, device=device, layers=layers, architecture=architecture)
    model: Any = load_model(str(folder), dtype="float32")
    return model.to(device)


def open_setting(
    shape: str,
    device: str,
    layers: int | None = None,
    architecture: Architecture = "video_llava",
) -> Setting:
    """A model with frozen towers and projector, as LLaVA-Hound's DPO has them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model"
        model = open_shape(shape, folder, device=device, layers=layers, architecture=architecture)
        pixels = VideoPixels.from_pretrained(str(folder))
    inner = model.model
    for part in (inner.image_tower, inner.video_tower, inner.multi_modal_projector):
        part.requires_grad_(False)
    config, frames = model.config, SHAPES[shape].frames
    reader = VideoLlavaReader(
        pixels,
        frames,
        pad_id=0,
        video_id=config.video_token_id,
        video_tokens=video_token_count(config, frames),
    )
    language = [*inner.language_model.parameters(), *model.lm_head.parameters()]
    return Setting(
        model, reader, torch.device(device), sum(p.numel() for p in language), spread(model)
    )


def recompute_layers(model: Any, wanted: bool | int) -> Callable[[], float]:
    """Switch gradient checkpointing on where `wanted`; return a count of passes by the first layer.

    A number, which is not True, is of the language model's first layers: the others keep all.

    transformers' trainers switch it on in `train()`, which a benchmark of single steps never
    calls. The count since the last call of it says whether layers do run again.
    """
    if wanted and wanted is not True:
        recompute_first(model, wanted)
    if wanted:
        model.activation_checkpointing_enable()
    layer = model.model.language_model.layers[0]
    assert layer.gradient_checkpointing is (wanted > 0)
    outer, inner = [0], [0]
    layer.register_forward_pre_hook(lambda *_: outer.__setitem__(0, outer[0] + 1))
    # A hook of the layer itself stays outside what is computed again.
    layer.input_layernorm.register_forward_pre_hook(lambda *_: inner.__setitem__(0, inner[0] + 1))

    def passes() -> float:
        found = inner[0] / outer[0]
        outer[0] = inner[0] = 0
        return found

    return passes


def share(trainer: Any, setting: Setting, way: Any) -> None:
    """Let a trainer take our collators' batches, as a recipe does; print why `auto` gave way."""
    from sharegptvideo.training.families.video_llava import VideoLlavaFamily
    from sharegptvideo.training.recipes import Sharing

    family = VideoLlavaFamily(trainer.model)
    family.reader = setting.reader
    _, reason = trainer.share(family, Sharing(attention=way))
    fused = trainer.fuse(setting.fused)
    for line in filter(None, (reason, fused.reason)):
        print_line({"remark": line})


def on_device(batch: dict[str, Any], setting: Setting) -> dict[str, Any]:
    """A collator's batch where the model is, clips in its precision.

    Clips are new tensors each time: a frozen tower is not run again on the very same ones.
    """
    found = {}
    for name, value in batch.items():
        if name == "clips":
            found[name] = {
                k: v.to(setting.device, setting.dtype, copy=True) for k, v in value.items()
            }
        else:
            found[name] = value.to(setting.device)
    return found


def no_tokenizer() -> Any:
    """TRL's trainers want one; nothing in a benchmark is tokenised."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    raw: Any = Tokenizer(models.WordLevel({"<pad>": 0, "</s>": 2, "<unk>": 3}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="</s>")


def text(count: int, draw: random.Random) -> list[int]:
    """Token ids of `count` words."""
    return [draw.randrange(10, 260) for _ in range(count)]


def distinct_clips(count: int, folder: Path, media: Path | None = None) -> list[str]:
    """Paths of `count` different clips: those of `media`, then ones of the synthetic world.

    Args:
        folder: where clips are made.
        media: searched for clips, all folders below it, too; default: the shared data, if there.
    """
    from sharegptvideo.synthetic.render import render, write_mp4
    from sharegptvideo.synthetic.state import sample_state, state_key

    media = media or SHARED
    files = [path for kind in ("*.mp4", "*.gif") for path in sorted(media.rglob(kind))]
    real = {sha256_file(path): str(path) for path in reversed(files)}  # one of each content
    found = list(reversed(real.values()))[:count]
    folder.mkdir(parents=True, exist_ok=True)
    draw, seen = random.Random(0), set()
    while len(found) < count:
        state = sample_state(draw, held_out=False)
        if state_key(state) in seen:
            continue
        seen.add(state_key(state))
        frames = render(state, np.random.default_rng(len(found)))
        path = folder / f"made{len(found)}.mp4"
        write_mp4(frames.repeat(3, axis=1).repeat(3, axis=2), path)  # 288×288, as clips are
        found.append(str(path))
    assert len(set(found)) == count
    return found


def timed(
    step: Callable[[int], None], rounds: int, device: torch.device
) -> dict[str, float | list[float]]:
    """Seconds of `rounds` calls with the number of the round; round 0 stands by itself.

    `first_call_seconds` is its time, with what is compiled or captured in it. `seconds_a_step` is
    the median by the clock, `seconds_range` the least and the most; where other programs share the
    machine, `processor_seconds`, the median of the processor's, says more.
    """
    spent: list[tuple[float, float]] = []
    for number in range(rounds + 1):
        _wait(device)
        start = time.perf_counter(), time.process_time()
        step(number)
        _wait(device)
        spent.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    clock, processor = zip(*spent[1:], strict=True)
    return {
        "first_call_seconds": round(spent[0][0], 4),
        "seconds_a_step": round(statistics.median(clock), 4),
        "seconds_range": [round(min(clock), 4), round(max(clock), 4)],
        "processor_seconds": round(statistics.median(processor), 4),
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

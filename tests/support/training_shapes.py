"""Models and rows of LLaVA-Hound's shape for benchmarks of training: 8 frames, 2,056 video tokens.

On a CPU a model of about 23 million parameters, on a GPU one of Video-LLaVA-7B's shape with random
weights in bfloat16. Both sides of a benchmark get the same rows, the same clips and the same
optimiser; what differs is how often a clip's tokens pass.
"""

from __future__ import annotations

import copy
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sharegptvideo.modeling import ModelSize, VideoPixels, build_tiny
from sharegptvideo.training.families.video_llava import VideoLlavaReader

__all__ = [
    "CPU_SIZE",
    "Setting",
    "alternate",
    "child_peak",
    "no_tokenizer",
    "on_device",
    "open_setting",
    "print_peak",
    "share",
    "text",
    "video_rows",
]

CPU_SIZE = ModelSize(
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
SHARED = Path(__file__).parents[2].parent / "shared" / "data"


@dataclass
class Setting:
    """A model on its device, and what collators need."""

    model: Any
    reader: VideoLlavaReader
    device: torch.device
    parameters: int

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype  # type: ignore[no-any-return]

    def again(self) -> Any:
        """The same weights a second time."""
        return copy.deepcopy(self.model)


def open_setting(device: str, layers: int | None = None) -> Setting:
    """A model with frozen towers and projector, as LLaVA-Hound's DPO has them.

    Args:
        layers: of a 7B's 32, for GPUs that hold fewer.
    """
    place = torch.device(device)
    with tempfile.TemporaryDirectory() as folder:
        path = build_tiny(["what is it"] * 3, Path(folder) / "model", seed=0, size=CPU_SIZE)
        if place.type == "cpu":
            from sharegptvideo.modeling import load_model

            model: Any = load_model(str(path), dtype="float32")
        else:
            model = _seven_billion(place, layers)
    inner = model.model
    for part in (inner.image_tower, inner.video_tower, inner.multi_modal_projector):
        part.requires_grad_(False)
    config = model.config
    reader = VideoLlavaReader(
        VideoPixels(), 8, pad_id=0, video_id=config.video_token_id, video_tokens=8 * 257
    )
    language = [*inner.language_model.parameters(), *model.lm_head.parameters()]
    return Setting(model, reader, place, sum(p.numel() for p in language))


def _seven_billion(place: torch.device, layers: int | None) -> Any:
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        VideoLlavaConfig,
        VideoLlavaForConditionalGeneration,
    )

    vision = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        image_size=224,
        patch_size=14,
    )
    words = LlamaConfig(vocab_size=32064, num_hidden_layers=layers or 32)
    config = VideoLlavaConfig(vision_config=vision, text_config=words, pad_token_id=0)
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with place:
            return VideoLlavaForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)


def share(trainer: Any, setting: Setting, way: Any) -> None:
    """Let a trainer take our collators' batches, as a recipe does."""
    from sharegptvideo.training.families.video_llava import VideoLlavaFamily
    from sharegptvideo.training.recipe import Sharing

    family = VideoLlavaFamily.__new__(VideoLlavaFamily)  # the model is there already
    family.model, family.reader, family._seen = trainer.model, setting.reader, None
    trainer.share(family, Sharing(attention=way))


def on_device(batch: dict[str, Any], setting: Setting) -> dict[str, Any]:
    """A collator's batch where the model is, clips in its precision."""
    found = {}
    for name, value in batch.items():
        if name == "clips":
            found[name] = {k: v.to(setting.device, setting.dtype) for k, v in value.items()}
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
    return [draw.randrange(260, 280) for _ in range(count)]


def video_rows(count: int, draw: random.Random, folder: Path) -> list[str]:
    """Paths of `count` clips: the real ones of the shared data, or of noise where it is absent."""
    if SHARED.is_dir():
        found = sorted(str(path) for path in (SHARED / "videos").iterdir())
        return [found[number % len(found)] for number in range(count)]
    import av
    import numpy as np

    paths = []
    for number in range(count):
        path = folder / f"noise{number}.mp4"
        noise = np.random.default_rng(draw.randrange(1 << 30))
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=5)
            stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
            for _ in range(10):
                picture = noise.integers(0, 256, (240, 320, 3), dtype=np.uint8)
                for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
        paths.append(str(path))
    return paths


def alternate(
    ways: dict[str, Callable[[int], None]], rounds: int, device: torch.device
) -> dict[str, tuple[float, float]]:
    """Median seconds of each way by the clock and of the processor; they take turns.

    A way is called with the number of the round; round 0 is not counted. Where other programs
    share the machine, the processor's time says more.
    """
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, step in ways.items():
            _wait(device)
            start = time.perf_counter(), time.process_time()
            step(number)
            _wait(device)
            if number:
                clock, processor = time.perf_counter() - start[0], time.process_time() - start[1]
                spent[name].append((clock, processor))
    return {
        name: (statistics.median(c for c, _ in times), statistics.median(p for _, p in times))
        for name, times in spent.items()
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def child_peak(script: str, arguments: list[str]) -> float:
    """MiB at most of a run of `script` in a process of its own, which prints them last."""
    done = subprocess.run(
        [sys.executable, script, *arguments], capture_output=True, text=True, check=True
    )
    return float(json.loads(done.stdout.strip().splitlines()[-1])["peak_mib"])


def print_peak(device: torch.device) -> None:
    """What `child_peak` reads: of the GPU where there is one, else of this process."""
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device) / 2**20
    else:
        # Not getrusage: its peak may be that of the process that started this one.
        lines = Path("/proc/self/status").read_text().splitlines()
        peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    print(json.dumps({"peak_mib": round(peak, 1)}))

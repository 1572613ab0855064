"""Question-answer pairs a second of SFT: a clip once for all of them, against TRL on plain rows.

    python tests/benchmarks/bench_sft.py [--rounds 5] [--device cuda] [--checkpointing] \
        [--architecture llava_hound]

LLaVA-Hound's shape: 2,048 video tokens (2,056 with `--architecture video_llava`), three questions
of 20 tokens with answers of 25 on each clip, towers frozen, projector and language model learning.
Whole steps (forward, loss, backward, optimiser: AdamW on a CPU, SGD on a GPU) on clips that are
decoded already, every clip another one. Each side (`trl`, `shared`) runs in a process of its own,
from the same weights, on the same rows.

Prints a line of JSON for each side as it ends: seconds a step, peak memory of its steps, how often
a layer ran in a step (2 with checkpointing), the first losses, the spread of logits, and by how
much the loss moves when rows get another batch's clips. Then a line that compares: the ratio, and
how far the losses are apart.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from sharegptvideo.training.collators import ClipCache, SftCollator
from sharegptvideo.training.recipes import LengthLimit
from sharegptvideo.training.trainers import VideoSFTTrainer, quiet_and_quick
from tests.support.child_runs import Peak, print_line, run_ways
from tests.support.training_shapes import (
    ARCHITECTURES,
    SHAPES,
    Setting,
    default_shape,
    device_name,
    distinct_clips,
    no_tokenizer,
    on_device,
    open_setting,
    recompute_layers,
    share,
    text,
    timed,
)

GOAL = 2.5
WAYS = ["trl", "shared"]
EACH, QUESTION, ANSWER = 3, 20, 25


def questions(clips: int, video: int, folder: Path, media: Path | None) -> list[dict[str, Any]]:
    """`EACH` rows on each of `clips` clips; answers differ by a few tokens."""
    draw = random.Random(0)
    rows = []
    for path in distinct_clips(clips, folder / "clips", media):
        for _ in range(EACH):
            asked = text(QUESTION, draw)
            said = text(ANSWER + draw.randrange(-4, 5), draw)
            rows.append(
                {
                    "video_path": path,
                    "ids": [1, video, *asked, *said],
                    "assistant_mask": [False] * (2 + len(asked)) + [True] * len(said),
                }
            )
    return rows


class Step:
    """A training step of one side on round `number`'s batch; `rate` 0 leaves the weights."""

    def __init__(
        self, way: str, options: Any, folder: Path, setting: Setting, rate: float = 1e-5
    ) -> None:
        from datasets import Dataset
        from trl import SFTConfig
        from trl.trainer.sft_trainer import SFTTrainer

        self.way, self.setting = way, setting
        clips = options.clips * options.batches
        rows = questions(clips, setting.reader.video_id, folder, options.media)
        self.clips = len({row["video_path"] for row in rows})
        size = options.clips * EACH
        collate = SftCollator(ClipCache(setting.reader), LengthLimit(4096))
        self.batches = [collate(rows[at : at + size]) for at in range(0, len(rows), size)]
        self.trainer: Any = (VideoSFTTrainer if way == "shared" else SFTTrainer)(
            model=setting.model,
            args=SFTConfig(
                output_dir=str(folder / way),
                use_cpu=setting.device.type == "cpu",
                bf16=False,
                max_length=None,
                remove_unused_columns=False,
                report_to=[],
                dataset_kwargs={"skip_prepare_dataset": True},
            ),
            data_collator=lambda batch: batch,
            train_dataset=Dataset.from_list(rows),
            processing_class=no_tokenizer(),
        )
        if way == "shared":
            share(self.trainer, setting, options.attention)
        learning = [p for p in self.trainer.model.parameters() if p.requires_grad]
        if setting.device.type == "cuda":  # AdamW's state for 7B fits no GPU beside the rest
            self.optimizer: Any = torch.optim.SGD(learning, lr=rate)
        else:
            self.optimizer = torch.optim.AdamW(learning, lr=rate, fused=True)

    def loss(self, number: int, clips_of: int | None = None) -> torch.Tensor:
        """Of round `number`'s batch, or of that batch with another one's clips."""
        batch = dict(self.batches[number % len(self.batches)])
        if clips_of is not None:
            batch["clips"] = self.batches[clips_of % len(self.batches)]["clips"]
        batch = on_device(batch, self.setting)
        if self.way != "shared":
            pixels = batch.pop("clips")["pixel_values_videos"]
            batch["pixel_values_videos"] = pixels[batch.pop("clip_of_row")]
            del batch["shared_layout"]
        count = (batch["labels"] != -100).sum()
        found: torch.Tensor = self.trainer.compute_loss(
            self.trainer.model, batch, num_items_in_batch=count
        )
        return found

    def __call__(self, number: int) -> None:
        self.trainer.model.train()
        self.loss(number).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def one(way: str, options: Any, folder: Path) -> dict[str, Any]:
    """Measure one side in this process."""
    place = torch.device(options.device)
    peak = Peak(place)
    setting = open_setting(options.shape, options.device, options.layers, options.architecture)
    # Towers frozen, projector learning, as in the paper's SFT.
    setting.model.model.multi_modal_projector.requires_grad_(True)
    step = Step(way, options, folder, setting)
    passes = recompute_layers(step.trainer.model, options.checkpointing)
    with torch.no_grad():
        losses = [float(step.loss(number)) for number in range(options.batches)]
        moved = float(step.loss(0, clips_of=1)) - losses[0]
    passes()
    peak.restart()
    seconds = timed(step, options.rounds, place)
    again = passes()
    assert again == 1 + options.checkpointing, again
    return {
        "way": way,
        "device": device_name(place),
        "shape": options.shape,
        "architecture": options.architecture,
        "video_tokens": setting.reader.video_tokens,
        "parameters_millions": round(setting.parameters / 1e6, 1),
        "clips_a_step": options.clips,
        "questions_a_clip": EACH,
        "clips": step.clips,
        "gradient_checkpointing": options.checkpointing,
        "layer_passes_a_step": again,
        "optimizer": type(step.optimizer).__name__,
        **seconds,
        **peak.figures(),
        "first_losses": [round(loss, 7) for loss in losses],
        "other_clips_move_loss": round(moved, 5),
        **setting.logits,
    }


def compared(found: dict[str, Any]) -> dict[str, Any]:
    """The ratio and the distance of losses, where both sides were measured."""
    figures: dict[str, Any] = {
        "ways": list(found),
        "seconds_a_step": {way: each["seconds_a_step"] for way, each in found.items()},
        "peak_mib": {way: each["peak_mib"] for way, each in found.items()},
    }
    if set(WAYS) <= set(found):
        trl, shared = found["trl"], found["shared"]
        losses = zip(trl["first_losses"], shared["first_losses"], strict=True)
        figures |= {
            "times_trl": round(trl["seconds_a_step"] / shared["seconds_a_step"], 2),
            "times_trl_by_processor": round(
                trl["processor_seconds"] / shared["processor_seconds"], 2
            ),
            "losses_apart": round(max(abs(a - b) for a, b in losses), 7),
            "first_losses": trl["first_losses"],
            "other_clips_move_loss": trl["other_clips_move_loss"],
        }
    return figures | {"goal": GOAL}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--shape", choices=SHAPES, help="default: 7b on a GPU, else small")
    parser.add_argument("--architecture", choices=ARCHITECTURES, default="llava_hound")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=1, help="clips a step, three rows each")
    parser.add_argument("--batches", type=int, default=2, help="different batches")
    parser.add_argument("--layers", type=int, help="of the shape's language model")
    parser.add_argument("--attention", choices=["auto", "split", "dense", "flex"], default="auto")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--media", type=Path, help="a folder of clips; default: the shared data")
    parser.add_argument("--way", choices=WAYS, help="one side, in this process")
    options = parser.parse_args()
    options.shape = options.shape or default_shape(options.device)
    if options.way:
        with tempfile.TemporaryDirectory() as name, quiet_and_quick():
            print_line(one(options.way, options, Path(name)))
        return 0
    found = run_ways(__file__, WAYS, sys.argv[1:])
    print_line(compared(found))
    return len(found) < len(WAYS)


if __name__ == "__main__":
    sys.exit(main())

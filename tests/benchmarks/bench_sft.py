"""Question-answer pairs a second of SFT: a clip once for all of them, against TRL on plain rows.

    python tests/benchmarks/bench_sft.py [--rounds 5] [--device cuda] [--checkpointing]

LLaVA-Hound's shape: 2,056 video tokens, three questions of 20 tokens with answers of 25 on each
clip, towers frozen, projector and language model learning. Whole steps (forward, loss, backward,
AdamW) on clips that are decoded already; both sides start from the same weights and see the same
rows, in turns. Prints one JSON object: seconds a step, the ratio, how far the losses are apart,
and the peak memory of a step of each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import torch
from training_shapes import (
    alternate,
    child_peak,
    no_tokenizer,
    on_device,
    open_setting,
    print_peak,
    share,
    text,
    video_rows,
)

from sharegptvideo.training.collators import ClipCache, SftCollator
from sharegptvideo.training.trainers import VideoSFTTrainer, quiet_and_quick

GOAL = 2.5
EACH, QUESTION, ANSWER = 3, 20, 25


def questions(clips: int, video: int, folder: Path) -> list[dict[str, Any]]:
    """`EACH` rows on each of `clips` clips; answers differ by a few tokens."""
    draw = random.Random(0)
    rows = []
    for path in video_rows(clips, draw, folder):
        for _ in range(EACH):
            asked = text(QUESTION, draw)
            said = text(ANSWER + draw.randrange(-4, 5), draw)
            rows.append(
                {
                    "video_path": path,
                    "ids": [1, video, *asked, *said],
                    "spoken": [False] * (2 + len(asked)) + [True] * len(said),
                }
            )
    return rows


class Step:
    """A training step of one side on round `number`'s batch."""

    def __init__(self, way: str, options: Any, folder: Path, setting: Any) -> None:
        from datasets import Dataset
        from trl import SFTConfig
        from trl.trainer.sft_trainer import SFTTrainer

        self.way, self.setting = way, setting
        rows = questions(options.clips * options.batches, setting.reader.video_id, folder)
        size = options.clips * EACH
        collate = SftCollator(ClipCache(setting.reader), 4096)
        self.batches = [collate(rows[at : at + size]) for at in range(0, len(rows), size)]
        self.trainer: Any = (VideoSFTTrainer if way == "shared" else SFTTrainer)(
            model=setting.again(),
            args=SFTConfig(
                output_dir=str(folder / way),
                use_cpu=setting.device.type == "cpu",
                bf16=False,
                gradient_checkpointing=options.checkpointing,
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
            self.optimizer: Any = torch.optim.SGD(learning, lr=1e-5)
        else:
            self.optimizer = torch.optim.AdamW(learning, lr=1e-5, fused=True)
        self.losses: list[float] = []

    def __call__(self, number: int) -> None:
        self.trainer.model.train()
        batch = on_device(self.batches[number % len(self.batches)], self.setting)
        if self.way != "shared":
            pixels = batch.pop("clips")["pixel_values_videos"]
            batch["pixel_values_videos"] = pixels[batch.pop("clip_of_row")]
            del batch["shared_layout"]
        count = (batch["labels"] != -100).sum()
        loss = self.trainer.compute_loss(self.trainer.model, batch, num_items_in_batch=count)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.losses.append(float(loss.detach()))


def open_model(options: Any) -> Any:
    """Towers frozen, projector learning, as in the paper's SFT."""
    setting = open_setting(options.device, options.layers)
    setting.model.model.multi_modal_projector.requires_grad_(True)
    return setting


def measure(options: Any) -> dict[str, Any]:
    """Time both sides in turns, then each one's memory by itself."""
    with tempfile.TemporaryDirectory() as name, quiet_and_quick():
        setting = open_model(options)
        steps = {way: Step(way, options, Path(name), setting) for way in ("trl", "shared")}
        seconds = alternate(dict(steps), options.rounds, setting.device)
    peaks = {}
    if not options.no_memory:
        flags = ["--device", options.device, "--clips", str(options.clips)]
        flags += ["--checkpointing"] if options.checkpointing else []
        flags += ["--layers", str(options.layers)] if options.layers else []
        peaks = {way: child_peak(__file__, ["--one", way, *flags]) for way in steps}
    first, second = steps["trl"].losses[0], steps["shared"].losses[0]
    return {
        "device": options.device,
        "parameters_millions": round(setting.parameters / 1e6, 1),
        "clips_a_step": options.clips,
        "questions_a_clip": EACH,
        "gradient_checkpointing": options.checkpointing,
        "seconds_a_step": {way: round(clock, 3) for way, (clock, _) in seconds.items()},
        "processor_seconds": {way: round(spent, 3) for way, (_, spent) in seconds.items()},
        "first_loss_apart": abs(first - second) / first,
        "times_trl": round(seconds["trl"][0] / seconds["shared"][0], 2),
        "times_trl_by_processor": round(seconds["trl"][1] / seconds["shared"][1], 2),
        "goal": GOAL,
        "peak_mib": peaks,
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=1, help="clips a step, three rows each")
    parser.add_argument("--batches", type=int, default=2, help="different batches")
    parser.add_argument("--layers", type=int, help="of the 7B's 32 on a GPU")
    parser.add_argument("--attention", choices=["split", "dense", "flex"], default="split")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--one", help="one step of one side; prints its peak memory")
    options = parser.parse_args()
    if options.one:
        with tempfile.TemporaryDirectory() as name, quiet_and_quick():
            setting = open_model(options)
            Step(options.one, options, Path(name), setting)(0)
            print_peak(setting.device)
        return 0
    print(json.dumps(measure(options)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

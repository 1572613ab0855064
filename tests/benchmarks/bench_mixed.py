"""Rows a second of a run on clips and images mixed, against a run of each part.

    python tests/benchmarks/bench_mixed.py [--rounds 3] [--clips 4] [--images 12] [--batch 6]

Three questions a clip (2,048 positions), one an image (256), answers of 25 tokens; towers frozen,
projector and language model learning. A run is one pass of whole training steps (forward, loss,
backward, AdamW) over all rows, clips and images decoded already. Every way has the same rows,
weights to begin with and batch size:

    separate        a run on the clips and one on the images, seconds of both together
    mixed           one run, `data.order: by_length`: a batch is of one kind
    mixed random    one run, `data.order: random`: most batches are of both
    plain ...       the same with `sharing.video: false`, rows by themselves, padded
    packed ...      `sharing.pack_tokens`: clips and images fill packs

All in one process and one thread, one after the other in every round, the first of a round another
one each time, so that a machine that others use, too, slows all of them. Prints JSON: for each way
rows a second by the clock and by the processor (medians over rounds), and positions of its batches,
padding included; ratios by processor time; and how far apart the ways' losses of all rows are.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import torch
from datasets import Dataset
from PIL import Image
from trl import SFTConfig

from sharegptvideo.models.prompts import image_token_count
from sharegptvideo.training.collators import ClipCache, SftCollator
from sharegptvideo.training.mix import visuals_of
from sharegptvideo.training.packing import pack
from sharegptvideo.training.recipes import LengthLimit
from sharegptvideo.training.sampling import row_order
from sharegptvideo.training.trainers import VideoSFTTrainer, quiet_and_quick
from tests.support.child_runs import print_line
from tests.support.training_shapes import (
    SHAPES,
    Setting,
    device_name,
    distinct_clips,
    no_tokenizer,
    open_setting,
    share,
    text,
)

EACH, QUESTION, ANSWER = 3, 20, 25
LIMIT = LengthLimit(4096)
WAYS = [
    "separate", "mixed", "mixed random",
    "plain separate", "plain mixed", "plain mixed random",
    "packed separate", "packed mixed",
]  # fmt: skip

Row = dict[str, Any]


def rows_of(setting: Setting, options: Any, folder: Path) -> list[Row]:
    """`EACH` rows on each clip, then one on each image, which are noise of 240×320 pixels."""
    draw, noise = random.Random(0), np.random.default_rng(0)
    paths = [("video", path) for path in distinct_clips(options.clips, folder / "clips")]
    for number in range(options.images):
        path = folder / f"image{number}.png"
        Image.fromarray(noise.integers(0, 256, (240, 320, 3), dtype=np.uint8)).save(path)
        paths.append(("image", str(path)))
    tokens = {"video": setting.reader.video_id, "image": setting.reader.image_id}
    rows = []
    for kind, path in paths:
        for _ in range(EACH if kind == "video" else 1):
            asked, said = text(QUESTION, draw), text(ANSWER + draw.randrange(-4, 5), draw)
            row: Row = {"video_path": None, "image_path": None, f"{kind}_path": path}
            row["ids"] = [1, tokens[kind], *asked, *said]
            row["assistant_mask"] = [False] * (2 + len(asked)) + [True] * len(said)
            visual = setting.reader.video_tokens if kind == "video" else setting.reader.image_tokens
            row["length"] = len(row["ids"]) - 1 + visual
            rows.append(row)
    return rows


class Way:
    """The batches of one way, and a pass over them."""

    def __init__(self, way: str, setting: Setting, rows: list[Row], options: Any) -> None:
        self.setting = setting
        self.rows = len(rows)
        clips = [row for row in rows if row["video_path"]]
        images = [row for row in rows if row["image_path"]]
        parts = [clips, images] if "separate" in way else [rows]
        collate = SftCollator(ClipCache(setting.reader), LIMIT, share="plain" not in way)
        self.batches = []
        for part in parts:
            order = "random" if "random" in way else "by_length"
            for some in _batches(part, way, order, setting, options):
                self.batches.append(collate(some))
        layouts = [batch.get("shared_layout") for batch in self.batches]
        self.positions = sum(
            batch["input_ids"].numel() if layout is None else len(layout)
            for batch, layout in zip(self.batches, layouts, strict=True)
        )

    def __call__(self, trainer: Any, optimizer: Any) -> tuple[float, float]:
        """Train on all batches; seconds by the clock and of the processor."""
        trainer.model.train()
        start = time.perf_counter(), time.process_time()
        for batch in self.batches:
            count = (batch["labels"] != -100).sum()
            trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=count).backward()
            optimizer.step()
            optimizer.zero_grad()
        return time.perf_counter() - start[0], time.process_time() - start[1]

    @torch.no_grad()
    def loss(self, trainer: Any) -> float:
        """The mean loss over all answer tokens of all rows."""
        total = count = 0.0
        for batch in self.batches:
            answers = float((batch["labels"] != -100).sum())
            loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=answers)
            total, count = total + float(loss) * answers, count + answers
        return total / count


def _batches(
    rows: list[Row], way: str, order: Any, setting: Setting, options: Any
) -> list[list[Row]]:
    table = Dataset.from_list(rows)
    size = options.batch
    if "packed" in way:
        table = pack(table, options.pack, positions=setting.reader.positions, limit=LIMIT)
        size = 1
        visuals: Any = None
        kinds = None
    else:
        visuals = visuals_of(table)
        kinds = [one.kind for one in visuals]
        kinds = kinds if len(set(kinds)) > 1 else None
    drawn = list(row_order(order, table["length"], size, 0, clips=visuals, kinds=kinds))
    numbered = list(table)
    return [[numbered[n] for n in drawn[at : at + size]] for at in range(0, len(drawn), size)]


def _trainer(setting: Setting, rows: list[Row], folder: Path) -> Any:
    trainer: Any = VideoSFTTrainer(
        model=setting.model,
        args=SFTConfig(
            output_dir=str(folder / "out"),
            use_cpu=True,
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
    share(trainer, setting, "split")
    return trainer


def measure(options: Any, folder: Path) -> dict[str, Any]:
    """Run all ways in rounds."""
    torch.set_num_threads(1)  # threads that wait for each other on a busy machine count as work
    setting = open_setting(options.shape, "cpu", options.layers, "llava_hound")
    setting.model.model.multi_modal_projector.requires_grad_(True)
    config = setting.model.config
    setting.reader = dataclasses.replace(
        setting.reader, image_id=config.image_token_id, image_tokens=image_token_count(config)
    )
    rows = rows_of(setting, options, folder)
    trainer = _trainer(setting, rows, folder)
    ways = {way: Way(way, setting, rows, options) for way in options.way or WAYS}
    losses = {way: each.loss(trainer) for way, each in ways.items()}
    learning = [weight for weight in setting.model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=1e-6, fused=True)
    spent: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    names = list(ways)
    for number in range(options.rounds):
        for way in names[number % len(names) :] + names[: number % len(names)]:
            spent[way].append(ways[way](trainer, optimizer))
            print(f"round {number + 1}: {way} {spent[way][-1][0]:.1f} s", file=sys.stderr)
    figures: dict[str, Any] = {
        "device": device_name(setting.device),
        "shape": options.shape,
        "language_layers": len(setting.model.model.language_model.layers),
        "rows": {"clips": options.clips * EACH, "images": options.images},
        "clips": options.clips,
        "batch": options.batch,
        "rounds": options.rounds,
        "losses_apart": round(max(losses.values()) - min(losses.values()), 7),
        "loss": round(statistics.mean(losses.values()), 5),
    }
    processor = {}
    for way, times in spent.items():
        clock, used = (statistics.median(column) for column in zip(*times, strict=True))
        processor[way] = used
        figures[way] = {
            "rows_a_second": round(len(rows) / clock, 3),
            "rows_a_processor_second": round(len(rows) / used, 3),
            "seconds_range": [
                round(min(c for c, _ in times), 2),
                round(max(c for c, _ in times), 2),
            ],
            "positions": ways[way].positions,
            "steps": len(ways[way].batches),
        }
    figures["ratios"] = {
        f"{one} / {other}": round(processor[other] / processor[one], 2)
        for one, other in (
            ("mixed", "separate"),
            ("mixed random", "separate"),
            ("plain mixed", "plain separate"),
            ("plain mixed random", "plain separate"),
            ("packed mixed", "packed separate"),
            ("mixed", "plain mixed"),
            ("mixed", "plain mixed random"),
            ("packed mixed", "mixed"),
        )
        if one in processor and other in processor
    }
    return figures


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=[s for s in SHAPES if s != "7b"], default="small")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clips", type=int, default=4, help="clips, three rows each")
    parser.add_argument("--images", type=int, default=12, help="images, a row each")
    parser.add_argument("--batch", type=int, default=6, help="rows a step")
    parser.add_argument("--pack", type=int, default=4096, help="tokens a pack")
    parser.add_argument("--layers", type=int, help="of the shape's language model")
    parser.add_argument("--way", choices=WAYS, action="append", help="these ways alone")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, quiet_and_quick():
        print_line(measure(options, Path(name)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a frozen tower's features on disk save: decoding and the tower, at every visit to a clip.

    python tests/benchmarks/bench_features.py [--clips 8] [--rounds 5] [--device cuda]

LLaVA-Hound's shape (8 frames, 2,056 video tokens, a question of 70 tokens, an answer of 30), a clip
for each row. On a CPU a language model of about 20 million parameters, on a GPU a 7B's shape with
random weights and gradient checkpointing; tower and projector frozen. Three processes, one after
the other: `fill` fills the cache as `use_features` does; then steps of SFT (collate, forward, loss,
backward) on `clips` that are decoded at every visit, and on `features` that are read; and by
itself, since the language model's time varies by more than what is saved, the part of a step that
differs.

Prints a line of JSON for each as it ends: times, peak memory, losses. Then a line that compares: by
how much a visit gets shorter, and the visits from which on the cache pays (filling by what a visit
saves).
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from sharegptvideo.training.collators import ClipCache, SftCollator
from sharegptvideo.training.precompute.features import FeatureReader, FeatureStore
from sharegptvideo.training.precompute.fingerprints import clip_fingerprint
from sharegptvideo.training.recipes import LengthLimit
from sharegptvideo.training.trainers import VideoSFTTrainer, quiet_and_quick
from tests.support.child_runs import Peak, print_line, run_ways
from tests.support.training_shapes import (
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

QUESTION, ANSWER = 70, 30
WAYS = ["fill", "clips", "features"]


def examples(count: int, video: int, folder: Path, media: Path | None) -> list[dict[str, Any]]:
    """`count` questions about as many clips."""
    draw = random.Random(0)
    rows = []
    for path in distinct_clips(count, folder, media):
        ids = [1, video, *text(QUESTION - 1, draw), *text(ANSWER, draw)]
        assistant_mask = [False] * (QUESTION + 1) + [True] * ANSWER
        rows.append(
            {"video_path": path, "ids": ids, "assistant_mask": assistant_mask, "length": len(ids)}
        )
    return rows


def trainer_of(setting: Any, rows: list[Any], folder: Path) -> Any:
    """An SFT trainer that takes our batches."""
    from datasets import Dataset
    from trl import SFTConfig

    arguments = SFTConfig(
        output_dir=str(folder / "out"),
        use_cpu=setting.device.type == "cpu",
        bf16=False,  # the weights themselves are, on a GPU
        max_length=None,
        remove_unused_columns=False,
        dataset_kwargs={"skip_prepare_dataset": True},
        report_to=[],
    )
    trainer = VideoSFTTrainer(
        model=setting.model,
        args=arguments,
        data_collator=lambda batch: batch,
        train_dataset=Dataset.from_list(rows),
        processing_class=no_tokenizer(),
    )
    share(trainer, setting, "split")
    return trainer


def fill(setting: Any, family: Any, store: FeatureStore, keys: dict[str, str]) -> dict[str, float]:
    """Seconds a clip of each part of filling the cache; on a CPU those of the processor."""
    now = time.process_time if setting.device.type == "cpu" else time.perf_counter
    spent = dict.fromkeys(("decode", "tower", "write"), 0.0)
    for path, key in keys.items():
        marks = [now()]
        batch = setting.reader.batch([setting.reader.read(path)])
        marks.append(now())
        pixels = {name: value.to(setting.device, setting.dtype) for name, value in batch.items()}
        with torch.no_grad():
            features = family.tower_features(pixels).cpu()
        marks.append(now())
        store.add({key: features[0].clone()})
        marks.append(now())
        for name, start, end in zip(spent, marks, marks[1:], strict=False):
            spent[name] += (end - start) / len(keys)
    return spent


class Steps:
    """A training step on the next clip, collating included; no clip is kept between steps."""

    def __init__(self, trainer: Any, setting: Any, reader: Any, rows: list[Any]) -> None:
        self.trainer, self.setting, self.reader, self.rows = trainer, setting, reader, rows
        self.losses: dict[int, float] = {}

    def see(self, number: int) -> None:
        """The part that differs: a batch with its clip, as far as behind the projector."""
        batch = SftCollator(ClipCache(self.reader), LengthLimit(4096))(
            [self.rows[number % len(self.rows)]]
        )
        with torch.no_grad():
            self.trainer.family.encode_clips(
                self.trainer.model, on_device(batch, self.setting)["clips"]
            )

    def __call__(self, number: int) -> None:
        row = number % len(self.rows)
        batch = SftCollator(ClipCache(self.reader), LengthLimit(4096))([self.rows[row]])
        loss = self.trainer.compute_loss(
            self.trainer.model, on_device(batch, self.setting), num_items_in_batch=None
        )
        loss.backward()
        self.trainer.model.zero_grad()
        self.losses[row] = float(loss.detach())


def one(way: str, options: Any, folder: Path) -> dict[str, Any]:
    """Fill the cache in `folder`, or measure steps on clips or on what is in it."""
    place = torch.device(options.device)
    peak = Peak(place)
    setting: Setting = open_setting(options.shape, options.device, options.layers)
    rows = examples(options.clips, setting.reader.video_id, folder / "clips", options.media)
    keys = {row["video_path"]: clip_fingerprint(row["video_path"]) for row in rows}
    trainer = trainer_of(setting, rows, folder)
    store = FeatureStore(folder / "features")
    figures: dict[str, Any] = {
        "way": way,
        "device": device_name(place),
        "seconds_are": "the processor's" if place.type == "cpu" else "the clock's",
        "shape": options.shape,
        "clips": len(keys),
        "parameters_millions": round(setting.parameters / 1e6, 1),
    }
    if way == "fill":
        fill(setting, trainer.family, FeatureStore(folder / "warm"), dict(list(keys.items())[:1]))
        peak.restart()
        parts = fill(setting, trainer.family, store, keys)
        files = sum(path.stat().st_size for path in store.folder.iterdir())
        figures["fill_ms_a_clip"] = {name: round(1000 * spent, 2) for name, spent in parts.items()}
        return figures | peak.figures() | {"mb_a_clip": round(files / len(keys) / 1e6, 3)}
    reader = (
        setting.reader
        if way == "clips"
        else FeatureReader(setting.reader, {"video": (store, keys)})
    )
    passes = recompute_layers(trainer.model, place.type != "cpu")
    trainer.model.train()
    steps = Steps(trainer, setting, reader, rows)
    kind = "processor_seconds" if place.type == "cpu" else "seconds_a_step"
    seen = timed(steps.see, 4 * options.rounds, place)[kind]
    peak.restart()
    whole = timed(steps, options.rounds, place)[kind]
    return figures | {
        "gradient_checkpointing": place.type != "cpu",
        "layer_passes_a_step": passes(),
        "batch_to_projector_ms": round(1000 * seen, 2),
        "step_ms": round(1000 * whole, 2),
        **peak.figures(),
        "losses": {str(row): round(loss, 7) for row, loss in sorted(steps.losses.items())},
    }


def compared(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What a visit saves, and when that pays, where all three were measured."""
    if set(WAYS) - set(found):
        return {"ways": list(found)}
    fill_ms = found["fill"]["fill_ms_a_clip"]
    clips, read = found["clips"], found["features"]
    saved = clips["batch_to_projector_ms"] - read["batch_to_projector_ms"]
    losses = [(loss, clips["losses"][row]) for row, loss in read["losses"].items()]
    return {
        "fill_ms_a_clip": fill_ms,
        "batch_to_projector_ms": {way: found[way]["batch_to_projector_ms"] for way in WAYS[1:]},
        "step_ms": {way: found[way]["step_ms"] for way in WAYS[1:]},
        "saved_ms_a_visit": round(saved, 2),
        "saved_of_a_step": round(saved / clips["step_ms"], 3),
        "pays_from_visits": round(sum(fill_ms.values()) / saved, 2) if saved > 0 else None,
        "mb_a_clip": found["fill"]["mb_a_clip"],
        "losses_apart": max(abs(a - b) for a, b in losses),
        "losses_range": [min(loss for loss, _ in losses), max(loss for loss, _ in losses)],
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--shape", choices=SHAPES, help="default: 7b on a GPU, else small")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--layers", type=int, help="of the shape's language model")
    parser.add_argument("--media", type=Path, help="a folder of clips; default: the shared data")
    parser.add_argument("--way", choices=WAYS, help="one of the three, in this process")
    parser.add_argument("--work", type=Path, help="with --way: the folder of clips and cache")
    options = parser.parse_args()
    options.shape = options.shape or default_shape(options.device)
    if options.way:
        with quiet_and_quick():
            print_line(one(options.way, options, options.work))
        return 0
    with tempfile.TemporaryDirectory() as name:
        found = run_ways(__file__, WAYS, [*sys.argv[1:], "--work", name])
    print_line(compared(found))
    return len(found) < len(WAYS)


if __name__ == "__main__":
    sys.exit(main())

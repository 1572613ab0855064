"""What a frozen tower's features on disk save: decoding and the tower, at every visit to a clip.

    python tests/benchmarks/bench_features.py [--clips 8] [--rounds 5] [--device cuda]

LLaVA-Hound's shape (8 frames, 2,056 video tokens, a question of 70 tokens, an answer of 30), the
real clips of the shared data where they are there. On a CPU a language model of 23 million
parameters, on a GPU a 7B's shape with random weights; tower and projector frozen. Filling is timed
as `use_features` does it; then steps of SFT (collate, forward, loss, backward) on clips that are
decoded and on features that are read, in turns, and by itself the part of a step that differs.
Visits from which on the cache pays: the cost of filling by what a visit saves. Prints one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import torch
from training_shapes import (
    alternate,
    no_tokenizer,
    on_device,
    open_setting,
    share,
    text,
    video_rows,
)

from sharegptvideo.training.collators import ClipCache, SftCollator
from sharegptvideo.training.feature_store import FeatureReader, FeatureStore
from sharegptvideo.training.fingerprints import clip_fingerprint
from sharegptvideo.training.trainers import VideoSFTTrainer, quiet_and_quick

QUESTION, ANSWER = 70, 30


def examples(count: int, video: int, folder: Path) -> list[dict[str, Any]]:
    """`count` questions about as many clips."""
    draw = random.Random(0)
    rows = []
    for path in video_rows(count, draw, folder):
        ids = [1, video, *text(QUESTION - 1, draw), *text(ANSWER, draw)]
        spoken = [False] * (QUESTION + 1) + [True] * ANSWER
        rows.append({"video_path": path, "ids": ids, "spoken": spoken, "length": len(ids)})
    return rows


def trainer_of(setting: Any, rows: list[Any], folder: Path) -> Any:
    """An SFT trainer that takes our batches."""
    from datasets import Dataset
    from trl import SFTConfig

    arguments = SFTConfig(
        output_dir=str(folder / "out"),
        use_cpu=setting.device.type == "cpu",
        bf16=False,  # the weights themselves are, on a GPU
        gradient_checkpointing=setting.device.type != "cpu",
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
            features = family.look(pixels).cpu()
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
        batch = SftCollator(ClipCache(self.reader), 4096)([self.rows[number % len(self.rows)]])
        with torch.no_grad():
            self.trainer.family.see(self.trainer.model, on_device(batch, self.setting)["clips"])

    def __call__(self, number: int) -> None:
        row = number % len(self.rows)
        batch = SftCollator(ClipCache(self.reader), 4096)([self.rows[row]])
        loss = self.trainer.compute_loss(
            self.trainer.model, on_device(batch, self.setting), num_items_in_batch=None
        )
        loss.backward()
        self.trainer.model.zero_grad()
        self.losses[row] = float(loss.detach())


def measure(options: Any) -> dict[str, Any]:
    """Fill, then take turns."""
    with tempfile.TemporaryDirectory() as name, quiet_and_quick():
        folder = Path(name)
        setting = open_setting(options.device, options.layers)
        rows = examples(options.clips, setting.reader.video_id, folder)
        keys = {row["video_path"]: clip_fingerprint(row["video_path"]) for row in rows}
        trainer = trainer_of(setting, rows, folder)
        store = FeatureStore(folder / "features")
        fill(setting, trainer.family, FeatureStore(folder / "warm"), dict(list(keys.items())[:1]))
        parts = fill(setting, trainer.family, store, keys)
        trainer.model.train()
        ways = {
            "clips": Steps(trainer, setting, setting.reader, rows),
            "features": Steps(trainer, setting, FeatureReader(setting.reader, store, keys), rows),
        }
        seconds = alternate(dict(ways), options.rounds, setting.device)
        # By itself: the language model's share varies by more than what is saved.
        parted = {name: way.see for name, way in ways.items()}
        seen = alternate(dict(parted), 4 * options.rounds, setting.device)
        files = sum(path.stat().st_size for path in store.folder.iterdir())
        read = ways["features"].losses
        apart = max(abs(loss - ways["clips"].losses[row]) for row, loss in read.items())
    kind = 1 if setting.device.type == "cpu" else 0
    saved = seen["clips"][kind] - seen["features"][kind]
    return {
        "device": options.device,
        "seconds_are": "the processor's" if kind else "the clock's",
        "parameters_millions": round(setting.parameters / 1e6, 1),
        "fill_ms_a_clip": {name: round(1000 * spent, 1) for name, spent in parts.items()},
        "batch_to_projector_ms": {way: round(1000 * both[kind], 1) for way, both in seen.items()},
        "step_ms": {way: round(1000 * both[kind], 1) for way, both in seconds.items()},
        "saved_ms_a_visit": round(1000 * saved, 1),
        "saved_of_a_step": round(saved / seconds["clips"][kind], 3),
        "pays_from_visits": round(sum(parts.values()) / saved, 2),
        "mb_a_clip": round(files / len(keys) / 1e6, 2),
        "loss_apart": apart,
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--layers", type=int, help="of the 7B's 32 on a GPU")
    print(json.dumps(measure(parser.parse_args())))
    return 0


if __name__ == "__main__":
    sys.exit(main())

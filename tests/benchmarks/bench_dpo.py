"""Pairs a second of DPO: a clip's tokens once a pair, against TRL's trainer on plain rows.

    python tests/benchmarks/bench_dpo.py [--rounds 5] [--device cuda] [--checkpointing] \
        [--architecture llava_hound]

LLaVA-Hound's shape: 2,048 video tokens (2,056 with `--architecture video_llava`), a question of
70 tokens, two answers of 30. Whole steps (forward, loss, backward, optimiser on the language model:
AdamW on a CPU, SGD on a GPU) on clips that are decoded already, a different one for each pair. Each
way runs in a process of its own, one after the other, from the same weights and on the same pairs.
Ways:

    trl              TRL's trainer as it is: a row for each answer, the reference in memory
    trl_precomputed  the same with the reference's log-probabilities given, which TRL itself
                     refuses for clips
    split            ours: beginning once, answers apart, reference given
    dense            the same with one masked call for each pair
    flex             the same with FlexAttention (GPU only)

Prints a line of JSON for each way as it ends: seconds a step (median, least and most, and the
processor's), peak memory of its steps, how often a layer ran in a step (2 with checkpointing), the
answers' log-probabilities, the spread of logits, and by how much the log-probabilities move when
pairs get each other's clips. Then a line that compares: ratios to both TRL ways, and how far
log-probabilities are apart, beside how far they spread.
"""

from __future__ import annotations

import argparse
import copy
import random
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from sharegptvideo.training.collators import ClipCache, PreferenceCollator
from sharegptvideo.training.recipes import LengthLimit
from sharegptvideo.training.trainers import VideoDPOTrainer, quiet_and_quick
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

GOAL = 2.2
QUESTION, ANSWER = 70, 30
BETA = 0.1


def pairs(count: int, video: int, folder: Path, media: Path | None) -> list[dict[str, Any]]:
    """`count` pairs on different clips; answers end within a few tokens of each other."""
    draw = random.Random(0)
    rows = []
    for path in distinct_clips(count, folder / "clips", media):
        rows.append(
            {
                "video_path": path,
                "prompt_ids": [1, video, *text(QUESTION - 1, draw)],
                "chosen_ids": text(ANSWER + draw.randrange(-4, 5), draw),
                "rejected_ids": text(ANSWER + draw.randrange(-4, 5), draw),
                "ref_chosen_logps": -3.0 * ANSWER,
                "ref_rejected_logps": -3.0 * ANSWER,
            }
        )
    return rows


def trainer_of(way: str, setting: Setting, rows: list[Any], folder: Path) -> Any:
    """A DPO trainer for one way, around the setting's model; it takes batches as they come."""
    from datasets import Dataset
    from trl import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    class Plain(DPOTrainer):  # type: ignore[misc]  # TRL is untyped
        """TRL's own but for its preparation of text, which knows no clips."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

        def _precompute_ref_logps(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset  # the rows have them

    class Ours(VideoDPOTrainer):
        def _precompute_ref_logps(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    given = way != "trl"
    ours = not way.startswith("trl")
    arguments = DPOConfig(
        output_dir=str(folder / way),
        beta=BETA,
        use_cpu=setting.device.type == "cpu",
        bf16=False,  # the weights themselves are, on a GPU
        precompute_ref_log_probs=given,
        max_length=None,
        remove_unused_columns=False,
        report_to=[],
    )
    trainer = (Ours if ours else Plain)(
        model=setting.model,
        ref_model=None if given else copy.deepcopy(setting.model),
        args=arguments,
        data_collator=lambda batch: batch,
        train_dataset=Dataset.from_list(rows),
        processing_class=no_tokenizer(),
    )
    if ours:
        share(trainer, setting, way)
    return trainer


class Step:
    """One way's training step on round `number`'s batch; `rate` 0 leaves the weights."""

    def __init__(
        self, way: str, trainer: Any, batches: list[Any], setting: Setting, rate: float = 1e-5
    ) -> None:
        self.way, self.trainer, self.batches, self.setting = way, trainer, batches, setting
        learning = [p for p in trainer.model.parameters() if p.requires_grad]
        if setting.device.type == "cuda":  # AdamW's state for 7B fits no GPU beside the rest
            self.optimizer: Any = torch.optim.SGD(learning, lr=rate)
        else:
            self.optimizer = torch.optim.AdamW(learning, lr=rate, fused=True)

    def batch(self, number: int, clips_of: int | None = None) -> dict[str, Any]:
        """Ours as it is; TRL's with a clip for every row. `clips_of`: with that batch's clips."""
        batch = dict(self.batches[number % len(self.batches)])
        if clips_of is not None:
            batch["clips"] = self.batches[clips_of % len(self.batches)]["clips"]
        batch = on_device(batch, self.setting)
        if self.way.startswith("trl"):
            pixels = batch.pop("clips")["pixel_values_videos"]
            batch["pixel_values_videos"] = pixels[batch.pop("clip_of_row")]
            del batch["shared_layout"]
        return batch

    def __call__(self, number: int) -> None:
        self.trainer.model.train()
        loss = self.trainer.compute_loss(self.trainer.model, self.batch(number))
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def log_probabilities(self, clips_of: int | None = None) -> torch.Tensor:
        """Of the first batch's answers, before any step."""
        batch = self.batch(0, clips_of)
        chosen, rejected = self.trainer.compute_ref_log_probs(self.trainer.model, batch)
        return torch.cat([chosen, rejected]).float().cpu()


def one(way: str, options: Any, folder: Path) -> dict[str, Any]:
    """Measure one way in this process."""
    place = torch.device(options.device)
    peak = Peak(place)
    setting = open_setting(options.shape, options.device, options.layers, options.architecture)
    rows = pairs(options.pairs * options.batches, setting.reader.video_id, folder, options.media)
    collate = PreferenceCollator(ClipCache(setting.reader), LengthLimit(4096))
    size = options.pairs
    batches = [collate(rows[at : at + size]) for at in range(0, len(rows), size)]
    trainer = trainer_of(way, setting, rows, folder)
    passes = recompute_layers(trainer.model, options.checkpointing)
    step = Step(way, trainer, batches, setting)
    before = step.log_probabilities()
    moved = (step.log_probabilities(clips_of=1) - before).abs().max()
    assert float(before.std()) > 0, before
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
        "pairs_a_step": size,
        "clips": len({row["video_path"] for row in rows}),
        "gradient_checkpointing": options.checkpointing,
        "layer_passes_a_step": again,
        "optimizer": type(step.optimizer).__name__,
        **seconds,
        **peak.figures(),
        "log_probabilities": [round(float(value), 6) for value in before],
        "other_clips_move_nats": round(float(moved), 4),
        **setting.logits,
    }


def compared(found: dict[str, Any]) -> dict[str, Any]:
    """Ratios and distances of ways that were measured: what each gives by `one`, by its name."""
    figures: dict[str, Any] = {
        "ways": list(found),
        "seconds_a_step": {way: each["seconds_a_step"] for way, each in found.items()},
        "peak_mib": {way: each["peak_mib"] for way, each in found.items()},
        "gradient_checkpointing": [each["gradient_checkpointing"] for each in found.values()],
    }
    for base in ("trl", "trl_precomputed"):
        for kind, name in (("seconds_a_step", ""), ("processor_seconds", "_by_processor")):
            if base in found:
                figures[f"times_{base}{name}"] = {
                    way: round(found[base][kind] / each[kind], 2)
                    for way, each in found.items()
                    if not way.startswith("trl")
                }
    if found:
        first = next(iter(found.values()))["log_probabilities"]
        apart = {
            way: round(
                max(abs(a - b) for a, b in zip(each["log_probabilities"], first, strict=True)), 6
            )
            for way, each in found.items()
        }
        figures |= {
            "log_probabilities_apart_nats": apart,
            "compared_with": next(iter(found)),
            "log_probabilities_std_nats": round(statistics.stdev(first), 3),
            "other_clips_move_nats": {
                way: each["other_clips_move_nats"] for way, each in found.items()
            },
        }
    return figures | {"goal_times_trl": GOAL}


def ways_on(device: str) -> list[str]:
    """Those that this device can run."""
    names = ["trl", "trl_precomputed", "dense", "split"]
    return [*names, "flex"] if device.startswith("cuda") else names


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--shape", choices=SHAPES, help="default: 7b on a GPU, else small")
    parser.add_argument("--architecture", choices=ARCHITECTURES, default="llava_hound")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=1, help="pairs a step")
    parser.add_argument("--batches", type=int, default=2, help="different batches")
    parser.add_argument("--layers", type=int, help="of the shape's language model")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--media", type=Path, help="a folder of clips; default: the shared data")
    parser.add_argument("--ways", nargs="+")
    parser.add_argument("--way", help="one way, in this process")
    options = parser.parse_args()
    options.shape = options.shape or default_shape(options.device)
    if options.way:
        with tempfile.TemporaryDirectory() as name, quiet_and_quick():
            print_line(one(options.way, options, Path(name)))
        return 0
    ways = options.ways or ways_on(options.device)
    found = run_ways(__file__, ways, sys.argv[1:])
    print_line(compared(found))
    return len(found) < len(ways)


if __name__ == "__main__":
    sys.exit(main())

"""Pairs a second of DPO: a clip's tokens once a pair, against TRL's trainer on plain rows.

    python tests/benchmarks/bench_dpo.py [--rounds 5] [--device cuda] [--checkpointing]

LLaVA-Hound's shape: 2,056 video tokens, a question of 70 tokens, two answers of 30. Whole steps
(forward, loss, backward, AdamW on the language model) on clips that are decoded already; all ways
start from the same weights and see the same pairs, in turns. Ways:

    trl              TRL's trainer as it is: a row for each answer, the reference in memory
    trl_precomputed  the same with the reference's log-probabilities given, which TRL itself
                     refuses for clips
    split            ours: beginning once, answers apart, reference given
    dense            the same with one masked call for each pair
    flex             the same with FlexAttention (GPU only)

Prints one JSON object: seconds a step, ratios to both TRL ways, how far the log-probabilities are
apart, and the peak memory of a step of each way in a process of its own.
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

from sharegptvideo.training.collators import ClipCache, PreferenceCollator
from sharegptvideo.training.trainers import VideoDPOTrainer, quiet_and_quick

GOAL = 2.2
QUESTION, ANSWER = 70, 30
BETA = 0.1


def pairs(count: int, video: int, folder: Path) -> list[dict[str, Any]]:
    """`count` pairs on different clips; answers end within a few tokens of each other."""
    draw = random.Random(0)
    rows = []
    for path in video_rows(count, draw, folder):
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


def trainer_of(way: str, setting: Any, rows: list[Any], folder: Path, checkpointing: bool) -> Any:
    """A DPO trainer for one way, on a copy of the model."""
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
    model = setting.again()
    arguments = DPOConfig(
        output_dir=str(folder / way),
        beta=BETA,
        use_cpu=setting.device.type == "cpu",
        bf16=False,  # the weights themselves are, on a GPU
        gradient_checkpointing=checkpointing,
        precompute_ref_log_probs=given,
        max_length=None,
        remove_unused_columns=False,
        report_to=[],
    )
    trainer = (Ours if ours else Plain)(
        model=model,
        ref_model=None if given else setting.again(),
        args=arguments,
        data_collator=lambda batch: batch,
        train_dataset=Dataset.from_list(rows),
        processing_class=no_tokenizer(),
    )
    if ours:
        share(trainer, setting, way)
    return trainer


class Step:
    """One way's training step on round `number`'s batch."""

    def __init__(self, way: str, trainer: Any, batches: list[Any], setting: Any) -> None:
        self.way, self.trainer, self.batches, self.setting = way, trainer, batches, setting
        learning = [p for p in trainer.model.parameters() if p.requires_grad]
        if setting.device.type == "cuda":  # AdamW's state for 7B fits no GPU beside the rest
            self.optimizer: Any = torch.optim.SGD(learning, lr=1e-5)
        else:
            self.optimizer = torch.optim.AdamW(learning, lr=1e-5, fused=True)
        self.logps: list[torch.Tensor] = []

    def batch(self, number: int) -> dict[str, Any]:
        """Ours as it is; TRL's with a clip for every row."""
        batch = on_device(self.batches[number % len(self.batches)], self.setting)
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

    def log_probabilities(self) -> torch.Tensor:
        """Of the first batch, before any step."""
        chosen, rejected = self.trainer.compute_ref_log_probs(self.trainer.model, self.batch(0))
        return torch.cat([chosen, rejected]).float()


def build(way: str, options: Any, folder: Path, setting: Any = None) -> Step:
    """A step of one way with everything it needs."""
    setting = setting or open_setting(options.device, options.layers)
    rows = pairs(options.pairs * options.batches, setting.reader.video_id, folder)
    collate = PreferenceCollator(ClipCache(setting.reader), 4096)
    size = options.pairs
    batches = [collate(rows[at : at + size]) for at in range(0, len(rows), size)]
    trainer = trainer_of(way, setting, rows, folder, options.checkpointing)
    return Step(way, trainer, batches, setting)


def ways_on(device: str) -> list[str]:
    """Those that this device can run."""
    names = ["trl", "trl_precomputed", "dense", "split"]
    return [*names, "flex"] if device.startswith("cuda") else names


def measure(options: Any) -> dict[str, Any]:
    """Time the ways in turns, then each one's memory by itself."""
    with tempfile.TemporaryDirectory() as name, quiet_and_quick():
        folder = Path(name)
        setting = open_setting(options.device, options.layers)
        steps = {way: build(way, options, folder, setting) for way in options.ways}
        exact = steps[options.ways[0]].log_probabilities()
        apart = {way: float((s.log_probabilities() - exact).abs().max() / exact.abs().max())
                 for way, s in steps.items()}  # fmt: skip
        seconds = alternate(dict(steps), options.rounds, setting.device)
        parameters = setting.parameters
    peaks = {}
    if not options.no_memory:
        flags = ["--device", options.device, "--pairs", str(options.pairs)]
        flags += ["--checkpointing"] if options.checkpointing else []
        flags += ["--layers", str(options.layers)] if options.layers else []
        peaks = {way: child_peak(__file__, ["--one", way, *flags]) for way in options.ways}
    figures: dict[str, Any] = {
        "device": options.device,
        "parameters_millions": round(parameters / 1e6, 1),
        "pairs_a_step": options.pairs,
        "gradient_checkpointing": options.checkpointing,
        "seconds_a_step": {way: round(clock, 3) for way, (clock, _) in seconds.items()},
        "processor_seconds": {way: round(spent, 3) for way, (_, spent) in seconds.items()},
        "log_probabilities_apart": apart,
        "peak_mib": peaks,
    }
    for base in ("trl", "trl_precomputed"):
        for number, kind in enumerate(("", "_by_processor")):
            if base in seconds:
                figures[f"times_{base}{kind}"] = {
                    way: round(seconds[base][number] / spent[number], 2)
                    for way, spent in seconds.items()
                    if not way.startswith("trl")
                }
    figures["goal_times_trl"] = GOAL
    return figures


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=1, help="pairs a step")
    parser.add_argument("--batches", type=int, default=2, help="different batches")
    parser.add_argument("--layers", type=int, help="of the 7B's 32 on a GPU")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--no-memory", action="store_true")
    parser.add_argument("--ways", nargs="+")
    parser.add_argument("--one", help="one step of one way; prints its peak memory")
    options = parser.parse_args()
    options.ways = options.ways or ways_on(options.device)
    if options.one:
        with tempfile.TemporaryDirectory() as name, quiet_and_quick():
            step = build(options.one, options, Path(name))
            step(0)
            print_peak(step.setting.device)
        return 0
    print(json.dumps(measure(options)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

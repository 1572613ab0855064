"""What a step of SFT and DPO costs in our trainers, sharing clips or not, and in a bare loop.

    python tests/benchmarks/bench_training.py [STEPS]

The model of the demo, random pixels, prompts and answers of the demo's lengths; one thread. No two
pairs of DPO are about one clip, three questions of SFT are about each. The bare loop has forward,
loss on the answer, backward, clipping and AdamW, and nothing else. Each way runs in a process of
its own. Prints a line of JSON for each as it ends, with milliseconds of CPU time a step (other
processes then count less) and peak memory, and one that compares.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
from datasets import Dataset
from torch.nn import functional

from sharegptvideo.models import build_tiny, load_model
from sharegptvideo.training import load_recipe
from sharegptvideo.training.callbacks import attach_callbacks
from sharegptvideo.training.collators import ClipCache, PreferenceCollator, SftCollator
from sharegptvideo.training.examples import DataReport
from sharegptvideo.training.families import open_family
from sharegptvideo.training.recipes import LengthLimit
from sharegptvideo.training.run_dir import TrainingDir
from sharegptvideo.training.trainers import (
    VideoDPOTrainer,
    VideoSFTTrainer,
    quiet_and_quick,
    trainer_arguments,
)
from tests.support.child_runs import Peak, print_line, run_ways

WAYS = ["sft", "bare", "sft_plain", "dpo", "dpo_plain"]
QUESTIONS = {"sft": 3, "dpo": 1}


def collated(stage: str, family: Any, count: int, share: bool) -> tuple[Any, Dataset]:
    """A collator whose clips are noise, and `count` rows for it."""
    side, frames = family.model.config.vision_config.image_size, 8
    clips = ClipCache(family.reader)
    each = QUESTIONS[stage]
    for number in range(-(-count // each)):
        shape = (frames, 3, side, side)
        clips._clips[str(number)] = {"frames": torch.randint(0, 256, shape, dtype=torch.uint8)}
    video = family.reader.video_id
    prompt, answer = [1, 10, video, *range(11, 25)], [*range(30, 40), 2]
    length = len(prompt) + len(answer)
    rows = [{"video_path": str(number // each), "length": length} for number in range(count)]
    if stage == "dpo":
        row = {"prompt_ids": prompt, "chosen_ids": answer, "rejected_ids": answer[3:]}
        given = {"ref_chosen_logps": -9.0, "ref_rejected_logps": -9.0}
        collate = PreferenceCollator(clips, LengthLimit(320), share=share)
        return collate, Dataset.from_list([r | row | given for r in rows])
    assistant_mask = [False] * len(prompt) + [True] * len(answer)
    row = {"ids": prompt + answer, "assistant_mask": assistant_mask}
    return SftCollator(clips, LengthLimit(320), share=share), Dataset.from_list(
        [r | row for r in rows]
    )


def trainer_ms(stage: str, start: Path, out: Path, steps: int, *, share: bool = True) -> float:
    """Milliseconds a step in the trainer."""
    from trl import DPOConfig, SFTConfig

    output = out / f"{stage}-{share}-{steps}"
    recipe = load_recipe(f"demo/{stage}", [f"model={start}", f"output={output}", "report_to=[]"])
    with quiet_and_quick():
        family = open_family(recipe)
        size = recipe.optimisation.per_device_batch_size
        collate, rows = collated(stage, family, size * steps, share)
        family.freeze(recipe.freeze)
        run = TrainingDir(recipe)
        arguments = trainer_arguments(recipe, run.checkpoints)
        arguments.update(max_steps=steps, save_strategy="no", logging_steps=steps)
        run.start(DataReport(used=len(rows)))
        common = {
            "model": family.model,
            "data_collator": collate,
            "train_dataset": rows,
            "processing_class": family.tokenizer,
        }
        trainer: Any
        if stage == "dpo":
            # Rows have what the reference says, as they have it in a recipe.
            trainer = _Given(args=DPOConfig(**arguments, precompute_ref_log_probs=True), **common)
        else:
            skip = {"dataset_kwargs": {"skip_prepare_dataset": True}}
            trainer = VideoSFTTrainer(args=SFTConfig(**arguments, **skip), **common)
        trainer.share(family, recipe.sharing)
        attach_callbacks(trainer, run, None)
        begin = time.process_time()
        trainer.train()
        spent = time.process_time() - begin
    return 1000 * spent / steps


class _Given(VideoDPOTrainer):
    def _precompute_ref_logps(self, dataset: Any, *_: Any, **__: Any) -> Any:
        return dataset


def bare_ms(start: Path, steps: int) -> float:
    """Milliseconds a step of SFT with nothing around it, on the trainer's rows in their order."""
    recipe = load_recipe("demo/sft", [f"model={start}", "output=none"])
    size = recipe.optimisation.per_device_batch_size
    collate, rows = collated("sft", open_family(recipe), size * steps, share=True)
    batches = [collate([rows[i] for i in range(s, s + size)]) for s in range(0, size * steps, size)]
    model = load_model(str(start), dtype="float32").train()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-4, fused=True)
    begin = time.process_time()
    for batch in batches:
        inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
        inputs |= {name: value[batch["clip_of_row"]] for name, value in batch["clips"].items()}
        hidden = model.model(**inputs, use_cache=False).last_hidden_state[:, :-1]
        labels = batch["labels"][:, 1:]
        said = labels != -100
        loss = functional.cross_entropy(model.lm_head(hidden[said]), labels[said])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return 1000 * (time.process_time() - begin) / len(batches)


def one(way: str, steps: int, folder: Path) -> dict[str, Any]:
    """Measure one way in this process."""
    torch.set_num_threads(1)
    peak = Peak(torch.device("cpu"))
    start = build_tiny(["what colour is it"] * 3, folder / "start", seed=0)
    stage, _, plain = way.partition("_")

    def run(count: int) -> float:
        if way == "bare":
            return bare_ms(start, count)
        return trainer_ms(stage, start, folder, count, share=not plain)

    run(1)  # what torch and TRL load on first use
    peak.restart()
    return {"way": way, "steps": steps, "ms_a_step": round(run(steps), 1), **peak.figures()}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("steps", nargs="?", type=int, default=20)
    parser.add_argument("--way", choices=WAYS, help="one way, in this process")
    options = parser.parse_args()
    if options.way:
        with tempfile.TemporaryDirectory() as folder:
            print_line(one(options.way, options.steps, Path(folder)))
        return 0
    found = run_ways(__file__, WAYS, sys.argv[1:])
    figures: dict[str, Any] = {f"{way}_ms": each["ms_a_step"] for way, each in found.items()}
    if {"sft", "bare"} <= set(found):
        figures["overhead"] = round(figures["sft_ms"] / figures["bare_ms"] - 1, 3)
    print_line({"steps": options.steps, **figures})
    return len(found) < len(WAYS)


if __name__ == "__main__":
    sys.exit(main())

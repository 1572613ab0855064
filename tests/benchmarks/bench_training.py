"""What a step of SFT and DPO costs in our trainers, and in a bare loop over the same batches.

    python tests/benchmarks/bench_training.py [STEPS]

The model of the demo, random pixels, prompts and answers of the demo's lengths; one thread. The
bare loop has forward, loss on the answer, backward, clipping and AdamW, and nothing else. Prints
one JSON object with milliseconds of CPU time a step (other processes then count less).
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.nn import functional

from sharegptvideo.modeling import VideoPixels, build_tiny, load_model, load_tokenizer
from sharegptvideo.training import load_recipe
from sharegptvideo.training.collators import ClipCache, PreferenceCollator, Prompting, SftCollator
from sharegptvideo.training.running import RunFolder
from sharegptvideo.training.trainers import (
    VideoDPOTrainer,
    VideoSFTTrainer,
    attach,
    freeze,
    quiet_and_quick,
    trainer_arguments,
)

CLIPS = 64


def collated(stage: str, model: Any, tokenizer: Any, count: int) -> tuple[Any, Dataset]:
    """A collator whose clips are noise, and `count` rows for it."""
    side, frames = model.config.vision_config.image_size, 8
    clips = ClipCache(VideoPixels(side, side, side), frames)
    for number in range(CLIPS):
        shape = (frames, 3, side, side)
        clips._clips[str(number)] = torch.randint(0, 256, shape, dtype=torch.uint8)
    video = model.config.video_token_id
    tokens = model.config.video_seq_length
    prompting = Prompting(tokenizer.pad_token_id, video, tokens, 320)
    prompt, answer = [1, 10, video, *range(11, 25)], [*range(30, 40), 2]
    length = len(prompt) + len(answer)
    rows = [{"video_path": str(number % CLIPS), "length": length} for number in range(count)]
    if stage == "dpo":
        row = {"prompt_ids": prompt, "chosen_ids": answer, "rejected_ids": answer[3:]}
        return PreferenceCollator(clips, prompting), Dataset.from_list([r | row for r in rows])
    spoken = [False] * len(prompt) + [True] * len(answer)
    row = {"ids": prompt + answer, "spoken": spoken}
    return SftCollator(clips, prompting), Dataset.from_list([r | row for r in rows])


def trainer_ms(stage: str, start: Path, out: Path, steps: int) -> tuple[float, list[Any]]:
    """Milliseconds a step in the trainer; the batches it saw, in another order."""
    from trl import DPOConfig, SFTConfig

    recipe = load_recipe(f"demo/{stage}", [f"model={start}", f"output={out / stage}"])
    with quiet_and_quick():
        model, tokenizer = load_model(str(start), dtype="float32"), load_tokenizer(str(start))
        size = recipe.optimisation.per_device_batch_size
        collate, rows = collated(stage, model, tokenizer, size * steps)
        freeze(model, recipe.freeze)
        run = RunFolder(recipe)
        arguments = trainer_arguments(recipe, run)
        arguments.update(max_steps=steps, save_strategy="no", logging_steps=steps)
        run.path.mkdir(parents=True)
        common = {
            "model": model,
            "data_collator": collate,
            "train_dataset": rows,
            "processing_class": tokenizer,
        }
        trainer: Any
        if stage == "dpo":
            trainer = VideoDPOTrainer(args=DPOConfig(**arguments), **common)
        else:
            skip = {"dataset_kwargs": {"skip_prepare_dataset": True}}
            trainer = VideoSFTTrainer(args=SFTConfig(**arguments, **skip), **common)
        attach(trainer, run, None)
        begin = time.process_time()
        trainer.train()
        spent = time.process_time() - begin
    batches = [collate([rows[i] for i in range(s, s + size)]) for s in range(0, size * steps, size)]
    return 1000 * spent / steps, batches


def bare_ms(start: Path, batches: list[Any]) -> float:
    """Milliseconds a step of SFT with nothing around it."""
    model = load_model(str(start), dtype="float32").train()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-4, fused=True)
    begin = time.process_time()
    for batch in batches:
        inputs = {key: value for key, value in batch.items() if key != "labels"}
        hidden = model.model(**inputs, use_cache=False).last_hidden_state[:, :-1]
        labels = batch["labels"][:, 1:]
        said = labels != -100
        loss = functional.cross_entropy(model.lm_head(hidden[said]), labels[said])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return 1000 * (time.process_time() - begin) / len(batches)


def main() -> int:
    """Measure and print."""
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        start = build_tiny(["what colour is it"] * 3, out / "start", seed=0)
        trainer_ms("sft", start, out / "warm", 1)  # what torch and TRL load on first use
        sft, batches = trainer_ms("sft", start, out, steps)
        bare = bare_ms(start, batches)
        dpo, _ = trainer_ms("dpo", start, out, steps)
    figures = {
        "steps": steps,
        "sft_ms": round(sft, 1),
        "bare_ms": round(bare, 1),
        "overhead": round(sft / bare - 1, 3),
        "dpo_ms": round(dpo, 1),
    }
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())

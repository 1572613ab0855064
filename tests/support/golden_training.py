"""Two steps of SFT and of DPO on a CPU in float32, from recipes that never change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sharegptvideo._io import read_jsonl, write_jsonl

__all__ = ["training"]

_COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}
_RECIPE = """
stage: {stage}
model: {model}
output: {output}
data: {{name: {name}, data_dir: {source}, media: {source}, split: train+validation}}
frames: 4
freeze: {{vision_tower: {freezes}, projector: {freezes}}}
optimisation:
  learning_rate: {rate}
  scheduler: linear
  warmup_ratio: 0.0
  max_steps: 2
  epochs: null
  per_device_batch_size: 2
  max_length: 128
  weight_decay: 0.01
seed: 0
log_every: 1
{more}
"""
_LOGGED = (
    "loss",
    "grad_norm",
    "rewards/chosen",
    "rewards/rejected",
    "logps/chosen",
    "logps/rejected",
)


def training(scratch: Path) -> dict[str, Any]:
    """What the two steps log, and the rows that they were made of."""
    from sharegptvideo.models import build_tiny
    from sharegptvideo.training import load_recipe, run_recipe

    source = _release(scratch / "release")
    texts = ["What colour is the picture? It is red. It is green, sir. It is blue."] * 3
    model = build_tiny(texts, scratch / "model", seed=3, size="tiny")
    results: dict[str, Any] = {}
    for stage, name, freezes, rate, more in (
        ("sft", "sft", "false", "2.0e-3", ""),
        ("dpo", "preferences", "true", "2.0e-3", "dpo: {beta: 0.1, sft_weight: 0.5}"),
    ):
        file = scratch / f"{stage}.yaml"
        told = {"stage": stage, "name": name, "freezes": freezes, "rate": rate, "more": more}
        file.write_text(_RECIPE.format(model=model, output=scratch / stage, source=source, **told))
        run_recipe(load_recipe(str(file)))
        for _, row in read_jsonl(scratch / stage / "log.jsonl"):
            logged = {key: float(row[key]) for key in _LOGGED if key in row}
            results[f"{stage}, step {row['step']}"] = logged
    return results


def _release(root: Path) -> Path:
    """Clips as folders of pictures without loss, so that no codec has a part in what is seen."""
    from PIL import Image

    train = root / "video_instruction" / "train"
    talks, pairs = [], []
    for number, (name, colour) in enumerate(_COLOURS.items()):
        stem = f"clip_{name}"
        (root / "videos" / stem).mkdir(parents=True)
        for frame in range(4):
            picture = np.full((24, 32, 3), colour, np.uint8) + np.uint8(8 * frame)
            Image.fromarray(picture).save(root / "videos" / stem / f"{frame}.png")
        other = list(_COLOURS)[(number + 1) % len(_COLOURS)]
        question, answer = "What colour is the picture?", f"It is {name}."
        talks.append(
            {
                "id": f"{stem}_t",
                "video": stem,
                "conversations": [
                    {"from": "human", "value": f"<video>\n{question}"},
                    {"from": "gpt", "value": f"{answer}{' Sir.' * number}"},
                ],
            }
        )
        pairs.append(
            {
                "id": f"{stem}_p",
                "video": stem,
                "prompt": question,
                "answer": answer,
                "chosen": answer,
                "chosen_score": 5,
                "rejected": f"It is {other}, sir.",
                "rejected_score": 1,
            }
        )
    write_jsonl(train / "sft" / "talks.jsonl", talks)
    write_jsonl(train / "dpo" / "pairs.jsonl", pairs)
    return root

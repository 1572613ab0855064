"""Prints what verl's readers make of files: `python verl_reader.py MODEL FILE...`.

A process of its own, without this package, which verl's transformers is too old for.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any


def read(file: str, processor: Any) -> list[Any]:
    """Return of each row what is asked and shown, or what is learned and if it has a medium."""
    from omegaconf import OmegaConf
    from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset
    from verl.utils.dataset.rl_dataset import RLHFDataset

    is_rl = ".rl." in file
    settings = {"filter_overlong_prompts": False, "max_length": 4096, "pad_mode": "no_padding"}
    config = OmegaConf.create(settings | {"ignore_input_ids_mismatch": True})
    kind: Any = RLHFDataset if is_rl else MultiTurnSFTDataset
    rows = kind(file, processor.tokenizer, config, processor=processor)
    found: list[Any] = []
    for number in range(len(rows)):
        row = rows[number]
        if not is_rl:
            text = processor.tokenizer.decode(row["input_ids"][row["loss_mask"].bool()])
            found.append([text, bool(row.get("multi_modal_inputs"))])
            continue
        prompt = row["raw_prompt"]
        _, videos = asyncio.run(kind.process_vision_info(prompt, 14, None))
        frames = len(videos[0][0])
        found.append([prompt[0]["content"], row["reward_model"], row["extra_info"], frames])
    return found


if __name__ == "__main__":
    from transformers import AutoProcessor

    load: Any = AutoProcessor.from_pretrained
    model = load(sys.argv[1])
    print(json.dumps({file: read(file, model) for file in sys.argv[2:]}))

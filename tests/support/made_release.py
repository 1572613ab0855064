"""Training rows of LLaVA-Hound's lengths in the release's layout, each on clips of its own."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from sharegptvideo._io import write_jsonl
from tests.support.training_shapes import WORDS, distinct_clips

__all__ = ["QUESTIONS_A_CLIP", "write_release"]

QUESTIONS_A_CLIP = {"preferences": 1, "sft": 3}
_FILES = {
    "preferences": "dpo/sft_dpo_17k.jsonl",
    "sft": "sft/video_240k_caption_15k.jsonl",
}
# Words of a question and an answer: with the prompt's own, 70 and 30 tokens, or 20 and 25.
_WORDS = {"preferences": (60, 29), "sft": (15, 24)}


def write_release(folder: Path, config: str, rows: int, media: Path | None = None) -> Path:
    """Write `rows` rows of `config` (`preferences`, `sft`) and their clips; return `folder`.

    Preferences have a clip each, instructions three to a clip.
    """
    draw = random.Random(0)
    each = QUESTIONS_A_CLIP[config]
    asked, said = _WORDS[config]
    (folder / "videos").mkdir(parents=True)
    found = []
    for number, path in enumerate(distinct_clips(-(-rows // each), folder / "made", media)):
        stem = f"clip{number}"
        (folder / "videos" / f"{stem}{Path(path).suffix}").symlink_to(path)
        for question in range(each):
            texts = [" ".join(draw.choices(WORDS, k=count)) for count in (asked, said, said)]
            found.append(_row(config, f"{stem}_{question}", stem, *texts))
    write_jsonl(folder / "video_instruction" / "train" / _FILES[config], found[:rows])
    return folder


def _row(config: str, key: str, video: str, prompt: str, good: str, bad: str) -> dict[str, Any]:
    row: dict[str, Any] = {"id": key, "video": video}
    if config == "sft":
        turns = (("human", f"<video>\n{prompt}"), ("gpt", good))
        row["conversations"] = [{"from": who, "value": value} for who, value in turns]
        return row
    answers = {"answer": good, "chosen": good, "rejected": bad}
    return row | {"prompt": prompt} | answers | {"chosen_score": 5, "rejected_score": 1}

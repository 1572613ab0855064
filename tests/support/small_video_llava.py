"""A small Video-LLaVA with the real one's clip: 224 px, 8 frames, 2,056 video tokens.

And a folder of MSVD-QA's own questions put to the real clips of the shared data.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from sharegptvideo._io import read_json, write_json
from sharegptvideo.models import ModelSize, build_tiny
from tests.support.training_shapes import WORDS, distinct_clips

__all__ = ["SIZE", "build_large", "build_small", "made_questions", "write_questions"]

SIZE = ModelSize(
    frames=8,
    image=224,
    patch=14,
    vision_hidden=128,
    vision_layers=4,
    vision_heads=4,
    vision_mlp=512,
    text_hidden=256,
    text_layers=4,
    text_heads=8,
    text_mlp=704,
    positions=4096,
    init_std=0.2,  # drawn wide, so that answers vary with clip and question
    position_std=0.2,
)


def build_small(rows: list[dict[str, Any]], out: Path, size: ModelSize = SIZE) -> Path:
    """A random model whose words are those of the questions."""
    texts = [f"{row['question']} {row['answer']}" for row in rows]
    return build_tiny(texts, out, seed=0, size=size)


def build_large(rows: list[dict[str, Any]], out: Path, layers: int, device: str) -> Path:
    """Video-LLaVA-7B's widths with random weights in bfloat16, drawn on `device`.

    Args:
        layers: of the language model's 32.
    """
    import torch
    from transformers import VideoLlavaConfig, VideoLlavaForConditionalGeneration

    build_small(rows, out)  # tokenizer and processor, and a config of the right marks
    content = read_json(out / "config.json")
    content["vision_config"] |= {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "projection_dim": 768,
    }
    content["text_config"] |= {
        "hidden_size": 4096,
        "intermediate_size": 11008,
        "num_hidden_layers": layers,
        "num_attention_heads": 32,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "initializer_range": 0.02,
    }
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = VideoLlavaForConditionalGeneration(VideoLlavaConfig(**content))
    finally:
        torch.set_default_dtype(before)
    model.save_pretrained(out)
    return out


def write_questions(shared: Path, out: Path, each: int) -> list[dict[str, Any]]:
    """`each` MSVD-QA test questions on every real clip: `msvd_qa_test_qa.json` and links `vidN`.

    The questions are about other videos: answers of a random model are as wrong on these.
    """
    groups: dict[int, list[dict[str, Any]]] = {}
    for row in read_json(shared / "annotations" / "msvd_qa_test_qa.json"):
        groups.setdefault(row["video_id"], []).append(row)
    long_enough = [group for group in groups.values() if len(group) >= each]
    clips = [*sorted((shared / "videos").iterdir()), *sorted((shared / "gifs").iterdir())]
    rows: list[dict[str, Any]] = []
    (out / "clips").mkdir(parents=True)
    for clip, group in zip(clips, long_enough, strict=False):
        link = out / "clips" / f"vid{group[0]['video_id']}{clip.suffix}"
        link.symlink_to(clip.resolve())
        rows += group[:each]
    write_json(out / "msvd_qa_test_qa.json", rows)
    return rows


def made_questions(out: Path, clips: int, each: int) -> list[dict[str, Any]]:
    """As `write_questions`, but with made clips and questions: where there is no shared data."""
    draw = random.Random(0)
    rows: list[dict[str, Any]] = []
    (out / "clips").mkdir(parents=True)
    paths = distinct_clips(clips, out / "made", out / "clips")
    for number, path in enumerate(paths, start=1):
        (out / "clips" / f"vid{number}.mp4").symlink_to(path)
        for _ in range(each):
            question = f"what is {' '.join(draw.choices(WORDS, k=8))}?"
            rows.append(
                {
                    "answer": draw.choice(WORDS),
                    "id": len(rows),
                    "question": question,
                    "video_id": number,
                }
            )
    write_json(out / "msvd_qa_test_qa.json", rows)
    return rows

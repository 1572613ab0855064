"""A few clips of different sizes and lengths, with SFT rows and pairs, as the release has them."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np

from sharegptvideo._io import write_jsonl

__all__ = ["build_release"]

# Width, height, frames: each gives another number of positions in models that keep a clip's shape.
_SHAPES = {"red": (64, 48, 6), "green": (48, 64, 9), "blue": (64, 64, 41), "white": (96, 48, 3)}
_COLOURS = {
    "red": (200, 30, 30),
    "green": (30, 200, 30),
    "blue": (30, 30, 200),
    "white": (230, 230, 230),
}


def build_release(root: Path) -> Path:
    """Four clips, two SFT rows a clip (one with two turns), one pair a clip."""
    train = root / "video_instruction" / "train"
    talks, pairs = [], []
    for number, (name, colour) in enumerate(_COLOURS.items()):
        stem = f"clip_{name}"
        _write(root / "videos" / f"{stem}.mp4", colour, *_SHAPES[name])
        other = list(_COLOURS)[(number + 1) % len(_COLOURS)]
        question, answer = "What colour is the picture?", f"It is {name}."
        talks.append(_talk(stem, f"{stem}_0", question, answer))
        talks.append(
            _talk(stem, f"{stem}_1", f"Is it {name}?", "Yes.", f"Or {other}?", f"No, {name}, sir.")
        )
        pairs.append(
            {
                "id": f"{stem}_p",
                "video": stem,
                "prompt": question,
                "answer": answer,
                "chosen": answer,
                "chosen_score": 5,
                "rejected": f"It is {other}, and a dog runs.",
                "rejected_score": 1,
            }
        )
    write_jsonl(train / "sft" / "video_240k_caption_15k.jsonl", talks)
    write_jsonl(train / "dpo" / "sft_dpo_17k.jsonl", pairs)
    return root


def _write(path: Path, colour: tuple[int, int, int], width: int, height: int, frames: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(frames)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(frames):
            grain = noise.integers(0, 25, (height, width, 3), dtype=np.uint8)
            picture = np.full((height, width, 3), colour, dtype=np.uint8) + grain
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def _talk(video: str, key: str, *texts: str) -> dict[str, object]:
    turns = [
        {"from": "gpt" if number % 2 else "human", "value": text}
        for number, text in enumerate(texts)
    ]
    turns[0]["value"] = f"<video>\n{texts[0]}"
    return {"id": key, "video": video, "conversations": turns}

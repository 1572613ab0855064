"""A release for `data export`: a clip that is a file, one that is frames, an image, a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from sharegptvideo._io import write_jsonl

__all__ = ["export_release"]


def export_release(folder: Path) -> tuple[Path, Path]:
    """Write a release and its media into `folder`; returns both folders."""
    media, train = folder / "media", folder / "release" / "video_instruction" / "train"
    frames = media / "frames" / "grey"
    frames.mkdir(parents=True)
    for number in (1, 2, 10):
        picture = Image.fromarray(np.full((60, 80, 3), 20 * number, np.uint8))
        picture.save(frames / f"grey_{number}.jpeg")
    (media / "images").mkdir()
    picture.save(media / "images" / "still.jpg")
    _write_clip(media / "film.mp4")
    rows: dict[str, list[dict[str, Any]]] = {
        "sft/talks.jsonl": [
            talk("a", "<video>\nWhat is it?", "Red.", "Sure?", "Yes.", video="film"),
            talk("b", "<video>\nWhat is it?", "Grey.", video="grey"),
            talk("c", "<image>\nWhat is it?", "Grey too.", image="images/still.jpg"),
            talk("d", "Two and two?", "Four."),
            talk("e", "<video>\nWhat is it?", "Gone.", video="lost"),
            talk("f", "<video>\nWhat is <audio>?", "A mark.", video="film"),
        ],
        "dpo/pairs.jsonl": [
            pair("p", "film", "Red.", "", answer="It is red."),
            pair("q", "grey", "Grey.", "Blue."),
            pair("r", "film", "Red.", "Red."),
        ],
        "qa/asked.jsonl": [
            talk("x_0", "<video>\nWhat is it?", "A film.", video="film"),
            talk("y_0", "<video>\nHow grey?", "Very.", video="grey"),
        ],
        "pretrain/video_caption_pretrain.jsonl": [
            talk("film", "<video>\nDescribe it.", "A red film.", video="film"),
        ],
    }
    for name, lines in rows.items():
        (train / name).parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(train / name, lines)
    return folder / "release", media


def _write_clip(path: Path) -> None:
    """Two seconds of red at ten frames a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        red = np.zeros((48, 64, 3), np.uint8)
        red[..., 0] = 200
        for _ in range(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(red, format="rgb24")))
        container.mux(stream.encode())


def talk(row_id: str, *texts: str, **medium: str) -> dict[str, Any]:
    sides = ("human", "gpt")
    turns = [{"from": sides[n % 2], "value": text} for n, text in enumerate(texts)]
    return {"id": row_id, **medium, "conversations": turns}


def pair(
    row_id: str, video: str, chosen: str, rejected: str, answer: str | None = None
) -> dict[str, Any]:
    row = {"id": row_id, "video": video, "prompt": "<video>\nWhat is it?", "answer": answer}
    return row | {"chosen": chosen, "rejected": rejected, "chosen_score": 5, "rejected_score": 1}

"""The release in miniature: its repositories with the real names of files, and real media.

Each repository is a mapping of paths to contents, for `HubServer.add_repo`. Clips are encoded with
H.264 and cut into frames as the release's are: two a second, JPEG, a folder a clip.
"""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np
from PIL import Image

from sharegptvideo.data.sources.hub import TEST_REPO, TRAIN_REPO
from tests.support.archives import tar_gz

__all__ = ["GONE", "MORE_CLIPS", "SETS", "TRAIN_CLIPS", "Miniature", "encoded", "miniature"]

Files = dict[str, bytes]

SETS = ("webvid", "vidal", "actnet", "msrvtt", "msvd", "tgif", "ssv2")
TRAIN_CLIPS = {
    "1016732470": "WebVid",
    "QOlSCBRmfWY": "VIDAL",
    "v_QIUV7WYKXgA-Scene-001": "ActivityNet",
}
"""Clips of train_300k, in chunk 0 (the first two) and 1."""
MORE_CLIPS = {"21179416": "WebVid", "dQw4w9WgXcQ": "VIDAL"}
"""Clips of train_600k, which have a caption and no questions."""
GONE = "1000000001"
"""A clip that rows name and no archive holds, as in a derivative of the release."""
ALLAVA, VISION_FLAN = "FreedomIntelligence/ALLaVA-4V", "Vision-Flan/vision-flan_191-task_1k"
RAW_TRAIN, RAW_TEST = "ShareGPTVideo/train_raw_video", "ShareGPTVideo/test_raw_video_data"

_FPS, _SECONDS, _SIZE = 8, 2, (96, 64)
_ROWS = "video_instruction"


@dataclass(frozen=True, slots=True)
class Miniature:
    """The repositories by their names, and how many rows each config has."""

    repos: dict[str, Files]
    rows: dict[str, int] = field(default_factory=dict)


def miniature() -> Miniature:
    """Return the release: three clips with questions, two more with captions, one a test set."""
    captions = [_talk(clip, clip, "Describe the clip.", _caption(clip)) for clip in _clips()]
    questions = [
        _talk(f"{clip}_{n}", clip, f"What is shown at moment {n}?", f"Scene {n} of clip {clip}.")
        for clip in [*TRAIN_CLIPS, GONE]
        for n in range(3)
    ]
    pairs = [
        {
            "id": f"{clip}_0",
            "video": clip,
            "prompt": "<video>\nWhat is shown?",
            "answer": f"Clip {clip}.",
            "chosen": f"Clip {clip}.",
            "chosen_score": 5,
            "rejected": "A dog.",
            "rejected_score": 1,
        }
        for clip in TRAIN_CLIPS
    ]
    train = {
        "README.md": b"# card\n",
        **_lines("pretrain/video_caption_pretrain", captions),
        **_lines("pretrain/image_caption_pretrain", [_image_talk(n) for n in range(3)]),
        **_lines("qa/chatgpt_qa_900k", questions),
        **_lines("qa/chatgpt_qa_240k", questions[:4]),
        # In the wild, some rows name `X.mp4` where the folder is `X`.
        **_lines("sft/video_caption_300k", [_as_file(row) for row in captions[:3]]),
        **_lines("sft/video_240k_caption_15k", questions[:6]),
        **_lines("sft/image_instruction_600k", [_image_talk(n, "i") for n in range(4)]),
        **_lines("sft/image_instruction_100k", [_image_talk(4, "i"), _text_talk()]),
        **_lines("dpo/sft_dpo_17k", pairs),
        "train_300k/chunk_0.tar.gz": tar_gz(_frames(list(TRAIN_CLIPS)[:2])),
        "train_300k/chunk_1.tar.gz": tar_gz(_frames(list(TRAIN_CLIPS)[2:])),
        "train_600k/chunk_0.tar.gz": tar_gz(_frames(MORE_CLIPS)),
    }
    test: Files = {"compile_test_result.tar.gz": tar_gz({"results/a.json": b"[]"})}
    for name in SETS:
        video = f"test/{name}/{name}_clip"
        asked = _talk(f"{name}_0", video, f"What does {name} show?", "A pattern.")
        test[f"{_ROWS}/test/{name}.qa.jsonl"] = _jsonl([asked | {"caption": _caption(name)}])
        # Some sets' archives hold a folder of the set's name, others their clips at once.
        top = f"{name}/" if name in {"msvd", "tgif"} else ""
        test[f"video_data/test/{name}.tar.gz"] = tar_gz(_frames([f"{name}_clip"], top))
        if name in {"msrvtt", "msvd", "tgif"}:
            short = _talk(f"{name}_s", video, "What is shown?", "pattern")
            test[f"{_ROWS}/test/{name}.qa.official.jsonl"] = _jsonl([short])
    activitynet = [clip for clip, source in TRAIN_CLIPS.items() if source == "ActivityNet"]
    repos = {
        TRAIN_REPO: train,
        TEST_REPO: test,
        RAW_TRAIN: {
            "activitynet/chunk_0.tar.gz": tar_gz({f"{c}.mp4": encoded(c) for c in activitynet})
        },
        RAW_TEST: {
            f"{name}.tar.gz": tar_gz({f"{name}/{name}_clip.mp4": encoded(f"{name}_clip")})
            for name in SETS
        },
        ALLAVA: {
            "allava_laion/image_chunks/images_0.zip": _zipped(
                {f"images/{n}.jpeg": _picture(f"allava {n}") for n in range(3)}
            )
        },
        VISION_FLAN: {
            "image_191-task_1k.zip": _zipped(
                {f"images_191task_1k/{n}.jpg": _picture(f"flan {n}") for n in (3, 4)}
            )
        },
    }
    rows = {"captions": 6, "qa": 12, "sft": 15, "image_captions": 3, "preferences": 3}
    return Miniature(repos, rows)


def encoded(clip: str) -> bytes:
    """Return a clip as an H.264 file: a noise pattern of its own that moves to the right."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=_FPS, options={"crf": "18"})
        stream.width, stream.height = _SIZE
        stream.pix_fmt = "yuv420p"
        for picture in _pictures(clip):
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return out.getvalue()


def _frame_folder(clip: str) -> Files:
    """Return a clip's frames by name, decoded from its file: two a second, from `c01_0001.jpeg`."""
    with av.open(io.BytesIO(encoded(clip))) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    kept = frames[:: _FPS // 2]
    return {f"c01_{number:04}.jpeg": _jpeg(frame) for number, frame in enumerate(kept, 1)}


def _clips() -> list[str]:
    return [*TRAIN_CLIPS, *MORE_CLIPS, GONE]


def _pictures(clip: str) -> Iterable[np.ndarray[Any, np.dtype[np.uint8]]]:
    draw = np.random.default_rng(list(clip.encode()))
    coarse = draw.integers(0, 256, (8, 12, 3), dtype=np.uint8)
    whole = np.kron(coarse, np.ones((8, 8, 1), dtype=np.uint8))
    for number in range(_FPS * _SECONDS):
        yield np.roll(whole, 2 * number, axis=1)


def _picture(name: str) -> bytes:
    return _jpeg(Image.fromarray(next(iter(_pictures(name)))))


def _jpeg(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=90)
    return out.getvalue()


def _frames(clips: Iterable[str], top: str = "") -> Files:
    return {
        f"{top}{clip}/{name}": content
        for clip in clips
        for name, content in _frame_folder(clip).items()
    }


def _zipped(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


_WORDS = (
    *("square", "corner", "colour", "stripe", "pattern", "camera", "light", "shade", "edge"),
    *("slowly", "across", "towards", "behind", "above", "bright", "dark", "moving", "still"),
)


def _caption(clip: str) -> str:
    words = random.Random(clip).choices(_WORDS, k=30)
    return f"The clip {clip} shows {' '.join(words)}."


def _talk(key: str, video: str, question: str, answer: str) -> dict[str, Any]:
    turns = [{"from": "human", "value": f"<video>\n{question}"}, {"from": "gpt", "value": answer}]
    return {"id": key, "video": video, "conversations": turns}


def _as_file(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"id": f"{row['id']}_c", "video": f"{row['video']}.mp4"}


def _image_talk(number: int, kind: str = "c") -> dict[str, Any]:
    """A row about an image: of ALLaVA for the first three numbers, else of Vision-Flan."""
    folder = "allava_laion/images" if number < 3 else "allava_vflan/images/images_191task_1k"
    name = f"{folder}/{number}.{'jpeg' if number < 3 else 'jpg'}"
    turns = [
        {"from": "human", "value": f"<image>\nWhat is in picture {number}?"},
        {"from": "gpt", "value": _caption(f"picture {kind}{number}")},
    ]
    return {"id": f"{kind}{number}", "image": name, "conversations": turns}


def _text_talk() -> dict[str, Any]:
    turns = [{"from": "human", "value": "Who are you?"}, {"from": "gpt", "value": "A model."}]
    return {"id": "text", "conversations": turns}


def _lines(name: str, rows: Iterable[dict[str, Any]]) -> Files:
    return {f"{_ROWS}/train/{name}.jsonl": _jsonl(rows)}


def _jsonl(rows: Iterable[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()

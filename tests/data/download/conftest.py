"""The release on a Hub on loopback: rows of three kinds, chunks and a test set's clips."""

from __future__ import annotations

import contextlib
import json
import os
import random
import zipfile
from collections.abc import Callable, Iterator

import pytest

from sharegptvideo.data.sources.hub import TEST_REPO, TRAIN_REPO
from tests.support.archives import tar_gz, zipped
from tests.support.hub_server import HubServer

Files = dict[str, dict[str, bytes]]


def _clip(stem: str, frames: int = 3) -> dict[str, bytes]:
    """Frames that gzip cannot shrink, as JPEG files are."""
    draw = random.Random(stem)
    return {f"{stem}/c01_{n:04}.jpeg": draw.randbytes(20_000) for n in range(1, frames + 1)}


def _qa(number: int, video: str) -> bytes:
    turns = [
        {"from": "human", "value": f"<video>\nWhat is {number}?"},
        {"from": "gpt", "value": f"It is {number}."},
    ]
    return json.dumps({"id": f"q{number}", "video": video, "conversations": turns}).encode() + b"\n"


@pytest.fixture
def contents() -> Files:
    """The files of both repositories; add to them before `release_hub` is asked for."""
    rows = "video_instruction"
    captions = [
        {"id": "c", "video": "one", "conversations": json.loads(_qa(0, "one"))["conversations"]}
    ]
    return {
        TRAIN_REPO: {
            "README.md": b"# card\n",
            f"{rows}/train/qa/video_qa.jsonl": b"".join(_qa(n, "one") for n in range(20)),
            f"{rows}/train/qa/more.jsonl": _qa(99, "two"),
            f"{rows}/train/qa/notes.txt": b"no rows",
            f"{rows}/train/pretrain/video_caption_pretrain.jsonl": json.dumps(captions[0]).encode(),
            f"{rows}/train/pretrain/image_caption_pretrain.jsonl": b"{}\n",
            "train_300k/chunk_0.tar.gz": tar_gz(_clip("one")),
            "train_300k/chunk_1.tar.gz": tar_gz(_clip("two")),
            "train_600k/chunk_0.tar.gz": tar_gz(_clip("three")),
        },
        TEST_REPO: {
            f"{rows}/test/msvd.qa.jsonl": _qa(1, "test/msvd/four"),
            f"{rows}/test/msvd.qa.official.jsonl": _qa(2, "test/msvd/four"),
            f"{rows}/test/actnet.qa.jsonl": _qa(3, "test/actnet/five"),
            "video_data/test/msvd.tar.gz": tar_gz(
                {f"msvd/{k}": v for k, v in _clip("four").items()}
            ),
            "video_data/test/actnet.tar.gz": tar_gz(_clip("five")),
            "compile_test_result.tar.gz": tar_gz({"results": b"none of ours"}),
        },
    }


@pytest.fixture
def release_hub(hub_server: HubServer, contents: Files) -> HubServer:
    """A Hub that has `contents`."""
    for repo, files in contents.items():
        hub_server.add_repo(repo, files)
    return hub_server


@pytest.fixture
def image_contents() -> Files:
    """Rows about images, two of ALLaVA's archives and Vision-Flan's; two have a folder in them."""
    talk = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A cat."}]
    names = ["allava_laion/images/1.jpeg", "allava_laion/images/2.jpeg"]
    names.append("allava_vflan/images/images_191task_1k/q.png")
    rows = [{"id": name, "image": name, "conversations": talk} for name in names]
    lines = "".join(f"{json.dumps(row)}\n" for row in rows)
    return {
        TRAIN_REPO: {
            "video_instruction/train/pretrain/image_caption_pretrain.jsonl": lines.encode()
        },
        "FreedomIntelligence/ALLaVA-4V": {
            "allava_laion/image_chunks/images_0.zip": zipped(
                {"1.jpeg": b"one" * 30_000}, zipfile.ZIP_STORED
            ),
            "allava_laion/image_chunks/images_1.zip": zipped({"images_1/2.jpeg": b"two"}),
            "allava_laion/ALLaVA-Caption-LAION-4V.json": b"{}",
        },
        "Vision-Flan/vision-flan_191-task_1k": {
            "image_191-task_1k.zip": zipped({"images_191task_1k/q.png": b"q"}),
        },
    }


@pytest.fixture
def image_hub(hub_server: HubServer, image_contents: Files) -> HubServer:
    """A Hub that has `image_contents`."""
    for repo, files in image_contents.items():
        hub_server.add_repo(repo, files)
    return hub_server


@pytest.fixture
def unprivileged() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """`with unprivileged():` the user has no more rights than anybody, even if it is root."""

    @contextlib.contextmanager
    def dropped() -> Iterator[None]:
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(user)

    return dropped

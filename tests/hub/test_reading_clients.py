"""The test Hub as a reader sees it: the real client, over real sockets."""

from __future__ import annotations

import hashlib

import pytest
from hub_server import HubServer
from huggingface_hub import hf_hub_download

REPO = "ShareGPTVideo/train_video_and_instruction"


def test_file_by_name(hub_server: HubServer) -> None:
    hub_server.add_repo(REPO, {"a/b.jsonl": b"{}\n", "c.tar.gz": bytes(range(256))})
    for name, content in hub_server.files(REPO).items():
        path = hf_hub_download(REPO, name, repo_type="dataset")
        with open(path, "rb") as file:
            assert file.read() == content

"""`source=None` against a Hub on loopback: real HTTP, the real client, only the files needed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from sharegptvideo import load_dataset, read_rows
from sharegptvideo.data.sources import DataWarning
from sharegptvideo.data.sources.hub import TEST_REPO, TRAIN_REPO
from sharegptvideo.errors import UserError
from tests.support.hub_server import HubServer

Python = Callable[..., str]

DEAD = "http://127.0.0.1:9"
QA = "video_instruction/train/qa/video_qa.jsonl"


@pytest.fixture
def hub(
    hub_server: HubServer, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> HubServer:
    """The shared release as both repositories; tables are kept for this test only."""
    for repo, folder in ((TRAIN_REPO, "train"), (TEST_REPO, "test")):
        hub_server.add_repo(repo, _below(shared_data / "release", f"video_instruction/{folder}"))
    monkeypatch.setenv("SHAREGPTVIDEO_CACHE", str(tmp_path / "tables"))
    return hub_server


def _below(root: Path, folder: str) -> dict[str, bytes]:
    paths = (path for path in (root / folder).rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


READ = """
import json, warnings
warnings.simplefilter("ignore")
from sharegptvideo import load_dataset, read_rows
"""


def test_downloads_only_what_is_asked_for_and_then_works_offline(
    hub: HubServer, shared_data: Path, python: Python
) -> None:
    code = READ + 'print(json.dumps([list(read_rows("qa")), list(load_dataset("qa"))]))'
    expected = list(read_rows("qa", shared_data / "release"))
    environment = hub.environment()
    assert json.loads(python(code, **environment)) == [expected, expected]
    assert hub.fetched == [QA]
    assert json.loads(python(code, **{**environment, "HF_ENDPOINT": DEAD})) == [expected, expected]
    hub.forget()
    offline = {**environment, "HF_HUB_OFFLINE": "1"}
    assert json.loads(python(code, **offline)) == [expected, expected]
    assert not hub.requests


def test_streams_without_keeping_files(hub: HubServer, shared_data: Path) -> None:
    with pytest.warns(DataWarning):
        expected = list(read_rows("sft", shared_data / "release"))
    with pytest.warns(DataWarning):
        found = list(load_dataset("sft", streaming=True, revision="main"))
    assert found == expected
    assert hub.fetched == [
        "video_instruction/train/sft/video_240k_caption_15k.jsonl",
        "video_instruction/train/sft/video_caption_300k.jsonl",
    ]
    assert not list(hub.home.rglob("*.jsonl"))


def test_registered_name_without_a_folder_reads_the_hub(hub: HubServer, shared_data: Path) -> None:
    rows = datasets.load_dataset("sharegptvideo", "tgif_qa", split="test", streaming=True)
    assert list(rows) == list(read_rows("tgif_qa", shared_data / "release", "test"))
    assert hub.fetched == ["video_instruction/test/tgif.qa.jsonl"]


@pytest.mark.parametrize("streaming", [False, True])
def test_pinned_revision(
    hub: HubServer, qa_row: Callable[..., dict[str, Any]], streaming: bool
) -> None:
    before = hub.commits(TRAIN_REPO)[0].oid
    hub.repo(TRAIN_REPO).tags["v1.0"] = before
    old = list(load_dataset("qa"))
    hub.add_repo(TRAIN_REPO, {QA: json.dumps(qa_row(7, "baby_reading")).encode()})
    for revision in ("v1.0", before):
        assert list(load_dataset("qa", revision=revision, streaming=streaming)) == old
    newest = list(load_dataset("qa", streaming=streaming))
    assert [row["question"] for row in newest] == ["What is 7?"]


@pytest.mark.parametrize("streaming", [False, True])
def test_cut_connections_change_no_row(hub: HubServer, shared_data: Path, streaming: bool) -> None:
    cut = hub.faults.add("video_qa.jsonl", "cut", after=1000)
    found = list(load_dataset("qa", streaming=streaming))
    assert found == list(read_rows("qa", shared_data / "release"))
    assert cut.hits == 1


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("name", "split", "revision", "line"),
    [
        ("qa", "train", "nosuch", f"{TRAIN_REPO}: no revision 'nosuch' on the Hub"),
        ("msvd_qa", "test", None, f"{TEST_REPO}: no video_instruction/test/msvd.qa.jsonl"),
    ],
)
def test_unknown_revision_and_file(
    hub: HubServer, name: str, split: str, revision: str | None, line: str, streaming: bool
) -> None:
    del hub
    with pytest.raises(UserError) as caught:
        list(load_dataset(name, split, revision=revision, streaming=streaming))
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("trouble", "line"),
    [
        ("private", "not on the Hub, or not for you"),
        ("gated", "ask for access on its page on the Hub"),
        ("token", "the Hub answered 401 Unauthorized; set another HF_TOKEN"),
    ],
)
def test_repository_that_is_not_for_this_token(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, trouble: str, line: str, streaming: bool
) -> None:
    repo = hub.repo(TRAIN_REPO)  # it is ShareGPTVideo's, and the token is tester's
    repo.private, repo.gated = trouble == "private", trouble == "gated"
    if trouble == "token":
        monkeypatch.setenv("HF_TOKEN", "hf_expired")
    with pytest.raises(UserError) as caught:
        list(load_dataset("qa", streaming=streaming))
    assert str(caught.value).startswith(f"{TRAIN_REPO}: {line}")
    assert "\n" not in str(caught.value)
    assert not hub.fetched


def test_stream_that_ends_for_good_is_not_the_end_of_the_rows(hub: HubServer) -> None:
    hub.faults.add("video_qa.jsonl", "cut", after=1000)
    hub.faults.add("video_qa.jsonl", method="GET", status=404, skip=1)
    rows = iter(load_dataset("qa", streaming=True))
    with pytest.raises(UserError, match="the Hub answered 404") as caught:
        list(rows)
    assert str(caught.value).startswith(f"{TRAIN_REPO}: ")
    assert [sent.sent for sent in hub.transfers] == [1000]


ERRORS = (
    READ
    + """
from sharegptvideo.errors import UserError
for streaming in (False, True):
    for name, split in (("qa", "train"), ("msvd_qa", "test")):
        try:
            list(load_dataset(name, split, streaming=streaming))
        except UserError as error:
            print(error)
"""
)


def test_no_network_is_one_line_with_the_fix(python: Python) -> None:
    lines = python(ERRORS, HF_ENDPOINT=DEAD).splitlines()
    assert len(lines) == 4
    for line in lines:
        assert re.match(r"ShareGPTVideo/\w+: the Hub cannot be reached \(ConnectError\)", line)
        assert line.endswith(
            'pass data_dir=PATH of a local copy of the release, or data_dir="synthetic"'
        )

"""There and back over HTTP: rows and bytes are the same, whatever happens on the way.

`tests/publishing/test_upload.py` has the steps of an upload one by one, `tests/downloading` those
of a download; here is what takes both, and readers who never heard of this package.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import pytest

from sharegptvideo import read_rows
from sharegptvideo.data import schema
from sharegptvideo.data.download import download
from sharegptvideo.data.publish import publish as publish_any
from sharegptvideo.data.sources import held_configs, open_source
from sharegptvideo.data.sources.hub import TEST_REPO, TRAIN_REPO
from tests.support.fresh_python import run_python
from tests.support.hub_faults import Kind
from tests.support.hub_server import HubServer
from tests.support.miniature import ALLAVA, VISION_FLAN

# The small release has a few clips on both sides.
publish = partial(publish_any, cards="package", allow=["leak-name"])

pytestmark = [
    # Of the client itself, when it uploads.
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::sharegptvideo.data.sources.DataWarning"),
]

REPO = "tester/my-videos"
Rows = dict[str, dict[str, list[dict[str, Any]]]]

# In an interpreter where this package is not to be had.
LOAD = """
import json, sys
sys.modules["sharegptvideo"] = None
import datasets
found = {}
for name in datasets.get_dataset_config_names(REPO):
    table = datasets.load_dataset(REPO, name)
    stream = datasets.load_dataset(REPO, name, streaming=True)
    for way, parts in (("table", table), ("stream", stream)):
        features = {split: str(rows.features) for split, rows in parts.items()}
        rows = {split: list(rows) for split, rows in parts.items()}
        found.setdefault(way, {})[name] = {"features": features, "rows": rows}
assert not [name for name in sys.modules if name.startswith("sharegptvideo.")]
print(json.dumps(found))
"""


@pytest.fixture(scope="session")
def release(shared_data: Path) -> Path:
    """The small release."""
    return shared_data / "release"


def rows_of(source: Path) -> Rows:
    """All rows that a folder has, by config and split, without empty splits."""
    found: Rows = {}
    for config in held_configs(source):
        for split in open_source(config, source).splits(config):
            if rows := list(read_rows(config.name, source, split)):
                found.setdefault(config.name, {})[split] = rows
    return found


def parquet(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The tables among the files of a repository or a folder."""
    return {path: content for path, content in files.items() if path.endswith(".parquet")}


def on_disk(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_every_config_in_a_process_without_this_package(
    hub_server: HubServer, release: Path, tmp_path: Path
) -> None:
    publish(release, REPO)
    expected = rows_of(release)
    assert len(expected) >= 8  # all that the small release has
    code = LOAD.replace("REPO", repr(REPO))
    ways = json.loads(run_python(code, tmp_path, **hub_server.environment()))
    assert set(ways) == {"table", "stream"}
    for configs in ways.values():
        assert {name: config["rows"] for name, config in configs.items()} == expected
        for name, config in configs.items():
            assert set(config["features"].values()) == {str(schema.features(name))}


def test_release_downloaded_over_a_bad_line_published_and_loaded(
    hub_server: HubServer, release: Path, tmp_path: Path
) -> None:
    files = on_disk(release)
    tests = {path: content for path, content in files.items() if "/test/" in path}
    hub_server.add_repo(TEST_REPO, tests)
    hub_server.add_repo(TRAIN_REPO, {path: files[path] for path in files.keys() - tests.keys()})
    for repo in (ALLAVA, VISION_FLAN):  # images of sft's rows; this release has none of them
        hub_server.add_repo(repo, {"README.md": b"Images"})
    faults = [
        hub_server.faults.add("/tree/", status=429, retry_after=0),
        hub_server.faults.add("chunk_0", "cut", after=30_000, times=2),
        hub_server.faults.add("chunk_1", "wrong", after=70_000),
        hub_server.faults.add("video_qa", "short", after=100),
        hub_server.faults.add("sft_dpo", "drop"),
        hub_server.faults.add("webvid", status=503),
    ]
    copy = tmp_path / "copy"
    for config in held_configs(release):
        download(config.name, copy, media=True)
    assert all(fault.hits for fault in faults)
    for path in files:
        if path.endswith(".jsonl"):
            assert (copy / path).read_bytes() == files[path]
    publish(copy, REPO)
    publish(release, REPO, dry_run=tmp_path / "dry")
    assert parquet(hub_server.files(REPO)) == parquet(on_disk(tmp_path / "dry"))

    def neutral(folder: Path) -> list[bool]:
        names = ["qa", "preferences"]
        tree = publish_any(
            folder, REPO, dry_run=tmp_path / "known", configs=names, allow=["leak-name"]
        ).tree
        return [facts.template.neutral for facts in tree.configs]

    # What was downloaded is the release's as long as it is as it came; no layout is enough.
    assert neutral(copy) == [False, False]
    assert neutral(copy.rename(tmp_path / "renamed")) == [False, False]
    with next((tmp_path / "renamed").rglob("sft_dpo*.jsonl")).open("ab") as file:
        file.write(b"\n")
    assert neutral(tmp_path / "renamed") == [False, True]
    assert neutral(release) == [True, True]


@pytest.mark.parametrize("kind", ["cut", "drop", "status"])
def test_streaming_over_a_bad_line(hub_server: HubServer, release: Path, kind: Kind) -> None:
    publish(release, REPO, configs=["qa"])
    hub_server.forget()
    fault = hub_server.faults.add(r"qa/train-.*parquet", kind, method="GET", after=500)
    rows = datasets.load_dataset(REPO, "qa", split="train", streaming=True)
    assert list(rows) == rows_of(release)["qa"]["train"]
    assert fault.hits == 1


def test_private_is_for_those_with_the_token(hub_server: HubServer, release: Path) -> None:
    publish(release, REPO, private=True, configs=["qa"])
    with pytest.raises(datasets.exceptions.DatasetNotFoundError):
        datasets.load_dataset(REPO, "qa", split="train", token=False)
    rows = datasets.load_dataset(REPO, "qa", split="train")
    assert list(rows) == rows_of(release)["qa"]["train"]
    assert hub_server.repo(REPO).private


def test_killed_in_the_upload_and_run_again(
    hub_server: HubServer, release: Path, tmp_path: Path
) -> None:
    publish(release, REPO, configs=["qa"], tag="v1")
    before = hub_server.files(REPO)
    hub_server.forget()
    stall = hub_server.faults.add("/upload/", "stall", after=1000, skip=2)
    command = [sys.executable, "-m", "sharegptvideo", "data", "publish", str(release)]
    command += ["--repo-id", REPO, "--tag", "v2", "--cards", "package", "--allow", "leak-name"]
    environment = {**os.environ, **hub_server.environment()}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as run:
        assert stall.struck.wait(60)
        run.kill()
    assert hub_server.files(REPO) == before
    whole = set(hub_server.objects)
    hub_server.forget()
    done = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    # What had arrived whole is not sent again.
    again = {path.split("/")[2] for method, path in hub_server.requests if method == "PUT"}
    assert again == set(hub_server.objects) - whole
    assert hub_server.files(REPO, "v1") == before
    publish(release, REPO, dry_run=tmp_path / "dry")
    assert parquet(hub_server.files(REPO)) == parquet(on_disk(tmp_path / "dry"))


@pytest.mark.usefixtures("hub_server")
def test_clips_in_the_rows(shared_data: Path) -> None:
    videos = shared_data / "videos"
    publish(shared_data / "release", REPO, configs=["captions"], media=videos)
    for streaming in (False, True):
        rows = datasets.load_dataset(REPO, "captions", split="train", streaming=streaming)
        assert rows.features["clip"] == datasets.Video()
        seen = set()
        for row in rows.cast_column("clip", datasets.Video(decode=False)):
            path = videos / f"{row['video']}.mp4"
            if path.exists():
                assert row["clip"]["bytes"] == path.read_bytes()
                seen.add(row["video"])
            else:
                assert row["clip"] is None
        assert seen

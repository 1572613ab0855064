"""A user's first hour with the release: fetched, unpacked, counted, loaded and validated."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from huggingface_hub import snapshot_download
from typer.testing import CliRunner

from sharegptvideo import list_datasets, load_dataset, read_rows
from sharegptvideo.cli import app
from sharegptvideo.data.schema import CONFIGS
from sharegptvideo.data.sources.hub import TEST_REPO, TRAIN_REPO
from tests.support.hub_server import HubServer
from tests.support.miniature import GONE, SETS, TRAIN_CLIPS, Miniature, miniature

pytestmark = pytest.mark.filterwarnings("ignore::sharegptvideo.data.sources.DataWarning")

RELEASED = [name for name in list_datasets() if CONFIGS[name].released and "synth" not in name]


@pytest.fixture(scope="module")
def release() -> Miniature:
    return miniature()


@pytest.fixture
def hub(hub_server: HubServer, release: Miniature) -> HubServer:
    """A Hub with all repositories of the release."""
    for repo, files in release.repos.items():
        hub_server.add_repo(repo, files)
    return hub_server


@pytest.fixture
def command() -> Callable[..., dict[str, Any]]:
    """Run `sharegptvideo data ... --json`; gives its figures, and fails where it does."""
    runner = CliRunner()

    def run(*words: object, code: int = 0) -> dict[str, Any]:
        shown = runner.invoke(app, ["data", *map(str, words), "--json"])
        assert shown.exit_code == code, shown.output
        figures: dict[str, Any] = json.loads(shown.stdout)
        return figures

    return run


def _there(figures: dict[str, Any]) -> dict[str, tuple[int, int, int]]:
    return {
        name: (one["rows"], one["there"], one["missing"])
        for name, one in figures["configs"].items()
    }


@pytest.mark.usefixtures("hub")
def test_from_the_hub_to_a_validated_folder(
    release: Miniature, command: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    # Fetched as most people do, archives and all.
    for repo in (TRAIN_REPO, TEST_REPO):
        snapshot_download(repo, repo_type="dataset", local_dir=tmp_path)
    counts = release.rows | {name: 1 for name in RELEASED if CONFIGS[name].is_task}
    packed = command("status", "--data-dir", tmp_path)
    assert {name: rows for name, (rows, _, _) in _there(packed).items()} == counts
    assert not any(there for _, there, _ in _there(packed).values())
    assert len(packed["media"]["archives_not_unpacked"]) == 3 + len(SETS)

    done = command("unpack", tmp_path, "--remove")
    assert (done["archives"], done["unpacked"]) == (10, 10)
    figures = command("status", "--data-dir", tmp_path)
    assert figures["media"]["archives"] == 0
    assert figures["media"]["frame_folders"] == 5 + len(SETS)
    # The clip that no archive holds has a caption and three questions; images come elsewhere.
    there = _there(figures)
    assert there["captions"] == (6, 5, 1)
    assert there["qa"] == (12, 9, 3)
    assert there["preferences"] == (3, 3, 0)
    assert all(there[name] == (1, 1, 0) for name in counts if CONFIGS[name].is_task)
    assert there["image_captions"] == (3, 0, 3)

    # The images, and what of the rest is not there as the Hub has it: nothing.
    fetched = command("download", "all", "--to", tmp_path, "--media", "--yes")
    assert fetched["archives_unpacked"] == 2
    there = _there(command("status", "--data-dir", tmp_path))
    assert there["image_captions"] == (3, 3, 0)
    # Three rows name `X.mp4` where the folder is `X`.
    assert there["sft"] == (15, 14, 0)

    _loads(tmp_path, counts)
    report = command("validate", tmp_path, "--media", tmp_path, "--out", tmp_path / "out", code=1)
    assert {(one["check"], one["config"]) for one in report["counts"]} == {
        ("missing-media", "captions"),  # the clip that no archive holds, where it is first named
        ("repeated-row", "qa"),  # 240k questions are among the 900k
    }
    assert (report["errors"], report["warnings"]) == (1, 4)


def _loads(folder: Path, counts: dict[str, int]) -> None:
    """Every config, in every form; the tables hold what the plain rows do."""
    for name in RELEASED:
        rows = list(read_rows(name, folder, "all", media=folder))
        assert len(rows) == counts[name], name
        table = load_dataset(name, "all", data_dir=folder, media=folder)
        assert list(table) == rows
        assert (
            list(load_dataset(name, "all", data_dir=folder, media=folder, streaming=True)) == rows
        )
        tables = datasets.load_dataset("sharegptvideo", name, data_dir=str(folder))
        assert sum(map(len, tables.values())) == counts[name]
        assert list(tables) == list(CONFIGS[name].released)
        absent = {row["video"] for row in rows if row.get("video") and row["video_path"] is None}
        assert absent <= {GONE}
    sources = {row["video"]: row["source"] for row in read_rows("captions", folder, "all")}
    assert TRAIN_CLIPS.items() <= sources.items()
    assert load_dataset("preferences", data_dir=folder, split="train[:1]")["chosen_score"] == [5.0]


def test_straight_from_the_hub(hub: HubServer) -> None:
    tables = datasets.load_dataset("sharegptvideo")
    assert sum(map(len, tables.values())) == 6
    assert hub.fetched == ["video_instruction/train/pretrain/video_caption_pretrain.jsonl"]
    assert load_dataset("msvd_qa")["video"] == ["test/msvd/msvd_clip"]
    stream = load_dataset("qa", "train[:2]", streaming=True)
    assert [row["id"] for row in stream] == load_dataset("qa", "train[:2]")["id"]
    with_media = datasets.load_dataset("sharegptvideo", "tgif_qa", split="test", streaming=True)
    assert [row["answer"] for row in with_media] == ["A pattern."]


@pytest.mark.usefixtures("hub")
def test_download_with_frames_is_the_same_folder_as_unpacked_by_us(
    command: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    command("download", "preferences", "--to", tmp_path / "one", "--media", "--yes")
    snapshot_download(
        TRAIN_REPO,
        repo_type="dataset",
        local_dir=tmp_path / "two",
        allow_patterns=["video_instruction/train/dpo/*", "train_300k/*"],
    )
    command("unpack", tmp_path / "two", "--remove")

    def shown(folder: Path) -> dict[str, bytes]:
        files = [path for path in folder.rglob("*") if path.is_file()]
        names = {path.relative_to(folder).as_posix(): path for path in files}
        return {n: p.read_bytes() for n, p in names.items() if "/." not in f"/{n}"}

    assert shown(tmp_path / "one") == shown(tmp_path / "two")


@pytest.mark.usefixtures("hub")
def test_raw_videos(command: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    command("download", "all", "--to", tmp_path, "--raw", "--yes")
    assert (tmp_path / "raw/activitynet/chunk_0/v_QIUV7WYKXgA-Scene-001.mp4").exists()
    figures = command("status", "--data-dir", tmp_path)
    assert figures["media"]["videos"] == 1 + len(SETS)
    there = _there(figures)
    assert there["preferences"] == (3, 1, 2)
    assert all(there[name] == (1, 1, 0) for name in RELEASED if CONFIGS[name].is_task)
    # Frames beside them: a clip has two forms, and the video is taken.
    command("download", "preferences", "--to", tmp_path, "--media", "--yes")
    paths = load_dataset("preferences", "all", data_dir=tmp_path, media=tmp_path)["video_path"]
    assert sorted(Path(path).suffix for path in paths) == ["", "", ".mp4"]
    shown = CliRunner().invoke(
        app, ["data", "download", "qa", "--to", str(tmp_path), "--raw", "--media"]
    )
    assert shown.exit_code == 2
    assert "--media takes the frames and --raw the videos; choose one" in shown.stderr

"""`source="synthetic"`: a world made once, read like a release."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sharegptvideo import load_dataset, read_rows
from sharegptvideo._io import cache_folder
from sharegptvideo.cli import app
from sharegptvideo.data.sources import world_folder
from sharegptvideo.synthetic import Sizes, build_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    build_world(out, seed=3, sizes=Sizes(6, 4, 3, 2), workers=1)
    return out


def test_every_set_of_a_world(world: Path) -> None:
    for name, split, videos in (
        ("captions", "train", 10),
        ("sft", "train", 6),
        ("qa", "train", 4),
        ("synthetic_qa", "test", 3),
        ("synthetic_ood_qa", "test", 2),
    ):
        rows = list(read_rows(name, world, split, media=world))
        assert len({row["video"] for row in rows}) == videos, name
        for row in rows:
            assert row["video_path"] == str(world / "videos" / f"{row['video']}.mp4")
            assert row.get("source", "synthetic") == "synthetic"
    assert all(row["caption"] for row in read_rows("qa", world))
    assert all(row["question_type"] for row in read_rows("synthetic_qa", world, "test"))


def test_a_world_keeps_its_own_splits(world: Path) -> None:
    # 1 % of the videos by hash would take clips from a world whose splits are made already.
    for name in ("captions", "sft", "qa"):
        assert list(read_rows(name, world, "validation")) == []


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHAREGPTVIDEO_CACHE", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("SHAREGPTVIDEO_CACHE")
    assert cache_folder() == tmp_path / "xdg" / "sharegptvideo"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "sharegptvideo"


@pytest.mark.slow
def test_the_embedded_world_needs_no_main_guard(tmp_path: Path) -> None:
    # A script without `if __name__ == "__main__"`: spawned workers would run it again.
    script = tmp_path / "script.py"
    script.write_text(
        "from sharegptvideo import load_dataset, read_rows\n"
        "table = load_dataset('captions', data_dir='synthetic')\n"
        "print(len(table), len(list(read_rows('synthetic_qa', split='test'))))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "300 160\n"
    # Built there, found here: the same cache folder.
    assert (world_folder() / "world.json").exists()
    assert len(load_dataset("qa", data_dir="synthetic")) == 240


@pytest.mark.slow  # the same world
def test_the_built_in_world_is_whole() -> None:
    words = ["data", "status", "synthetic_qa", "--data-dir", "synthetic", "--json"]
    figures = json.loads(CliRunner().invoke(app, words).stdout)
    counted = figures["configs"]["synthetic_qa"]
    assert counted["rows"] == counted["there"] > 0
    assert counted["sources"].keys() == {"synthetic"}

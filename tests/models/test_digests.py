"""Digests of large files: right, kept only while they are, and checked against the Hub's names."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo.errors import UserError
from sharegptvideo.models.digests import file_digests

HOUR_NS = 3_600_000_000_000


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHAREGPTVIDEO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def in_an_hour() -> int:
    """A clock by which the files of a test are old."""
    return time.time_ns() + HOUR_NS


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    """Two files, the first longer than a block."""
    files = [tmp_path / name for name in ("1.safetensors", "2.safetensors")]
    files[0].write_bytes(b"abc" * 500_000)
    files[1].write_bytes(b"")
    return files


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and from then on no file can be hashed."""

    def hashed(*_: Any) -> None:
        raise AssertionError("a file was read")

    return lambda: monkeypatch.setattr(hashlib, "sha256", hashed)


def test_a_file_is_read_once(shards: list[Path], unread: Callable[[], None]) -> None:
    expected = [sha256(b"abc" * 500_000), sha256(b"")]
    assert file_digests(shards, in_an_hour) == expected
    unread()
    assert file_digests(shards) == expected
    assert file_digests(shards[::-1]) == expected[::-1]
    with pytest.raises(AssertionError):  # the test would notice
        file_digests([Path(__file__)])


def test_what_changed_is_read_again(shards: list[Path]) -> None:
    """Of the same size and with its old time, as after a copy that keeps times."""
    file_digests(shards, in_an_hour)
    before = shards[0].stat()
    time.sleep(0.02)  # more than the file system's tick, in which no change is seen
    shards[0].write_bytes(b"abd" * 500_000)
    os.utime(shards[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert shards[0].stat().st_mtime_ns == before.st_mtime_ns
    assert file_digests(shards)[0] == sha256(b"abd" * 500_000)


def test_a_file_that_is_too_new_is_not_kept(shards: list[Path], unread: Callable[[], None]) -> None:
    """It could change again within the same tick of the clock, unseen."""
    newest = max(file.stat().st_ctime_ns for file in shards)
    file_digests(shards, lambda: newest + 1_999_999_999)
    unread()
    with pytest.raises(AssertionError):
        file_digests(shards)


def test_a_change_during_the_reading_is_noticed(shards: list[Path]) -> None:
    def write() -> int:
        shards[1].write_bytes(b"more")
        return in_an_hour()

    with pytest.raises(UserError, match=r"2\.safetensors: was changed while it was read"):
        file_digests(shards, write)
    assert file_digests(shards)[1] == sha256(b"more")


@pytest.mark.parametrize("obstacle", ["file", "damaged", "foreign"])
def test_a_cache_that_cannot_be_used_is_no_error(
    own_cache: Path, shards: list[Path], obstacle: str
) -> None:
    if obstacle == "file":
        own_cache.write_text("")
    else:
        own_cache.mkdir()
        content = b"no database at all " * 99 if obstacle == "damaged" else b"x"
        (own_cache / "digests.sqlite").write_bytes(content)
    for _ in range(2):
        assert file_digests(shards, in_an_hour)[1] == sha256(b"")


def test_a_file_of_the_hubs_cache_has_the_digest_that_it_is_named_by(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "main"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    names = {"right": sha256(b"weights"), "small": "a" * 40, "wrong": sha256(b"others")}
    for name, blob in names.items():
        (blobs / blob).write_bytes(b"weights")
        (snapshot / name).symlink_to(blobs / blob)
    assert file_digests([snapshot / "right", snapshot / "small"]) == [sha256(b"weights")] * 2
    with pytest.raises(UserError, match=f"{names['wrong']}: is not the file that the Hub has"):
        file_digests([snapshot / "wrong"], in_an_hour)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="cannot be read") as caught:
        file_digests([tmp_path / "gone"])
    assert "\n" not in str(caught.value)

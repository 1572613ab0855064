"""The file of the media index: killed, damaged, somebody else's, forbidden, on a full disk."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo.errors import UserError
from sharegptvideo.media.index import (
    INDEX_NAME,
    IndexFile,
    cached_index,
    index_media,
    known_unreadable,
)
from tests.support.media_trees import facts, frames

KILLED = """
import itertools, os, signal, sys
from pathlib import Path
from sharegptvideo.media.index import index_media

def progress(done, total, what):
    if what == "clips opened" and done >= 3:
        os.kill(os.getpid(), int(sys.argv[2]))

now = itertools.count().__next__  # a second later each time it is asked
index_media(Path(sys.argv[1]), workers=1, progress=progress, now=now)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_what_a_killed_run_finished_is_kept(tmp_path: Path, number: signal.Signals) -> None:
    for clip in range(10):
        frames(tmp_path / f"clip_{clip}", 2)
    words = [sys.executable, "-c", KILLED, str(tmp_path), str(int(number))]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -number, done.stderr
    index = index_media(tmp_path)
    assert index.opened == 7
    assert len(facts(index)) == 10


def test_it_is_kept_in_one_file(media: Path) -> None:
    before = {path for path in media.rglob("*") if path.is_file()}
    index = index_media(media)
    after = {path for path in media.rglob("*") if path.is_file()}
    assert after - before == {media / INDEX_NAME} == {index.file}


def test_a_damaged_index_is_made_again(media: Path) -> None:
    index = index_media(media)
    before = facts(index)
    data = bytearray(index.file.read_bytes())
    data[100:] = b"\xa5" * (len(data) - 100)
    index.file.write_bytes(data)
    assert known_unreadable(media) == {}
    index = index_media(media)
    assert index.opened == 4
    assert facts(index) == before


def test_an_index_of_another_version_is_made_again(media: Path) -> None:
    index = index_media(media)
    with sqlite3.connect(index.file) as base:
        base.execute("PRAGMA user_version = 999")
    base.close()
    assert index_media(media).opened == 4
    assert index_media(media).opened == 0


@pytest.mark.parametrize("kind", ["text", "other base"])
def test_a_file_of_the_users_is_left_alone(media: Path, kind: str) -> None:
    path = media / INDEX_NAME
    if kind == "text":
        path.write_text("my notes on these clips")
    else:
        with sqlite3.connect(path) as base:
            base.execute("CREATE TABLE mine (a)")
        base.close()
    before = path.read_bytes()
    with pytest.raises(UserError, match="not a media index of this package; move it away"):
        index_media(media)
    assert path.read_bytes() == before


def test_an_empty_index_file_left_by_a_kill_is_filled(media: Path) -> None:
    (media / INDEX_NAME).touch()
    assert len(facts(index_media(media))) == 4


def test_media_that_cannot_be_written_are_indexed_in_the_cache_folder(media: Path) -> None:
    # A folder of that name is what even root cannot write over.
    (media / INDEX_NAME).mkdir()
    index = index_media(media)
    assert index.file == cached_index(media)
    assert str(index.file).startswith(os.environ["SHAREGPTVIDEO_CACHE"])
    assert len(facts(index)) == 4
    assert index_media(media).opened == 0


UNPRIVILEGED = """
import os, sys
from pathlib import Path
from sharegptvideo.media.index import index_media

if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
index = index_media(Path(sys.argv[1]))
print(index.file, index.opened, len(list(index.clips())))
"""


def test_an_index_beside_media_without_rights_is_where_the_cached_one_starts(
    media: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Another user made the index; ours may read it and not write it."""
    index_media(media)
    cache = tmp_path / "cache"
    cache.mkdir()
    if os.geteuid() == 0:
        cache.chmod(0o777)
        for folder in (tmp_path, *tmp_path.parents):
            if folder.stat().st_uid == 0 and not folder.stat().st_mode & 0o001:
                if tmp_path_factory.getbasetemp().parent not in (folder, *folder.parents):
                    pytest.skip(f"{folder} is closed to other users")
                folder.chmod(folder.stat().st_mode | 0o055)
    media.chmod(0o555)
    (media / INDEX_NAME).chmod(0o444)
    done = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED, str(media)],
        env={**os.environ, "SHAREGPTVIDEO_CACHE": str(cache)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    media.chmod(0o755)
    assert done.returncode == 0, done.stderr
    file, opened, count = done.stdout.split()
    assert Path(file).parent == cache / "media"
    assert (opened, count) == ("0", "4")


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from sharegptvideo.errors import UserError
from sharegptvideo.media.index import index_media

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    index_media(Path(sys.argv[1]), workers=1)
except UserError as error:
    print(error)
"""


def test_a_full_disk_is_one_line_and_leaves_a_sound_index(tmp_path: Path) -> None:
    for number in range(250):
        frames(tmp_path / f"clip_with_a_rather_long_name_that_takes_room_{number}", 1)
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"{tmp_path / INDEX_NAME}: cannot be written (")
    assert line.endswith("free some space and run again, what was finished is kept")
    assert len(facts(index_media(tmp_path))) == 250


def test_names_that_are_no_unicode(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    frames(tmp_path / name, 2)
    assert [clip.path for clip in index_media(tmp_path).clips()] == [name]
    assert index_media(tmp_path).opened == 0


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone: no such folder of media"):
        index_media(tmp_path / "gone")
    with pytest.raises(UserError, match="the number of workers must be at least 1, got 0"):
        index_media(tmp_path, workers=0)


def test_another_process_that_writes_the_index_is_waited_for(media: Path) -> None:
    file = index_media(media).file
    other: Any = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(UserError, match=r"written by another process for 0\.05 s"):
        IndexFile(file, wait_s=0.05)
    other.execute("ROLLBACK")
    other.close()
    assert index_media(media).opened == 0

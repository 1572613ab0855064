"""The media index: what it says of a clip, what it opens again, how it survives."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from sharegptvideo.errors import UserError
from sharegptvideo.media import MediaFolder, sample_frames
from sharegptvideo.media.facts import ClipFacts
from sharegptvideo.media.index import Clip, MediaIndex, index_media, known_unreadable
from sharegptvideo.media.index_file import INDEX_NAME, cached_path

LONG_AGO = 1_500_000_000


def frames(folder: Path, count: int, size: tuple[int, int] = (12, 8), kind: str = "jpeg") -> Path:
    """A folder of `count` pictures, last changed long ago."""
    folder.mkdir(parents=True)
    for number in range(1, count + 1):
        Image.new("RGB", size, (number, 0, 0)).save(folder / f"c01_{number:04d}.{kind}")
    return aged(folder)


def aged(path: Path, seconds: int = LONG_AGO) -> Path:
    """As if nobody had touched it since: the index opens what is new once more."""
    os.utime(path, (seconds, seconds))
    return path


def facts(index: MediaIndex) -> dict[str, ClipFacts]:
    return {clip.path: clip.facts for clip in index.clips()}


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


@pytest.fixture
def media(tmp_path: Path, write_clip: Callable[..., Path]) -> Path:
    """Two videos and two folders of frames, long unchanged."""
    root = tmp_path / "media"
    (root / "videos").mkdir(parents=True)
    aged(write_clip(root / "videos" / "a.mp4", 30, size=(64, 48)))
    aged(write_clip(root / "videos" / "b.gif", 10, codec="gif", pix_fmt="rgb8", size=(32, 48)))
    frames(root / "train_300k" / "chunk_0" / "c", 3)
    frames(root / "train_300k" / "chunk_0" / "d.x", 12, size=(20, 30))
    return root


def test_facts_of_each_clip(media: Path) -> None:
    index = index_media(media)
    found = {(clip.path, clip.kind, clip.stem): clip.facts for clip in index.clips()}
    chunk = media / "train_300k" / "chunk_0"
    assert found == {
        ("train_300k/chunk_0/c", "frames", "train_300k/chunk_0/c"): ClipFacts(
            size_of(chunk / "c"), frames=3, width=12, height=8
        ),
        ("train_300k/chunk_0/d.x", "frames", "train_300k/chunk_0/d.x"): ClipFacts(
            size_of(chunk / "d.x"), frames=12, width=20, height=30
        ),
        ("videos/a.mp4", "video", "videos/a"): ClipFacts(
            (media / "videos/a.mp4").stat().st_size, 30 / 25, 30, 25.0, 64, 48
        ),
        ("videos/b.gif", "video", "videos/b"): ClipFacts(
            (media / "videos/b.gif").stat().st_size, 10 / 25, 10, 25.0, 32, 48
        ),
    }
    assert (index.videos, index.frame_folders, len(index), index.errors) == (2, 2, 4, {})


def test_facts_agree_with_a_full_decode_of_real_clips(shared_data: Path, tmp_path: Path) -> None:
    for name in ("videos", "gifs"):
        (tmp_path / name).symlink_to(shared_data / name)
    clips = list(index_media(tmp_path).clips())
    assert len(clips) == 5
    for clip in clips:
        with av.open(str(tmp_path / clip.path)) as container:
            times = [frame.time for frame in container.decode(video=0)]
        assert clip.facts.frames == len(times)
        assert clip.facts.duration_s == pytest.approx(times[-1], abs=0.5)
        shape = sample_frames(tmp_path / clip.path, 1).frames.shape
        assert (clip.facts.height, clip.facts.width) == shape[1:3]


def test_size_is_that_of_the_upright_frame(tmp_path: Path) -> None:
    folder = tmp_path / "phone"
    folder.mkdir()
    picture = Image.new("RGB", (40, 20))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(folder / "f_1.jpg", exif=exif)
    assert facts(index_media(tmp_path))["phone"][4:6] == (20, 40)
    assert sample_frames(folder, 1).frames.shape == (1, 40, 20, 3)


def cut(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (lambda m: cut(m / "videos/a.mp4", 0), "videos/a.mp4: cannot be read as a video (the file"),
        (
            lambda m: cut(m / "videos/a.mp4", 0.5),
            "videos/a.mp4: cannot be read as a video (the file is cut short",
        ),
        (
            lambda m: (m / "videos/a.mp4").write_text("404: Not Found"),
            "videos/a.mp4: cannot be read as a video (this is text",
        ),
        (
            lambda m: cut(m / "train_300k/chunk_0/c/c01_0002.jpeg", 0),
            "train_300k/chunk_0/c: frame c01_0002.jpeg is empty",
        ),
        (
            lambda m: cut(m / "train_300k/chunk_0/c/c01_0003.jpeg", 0.995),
            "train_300k/chunk_0/c: frame c01_0003.jpeg cannot be read (image file is truncated",
        ),
        (
            lambda m: (m / "train_300k/chunk_0/c/c01_0001.jpeg").write_text("404: Not Found"),
            "train_300k/chunk_0/c: frame c01_0001.jpeg cannot be read (cannot identify image file)",
        ),
        (
            lambda m: Image.new("RGB", (9, 9)).save(m / "train_300k/chunk_0/c/c01_0003.jpeg"),
            "train_300k/chunk_0/c: the frames differ in size (c01_0001.jpeg is 12×8 and",
        ),
    ],
)
def test_what_cannot_be_read_is_told(
    media: Path, spoil: Callable[[Path], object], cause: str
) -> None:
    spoil(media)
    index = index_media(media)
    ((path, error),) = index.errors.items()
    assert f"{path}: {error}".startswith(cause)
    assert "\n" not in error
    assert str(media) not in error
    assert facts(index)[path].error == error
    assert list(known_unreadable(media)) == [path]


def test_a_file_cut_short_is_damaged_but_readable(
    tmp_path: Path, write_clip: Callable[..., Path]
) -> None:
    path = write_clip(
        tmp_path / "a.mp4", 60, size=(160, 120), container_options={"movflags": "faststart"}
    )
    cut(path, 0.7)
    index = index_media(tmp_path)
    found = facts(index)["a.mp4"]
    assert index.errors == {}
    assert found.damage is not None
    assert found.damage.startswith("the file is cut short")
    assert found.frames is not None
    assert 5 <= found.frames < 60


@pytest.mark.parametrize("kind", ["png", "webp", "bmp"])
def test_other_pictures(tmp_path: Path, kind: str) -> None:
    folder = frames(tmp_path / "clip", 2, kind=kind)
    assert index_media(tmp_path).errors == {}
    cut(folder / f"c01_0002.{kind}", 0.6)
    index = index_media(tmp_path, fresh=True)
    assert index.errors["clip"].startswith(f"frame c01_0002.{kind} cannot be read (")


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 5}])
def test_pictures_of_usual_size(tmp_path: Path, options: dict[str, Any]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (150, 200, 3), dtype=np.uint8)
    folder = tmp_path / "clip"
    folder.mkdir()
    for number in (1, 2):
        Image.fromarray(noise).save(folder / f"c01_{number:04d}.jpeg", **options)
    found = facts(index_media(tmp_path))["clip"]
    assert found == ClipFacts(size_of(folder), frames=2, width=200, height=150)
    cut(folder / "c01_0002.jpeg", 0.9)
    error = index_media(tmp_path, fresh=True).errors["clip"]
    assert error.startswith("frame c01_0002.jpeg cannot be read (image file is truncated (")
    # Bytes behind the end hurt no decoder.
    Image.fromarray(noise).save(folder / "c01_0002.jpeg")
    with (folder / "c01_0002.jpeg").open("ab") as file:
        file.write(b"padding")
    assert index_media(tmp_path, fresh=True).errors == {}


def test_the_last_picture_is_the_last_in_natural_order(tmp_path: Path) -> None:
    folder = frames(tmp_path / "clip", 1)
    for number in (2, 9, 10):
        size = (12, 8) if number != 10 else (8, 12)
        Image.new("RGB", size).save(folder / f"c01_{number}.jpeg")
    error = index_media(tmp_path).errors["clip"]
    assert error == "the frames differ in size (c01_0001.jpeg is 12×8 and c01_10.jpeg is 8×12)"


def overwrite(path: Path) -> None:
    """Same size, other bytes, same time: only opening it tells."""
    status = path.stat()
    path.write_bytes(bytes(status.st_size))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_what_has_not_changed_is_not_opened_again(media: Path) -> None:
    before = facts(index_media(media))
    overwrite(media / "videos" / "a.mp4")
    for picture in (media / "train_300k" / "chunk_0" / "c").iterdir():
        overwrite(picture)
    index = index_media(media)
    assert (index.opened, index.removed, index.errors) == (0, 0, {})
    assert facts(index) == before
    index = index_media(media, fresh=True)
    assert index.opened == 4
    assert sorted(index.errors) == ["train_300k/chunk_0/c", "videos/a.mp4"]


def test_what_has_changed_is_opened_and_what_is_gone_is_dropped(
    media: Path, write_clip: Callable[..., Path]
) -> None:
    index_media(media)
    aged(write_clip(media / "videos" / "a.mp4", 31), LONG_AGO + 9)
    chunk = media / "train_300k" / "chunk_0"
    (chunk / "d.x" / "c01_0012.jpeg").unlink()
    aged(chunk / "d.x", LONG_AGO + 9)
    shutil.rmtree(chunk / "c")
    frames(media / "train_300k" / "chunk_1" / "e", 2)
    index = index_media(media)
    assert (index.opened, index.removed) == (3, 1)
    assert {path: found.frames for path, found in facts(index).items()} == {
        "train_300k/chunk_0/d.x": 11,
        "train_300k/chunk_1/e": 2,
        "videos/a.mp4": 31,
        "videos/b.gif": 10,
    }
    assert index_media(media).opened == 0


def test_a_folder_of_frames_that_got_a_video_is_no_clip_any_more(
    media: Path, write_clip: Callable[..., Path]
) -> None:
    index_media(media)
    write_clip(media / "train_300k" / "chunk_0" / "c" / "new.mp4", 2)
    index = index_media(media)
    assert (index.opened, index.removed) == (1, 1)
    assert "train_300k/chunk_0/c/new.mp4" in facts(index)


def test_a_clip_changed_just_now_is_opened_once_more(media: Path) -> None:
    path = media / "videos" / "a.mp4"
    os.utime(path)
    index_media(media)
    overwrite(path)
    index = index_media(media)
    assert index.opened == 1
    assert list(index.errors) == ["videos/a.mp4"]


def test_an_error_is_remembered_and_forgotten_when_it_is_mended(
    media: Path, write_clip: Callable[..., Path]
) -> None:
    path = media / "videos" / "a.mp4"
    path.write_text("404")
    aged(path)
    first = index_media(media).errors
    again = index_media(media)
    assert again.opened == 0
    assert again.errors == first != {}
    aged(write_clip(path, 5), LONG_AGO + 1)
    assert index_media(media).errors == {}


def test_clips_are_found_as_without_an_index(media: Path) -> None:
    plain = MediaFolder(media)
    for _ in range(2):  # from a walk, then from a walk that trusts the index
        folder = index_media(media).folder
        for stem in ("a", "test/tgif/b", "c", "d.x", "videos/a.mp4", "chunk_0/c", "x", "test/y/c"):
            assert folder.resolve(stem) == plain.resolve(stem)
    assert folder.locate("c") == "train_300k/chunk_0/c"


@pytest.mark.parametrize("workers", [1, 2])
def test_many_clips_by_one_process_or_two(tmp_path: Path, workers: int) -> None:
    for number in range(300):
        folder = frames(tmp_path / f"chunk_{number % 3}" / f"clip_{number}", 1 + number % 3)
        if number % 100 == 7:
            cut(folder / "c01_0001.jpeg", 0)
    told: list[tuple[int, int, str]] = []
    index = index_media(tmp_path, workers=workers, progress=lambda *step: told.append(step))
    assert index.opened == 300
    assert set(index.errors) == {"chunk_1/clip_7", "chunk_2/clip_107", "chunk_0/clip_207"}
    counted = {path: found.frames for path, found in facts(index).items() if not found.error}
    assert counted == {
        f"chunk_{number % 3}/clip_{number}": 1 + number % 3
        for number in range(300)
        if number % 100 != 7
    }
    assert told[-1] == (300, 300, "clips opened")
    assert index_media(tmp_path, workers=workers).opened == 0


KILLED = """
import os, signal, sys
from pathlib import Path
import sharegptvideo.media.index as module

module._COMMIT_S = 0.0
module._STEP = 1

def progress(done, total, what):
    if what == "clips opened" and done >= 3:
        os.kill(os.getpid(), int(sys.argv[2]))

module.index_media(Path(sys.argv[1]), workers=1, progress=progress)
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
    assert index.file == cached_path(media)
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
    with pytest.raises(UserError, match="0 workers; ask for 1 or more"):
        index_media(tmp_path, workers=0)


def test_a_clip_knows_its_stem() -> None:
    assert Clip("a/b.c.mp4", "video", ClipFacts(1)).stem == "a/b.c"
    assert Clip("a/b.c", "frames", ClipFacts(1)).stem == "a/b.c"


def test_another_process_that_writes_the_index_is_waited_for(
    media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sharegptvideo.media.index_file as module

    monkeypatch.setattr(module, "_WAIT_S", 0.05)
    file = index_media(media).file
    other: Any = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(UserError, match="written by another process"):
        index_media(media)
    other.execute("ROLLBACK")
    other.close()
    assert index_media(media).opened == 0

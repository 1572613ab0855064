"""The media index: what it says of a clip, and what it opens again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from sharegptvideo.media import MediaFolder, sample_frames
from sharegptvideo.media.facts import ClipFacts
from sharegptvideo.media.index import Clip, index_media, known_unreadable
from tests.support.media_trees import LONG_AGO, aged, cut, facts, frames, size_of


def test_facts_of_each_clip(media: Path) -> None:
    index = index_media(media)
    clips = {(clip.path, clip.kind, clip.stem): clip.facts for clip in index.clips()}
    chunk = media / "train_300k" / "chunk_0"
    assert clips == {
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
            "train_300k/chunk_0/c: frame c01_0001.jpeg cannot be read (no image, or",
        ),
        (
            lambda m: Image.new("RGB", (9, 9)).save(m / "train_300k/chunk_0/c/c01_0003.jpeg"),
            "train_300k/chunk_0/c: the frames differ in size (c01_0001.jpeg is 12×8 and",
        ),
    ],
)
def test_what_cannot_be_read_is_reported(
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
    clip = facts(index)["a.mp4"]
    assert index.errors == {}
    assert clip.damage is not None
    assert clip.damage.startswith("the file is cut short")
    assert clip.frames is not None
    assert 5 <= clip.frames < 60


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
    clip = facts(index_media(tmp_path))["clip"]
    assert clip == ClipFacts(size_of(folder), frames=2, width=200, height=150)
    cut(folder / "c01_0002.jpeg", 0.9)
    error = index_media(tmp_path, fresh=True).errors["clip"]
    assert error.startswith("frame c01_0002.jpeg cannot be read (image file is truncated (")
    # Bytes after the end hurt no decoder.
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
    """Same size, other bytes, same time: only opening it shows that."""
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
    assert {path: clip.frames for path, clip in facts(index).items()} == {
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
    steps: list[tuple[int, int, str]] = []
    index = index_media(tmp_path, workers=workers, progress=lambda *step: steps.append(step))
    assert index.opened == 300
    assert set(index.errors) == {"chunk_1/clip_7", "chunk_2/clip_107", "chunk_0/clip_207"}
    counted = {path: clip.frames for path, clip in facts(index).items() if not clip.error}
    assert counted == {
        f"chunk_{number % 3}/clip_{number}": 1 + number % 3
        for number in range(300)
        if number % 100 != 7
    }
    assert steps[-1] == (300, 300, "clips opened")
    assert index_media(tmp_path, workers=workers).opened == 0


def test_a_clip_knows_its_stem() -> None:
    assert Clip("a/b.c.mp4", "video", ClipFacts(1)).stem == "a/b.c"
    assert Clip("a/b.c", "frames", ClipFacts(1)).stem == "a/b.c"

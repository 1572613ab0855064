"""Clips that are folders of pictures, as in the release's training data."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sharegptvideo.media import MediaError, sample_frames


def shade(value: int, size: tuple[int, int] = (12, 8)) -> Image.Image:
    return Image.new("RGB", size, (value, 255 - value, 7))


def shades(frames: Any) -> list[int]:
    return [int(frame[0, 0, 0]) for frame in frames]


def folder_error(folder: Path, n: int = 8) -> str:
    with pytest.raises(MediaError) as caught:
        sample_frames(folder, n)
    message = str(caught.value)
    assert message.startswith(f"{folder}: ")
    assert "\n" not in message
    return message.removeprefix(f"{folder}: ")


def test_release_folder_equals_pil(shared_data: Path, tmp_path: Path) -> None:
    with tarfile.open(shared_data / "release" / "train_300k" / "chunk_1.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    folders = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert folders
    for folder in folders:
        paths = sorted(folder.glob("c01_*.jpeg"))
        reference = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
        for n in (1, 8, 2 * len(paths)):
            frames, indices = sample_frames(folder, n)
            last = len(paths) - 1
            assert indices == ([i * last // (n - 1) for i in range(n)] if n > 1 else [0])
            assert frames.dtype == np.uint8
            assert np.array_equal(frames, np.stack([reference[i] for i in indices]))


def test_names_are_taken_in_natural_order(tmp_path: Path) -> None:
    for number in range(12):
        shade(number * 20).save(tmp_path / f"frame_{number}.png")
    frames, indices = sample_frames(str(tmp_path), 12)
    assert indices == list(range(12))
    assert shades(frames) == [number * 20 for number in range(12)]


def test_scenes_come_before_frames_within_them(tmp_path: Path) -> None:
    for value, name in enumerate(["c01_0009.png", "c01_0010.png", "c02_0001.png", "c10_0001.png"]):
        shade(value).save(tmp_path / name)
    assert shades(sample_frames(tmp_path, 4).frames) == [0, 1, 2, 3]


def test_other_files_and_hidden_ones_are_not_frames(tmp_path: Path) -> None:
    shade(1).save(tmp_path / "1.PNG")
    shade(2).save(tmp_path / "2.png")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "._1.png").write_bytes(b"a resource fork")
    (tmp_path / "0").mkdir()
    assert shades(sample_frames(tmp_path, 2).frames) == [1, 2]


def test_fewer_pictures_than_asked_for_repeat(tmp_path: Path) -> None:
    for value in range(3):
        shade(value).save(tmp_path / f"{value}.png")
    frames, indices = sample_frames(tmp_path, 5)
    assert indices == [0, 0, 1, 1, 2]
    assert shades(frames) == indices


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    shade(200).convert(mode).save(tmp_path / ("1.jpeg" if mode == "CMYK" else "1.png"))
    assert sample_frames(tmp_path, 2).frames.shape == (2, 8, 12, 3)


def test_orientation_tag_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise by a quarter
    image = shade(9)
    image.putpixel((0, 0), (255, 255, 255))
    image.save(tmp_path / "1.png", exif=exif)
    frames = sample_frames(tmp_path, 1).frames
    assert frames.shape == (1, 12, 8, 3)
    assert frames[0, 0, -1].tolist() == [255, 255, 255]


def test_frames_of_differing_size_are_one_error(tmp_path: Path) -> None:
    for number in range(4):
        shade(number, (12, 8 + number // 3)).save(tmp_path / f"{number}.png")
    message = folder_error(tmp_path)
    assert message == "the frames differ in size (0.png is 12×8 and 3.png is 12×9)"


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    assert folder_error(tmp_path).startswith("the folder holds no frames")
    (tmp_path / "clip.mp4").write_bytes(b"")
    assert folder_error(tmp_path).startswith("the folder holds no frames")


@pytest.mark.parametrize("data", [b"", b"text", None], ids=["empty", "text", "cut"])
def test_a_broken_picture_is_an_error_that_names_it(tmp_path: Path, data: bytes | None) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for number in range(3):
        Image.fromarray(noise).save(tmp_path / f"c01_{number}.jpeg")
    broken = tmp_path / "c01_1.jpeg"
    broken.write_bytes(broken.read_bytes()[:2000] if data is None else data)
    assert folder_error(tmp_path, 3).startswith("frame c01_1.jpeg cannot be read (")
    assert sample_frames(tmp_path, 2).indices == [0, 2], "what is not sampled is not opened"

"""Clips of every kind, written with PyAV alone, and the full decode that they are held against."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from tests.support.media_trees import aged, frames

Image = npt.NDArray[np.uint8]


def _picture(index: int, width: int, height: int) -> Image:
    """A gradient with a moving block and a shade of its own for each index."""
    y, x = np.mgrid[0:height, 0:width]
    image = np.stack([x * 255 // width, y * 255 // height, (x + y) * 2 % 256], axis=-1)
    left = index * 3 % max(width - 16, 1)
    image[8:24, left : left + 16] = (index * 37 % 256, 255 - index * 11 % 256, index * 5 % 256)
    return image.astype(np.uint8)


@pytest.fixture
def write_clip() -> Callable[..., Path]:
    """`write_clip(path, count, ...)` writes a clip of `count` pictures and returns its path."""

    def write(
        path: Path,
        count: int,
        *,
        codec: str = "libx264",
        size: tuple[int, int] = (64, 48),
        pix_fmt: str = "yuv420p",
        gop: int = 12,
        options: dict[str, str] | None = None,
        container_options: dict[str, str] | None = None,
        times: list[int] | None = None,
        picture: Callable[[int, int, int], Image] = _picture,
    ) -> Path:
        with av.open(str(path), "w", options=container_options or {}) as container:
            stream: Any = container.add_stream(codec, rate=25, options=options or {})
            stream.width, stream.height = size
            stream.pix_fmt = pix_fmt
            stream.gop_size = gop
            if times is not None:
                stream.codec_context.time_base = Fraction(1, 1000)
            for index in range(count):
                frame = av.VideoFrame.from_ndarray(picture(index, *size), format="rgb24")
                if times is not None:
                    frame.pts, frame.time_base = times[index], Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write


@pytest.fixture
def full_decode() -> Callable[[Path], list[Image]]:
    """Every frame of a sound clip, by PyAV's own loop."""

    def decode(path: Path) -> list[Image]:
        with av.open(str(path)) as container:
            return [
                np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
                for frame in container.decode(video=0)
            ]

    return decode


@pytest.fixture
def hold_against() -> Callable[[Any, list[Image], int], None]:
    """Assert that sampled frames are those of a full decode, to the bit, at the right places."""

    def check(sampled: Any, reference: list[Image], n: int) -> None:
        last = len(reference) - 1
        expected = [int(Fraction(i * last, n - 1)) if n > 1 else 0 for i in range(n)]
        assert sampled.indices == expected
        assert sampled.frames.dtype == np.uint8
        assert sampled.frames.shape == (n, *reference[0].shape)
        for frame, index in zip(sampled.frames, sampled.indices, strict=True):
            assert np.array_equal(frame, reference[index])

    return check


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

"""decord and torchcodec give PyAV's frames of every kind of clip, and read plain ones themselves.

torchcodec is skipped where FFmpeg's shared libraries are not there.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from sharegptvideo.errors import MediaWarning, UserError
from sharegptvideo.media import sample_frames
from sharegptvideo.media.readers import check_reader
from tests.media.conftest import write_clip as write_clip
from tests.media.test_messy_files import stream_copy
from tests.media.test_sampling import KINDS

pytestmark = pytest.mark.peers

MORE: dict[str, tuple[str, dict[str, Any]]] = {
    "mp4_b_frames": ("a.mp4", {"options": {"x264-params": "bframes=3:b-pyramid=normal"}}),
    "mp4_headers": ("a.mp4", {"options": {"x264-params": "repeat-headers=1"}}),
    "mp4_odd_shape": ("a.mp4", {"size": (854, 480)}),
    "mp4_hevc": ("a.mp4", {"codec": "libx265"}),
    "mp4_hevc_10_bit": ("a.mp4", {"codec": "libx265", "pix_fmt": "yuv420p10le"}),
    "mp4_mpeg4_b_frames": ("a.mp4", {"codec": "mpeg4", "options": {"bf": "2"}}),
    "mp4_interlaced": ("a.mp4", {"options": {"x264-params": "interlaced=1"}}),
    "avi_b_frames": ("a.avi", {"codec": "mpeg4", "options": {"bf": "2"}}),
    "ts_hevc": ("a.ts", {"codec": "libx265"}),
}
BY_DECORD = {
    *("mp4", "mp4_full_range", "mp4_odd_size", "mp4_fragmented", "mkv", "gif"),
    *("mp4_b_frames", "mp4_headers", "mp4_odd_shape"),
}
BY_ITSELF = {
    "decord": BY_DECORD,
    "torchcodec": BY_DECORD | {"mov", "webm_vp8", "webm_vp9", "mp4_hevc", "mp4_mpeg4_b_frames"},
}


@pytest.fixture(params=list(BY_ITSELF))
def reader(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    try:
        check_reader(name)
    except UserError as error:
        pytest.skip(str(error))
    return name


def read_by(reader: str, path: Path) -> bool:
    """Whether a clip's frames are PyAV's for several n; returns if the reader gave them itself."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for n in (1, 8, 100):
            its, ours = sample_frames(path, n, reader=reader), sample_frames(path, n)
            assert its.indices == ours.indices
            assert np.array_equal(its.frames, ours.frames)
        assert np.array_equal(
            sample_frames(path.read_bytes(), 100, reader=reader).frames, its.frames
        )
    said = [one for one in caught if one.category is MediaWarning]
    return not any(str(one.message).startswith(f"reader={reader!r}") for one in said)


@pytest.mark.parametrize("kind", [*KINDS, *MORE])
def test_every_kind(
    reader: str, kind: str, tmp_path: Path, write_clip: Callable[..., Path]
) -> None:
    name, how = (KINDS | MORE)[kind]
    path = write_clip(tmp_path / name, 40, **how)
    assert read_by(reader, path) is (kind in BY_ITSELF[reader])


def test_a_cut_and_a_damaged_clip(
    reader: str, tmp_path: Path, write_clip: Callable[..., Path]
) -> None:
    whole = write_clip(tmp_path / "whole.mp4", 60, gop=30, options={"x264-params": "scenecut=0"})
    cut = stream_copy(whole, tmp_path / "cut.mp4", Fraction(50, 25))
    assert not read_by(reader, cut)
    data = bytearray(whole.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = np.random.default_rng(0).bytes(400)
    (tmp_path / "damaged.mp4").write_bytes(data)
    assert not read_by(reader, tmp_path / "damaged.mp4")


@pytest.mark.parametrize("name", ["videos/baby_reading.mp4", "gifs/tgif_cat_drinks.gif"])
def test_real_clips(reader: str, shared_data: Path, name: str) -> None:
    if name.endswith(".mp4") and int(av.__version__.partition(".")[0]) < 17:
        pytest.skip("PyAV below 17 has FFmpeg 7, which converts this clip's colours otherwise")
    assert read_by(reader, shared_data / name)

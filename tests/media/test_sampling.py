"""Sound clips of every kind: exactly n frames, the right ones, equal to a full decode."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sharegptvideo.media.video as video_module
from sharegptvideo.errors import UserError
from sharegptvideo.media import SampledFrames, sample_frames
from sharegptvideo.media.video import spread, upright

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "mp4": ("a.mp4", {}),
    "mp4_open_gop": ("a.mp4", {"options": {"x264-params": "open-gop=1:bframes=3:keyint=12"}}),
    "mp4_intra_refresh": ("a.mp4", {"options": {"x264-params": "intra-refresh=1:keyint=12"}}),
    "mp4_10_bit": ("a.mp4", {"pix_fmt": "yuv420p10le"}),
    "mp4_full_range": ("a.mp4", {"pix_fmt": "yuvj420p"}),
    "mp4_odd_size": ("a.mp4", {"pix_fmt": "yuv444p", "size": (65, 47)}),
    "mp4_fragmented": ("a.mp4", {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
    "mov": ("a.mov", {"codec": "mpeg4"}),
    "avi": ("a.avi", {"codec": "mpeg4"}),
    "avi_h264": ("a.avi", {}),
    "webm_vp8": ("a.webm", {"codec": "libvpx", "options": {"lag-in-frames": "16"}}),
    "webm_vp9": ("a.webm", {"codec": "libvpx-vp9", "options": {"lag-in-frames": "16"}}),
    "mkv": ("a.mkv", {}),
    "gif": ("a.gif", {"codec": "gif", "pix_fmt": "rgb8"}),
    "mpeg_ts": ("a.ts", {}),
    "mpeg_ps": ("a.mpg", {"codec": "mpeg2video"}),
}


@pytest.fixture(params=list(KINDS))
def sound_clip(
    request: pytest.FixtureRequest, tmp_path: Path, write_clip: Callable[..., Path]
) -> Path:
    name, how = KINDS[request.param]
    codec = how.get("codec", "libx264")
    if codec not in av.codecs_available:
        pytest.skip(f"this build of PyAV has no {codec}")
    return write_clip(tmp_path / name, 40, **how)


def test_every_container_equals_a_full_decode(
    sound_clip: Path, full_decode: Any, hold_against: Any
) -> None:
    reference = full_decode(sound_clip)
    assert len(reference) == 40
    for n in (1, 2, 8, 100):
        hold_against(sample_frames(sound_clip, n), reference, n)
    hold_against(sample_frames(sound_clip.read_bytes(), 8), reference, 8)


def test_a_long_clip_equals_a_full_decode(
    sound_clip: Path, full_decode: Any, hold_against: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every clip is treated as long: sought where the container allows, decoded where not."""
    monkeypatch.setattr(video_module, "FULL_DECODE_PIXELS", 0)
    monkeypatch.setattr(video_module, "KEPT_BYTES", 0)
    reference = full_decode(sound_clip)
    for n in (2, 5, 8):
        hold_against(sample_frames(sound_clip, n), reference, n)


def test_a_long_clip_is_sought_not_decoded(
    tmp_path: Path,
    write_clip: Any,
    full_decode: Any,
    hold_against: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_clip(tmp_path / "long.mp4", 300, gop=10)
    monkeypatch.setattr(video_module, "FULL_DECODE_PIXELS", 300 * 64 * 48 - 1)
    decoded = []
    frames = video_module.decoded_frames

    def counted(*arguments: Any) -> Any:
        for frame in frames(*arguments):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(video_module, "decoded_frames", counted)
    hold_against(sample_frames(path, 4), full_decode(path), 4)
    assert len(decoded) <= 4 * 13, "at most one group of pictures, and a little, for each frame"


@pytest.mark.parametrize("n", [1, 2, 8, 64])
@pytest.mark.parametrize(
    "name",
    [
        "videos/baby_living_room.mp4",
        "videos/baby_reading.mp4",
        "videos/msrvtt_clip.mp4",
        "gifs/tgif_bulldog_hose.gif",
        "gifs/tgif_cat_drinks.gif",
    ],
)
def test_shared_clips_equal_a_full_decode(
    shared_data: Path, name: str, n: int, hold_against: Any
) -> None:
    path = shared_data / name
    wanted = set(sample_frames(path, n).indices)
    with av.open(str(path)) as container:
        reference = [
            frame.to_ndarray(format="rgb24") if index in wanted else np.zeros((1, 1, 3), np.uint8)
            for index, frame in enumerate(container.decode(video=0))
        ]
    hold_against(sample_frames(str(path), n), reference, n)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.gif"])
def test_fewer_frames_than_asked_for_repeat(
    tmp_path: Path, write_clip: Any, full_decode: Any, hold_against: Any, name: str, count: int
) -> None:
    how = {"codec": "gif", "pix_fmt": "rgb8"} if name.endswith("gif") else {}
    path = write_clip(tmp_path / name, count, **how)
    sampled = sample_frames(path, 8)
    hold_against(sampled, full_decode(path), 8)
    assert sorted(set(sampled.indices)) == list(range(count))


@pytest.mark.parametrize("name", ["vfr.mp4", "vfr.mkv"])
@pytest.mark.parametrize("long", [False, True])
def test_variable_frame_rate_counts_frames_not_seconds(
    tmp_path: Path,
    write_clip: Any,
    full_decode: Any,
    hold_against: Any,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    long: bool,
) -> None:
    times = [0, 40, 45, 200, 210, 700, 710, 1500, 1501, 1502, 1600, 1700, 1710, 1720, 9000]
    path = write_clip(tmp_path / name, len(times), times=times, gop=4)
    if long:
        monkeypatch.setattr(video_module, "FULL_DECODE_PIXELS", 0)
    sampled = sample_frames(path, 8)
    assert sampled.indices == [0, 2, 4, 6, 8, 10, 12, 14]
    hold_against(sampled, full_decode(path), 8)


def _quadrants(_: int, width: int, height: int) -> Any:
    """Red, green; blue, white: no turn and no mirror image of it is itself."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    h, w = height // 2, width // 2
    image[:h, :w], image[:h, w:] = (255, 0, 0), (0, 255, 0)
    image[h:, :w], image[h:, w:] = (0, 0, 255), (255, 255, 255)
    return image


def _corners(image: Any) -> str:
    """The colours of the corners, clockwise from the top left."""
    names = {(1, 0, 0): "r", (0, 1, 0): "g", (0, 0, 1): "b", (1, 1, 1): "w"}
    points = [image[4, 4], image[4, -5], image[-5, -5], image[-5, 4]]
    return "".join(names[tuple((point > 127).astype(int).tolist())] for point in points)


# Matrices as phones write them into `tkhd`, a b c d in 16.16 (QuickTime File Format, "matrix
# structures"), and the corners that a player shows: a stored r g / b w, turned clockwise by the
# angle, has b r / w g at 90 degrees.
TURNS = {
    "upright": ((1, 0, 0, 1), "rgwb", (48, 64)),
    "clockwise_90": ((0, 1, -1, 0), "brgw", (64, 48)),
    "half_turn": ((-1, 0, 0, -1), "wbrg", (48, 64)),
    "clockwise_270": ((0, -1, 1, 0), "gwbr", (64, 48)),
    "mirrored": ((-1, 0, 0, 1), "grbw", (48, 64)),
}


@pytest.mark.parametrize("turn", list(TURNS))
@pytest.mark.parametrize("long", [False, True])
def test_rotation_is_applied_as_players_do(
    tmp_path: Path, write_clip: Any, monkeypatch: pytest.MonkeyPatch, turn: str, long: bool
) -> None:
    (a, b, c, d), corners, shape = TURNS[turn]
    path = write_clip(tmp_path / "phone.mp4", 30, picture=_quadrants)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8  # version 0: times, reserved, layer...
    assert data[matrix : matrix + 4] == (1 << 16).to_bytes(4, "big")
    for place, value in zip((0, 4, 12, 16), (a, b, c, d), strict=True):
        at = matrix + place
        data[at : at + 4] = (value << 16).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    if long:
        monkeypatch.setattr(video_module, "FULL_DECODE_PIXELS", 0)
    for source in (path, bytes(data)):
        frames = sample_frames(source, 3).frames
        assert frames.shape == (3, *shape, 3)
        assert {_corners(frame) for frame in frames} == {corners}


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_survives_matroska(tmp_path: Path, write_clip: Any, degrees: int) -> None:
    """The display matrix written by FFmpeg's own muxers, in the container it came in or another."""
    source = write_clip(tmp_path / "a.mp4", 5, picture=_quadrants)
    corners = []
    for suffix in (".mp4", ".mkv"):
        path = tmp_path / f"turned{suffix}"
        with av.open(str(source)) as given, av.open(str(path), "w") as made:
            stream = made.add_stream_from_template(given.streams.video[0])
            stream.set_display_rotation(degrees)
            for packet in given.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    made.mux(packet)
        corners.append(_corners(sample_frames(path, 1).frames[0]))
    expected = {0: "rgwb", 90: "gwbr", 180: "wbrg", 270: "brgw"}  # counter-clockwise
    assert corners == [expected[degrees]] * 2


def test_upright_takes_the_nearest_quarter_turn() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    nearly = (round(0.1 * 65536), 65000, -65000, round(0.1 * 65536))
    assert np.array_equal(upright(image, nearly), np.rot90(image, k=-1))
    assert np.array_equal(upright(image, (65536, 0, 0, 65536)), image)


@given(count=st.integers(1, 100_000), n=st.integers(1, 400))
def test_indices_are_the_exact_floor_of_linspace(count: int, n: int) -> None:
    indices = spread(count, n)
    assert len(indices) == n
    assert indices[0] == 0
    if n > 1:
        step = Fraction(count - 1, n - 1)
        assert indices == [(i * step).__floor__() for i in range(n)]
        assert indices[-1] == count - 1


def test_result_is_a_named_tuple_of_writable_frames(tmp_path: Path, write_clip: Any) -> None:
    frames, indices = sampled = sample_frames(write_clip(tmp_path / "a.mp4", 4), 2)
    assert isinstance(sampled, SampledFrames)
    assert sampled.frames is frames
    assert indices == [0, 3]
    assert frames.flags["C_CONTIGUOUS"]
    assert frames.flags["WRITEABLE"]


@pytest.mark.parametrize("n", [0, -1])
def test_asking_for_no_frames_is_an_error(tmp_path: Path, n: int) -> None:
    with pytest.raises(UserError, match="must be at least 1, got"):
        sample_frames(tmp_path, n)


def test_threads_do_not_mix_clips(tmp_path: Path, write_clip: Any) -> None:
    paths = [write_clip(tmp_path / f"{n}.mp4", n) for n in range(5, 25)]
    alone = [sample_frames(path, 4) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda path: sample_frames(path, 4), paths))
    for one, other in zip(alone, together, strict=True):
        assert one.indices == other.indices
        assert np.array_equal(one.frames, other.frames)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted on Linux")
def test_no_thread_is_left(tmp_path: Path, write_clip: Any) -> None:
    """A worker forked while one is left waits for it for ever, once it collects what held it."""
    path = write_clip(tmp_path / "large.mp4", 3, size=(640, 360))
    gc.collect()
    threads = Path("/proc/self/task")
    before = len(list(threads.iterdir()))
    gc.disable()
    try:
        sample_frames(path, 3)
        assert len(list(threads.iterdir())) <= before
    finally:
        gc.enable()


def test_importing_loads_no_reader() -> None:
    code = "import sys, sharegptvideo.media; print([m for m in ('av', 'PIL') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"

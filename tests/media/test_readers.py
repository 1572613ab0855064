"""`reader=`: what another reader may read, and what goes to PyAV; the real ones are in tests/peers.

Here decord is a stand-in that decodes everything and inverts the colours, so that each frame shows
who read it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from fractions import Fraction
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest

from sharegptvideo.data.frames import ClipFrames
from sharegptvideo.errors import MediaError, MediaWarning, UserError
from sharegptvideo.media import sample_frames
from sharegptvideo.media.readers import check_reader
from tests.media.test_messy_files import stream_copy

Write = Callable[..., Path]


class Inverted:
    """decord's `VideoReader`: a length, and a batch of frames that are handed out as an array."""

    def __init__(self, source: Any, num_threads: int) -> None:
        assert num_threads == 1
        with av.open(source) as container:
            decoded = container.decode(video=0)
            self.frames = [255 - frame.to_ndarray(format="rgb24") for frame in decoded]

    def __len__(self) -> int:
        return len(self.frames)

    def get_batch(self, indices: list[int]) -> Any:
        frames = np.stack([self.frames[index] for index in indices])
        return type("Batch", (), {"asnumpy": lambda _: frames})()


class OneTooMany(Inverted):
    def __len__(self) -> int:
        return len(self.frames) + 1


class Refuses(Inverted):
    def get_batch(self, _: list[int]) -> Any:
        raise OSError("[src/video.cc:1] Check failed")


@pytest.fixture
def decord(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("decord")
    module.__spec__ = ModuleSpec("decord", None)
    module.VideoReader = Inverted  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "decord", module)
    return module


@pytest.mark.usefixtures("decord")
@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.mp4", {}),
        ("a.mp4", {"options": {"x264-params": "repeat-headers=1:bframes=3"}}),
        ("a.mov", {"size": (66, 46)}),
        ("a.mkv", {"pix_fmt": "yuv444p"}),
        ("a.gif", {"codec": "gif", "pix_fmt": "rgb8"}),
    ],
)
def test_sound_clips_of_plain_kinds_are_its(
    tmp_path: Path, write_clip: Write, name: str, how: dict[str, Any]
) -> None:
    path = write_clip(tmp_path / name, 30, **how)
    with warnings.catch_warnings():
        warnings.simplefilter("error", MediaWarning)
        for n in (1, 8, 40):
            ours, its = sample_frames(path, n), sample_frames(path, n, reader="decord")
            assert its.indices == ours.indices
            assert np.array_equal(its.frames, 255 - ours.frames)
        assert np.array_equal(
            sample_frames(path.read_bytes(), 8, reader="decord").frames,
            sample_frames(path, 8, reader="decord").frames,
        )


@pytest.mark.usefixtures("decord")
@pytest.mark.parametrize(
    ("name", "how", "kind"),
    [
        ("a.avi", {}, "h264 in a avi file"),
        ("a.ts", {}, "h264 in a mpegts file"),
        ("a.mp4", {"codec": "mpeg4"}, "mpeg4 in a mov file"),
        ("a.webm", {"codec": "libvpx"}, "vp8 in a matroska file"),
        ("a.mp4", {"pix_fmt": "yuv420p10le"}, "more than 8 bits a colour"),
        ("a.mp4", {"options": {"x264-params": "interlaced=1"}}, "interlaced pictures"),
        (
            "a.mp4",
            {"options": {"x264-params": "intra-refresh=1:keyint=12"}},
            "key frames that do not stand alone",
        ),
    ],
)
def test_what_it_misreads_is_pyavs(
    tmp_path: Path,
    write_clip: Write,
    name: str,
    how: dict[str, Any],
    kind: str,
) -> None:
    check_handed_over(write_clip(tmp_path / name, 30, **how), f"clips with {kind}")


def check_handed_over(path: Path, kind: str) -> None:
    with pytest.warns(MediaWarning) as caught:
        its = sample_frames(path, 8, reader="decord")
    assert [str(one.message) for one in caught][:1] == [f"reader='decord': {kind} are read by PyAV"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MediaWarning)
        ours = sample_frames(path, 8)
    assert np.array_equal(its.frames, ours.frames)
    assert its.indices == ours.indices


@pytest.mark.usefixtures("decord")
def test_a_cut_whose_edit_list_hides_frames_is_pyavs(tmp_path: Path, write_clip: Write) -> None:
    whole = write_clip(tmp_path / "whole.mp4", 60, gop=30, options={"x264-params": "scenecut=0"})
    cut = stream_copy(whole, tmp_path / "cut.mp4", Fraction(50, 25))
    check_handed_over(cut, "clips with packets that are not shown, or have no time")


@pytest.mark.usefixtures("decord")
def test_turned_and_damaged_clips_are_pyavs(tmp_path: Path, write_clip: Write) -> None:
    path = write_clip(tmp_path / "a.mp4", 60, container_options={"movflags": "faststart"})
    data = path.read_bytes()
    turned = bytearray(data)
    matrix = turned.index(b"tkhd") + 44
    turned[matrix : matrix + 4] = (-1 << 16).to_bytes(4, "big", signed=True)
    (tmp_path / "mirrored.mp4").write_bytes(turned)
    check_handed_over(tmp_path / "mirrored.mp4", "clips with turned or mirrored pictures")
    (tmp_path / "cut.mkv").write_bytes(write_clip(tmp_path / "b.mkv", 60).read_bytes()[:-200])
    check_handed_over(tmp_path / "cut.mkv", "clips with damage")


@pytest.mark.usefixtures("decord")
def test_a_size_that_changes_is_seen_in_the_key_frames(tmp_path: Path, write_clip: Write) -> None:
    inband = {"options": {"x264-params": "repeat-headers=1"}, "gop": 10}
    parts = [write_clip(tmp_path / f"{i}.mkv", 20, size=s, **inband) for i, s in SIZES]
    with av.open(str(tmp_path / "two.mkv"), "w") as made:
        stream: Any = None
        for number, part in enumerate(parts):
            with av.open(str(part)) as given:
                stream = stream or made.add_stream_from_template(given.streams.video[0])
                for packet in given.demux(video=0):
                    if packet.size:
                        packet.stream = stream
                        packet.pts = (packet.pts or 0) + 800 * number
                        packet.dts = (packet.dts or 0) + 800 * number
                        made.mux(packet)
    check_handed_over(tmp_path / "two.mkv", "clips with sizes that may change")


SIZES = [(0, (64, 48)), (1, (96, 80))]


@pytest.mark.parametrize("fails", [OneTooMany, Refuses])
def test_what_it_fails_on_is_pyavs(
    decord: Any, tmp_path: Path, write_clip: Write, fails: type
) -> None:
    decord.VideoReader = fails
    check_handed_over(write_clip(tmp_path / "a.mp4", 30), "clips that it fails on")


@pytest.mark.usefixtures("decord")
def test_folders_and_clips_that_nobody_reads(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(MediaError, match="this is text, not a video"):
        sample_frames(tmp_path / "a.mp4", 8, reader="decord")
    with pytest.raises(MediaError, match="the folder holds no frames"):
        sample_frames(tmp_path, 8, reader="decord")


@pytest.mark.usefixtures("decord")
def test_rows_ask_for_a_reader(tmp_path: Path, write_clip: Write) -> None:
    path = str(write_clip(tmp_path / "a.mp4", 30))
    frames = ClipFrames(4, reader="decord").decode_example(path)
    assert np.array_equal(frames, 255 - sample_frames(path, 4).frames)


def test_a_reader_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"unknown reader 'decored'; did you mean decord\?"):
        check_reader("decored")
    # As torchcodec is without FFmpeg: it is imported, and fails when a decoder is made.
    (tmp_path / "torchcodec").mkdir()
    (tmp_path / "torchcodec" / "__init__.py").touch()
    text = (
        "def VideoDecoder(_):\n    raise RuntimeError('Could not load libtorchcodec. Causes:\\n1.')"
    )
    (tmp_path / "torchcodec" / "decoders.py").write_text(text)
    for name in ("torchcodec", "torchcodec.decoders"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=r"cannot be loaded \(Could not load libtorchcodec\); it"):
        check_reader("torchcodec")

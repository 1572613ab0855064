"""Files as they occur: cut, damaged, mislabelled, odd. What decodes, or one clear error."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import sharegptvideo.media.video as video_module
from sharegptvideo.errors import UserError
from sharegptvideo.media import MediaError, MediaWarning, sample_frames

SIZE = (160, 120)


@pytest.fixture(autouse=True)
def nothing_on_stderr(capfd: pytest.CaptureFixture[str]) -> Any:
    """No log line of FFmpeg's may reach the terminal."""
    yield
    written = capfd.readouterr().err
    assert not [line for line in written.splitlines() if "x264" not in line and "[" in line]


def damaged(path: Path | bytes, n: int = 8) -> Any:
    with pytest.warns(MediaWarning) as caught:
        sampled = sample_frames(path, n)
    assert len(caught) == 1
    assert sampled.frames.shape[0] == len(sampled.indices) == n
    return sampled, str(caught[0].message)


def error(video: Any) -> str:
    with pytest.raises(MediaError) as caught:
        sample_frames(video, 8)
    message = str(caught.value)
    assert isinstance(caught.value, UserError)
    assert "\n" not in message
    return message


def stream_copy(source: Path, target: Path, start: Fraction) -> Path:
    """What `ffmpeg -ss START -i SOURCE -c copy TARGET` does: whole packets from the key frame
    before START, their times moved so that START is zero."""
    with av.open(str(source)) as given, av.open(str(target), "w") as made:
        video = given.streams.video[0]
        assert video.time_base is not None
        stream = made.add_stream_from_template(video)
        packets = [packet for packet in given.demux(video) if packet.size]
        offset = int(start / video.time_base)
        keys = [i for i, p in enumerate(packets) if p.is_keyframe and (p.pts or 0) <= offset]
        for packet in packets[keys[-1] :]:
            packet.stream = stream
            packet.pts = (packet.pts or 0) - offset
            packet.dts = (packet.dts or 0) - offset
            made.mux(packet)
    return target


@pytest.mark.parametrize("long", [False, True])
def test_edit_list_of_a_stream_copied_cut_is_honoured(
    tmp_path: Path,
    write_clip: Any,
    full_decode: Any,
    hold_against: Any,
    monkeypatch: pytest.MonkeyPatch,
    long: bool,
) -> None:
    whole = write_clip(tmp_path / "whole.mp4", 60, gop=30, options={"x264-params": "scenecut=0"})
    cut = stream_copy(whole, tmp_path / "cut.mp4", Fraction(50, 25))
    with av.open(str(cut)) as container:
        packets = sum(1 for packet in container.demux(video=0) if packet.size)
    assert packets == 30, "the file holds the frames from the key frame on"
    if long:
        monkeypatch.setattr(video_module, "FULL_DECODE_PIXELS", 0)
    sampled = sample_frames(cut, 4)
    assert sampled.indices == [0, 3, 6, 9], "a player shows the ten frames from second 2 on"
    hold_against(sampled, full_decode(cut), 4)
    assert np.array_equal(
        sampled.frames, np.stack([full_decode(whole)[50 + i] for i in (0, 3, 6, 9)])
    )


CUTS: dict[str, dict[str, Any]] = {
    "a.mp4": {"container_options": {"movflags": "faststart"}},
    "fragmented.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "a.mkv": {},
    "a.webm": {"codec": "libvpx"},
    "a.gif": {"codec": "gif", "pix_fmt": "rgb8"},
    "a.avi": {"codec": "mpeg4"},
}


@pytest.mark.parametrize("name", list(CUTS))
@pytest.mark.parametrize("long", [False, True])
def test_truncated_file_gives_what_decodes_and_a_warning(
    tmp_path: Path,
    write_clip: Any,
    full_decode: Any,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    long: bool,
) -> None:
    path = write_clip(tmp_path / name, 60, size=SIZE, **CUTS[name])
    reference = full_decode(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample_frames(path, 8)
    data = path.read_bytes()[: path.stat().st_size * 7 // 10]
    path.write_bytes(data)
    if long:
        monkeypatch.setattr(video_module, "FULL_DECODE_PIXELS", 0)
    sampled, message = damaged(path)
    assert message.startswith(f"{path}: damaged: the file is cut short")
    assert f"the {sampled.indices[-1] + 1} frames that decode are used" in message
    assert 5 <= sampled.indices[-1] < 50
    for frame, index in list(zip(sampled.frames, sampled.indices, strict=True))[:-1]:
        assert np.array_equal(frame, reference[index])
    again, message = damaged(data)
    assert message.startswith(f"<bytes, {len(data)} B>: damaged")
    assert again.indices == sampled.indices


def test_truncated_file_without_its_index_is_an_error(tmp_path: Path, write_clip: Any) -> None:
    path = write_clip(tmp_path / "a.mp4", 60)
    path.write_bytes(path.read_bytes()[:-1500])
    message = error(path)
    assert message.startswith(f"{path}: cannot be read as a video")
    assert "cut short" in message


@pytest.mark.parametrize("long", [False, True])
def test_damage_amid_the_file_is_passed_over_with_a_warning(
    tmp_path: Path, write_clip: Any, full_decode: Any, monkeypatch: pytest.MonkeyPatch, long: bool
) -> None:
    path = write_clip(
        tmp_path / "a.mp4", 60, size=SIZE, container_options={"movflags": "faststart"}
    )
    reference = full_decode(path)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    path.write_bytes(data)
    if long:
        monkeypatch.setattr(video_module, "FULL_DECODE_PIXELS", 0)
    sampled, message = damaged(path, 20)
    count = sampled.indices[-1] + 1
    assert "a packet does not decode" in message
    assert 20 < count < 60
    assert f"the {count} frames that decode are used" in message
    assert np.array_equal(sampled.frames[0], reference[0])
    assert np.array_equal(sampled.frames[-1], reference[-1]), "it goes on after the damage"


def test_change_of_resolution_is_scaled_to_the_first_size(
    tmp_path: Path, write_clip: Any, full_decode: Any
) -> None:
    small = write_clip(tmp_path / "small.h264", 20, size=(64, 48))
    large = write_clip(tmp_path / "large.h264", 20, size=(96, 80))
    both = tmp_path / "both.h264"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    sampled = sample_frames(both, 40)
    assert sampled.frames.shape == (40, 48, 64, 3)
    assert np.array_equal(sampled.frames[:20], np.stack(full_decode(small)))
    for frame, reference in zip(sampled.frames[20:], full_decode(large), strict=True):
        rows, columns = np.arange(48) * 80 // 48, np.arange(64) * 96 // 64
        nearest = reference[rows][:, columns].astype(int)
        assert np.abs(frame.astype(int) - nearest).mean() < 12


def _add_sound(container: Any, seconds: int) -> None:
    stream = container.add_stream("aac", rate=44100)
    tone = np.sin(np.arange(44100 * seconds) / 20).astype(np.float32)[None]
    frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
    frame.rate = 44100
    container.mux(stream.encode(frame))
    container.mux(stream.encode())


def _add_cover(container: Any) -> Any:
    stream = container.add_stream("mjpeg", rate=1)
    stream.width, stream.height, stream.pix_fmt = 32, 32, "yuvj420p"
    stream.disposition = av.stream.Disposition.attached_pic
    return stream


def _cover_packets(stream: Any) -> list[Any]:
    frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 9, np.uint8), format="rgb24")
    return [*stream.encode(frame), *stream.encode()]


@pytest.mark.parametrize("suffix", [".mp4", ".m4a", ".mkv"])
def test_sound_only_is_an_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"song{suffix}"
    with av.open(str(path), "w") as container:
        _add_sound(container, 1)
    assert error(path) == f"{path}: cannot be read as a video (it holds sound and no video)"


def test_sound_with_a_cover_picture_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        cover = _add_cover(container)
        _add_sound(container, 1)
        container.mux(_cover_packets(cover))
    assert "sound and a cover picture and no video" in error(path)


def test_a_cover_picture_is_not_taken_for_the_video(
    tmp_path: Path, write_clip: Any, full_decode: Any, hold_against: Any
) -> None:
    source = write_clip(tmp_path / "plain.mp4", 10)
    path = tmp_path / "covered.mp4"
    with av.open(str(source)) as given, av.open(str(path), "w") as made:
        cover = _add_cover(made)
        stream = made.add_stream_from_template(given.streams.video[0])
        made.mux(_cover_packets(cover))
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = stream
                made.mux(packet)
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 2
    hold_against(sample_frames(path, 4), full_decode(source), 4)


def test_of_several_videos_the_one_marked_default_is_shown(tmp_path: Path, write_clip: Any) -> None:
    sources = [write_clip(tmp_path / f"{n}.mp4", n, size=(64, 16 * n)) for n in (3, 4)]
    for chosen in (0, 1):
        path = tmp_path / f"both{chosen}.mkv"
        with av.open(str(path), "w") as made:
            inputs = [av.open(str(source)) for source in sources]
            streams = [made.add_stream_from_template(i.streams.video[0]) for i in inputs]
            for index, stream in enumerate(streams):
                default = av.stream.Disposition.default if index == chosen else 0
                stream.disposition = av.stream.Disposition(default)
            for given, stream in zip(inputs, streams, strict=True):
                for packet in given.demux(video=0):
                    if packet.size:
                        packet.stream = stream
                        made.mux(packet)
                given.close()
        sampled = sample_frames(path, 9)
        assert sampled.frames.shape[1] == 16 * (3 + chosen)
        assert sampled.indices[-1] == 2 + chosen


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "the file is empty"),
        (b"not a video at all\n", "this is text, not a video"),
        (b"<!DOCTYPE html><html>404</html>" * 99, "this is text, not a video"),
        ("ürgend ein Text\n".encode() * 200, "this is text, not a video"),
        (bytes(5000), "nothing but zero bytes"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9, ""),
        (b"\xff\xfe\x01\x80" * 500, ""),
    ],
    ids=["empty", "text", "html", "utf8", "zeros", "png_header", "noise"],
)
@pytest.mark.parametrize("name", ["clip.mp4", "clip.txt", "clip.webm"])
def test_what_is_no_video_is_one_clear_error(
    tmp_path: Path, data: bytes, cause: str, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    message = error(path)
    assert message.startswith(f"{path}: cannot be read as a video (")
    assert cause in message
    assert error(data).startswith(f"<bytes, {len(data)} B>: cannot be read as a video (")


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    assert error(tmp_path / "gone.mp4") == f"{tmp_path / 'gone.mp4'}: no such file or folder"


def test_a_pipe_is_an_error_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert error(tmp_path / "pipe.mp4").endswith("is not a file")


@pytest.mark.parametrize(
    "name", ["http:clip.mp4", "a%03d.mp4", "concat:x|y.mp4", "-i.mp4", "é ü.mp4"]
)
def test_odd_names_are_only_names(
    tmp_path: Path, write_clip: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_clip(tmp_path / "plain.mp4", 3).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert sample_frames(name, 3).indices == [0, 1, 2]
    assert sample_frames(Path(name), 3).indices == [0, 1, 2]


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{clip}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {clip}\n",
    ],
    ids=["hls", "concat"],
)
@pytest.mark.parametrize("name", ["list.m3u8", "list.mp4"])
def test_a_playlist_never_opens_another_clip(
    tmp_path: Path, write_clip: Callable[..., Path], playlist: str, name: str
) -> None:
    clip = write_clip(tmp_path / "clip.ts", 5)
    path = tmp_path / name
    path.write_text(playlist.format(clip=clip.name))
    assert "this is text, not a video" in error(path)


def test_a_file_without_any_decodable_frame_is_an_error(tmp_path: Path, write_clip: Any) -> None:
    path = write_clip(tmp_path / "a.mp4", 10)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4
    data[start:end] = b"\xff" * (end - start)
    path.write_bytes(data)
    message = error(path)
    assert message.startswith(f"{path}: no frame can be decoded (a packet does not decode")


def test_a_codec_without_a_decoder_is_an_error(tmp_path: Path, write_clip: Any) -> None:
    path = write_clip(tmp_path / "a.mp4", 3, codec="mpeg4")
    data = path.read_bytes()
    entry = data.index(b"stsd") + 16
    assert data[entry : entry + 4] == b"mp4v"
    config = data.index(b"esds")
    data = data[:entry] + b"zzzz" + data[entry + 4 : config] + b"free" + data[config + 4 :]
    message = error(data)
    assert "no decoder for its codec" in message


def test_error_survives_a_loader_worker(tmp_path: Path) -> None:
    message = error(tmp_path / "gone.mp4")
    again = pickle.loads(pickle.dumps(MediaError(message)))
    assert isinstance(again, MediaError)
    assert str(again) == message

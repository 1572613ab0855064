"""Frames of one video file, by PyAV: a full decode, or seeks that are checked against the packets.

One reader gives every frame, so no pixel depends on which readers are installed (README.md in this
folder says why; `readers.py` has others for those who ask, where they give the same). Short clips
are decoded whole: only that counts their frames. Long clips are sought, and each stretch that is
decoded is checked against the packet index; the first thing that does not fit sends the clip to the
full decode.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import io
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from sharegptvideo._io import os_errors
from sharegptvideo.errors import MediaError, MediaWarning
from sharegptvideo.media.container_end import is_cut_short, why_unreadable

if TYPE_CHECKING:
    import av.container
    import av.packet
    import av.video
    import numpy as np
    import numpy.typing as npt

    _Packet = av.packet.Packet[av.video.VideoStream]
    _Frame = av.video.VideoFrame

__all__ = [
    "Timeline",
    "VideoFacts",
    "decoded_frames",
    "describe_video",
    "orientation",
    "read_timeline",
    "sample_video",
    "spread",
    "timed_frames",
    "upright",
]

# Decoding this many pixels takes somewhat under a second on one core. Up to here a clip is
# decoded whole, so that damage anywhere in it is noticed; beyond, seeking saves up to 25 times.
FULL_DECODE_PIXELS = 200_000_000
# Packets of a clip up to this size are kept between indexing and decoding: one opening less.
KEPT_BYTES = 32 << 20

# The demuxers that clips come in. A whitelist, since FFmpeg also "opens" playlists (which name
# other files and addresses) and text (which it renders).
_FORMATS = (
    "mov,mp4,matroska,webm,avi,gif,mpegts,mpeg,mpegvideo,flv,asf,ogg,ivf,h264,hevc,obu,m4v,rm,nut,"
    "apng,webp,mxf,dv,yuv4mpegpipe,mp3,wav,flac,aac"
)
_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
_PACK_HEADER = b"\0\0\1\xba"  # how a program stream begins


@dataclass(frozen=True)
class _Clip:
    """Where the bytes are, and the name that messages use."""

    name: str
    source: Path | bytes

    def bytes_io(self) -> IO[bytes]:
        """Open Python's own file object, so that no name is taken for a URL or a pattern."""
        if isinstance(self.source, bytes):
            return io.BytesIO(self.source)
        with os_errors(self.source, action="opened", raises=MediaError, exit_code=1):
            return self.source.open("rb")

    @contextlib.contextmanager
    def open(self) -> Iterator[tuple[av.container.InputContainer, av.video.VideoStream]]:
        """Open the container, and its stream that a player would show."""
        import av

        with self.bytes_io() as file:
            is_program_stream = file.read(len(_PACK_HEADER)) == _PACK_HEADER
            file.seek(0)
            # PyAV before 17.1 dies of a whitelist at a program stream; a format that is named
            # needs none.
            format = "mpeg" if is_program_stream else None
            options = {} if is_program_stream else dict(_OPTIONS)
            try:
                container = av.open(file, "r", format, options, metadata_errors="replace")
            except (av.FFmpegError, OSError) as error:
                cause = why_unreadable(file)
                if cause is None and isinstance(error, av.error.ArgumentError):
                    cause = "not a video format"
                raise MediaError(
                    f"{self.name}: cannot be read as a video ({cause or _plain(error)})"
                ) from error
            with container:
                stream = _shown_stream(self.name, container)
                # One thread: damaged files must decode alike everywhere, and loaders run one
                # process a core already.
                stream.codec_context.thread_count = 1
                yield container, stream


def spread(count: int, n: int) -> list[int]:
    """Return `floor(linspace(0, count - 1, n))`, in whole numbers: no rounding is off by one.

    >>> spread(10, 4), spread(3, 5), spread(10, 1)
    ([0, 3, 6, 9], [0, 0, 1, 1, 2], [0])
    """
    last = max(count - 1, 0)
    return [i * last // (n - 1) for i in range(n)] if n > 1 else [0]


class _Picker:
    """Takes decoded frames in order and keeps those at `indices`, converted.

    The first frame of the clip sets size and orientation for all. A later frame of another size
    (a stream that changes resolution) is scaled to the first one's, as players do.
    """

    def __init__(self, indices: list[int]) -> None:
        self.indices = indices
        self._slots: dict[int, list[int]] = {}
        for slot, index in enumerate(indices):
            self._slots.setdefault(index, []).append(slot)
        self._array: npt.NDArray[np.uint8] | None = None
        self._size = (0, 0)
        self._turn = (1, 0, 0, 1)

    def offer(self, index: int, frame: av.video.VideoFrame) -> None:
        """Keep `frame`, number `index` of the clip, if it is wanted."""
        import numpy as np

        slots = self._slots.get(index)
        if slots is None:
            return
        if self._array is None:
            self._size = (frame.width, frame.height)
            self._turn = orientation(frame)
        width, height = self._size
        if (frame.width, frame.height) != self._size:
            frame = frame.reformat(width, height, format="rgb24", **_one_thread())
        pixels = np.asarray(frame.to_ndarray(format="rgb24", **_one_thread()), dtype=np.uint8)
        image = upright(pixels, self._turn)
        if self._array is None:
            self._array = np.empty((len(self.indices), *image.shape), dtype=np.uint8)
        self._array[slots] = image

    def frames(self) -> npt.NDArray[np.uint8]:
        """Return the frames kept, n×H×W×3."""
        assert self._array is not None
        return self._array


@functools.cache
def _one_thread() -> dict[str, Any]:
    """Return the option that keeps PyAV from converting a frame with a thread a core.

    A worker process that is forked before such threads are gone waits for them for ever. PyAV has
    the option, and the threads, since 17.
    """
    import av

    return {"threads": 1} if "threads" in (av.VideoFrame.reformat.__doc__ or "") else {}


def orientation(frame: av.video.VideoFrame) -> tuple[int, int, int, int]:
    """Return (a, b, c, d) of the display matrix: x' = ax + cy and y' = bx + dy, y downwards."""
    import numpy as np
    from av.sidedata.sidedata import Type

    side_data: Mapping[Type, Any] = frame.side_data  # type: ignore[assignment]  # av's stub is wrong
    if Type.DISPLAYMATRIX not in side_data:
        return (1, 0, 0, 1)
    matrix = bytes(side_data[Type.DISPLAYMATRIX])
    a, b, _, c, d, *_ = np.frombuffer(matrix, dtype=np.int32, count=9).tolist()
    return (a, b, c, d)


def upright(image: npt.NDArray[np.uint8], turn: tuple[int, int, int, int]) -> npt.NDArray[np.uint8]:
    """Turn and mirror `image` (H×W×3) to the nearest quarter, as a display matrix shows it.

    The matrix is that of ISO/IEC 14496-12, 6.2.2 and of FFmpeg's libavutil/display.h.
    """
    a, b, c, d = turn
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, across, down = image.swapaxes(0, 1), c, b
    else:
        across, down = a, d
    return image[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]


@dataclass
class _Damage:
    """Why a clip is not whole; empty for a sound one."""

    causes: dict[str, int] = field(default_factory=dict)

    def add(self, cause: str) -> None:
        self.causes[cause] = self.causes.get(cause, 0) + 1

    def __str__(self) -> str:
        return "; ".join(f"{cause} ({n}×)" if n > 1 else cause for cause, n in self.causes.items())


@dataclass
class _Index:
    """What the packets promise, read without decoding."""

    count: int = 0
    pts: list[int] = field(default_factory=list)
    key_pts: list[int] = field(default_factory=list)
    plain: bool = True  # each packet has a time and is meant to be shown
    size: int = 0
    packets: list[_Packet | None] = field(default_factory=list)  # all, or none if too large

    def add(self, packet: _Packet | None) -> None:
        self.size += packet.size if packet else 0
        if self.size <= KEPT_BYTES:
            self.packets.append(packet)
        else:
            self.packets.clear()
        if packet is None or not packet.size:
            return
        self.count += not packet.is_discard
        if packet.pts is None or packet.is_discard or packet.is_corrupt:
            self.plain = False
            return
        self.pts.append(packet.pts)
        if packet.is_keyframe:
            self.key_pts.append(packet.pts)

    def is_sound(self) -> bool:
        """Return whether times name frames beyond doubt, so that seeking can be checked."""
        return self.plain and len(set(self.pts)) == len(self.pts) and len(self.key_pts) > 1


def sample_video(
    source: Path | bytes, name: str, n: int
) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """Return `n` evenly spread frames (n×H×W×3, RGB) and their indices; see `sample_frames`."""
    import av

    damage = _Damage()
    try:
        picker, count = _sample(_Clip(name, source), n, damage)
    except av.FFmpegError as error:
        raise MediaError(f"{name}: cannot be read as a video ({_plain(error)})") from error
    if damage.causes:
        warnings.warn(
            f"{name}: damaged: {damage}; the {count} frames that decode are used",
            MediaWarning,
            stacklevel=3,
        )
    return picker.frames(), picker.indices


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """Facts of a video file, as its header and its first frame give them.

    `frames` is the number that the container states (an edit list may show fewer); where it
    states none, or the file is damaged, its packets are counted. Width and height are those of
    the upright frame. `damage` says why the file is not whole, None for a sound one.
    """

    frames: int
    fps: float | None
    duration_s: float | None
    width: int
    height: int
    damage: str | None


def describe_video(path: Path, name: str) -> VideoFacts:
    """Return the facts of a video file, from its header and one decoded frame.

    Raises:
        MediaError: nothing can be read; one line with name and cause.
    """
    import av

    damage = _Damage()
    clip = _Clip(name, path)
    picker = _Picker([0])
    try:
        with clip.bytes_io() as file:
            if is_cut_short(file):
                damage.add("the file is cut short")
        with clip.open() as (container, stream):
            frame = next(decoded_frames(_packets(container, stream, damage), stream, damage), None)
            if frame is None:
                raise MediaError(
                    f"{name}: no frame can be decoded ({str(damage) or 'it holds none'})"
                )
            picker.offer(0, frame)
            frames, fps = stream.frames, float(stream.average_rate or 0) or None
            duration = _seconds(container, stream)
        if not frames or damage.causes:
            with clip.open() as (container, stream):
                frames = _read_index(container, stream, damage).count
    except av.FFmpegError as error:
        raise MediaError(f"{name}: cannot be read as a video ({_plain(error)})") from error
    _, height, width, _ = picker.frames().shape
    if duration is None and fps:
        duration = frames / fps
    return VideoFacts(frames, fps, duration, width, height, str(damage) or None)


@dataclass(frozen=True, slots=True)
class VideoKind:
    """What other readers need to know of a video file, without decoding more than a frame.

    Attributes:
        container: the first of FFmpeg's names for its format, such as "mov" (MP4 too).
        codec: FFmpeg's name, such as "h264".
        frames: how many its packets promise.
        height: pixels, as stored.
        width: likewise.
        oddities: what readers are known to get wrong, in words that "clips with" may precede.
    """

    container: str
    codec: str
    frames: int
    height: int
    width: int
    oddities: tuple[str, ...]


def kind_of_video(source: Path | bytes, name: str) -> VideoKind:
    """Return the kind of a video, from its header, its packets and its first frame.

    Raises:
        MediaError: it cannot be opened as a video.
    """
    import av

    damage = _Damage()
    clip = _Clip(name, source)
    with clip.bytes_io() as file:
        if is_cut_short(file):
            damage.add("the file is cut short")
    headers = _Headers()
    try:
        with clip.open() as (container, stream):
            index = _Index()
            is_h264 = stream.codec_context.name == "h264"
            for packet in _packets(container, stream, damage):
                index.add(packet)
                if packet is not None and packet.size and packet.is_keyframe and is_h264:
                    headers.note(packet, stream.codec_context.extradata)
        with clip.open() as (container, stream):
            first = next(decoded_frames(_packets(container, stream, damage), stream, damage), None)
            coder, kind = stream.codec_context, container.format.name.partition(",")[0]
            a, b, c, d = (1, 0, 0, 1) if first is None else orientation(first)
            bits = max(part.bits for part in first.format.components) if first else 0
            oddities = {
                "several video streams": len(container.streams.video) > 1,
                "more than 8 bits a colour": bits > 8,
                "turned or mirrored pictures": bool(b or c) or a < 0 or d < 0,
                "interlaced pictures": first is not None and first.interlaced_frame,
                "packets that are not shown, or have no time": not index.plain
                or len(set(index.pts)) < index.count,
                "key frames that do not stand alone": headers.open_group,
                "sizes that may change": headers.other,
                "damage": bool(damage.causes) or first is None,
            }
            names = tuple(words for words, there in oddities.items() if there)
            return VideoKind(kind, coder.name, index.count, coder.height, coder.width, names)
    except av.FFmpegError as error:
        raise MediaError(f"{name}: cannot be read as a video ({_plain(error)})") from error


@dataclass
class _Headers:
    """What the key frames of H.264 in MP4 or Matroska say before their pictures.

    Units of a packet stand after their lengths (ISO/IEC 14496-15, 5.3.3); their types are those
    of ITU-T H.264, table 7-1.
    """

    open_group: bool = False  # a key frame from which a decoder cannot start afresh
    other: bool = False  # parameters that are not those of the file's header

    def note(self, packet: _Packet, header: bytes | None) -> None:
        """Read the units of a key frame; `header` is the file's (5.3.3.1.2, version 1)."""
        if not header or header[0] != 1:
            return
        data, size, at, whole = bytes(packet), (header[4] & 3) + 1, 0, False
        while at + size < len(data):
            start = at + size
            end = start + int.from_bytes(data[at:start], "big")
            kind = data[start] & 31
            whole |= kind == _WHOLE_PICTURE
            self.other |= kind == _SEQUENCE_HEADER and data[start:end] not in header
            at = end
        self.open_group |= not whole


_WHOLE_PICTURE, _SEQUENCE_HEADER = 5, 7


def timed_frames(path: Path, name: str, damage: list[str]) -> Iterator[tuple[float, _Frame]]:
    """Yield (seconds since the first, frame) of all that decode; causes go into `damage`.

    Raises:
        MediaError: the file cannot be opened as a video.
    """
    causes = _Damage()
    start = None
    with _Clip(name, path).open() as (container, stream):
        frames = decoded_frames(_packets(container, stream, causes), stream, causes)
        for number, frame in enumerate(frames):
            untimed = number / float(stream.average_rate or 25)
            time = untimed if frame.time is None else frame.time
            start = time if start is None else start
            yield time - start, frame
    damage += causes.causes


@dataclass(frozen=True, slots=True)
class Timeline:
    """When a player shows some frames of a clip, and whether browsers play its file.

    `times` are seconds from the beginning, one for each frame asked for; `seconds` is the length.
    """

    times: tuple[float, ...]
    seconds: float
    plays: bool


# What Chromium and Firefox play without a codec of the system's; and H.264, which all have.
_PLAYED = {"mov": {"h264", "vp9", "av1"}, "matroska": {"vp8", "vp9", "av1"}}
_PLAYED_PIXELS = ("yuv420p", "yuvj420p")


def read_timeline(path: Path, name: str, indices: Sequence[int]) -> Timeline:
    """Return when the frames at `indices` are shown, as the packets say it; nothing is decoded.

    Where these do not have a time each, or are fewer than the frames, the frames are taken to be
    of one length.

    Raises:
        MediaError: the file cannot be opened as a video.
    """
    with _Clip(name, path).open() as (container, stream):
        index = _read_index(container, stream, _Damage())
        kind = container.format.name.partition(",")[0]
        codec = stream.codec_context
        plays = codec.name in _PLAYED.get(kind, ()) and codec.pix_fmt in _PLAYED_PIXELS
        # A file may be called .mkv for what is in it; browsers go by their own list of names.
        plays = plays and path.suffix.lower() != ".mkv"
        length = container.duration / 1e6 if container.duration else _seconds(container, stream)
        # Browsers begin at 0, or at the first time where that is below.
        before = min(container.start_time or 0, 0) / 1e6
        base = float(stream.time_base or 0)
    count = max(indices) + 1
    if index.plain and base and len(index.pts) >= count:
        times = [index.pts[each] * base - before for each in indices]
        return Timeline(tuple(times), max(length or 0.0, times[-1]), plays)
    length = length or count / float(stream.average_rate or 25)
    return Timeline(tuple(length * each / count for each in indices), length, plays)


def _seconds(container: av.container.InputContainer, stream: av.video.VideoStream) -> float | None:
    """Return how long the stream is as its container says, else how long the container is."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration else None


def _sample(clip: _Clip, n: int, damage: _Damage) -> tuple[_Picker, int]:
    """Return the picked frames and how many there are.

    Never holds more than one decoded frame besides those asked for.
    """
    with clip.bytes_io() as file:
        if is_cut_short(file):
            damage.add("the file is cut short")
    done: tuple[_Picker, int] | None = None
    with clip.open() as (container, stream):
        index = _read_index(container, stream, damage)
        area = stream.codec_context.width * stream.codec_context.height
        if index.count * area > FULL_DECODE_PIXELS and index.is_sound() and not damage.causes:
            picker = _Picker(spread(index.count, n))
            if _pick_by_seeking(container, stream, index, picker):
                return picker, index.count
        elif index.packets:
            done = _pick(decoded_frames(index.packets, stream, damage), index.count, n)
    picker, count = done or _decode_again(clip, index.count, n, damage)
    if not count:
        cause = str(damage) or "it holds none"
        raise MediaError(f"{clip.name}: no frame can be decoded ({cause})")
    if count != index.count:
        picker, _ = _decode_again(clip, count, n, _Damage())
    return picker, count


def _decode_again(clip: _Clip, count: int, n: int, damage: _Damage) -> tuple[_Picker, int]:
    with clip.open() as (container, stream):
        # What stops the reading was noted when the index was read.
        packets = _packets(container, stream, _Damage())
        return _pick(decoded_frames(packets, stream, damage), count, n)


def _pick(frames: Iterator[_Frame], expected: int, n: int) -> tuple[_Picker, int]:
    """Offer all `frames`; what was picked is right if as many came as were expected."""
    picker = _Picker(spread(expected, n))
    count = 0
    for frame in frames:
        picker.offer(count, frame)
        count += 1
    return picker, count


def _packets(
    container: av.container.InputContainer, stream: av.video.VideoStream, damage: _Damage
) -> Iterator[_Packet | None]:
    """Yield the stream's packets, at the end one that is empty or None: "hand out what is left"."""
    import av

    packets = container.demux(stream)
    while True:
        try:
            yield next(packets)
        except StopIteration:
            return
        except (av.FFmpegError, OSError) as error:
            damage.add(f"reading stopped: {_plain(error)}")
            yield None
            return


def _read_index(
    container: av.container.InputContainer, stream: av.video.VideoStream, damage: _Damage
) -> _Index:
    index = _Index()
    for packet in _packets(container, stream, damage):
        index.add(packet)
    index.pts.sort()
    index.key_pts.sort()
    return index


def decoded_frames(
    packets: Iterable[_Packet | None], stream: av.video.VideoStream, damage: _Damage
) -> Iterator[_Frame]:
    """Yield every frame that decodes; other packets are noted and skipped, as players do."""
    import av

    for packet in packets:
        try:
            frames = stream.codec_context.decode(packet)
        except av.FFmpegError as error:
            damage.add(f"a packet does not decode: {_plain(error)}")
            continue
        for frame in frames:
            if frame.is_corrupt:
                damage.add("a frame is incomplete")
            yield frame


def _pick_by_seeking(
    container: av.container.InputContainer,
    stream: av.video.VideoStream,
    index: _Index,
    picker: _Picker,
) -> bool:
    """Fill `picker` by decoding only from the key frames before the frames wanted.

    Sound where it returns True: each frame decoded after a seek had the very time that the
    packet index gives for its place, with none missing, none incomplete and no error. Leading
    pictures (shown before the key frame that they follow in the file) are left to the stretch
    before. What it cannot see is damage in stretches that it does not decode, and damage that
    the decoder conceals without a word.
    """
    stretch: Iterator[tuple[int, _Frame]] = iter(())
    at = -1
    for wanted in sorted(set(picker.indices)):
        nearest = bisect.bisect_right(index.key_pts, index.pts[wanted]) - 1
        key = index.key_pts[max(0, nearest)]
        if bisect.bisect_left(index.pts, key) > at:
            stretch = _stretch(container, stream, index, key)
        for at, frame in stretch:
            picker.offer(at, frame)
            if at >= wanted:
                break
        if at != wanted:
            return False
    return True


def _stretch(
    container: av.container.InputContainer,
    stream: av.video.VideoStream,
    index: _Index,
    key: int,
) -> Iterator[tuple[int, _Frame]]:
    """Yield (place, frame) from the key frame at time `key` on, up to the first irregularity."""
    import av

    try:
        container.seek(key, stream=stream)
    except (av.FFmpegError, OSError):
        return
    damage = _Damage()
    place = bisect.bisect_left(index.pts, key)
    for frame in decoded_frames(_packets(container, stream, damage), stream, damage):
        if damage.causes or frame.pts is None:
            return
        if frame.pts < key:
            continue
        if place == len(index.pts) or frame.pts != index.pts[place]:
            return
        yield place, frame
        place += 1


def _shown_stream(name: str, container: av.container.InputContainer) -> av.video.VideoStream:
    """Return the video stream marked as default, else the first; a cover picture is not a video."""
    from av.stream import Disposition

    pictures = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    streams = list(container.streams.video)
    videos = [stream for stream in streams if not stream.disposition & pictures]
    if not videos:
        kinds = {stream.type for stream in container.streams}
        held = "a cover picture and no video" if streams else "no video"
        sound = "sound and " if "audio" in kinds else ""
        raise MediaError(f"{name}: cannot be read as a video (it holds {sound}{held})")
    default = [stream for stream in videos if stream.disposition & Disposition.default]
    stream = (default or videos)[0]
    if stream.codec_context is None:
        raise MediaError(f"{name}: cannot be read as a video (no decoder for its codec)")
    return stream


def _plain(error: av.FFmpegError | OSError) -> str:
    """Return FFmpeg's own words for an error, without its number and the file's name."""
    return str(error.strerror or error)

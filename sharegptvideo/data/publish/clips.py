"""Clips inside the rows: a column `clip` that the Hub's viewer shows and `datasets` decodes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from sharegptvideo.data.schema import CLIP
from sharegptvideo.data.sources import ReadReport
from sharegptvideo.media import MediaError, MediaFolder
from sharegptvideo.media.folder import is_picture, natural_order

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FRAMES_PER_SECOND", "ClipCount", "Clips"]

FRAMES_PER_SECOND = 2
"""The rate at which the release's frame folders were sampled."""

_PIECE_BYTES = 32 << 20


@dataclass(slots=True)
class ClipCount:
    """Rows with their clip, and rows whose clip was absent or unreadable; theirs is null."""

    rows_with: int = 0
    rows_without: int = 0


class Clips:
    """Puts the clip of each row beside it.

    A video file goes in as it is. A folder of JPEG frames becomes a Motion-JPEG film in an MP4
    file at two frames a second: its frames are those files byte for byte, nothing is encoded
    again, and decoders give the pixels that the frames have.

    Attributes:
        count: rows that got their clip, and rows that did not.
    """

    def __init__(self, root: Path, report: ReadReport) -> None:
        self._folder = MediaFolder(root)
        self._report = report
        self._missing: set[str] = set()
        self._last: tuple[str, dict[str, Any] | None] | None = None
        self.count = ClipCount()

    def added(self, table: pa.Table) -> Iterator[pa.Table]:
        """Yield the rows of `table` with their clips, in pieces of some tens of megabytes."""
        start, size = 0, 0
        clips: list[dict[str, Any] | None] = []
        for video in table["video"].to_pylist():
            clips.append(self._clip(video))
            size += len(clips[-1]["bytes"]) if clips[-1] else 0
            if size >= _PIECE_BYTES:
                yield _with(table.slice(start, len(clips)), clips)
                start, size, clips = start + len(clips), 0, []
        if clips:
            yield _with(table.slice(start), clips)

    def _clip(self, video: str | None) -> dict[str, Any] | None:
        if video is None:
            return None
        if self._last is None or self._last[0] != video:  # rows of a clip stand together
            self._last = (video, self._read(video))
        clip = self._last[1]
        self.count.rows_with += clip is not None
        self.count.rows_without += clip is None
        return clip

    def _read(self, video: str) -> dict[str, Any] | None:
        try:
            path = self._folder.resolve(video)
            content = None if path is None else _content(path)
        except MediaError:
            path = content = None
        if path is None or content is None:
            if video not in self._missing:
                self._missing.add(video)
                self._report.missing_videos.append(video)
            return None
        suffix = ".mp4" if path.is_dir() else path.suffix.lower()
        return {"bytes": content, "path": PurePosixPath(video).name + suffix}


def _with(table: pa.Table, clips: list[dict[str, Any] | None]) -> pa.Table:
    import pyarrow as pa
    from datasets import Video

    return table.append_column(CLIP, pa.array(clips, Video.pa_type))


def _content(path: Path) -> bytes | None:
    if path.is_dir():
        names = sorted(filter(is_picture, (one.name for one in path.iterdir())), key=natural_order)
        return _film([path / name for name in names]) if names else None
    return path.read_bytes()


def _film(frames: list[Path]) -> bytes:
    """Return the frames as one film, each put in as it is."""
    from fractions import Fraction

    import av

    out = io.BytesIO()
    try:
        with av.open(str(frames[0])) as first, av.open(out, "w", format="mp4") as film:
            picture = first.streams.video[0].codec_context
            if picture.name != "mjpeg":
                raise MediaError(f"{frames[0]}: not a JPEG; only JPEG frames can be put in")
            stream = film.add_stream("mjpeg", rate=FRAMES_PER_SECOND)
            stream.width, stream.height = picture.width, picture.height
            stream.pix_fmt = picture.pix_fmt
            for number, frame in enumerate(frames):
                packet = av.Packet(frame.read_bytes())
                packet.stream = stream
                packet.time_base = Fraction(1, FRAMES_PER_SECOND)
                packet.pts = packet.dts = number
                packet.duration = 1
                packet.is_keyframe = True
                film.mux(packet)
    except av.FFmpegError as error:
        raise MediaError(f"{frames[0].parent}: cannot be made one film ({error})") from error
    return out.getvalue()

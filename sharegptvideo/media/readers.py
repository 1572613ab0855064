"""decord and torchcodec as readers, for clips of which they give the frames that PyAV gives.

What each reads rightly was measured on clips of every kind (README.md in this folder). All else
is handed to PyAV, as is a clip that a reader fails on, or counts other frames in.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharegptvideo._install import install_line
from sharegptvideo.errors import MediaWarning, UserError, unknown_name
from sharegptvideo.media.video import kind_of_video, sample_video, spread

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Frames = npt.NDArray[np.uint8]

__all__ = ["READERS", "check_reader", "read_with"]

READERS = ("pyav", "decord", "torchcodec")

# Container and codec, by FFmpeg's names. decord follows no change of size, of which H.264 and GIF
# alone warn in time, and starts HEVC and MPEG-4 at the wrong frames.
_READS = {
    "decord": {"mov": {"h264"}, "matroska": {"h264"}, "gif": {"gif"}},
    "torchcodec": {
        "mov": {"h264", "hevc", "mpeg4", "av1", "libdav1d", "mjpeg"},
        "matroska": {"h264", "hevc", "mpeg4", "vp8", "vp9", "av1", "libdav1d"},
        "gif": {"gif"},
    },
}
_MODULES = {"decord": "decord", "torchcodec": "torchcodec.decoders"}


def check_reader(reader: str) -> None:
    """Make sure that a reader can be used.

    Raises:
        UserError: there is none of this name, or it is not installed, or cannot be loaded.
    """
    if reader not in READERS:
        raise unknown_name("reader", str(reader), READERS)
    if reader == "pyav":
        return
    if importlib.util.find_spec(reader) is None:
        raise UserError(f"{reader} is not installed: {install_line(reader)}")
    try:
        _load(reader)
    except (ImportError, OSError, RuntimeError) as error:
        cause = str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".:")
        needs = {
            "torchcodec": "; it needs the torch that it was built for, and FFmpeg 4 to 8 as shared "
            "libraries"
        }
        raise UserError(
            f"{reader} is installed but cannot be loaded ({cause}){needs.get(reader, '')}"
        ) from error


def _load(reader: str) -> None:
    module = importlib.import_module(_MODULES[reader])
    if reader == "torchcodec":
        # FFmpeg's libraries are looked for when the first decoder is made.
        try:
            module.VideoDecoder(b"no video")
        except Exception as error:
            if "libtorchcodec" in str(error):
                raise


_check_once = functools.cache(check_reader)


def read_with(reader: str, source: Path | bytes, name: str, n: int) -> tuple[Frames, list[int]]:
    """Do what `sample_video` does with another reader, where that gives the same.

    Raises:
        MediaError: as `sample_video`.
        UserError: as `check_reader`.
    """
    if reader != "pyav":
        _check_once(reader)
        frames = _frames(reader, source, name, n)
        if frames is not None:
            return frames
    return sample_video(source, name, n)


def _frames(
    reader: str, source: Path | bytes, name: str, n: int
) -> tuple[Frames, list[int]] | None:
    """Return what a reader gives; None, and a warning that names the kind, where it may err."""
    kind = kind_of_video(source, name)
    misread = list(kind.oddities)
    if kind.codec not in _READS[reader].get(kind.container, ()):
        misread.insert(0, f"{kind.codec} in a {kind.container} file")
    if misread:
        _say(reader, f"clips with {misread[0]}")
        return None
    indices = spread(kind.frames, n)
    try:
        frames = _READ[reader](source, kind.frames, indices)
    except Exception:  # noqa: BLE001  # their errors are of many kinds, and PyAV knows better
        frames = None
    if frames is None or frames.shape != (n, kind.height, kind.width, 3):
        _say(reader, "clips that it fails on")
        return None
    return frames, indices


def _say(reader: str, kind: str) -> None:
    # Always from this line: Python then shows each text once.
    warnings.warn(f"reader={reader!r}: {kind} are read by PyAV", MediaWarning, stacklevel=1)


def _decord(source: Path | bytes, count: int, indices: list[int]) -> Frames | None:
    import decord  # type: ignore[import-not-found]

    opened = io.BytesIO(source) if isinstance(source, bytes) else str(source.absolute())
    video: Any = decord.VideoReader(opened, num_threads=1)
    frames: Frames | None = None
    if len(video) == count:
        frames = video.get_batch(indices).asnumpy()
    return frames


def _torchcodec(source: Path | bytes, count: int, indices: list[int]) -> Frames | None:
    from torchcodec.decoders import VideoDecoder  # type: ignore[import-not-found]

    opened = source if isinstance(source, bytes) else str(source.absolute())
    video: Any = VideoDecoder(opened, dimension_order="NHWC", num_ffmpeg_threads=1)
    frames: Frames | None = None
    if len(video) == count:
        frames = video.get_frames_at(indices).data.numpy()
    return frames


_READ = {"decord": _decord, "torchcodec": _torchcodec}

"""The one way into a clip's pixels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sharegptvideo.errors import UserError
from sharegptvideo.media.errors import MediaError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["SampledFrames", "sample_frames"]


class SampledFrames(NamedTuple):
    """Frames, uint8 n×H×W×3 RGB, and the index of each among the clip's frames, from 0."""

    frames: npt.NDArray[np.uint8]
    indices: list[int]


def sample_frames(video: str | Path | bytes | bytearray | memoryview, n: int) -> SampledFrames:
    """Exactly `n` frames spread over the whole of a clip, first and last included.

    Frame i is number `floor(linspace(0, N - 1, n))[i]`, where N counts the frames that a full
    decode yields: an edit list is honoured (frames that it cuts away are not shown and not
    counted), packets that do not decode are passed over. A clip of fewer than `n` frames repeats
    some. Pixels are those of PyAV's `to_ndarray(format="rgb24")`, then turned as the rotation
    written in the file asks; pixels that are not square stay as they are stored.

    A long clip (over 200 million pixels, seven seconds of 720p) is not decoded whole: N then is
    the number of its packets, and only the stretches that hold a wanted frame are decoded and
    checked.

    Args:
        video: a file (MP4, AVI, WebM, MKV, GIF and others), its bytes, or a folder of pictures,
            which are taken in the natural order of their names (`f_2` before `f_10`).
        n: how many frames, 1 or more. With 1, the first.

    Raises:
        MediaError: nothing can be read, or the pictures sampled from a folder differ in size or
            are broken. One line with name and cause.

    Warns:
        MediaWarning: the file is damaged; the frames that decode were used.
    """
    if n < 1:
        raise UserError(f"cannot sample {n} frames; ask for 1 or more")
    if not isinstance(video, str | Path):
        from sharegptvideo.media.video import sample_video

        data = bytes(video)
        return SampledFrames(*sample_video(data, f"<bytes, {len(data)} B>", n))
    path = Path(video)
    if path.is_dir():
        from sharegptvideo.media.pictures import sample_folder

        return SampledFrames(*sample_folder(path, str(path), n))
    if not path.is_file():
        cause = "is not a file" if path.exists() else "no such file or folder"
        raise MediaError(f"{path}: {cause}")
    from sharegptvideo.media.video import sample_video

    return SampledFrames(*sample_video(path, str(path), n))

"""Frames sampled from a clip, whether a video file, its bytes or a folder of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sharegptvideo.errors import MediaError, UserError
from sharegptvideo.media.folder import frame_names
from sharegptvideo.media.images import image_errors, read_pixels
from sharegptvideo.media.readers import read_with
from sharegptvideo.media.video import spread

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["SampledFrames", "sample_frames"]


class SampledFrames(NamedTuple):
    """Frames, uint8 n×H×W×3 RGB, and the index of each among the clip's frames, from 0."""

    frames: npt.NDArray[np.uint8]
    indices: list[int]


def sample_frames(
    video: str | Path | bytes | bytearray | memoryview, n: int, *, reader: str = "pyav"
) -> SampledFrames:
    """Return exactly `n` frames spread over the whole of a clip, first and last included.

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
        reader: "pyav", or "decord" or "torchcodec" where these are installed. They give the same
            frames: what they are known to misread is left to PyAV (a `MediaWarning` says so once
            for each kind of clip). Pictures of a folder are read by none of them.

    Raises:
        MediaError: nothing can be read, or the pictures sampled from a folder differ in size or
            are broken. One line with name and cause.

    Warns:
        MediaWarning: the file is damaged; the frames that decode were used.
    """
    if n < 1:
        raise UserError(f"the number of frames must be at least 1, got {n}")
    if not isinstance(video, str | Path):
        data = bytes(video)
        return SampledFrames(*read_with(reader, data, f"<bytes, {len(data)} B>", n))
    path = Path(video)
    if path.is_dir():
        return _sample_folder(path, n)
    if not path.is_file():
        cause = "is not a file" if path.exists() else "no such file or folder"
        raise MediaError(f"{path}: {cause}")
    return SampledFrames(*read_with(reader, path, str(path), n))


def _sample_folder(folder: Path, n: int) -> SampledFrames:
    """Return `n` evenly spread pictures of `folder`.

    Opens only the pictures it returns: a folder may lie on a network and hold hundreds.
    """
    import numpy as np

    names = frame_names(folder)
    indices = spread(len(names), n)
    pictures = {index: _read_picture(folder / names[index]) for index in sorted(set(indices))}
    first = pictures[indices[0]]
    for index, picture in pictures.items():
        if picture.shape != first.shape:
            sizes = " and ".join(
                f"{names[i]} is {pictures[i].shape[1]}×{pictures[i].shape[0]}"
                for i in (indices[0], index)
            )
            raise MediaError(f"{folder}: the frames differ in size ({sizes})")
    return SampledFrames(np.stack([pictures[index] for index in indices]), indices)


def _read_picture(path: Path) -> npt.NDArray[np.uint8]:
    # A camera's orientation tag is to pictures what the display matrix is to videos.
    with image_errors(f"{path.parent}: frame {path.name}"):
        return read_pixels(path)

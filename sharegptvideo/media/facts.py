"""What is known of a clip without decoding it all: size, length, and whether it can be read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, NamedTuple

from sharegptvideo.media.errors import MediaError
from sharegptvideo.media.pictures import is_picture, natural_order

__all__ = ["ClipFacts", "read_facts"]


class ClipFacts(NamedTuple):
    """Facts of one clip; `error` says why it cannot be read, and all but `bytes` is then null.

    Attributes:
        bytes: size of the file, or of a folder's pictures together.
        duration_s: seconds; null for a folder of frames, which does not say its rate.
        frames: as the container states, or the pictures in the folder.
        fps: frames a second on average; null for a folder.
        width: pixels, of the upright frame.
        height: likewise.
        damage: why a file is not whole though frames of it decode.
        error: one line without the clip's name.
    """

    bytes: int
    duration_s: float | None = None
    frames: int | None = None
    fps: float | None = None
    width: int | None = None
    height: int | None = None
    damage: str | None = None
    error: str | None = None


def read_facts(path: Path) -> ClipFacts:
    """Facts of a video file or a folder of frames; what cannot be read is told in `error`.

    A file: header and first frame. A folder: the sizes of all pictures, header and end of the
    first and the last. So a file whose end does not decode, or a broken picture amid a folder,
    is not noticed; an empty or cut one mostly is.
    """
    size = 0
    try:
        if path.is_dir():
            names, size = _pictures(path)
            return _folder(path, names, size)
        size = path.stat().st_size
        return _file(path, size)
    except MediaError as error:
        return ClipFacts(size, error=str(error).removeprefix(f"{path}: "))
    except OSError as error:
        return ClipFacts(size, error=f"cannot be opened ({error.strerror})")


def _file(path: Path, size: int) -> ClipFacts:
    from sharegptvideo.media.video import describe_video

    facts = describe_video(path, str(path))
    return ClipFacts(
        size,
        facts.duration_s,
        facts.frames,
        facts.fps,
        facts.width,
        facts.height,
        facts.damage,
    )


def _pictures(folder: Path) -> tuple[list[str], int]:
    """Names of the pictures, first and last in their natural places, and their bytes."""
    names: list[str] = []
    total = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if not is_picture(entry.name):
                continue
            size = entry.stat().st_size
            if not size:
                raise MediaError(f"{folder}: frame {entry.name} is empty")
            total += size
            names.append(entry.name)
    if not names:
        raise MediaError(f"{folder}: the folder holds no frames")
    return names, total


def _folder(folder: Path, names: list[str], size: int) -> ClipFacts:
    first, last = min(names, key=natural_order), max(names, key=natural_order)
    width, height = _picture_size(folder, first)
    other = _picture_size(folder, last) if last != first else (width, height)
    if other != (width, height):
        raise MediaError(
            f"{folder}: the frames differ in size "
            f"({first} is {width}×{height} and {last} is {other[0]}×{other[1]})"
        )
    return ClipFacts(size, frames=len(names), width=width, height=height)


def _picture_size(folder: Path, name: str) -> tuple[int, int]:
    """Width and height of the upright picture.

    Raises:
        MediaError: it is no picture, or its end is missing.
    """
    from PIL import Image

    try:
        with (folder / name).open("rb") as file, Image.open(file) as image:
            width, height = image.size
            turned = "exif" in image.info and image.getexif().get(_ORIENTATION, 1) >= _SIDEWAYS
            if not _ends_well(file, image.format or ""):
                # Decoding takes ten times as long as the rest: only where the end looks odd.
                image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        cause = str(getattr(error, "strerror", None) or error).split(" '")[0].split(" <")[0]
        raise MediaError(f"{folder}: frame {name} cannot be read ({cause})") from error
    return (height, width) if turned else (width, height)


_ORIENTATION = 0x0112
_SIDEWAYS = 5  # orientations 5 to 8 lie on their side


def _ends_well(file: IO[bytes], kind: str) -> bool:
    end = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}.get(kind)
    if end is None:
        return False
    position = file.tell()
    file.seek(-len(end), os.SEEK_END)
    found = file.read(len(end))
    file.seek(position)
    return found == end

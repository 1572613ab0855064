"""Facts of clips without decoding them whole: size, length, and whether they can be read."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from sharegptvideo._concurrency import ordered_map, worker_pool
from sharegptvideo._io import os_error_words
from sharegptvideo.errors import MediaError
from sharegptvideo.media.folder import is_picture, natural_order
from sharegptvideo.media.images import image_errors, open_image
from sharegptvideo.media.video import describe_video

__all__ = ["ClipFacts", "clip_bytes", "read_all_facts", "read_facts"]

_CHUNK = 64
# Chunks handed out ahead for each worker, so that none waits.
_AHEAD = 4
# Reading fewer takes less time than starting a process.
_FEW = 256


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


def read_facts(path: Path, *, is_image: bool = False) -> ClipFacts:
    """Return the facts of a video file or a folder of frames; `error` says why there are none.

    A file: header and first frame. A folder: the sizes of all pictures, and the first and the
    last: header and end of a plain JPEG, others are decoded. So a file whose end does not decode,
    or a broken picture amid a folder, is not noticed; an empty or cut one mostly is. With
    `is_image` the file is a still image, and looked at as the pictures of a folder are.
    """
    size = 0
    try:
        if path.is_dir():
            names, size = _pictures(path)
            return _folder(path, names, size)
        size = path.stat().st_size
        if is_image:
            width, height = _picture_size(path, f"{path}:")
            return ClipFacts(size, width=width, height=height)
        facts = describe_video(path, str(path))
    except MediaError as error:
        return ClipFacts(size, error=str(error).removeprefix(f"{path}: "))
    except OSError as error:
        return ClipFacts(size, error=f"cannot be opened ({os_error_words(error)})")
    except Exception as error:  # noqa: BLE001 - decoders meet strange bytes; one clip stops no run
        cause = " ".join(str(error).split()) or "no cause given"
        return ClipFacts(size, error=f"cannot be read ({type(error).__name__}: {cause})")
    return ClipFacts(
        size, facts.duration_s, facts.frames, facts.fps, facts.width, facts.height, facts.damage
    )


def clip_bytes(path: Path) -> int | None:
    """Return the bytes of a video file, or of a folder's pictures; None if they cannot be read."""
    try:
        return _pictures(path)[1] if path.is_dir() else path.stat().st_size
    except (MediaError, OSError):
        return None


def read_all_facts(
    root: Path, paths: Sequence[str], workers: int, *, are_images: bool = False
) -> Generator[tuple[str, ClipFacts], None, None]:
    """Yield (path, facts) of each path below `root`, in order, read by worker processes.

    Raises:
        UserError: a worker process died.
    """
    if workers == 1 or len(paths) <= _FEW:
        for path in paths:
            yield from _read_chunk((root, [path], are_images))
        return
    chunks = ((root, paths[at : at + _CHUNK], are_images) for at in range(0, len(paths), _CHUNK))
    with worker_pool(workers) as pool:
        read = ordered_map(_read_chunk, chunks, ahead=workers * _AHEAD, pool=pool)
        yield from itertools.chain.from_iterable(read)


def _read_chunk(chunk: tuple[Path, Sequence[str], bool]) -> list[tuple[str, ClipFacts]]:
    root, paths, are_images = chunk
    with warnings.catch_warnings():
        # Pillow's and our own warnings about a clip are in its facts, or do not matter here.
        warnings.simplefilter("ignore")
        return [(path, read_facts(root / path, is_image=are_images)) for path in paths]


def _pictures(folder: Path) -> tuple[list[str], int]:
    """Return the names of the pictures in a folder, in no order, and their bytes."""
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
    first, last = _ends(names)
    width, height = _frame_size(folder, first)
    other = _frame_size(folder, last) if last != first else (width, height)
    if other != (width, height):
        raise MediaError(
            f"{folder}: the frames differ in size "
            f"({first} is {width}×{height} and {last} is {other[0]}×{other[1]})"
        )
    return ClipFacts(size, frames=len(names), width=width, height=height)


def _ends(names: list[str]) -> tuple[str, str]:
    """Return the first and the last name in natural order."""
    if len({name.translate(_NO_DIGITS) for name in names}) == 1:
        # Digits stand at the same places in all: plain order is the same, and ten times as fast.
        return min(names), max(names)
    places = [natural_order(name) for name in names]
    (_, first), (_, last) = min(places), max(places)
    return first, last


_NO_DIGITS = str.maketrans("123456789", "000000000")


def _frame_size(folder: Path, name: str) -> tuple[int, int]:
    return _picture_size(folder / name, f"{folder}: frame {name}")


def _picture_size(path: Path, what: str) -> tuple[int, int]:
    """Return width and height of the upright picture; messages begin with `what`.

    Raises:
        MediaError: it is no picture, or its end is missing.
    """
    with image_errors(what):
        with path.open("rb") as file:
            size = _plain_jpeg_size(file)
        if size is not None:
            return size
        with open_image(path) as image:
            width, height = image.size
            turned = image.getexif().get(_ORIENTATION, 1) >= _SIDEWAYS
            image.load()
    return (height, width) if turned else (width, height)


_ORIENTATION = 0x0112
_SIDEWAYS = 5  # orientations 5 to 8 lie on their side

_HEAD = 2048
_START, _END = b"\xff\xd8", b"\xff\xd9"
# Frame headers (ITU-T T.81, table B.1): C0 to CF, less those for Huffman tables, reserved, coding.
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_EXIF = 0xE1


def _plain_jpeg_size(file: IO[bytes]) -> tuple[int, int] | None:
    """Return width and height from the frame header of a whole JPEG without EXIF; else None.

    For None, Pillow decodes the picture, and says what is wrong with it. It would take ten times
    as long for the hundreds of thousands of plain ones.
    """
    head = file.read(_HEAD)
    size = _frame_header(head) if head[:2] == _START else None
    if size is not None:
        if len(head) == _HEAD:
            file.seek(-len(_END), os.SEEK_END)
            head = file.read(len(_END))
        if not head.endswith(_END):
            size = None
    return size


def _frame_header(head: bytes) -> tuple[int, int] | None:
    place = len(_START)
    while place + 9 <= len(head) and head[place] == 0xFF:
        marker = head[place + 1]
        if marker in _FRAME_HEADERS:
            height = int.from_bytes(head[place + 5 : place + 7], "big")
            width = int.from_bytes(head[place + 7 : place + 9], "big")
            return (width, height) if width and height else None
        if marker == _EXIF:
            return None  # it may say that the picture lies on its side
        place += 2 + int.from_bytes(head[place + 2 : place + 4], "big")
    return None

"""The frames of each clip side by side in one small JPEG, for pages that show thousands."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from sharegptvideo._concurrency import Progress, ordered_map
from sharegptvideo._io import os_error_words

__all__ = ["Strip", "Wanted", "write_strips"]

Key = tuple[str, str]  # task and video

LONGEST_SIDE = 160
"""Of one frame, in pixels: eight frames then take about 30 kB."""

_QUALITY = 72
_DECODERS = 2
_AHEAD = 8  # so that a slow clip does not stop the other decoder
_FOLDER = "frames"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A clip, and how many frames of it; `indices` are those the model saw, where recorded."""

    clip: str
    n: int
    indices: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Strip:
    """A picture of `n` frames from left to right, each `width`×`height`; or why there is none.

    `file` is its path below the page's folder. `moved` says that the clip now gives other frames
    than those recorded.
    """

    file: str = ""
    n: int = 0
    width: int = 0
    height: int = 0
    indices: tuple[int, ...] = ()
    moved: bool = False
    error: str = ""


def write_strips(
    wanted: Mapping[Key, Wanted], out: Path, *, progress: Progress | None = None
) -> dict[Key, Strip]:
    """Write OUT/frames/*.jpg, one for each clip, and give their sizes by the keys of `wanted`.

    Pictures of an earlier, perhaps interrupted report that are of the same files are kept.
    A clip that cannot be read gives a strip with its cause. Pictures in that folder that belong to
    no clip of these are removed.

    Raises:
        OSError: the disk is full, or `out` may not be written.
    """
    folder = out / _FOLDER
    drawn: dict[tuple[str, int], Strip] = {}
    # Tasks may share clips.
    clips = dict.fromkeys((each.clip, each.n) for each in wanted.values())

    def write(clip: tuple[str, int]) -> Strip:
        return _write(*clip, folder)

    # An error or Ctrl-C does not wait for the other clips.
    with closing(
        ordered_map(write, clips, workers=_DECODERS, ahead=_AHEAD, name="frames")
    ) as strips:
        for done, (clip, strip) in enumerate(zip(clips, strips, strict=True), start=1):
            drawn[clip] = strip
            if progress:
                progress(done, len(clips), "clips shown")
    _remove_others(folder, {strip.file for strip in drawn.values()})
    return {key: _compared(drawn[each.clip, each.n], each) for key, each in wanted.items()}


def _compared(strip: Strip, wanted: Wanted) -> Strip:
    moved = wanted.indices is not None and wanted.indices != strip.indices and not strip.error
    return replace(strip, moved=moved)


def _write(clip: str, n: int, folder: Path) -> Strip:
    from sharegptvideo.media import MediaError

    try:
        file = folder / f"{_name(Path(clip), n)}.jpg"
        if not file.is_file():
            _draw(clip, n, file)
    except MediaError as error:
        return Strip(error=str(error))
    except OSError as error:
        if error.filename is None or not str(error.filename).startswith(clip):
            raise
        return Strip(error=f"{clip}: cannot be read ({os_error_words(error)})")
    return _read(file)


def _name(clip: Path, n: int) -> str:
    """A name that changes with the clip: its path, and size and time of what is in it."""
    parts = sorted(clip.iterdir()) if clip.is_dir() else [clip]
    stamps = [(part.name, stat.st_size, stat.st_mtime_ns) for part in parts
              for stat in [part.stat()]]  # fmt: skip
    return hashlib.sha256(repr((n, str(clip), stamps)).encode()).hexdigest()[:20]


def _draw(clip: str, n: int, file: Path) -> None:
    """Put the frames side by side; the picture's comment says which they are."""
    import numpy as np
    from PIL import Image

    from sharegptvideo.media import sample_frames

    frames, indices = sample_frames(clip, n)
    height, width = frames.shape[1:3]
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    row = [np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))
           for frame in frames]  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    Image.fromarray(np.concatenate(row, axis=1)).save(
        temporary, format="JPEG", quality=_QUALITY, optimize=True, comment=json.dumps(indices)
    )
    temporary.replace(file)


def _read(file: Path) -> Strip:
    from PIL import Image

    with Image.open(file) as picture:
        indices = json.loads(picture.info["comment"])
        width, height = picture.size
    n = len(indices)
    return Strip(f"{_FOLDER}/{file.name}", n, width // n, height, tuple(indices))


def _remove_others(folder: Path, files: set[str]) -> None:
    kept = {Path(file).name for file in files}
    for path in folder.glob("?" * 20 + ".*"):
        if path.suffix in (".jpg", ".tmp") and path.name not in kept:
            path.unlink()

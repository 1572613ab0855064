"""Clips as pages show them: the file where browsers play it, and a picture of sampled frames.

frames/*.jpg   the frames of each clip side by side
media/*        copies of the clips, where a page takes them along
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from sharegptvideo._concurrency import Progress, ordered_map
from sharegptvideo._io import os_error_words, replacing_bytes
from sharegptvideo.errors import MediaError
from sharegptvideo.reports.parts import Clip

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "COPIED_BYTES",
    "Sprite",
    "Wanted",
    "clip_part",
    "relative_address",
    "remove_others",
    "write_sprites",
]

LONGEST_SIDE = 160
"""Of one frame, in pixels: eight frames then take about 30 kB."""

COPIED_BYTES = 64 << 20
"""Clips that take no more together are copied beside a page, if nothing else is asked for."""

_QUALITY = 72
_SMALL = 96  # pixels a side up to which a frame is kept as it is, colours at full resolution
_DECODERS = 2
_AHEAD = 8  # so that a slow clip does not stop the other decoder
_FRAMES, _MEDIA = "frames", "media"

Key = tuple[str, str]
"""Task and video."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A clip, and how many frames of it; `indices` are those the model saw, where recorded."""

    clip: str
    n: int
    indices: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Sprite:
    """A picture of `n` frames from left to right, each `width`×`height`; or why there is none.

    `file` is its path below the page's folder. `times` and `seconds` are those of `Clip`; `plays`
    says whether browsers play the clip, and `video` is its address if so. `moved` says that the
    clip now gives other frames than those recorded.
    """

    file: str = ""
    n: int = 0
    width: int = 0
    height: int = 0
    indices: tuple[int, ...] = ()
    times: tuple[float, ...] = ()
    seconds: float = 0.0
    plays: bool = False
    video: str = ""
    moved: bool = False
    error: str = ""


def clip_part(clip: Path, n: int, page: Path, *, name: str) -> Clip:
    """Return a clip for a page that holds the frames itself and plays the file from its place.

    Args:
        clip: a video file or a folder of frames.
        n: how many frames are sampled.
        page: folder of the page.
        name: what the clip is called.

    Raises:
        MediaError: the clip cannot be read.
    """
    picture = _draw(str(clip), n)
    sprite = _read_sprite(picture)
    return Clip(
        name,
        f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}",
        (sprite.width, sprite.height),
        sprite.indices,
        sprite.times,
        sprite.seconds,
        relative_address(clip, page) if sprite.plays else "",
    )


def relative_address(file: Path, page: Path) -> str:
    """Return a file's address as a page in the folder `page` names it: both can move together."""
    relative = os.path.relpath(file.absolute(), page.absolute())
    return quote(os.fsencode(Path(relative).as_posix()))


def write_sprites(
    wanted: Mapping[Key, Wanted],
    out: Path,
    *,
    copy_clips: bool | None = None,
    progress: Progress | None = None,
) -> dict[Key, Sprite]:
    """Write OUT/frames/*.jpg, one for each clip, and give their sizes by the keys of `wanted`.

    Pictures of an earlier, perhaps interrupted report that are of the same files are kept.
    A clip that cannot be read gives a sprite with its cause.

    Args:
        wanted: the clips.
        out: the page's folder.
        copy_clips: whether clips that browsers play are copied to OUT/media, or shown from where
            they are; None: copied where they take no more than `COPIED_BYTES` together.
        progress: called after each clip.

    Raises:
        OSError: the disk is full, or `out` may not be written.
    """
    folder = out / _FRAMES
    drawn: dict[tuple[str, int], Sprite] = {}
    # Tasks may share clips.
    clips = dict.fromkeys((each.clip, each.n) for each in wanted.values())

    def write(clip: tuple[str, int]) -> Sprite:
        return _write_sprite(*clip, folder)

    # An error or Ctrl-C does not wait for the other clips.
    with closing(
        ordered_map(write, clips, workers=_DECODERS, ahead=_AHEAD, name="frames")
    ) as sprites:
        for done, (clip, sprite) in enumerate(zip(clips, sprites, strict=True), start=1):
            drawn[clip] = sprite
            if progress:
                progress(done, len(clips), "clips shown")
    videos = _videos({clip for (clip, _), sprite in drawn.items() if sprite.plays}, out, copy_clips)
    return {
        key: replace(_compared(drawn[each.clip, each.n], each), video=videos.get(each.clip, ""))
        for key, each in wanted.items()
    }


def _compared(sprite: Sprite, wanted: Wanted) -> Sprite:
    moved = wanted.indices is not None and wanted.indices != sprite.indices and not sprite.error
    return replace(sprite, moved=moved)


def _videos(clips: set[str], out: Path, copy_clips: bool | None) -> dict[str, str]:
    """Return the address of each clip, copied or where it is."""
    files = {clip: Path(clip) for clip in sorted(clips)}
    if copy_clips is None:
        copy_clips = sum(file.stat().st_size for file in files.values()) <= COPIED_BYTES
    if not copy_clips:
        return {clip: relative_address(file, out) for clip, file in files.items()}
    addresses = {}
    for clip, file in files.items():
        copy = out / _MEDIA / f"{_file_name(file)}{file.suffix.lower()}"
        if not copy.exists():
            with replacing_bytes(copy) as target, file.open("rb") as source:
                shutil.copyfileobj(source, target)
        addresses[clip] = f"{_MEDIA}/{copy.name}"
    return addresses


def _write_sprite(clip: str, n: int, folder: Path) -> Sprite:
    try:
        file = folder / f"{_file_name(Path(clip), n)}.jpg"
        if not file.is_file():
            picture = _draw(clip, n)
            with replacing_bytes(file) as out:
                out.write(picture)
    except MediaError as error:
        return Sprite(error=str(error))
    except OSError as error:
        if error.filename is None or not str(error.filename).startswith(clip):
            raise
        return Sprite(error=f"{clip}: cannot be read ({os_error_words(error)})")
    return replace(_read_sprite(file.read_bytes()), file=f"{_FRAMES}/{file.name}")


def _file_name(clip: Path, n: int | None = None) -> str:
    """Return a name that changes with the clip: its path, and size and time of what is in it."""
    parts = sorted(clip.iterdir()) if clip.is_dir() else [clip]
    stamps = [(part.name, stat.st_size, stat.st_mtime_ns) for part in parts
              for stat in [part.stat()]]  # fmt: skip
    known = (_DRAWN, n, str(clip), stamps)
    return hashlib.sha256(repr(known).encode()).hexdigest()[:20]


_DRAWN = 3
"""Raised where a picture or what is noted in it changes: older ones are drawn again."""


def _draw(clip: str, n: int) -> bytes:
    """Put frames side by side in a JPEG, whose comment says which and when they are."""
    import numpy as np
    from PIL import Image

    from sharegptvideo.media import sample_frames
    from sharegptvideo.media.video import read_timeline

    frames, indices = sample_frames(clip, n)
    noted: dict[str, object] = {"indices": indices}
    if Path(clip).is_file():
        line = read_timeline(Path(clip), clip, indices)
        times = [round(time, 4) for time in line.times]
        noted |= {"times": times, "seconds": round(line.seconds, 4), "plays": line.plays}
    height, width = frames.shape[1:3]
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    row = [np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))
           for frame in frames]  # fmt: skip
    return _jpeg(np.concatenate(row, axis=1), json.dumps(noted), small=max(size) <= _SMALL)


def _jpeg(picture: NDArray[np.uint8], comment: str, *, small: bool) -> bytes:
    from PIL import Image

    written = io.BytesIO()  # Pillow takes no notice of what a full disk cuts off
    quality = {"quality": 80, "subsampling": 0} if small else {"quality": _QUALITY}
    Image.fromarray(picture).save(written, "JPEG", optimize=True, comment=comment, **quality)
    return written.getvalue()


def _read_sprite(picture: bytes) -> Sprite:
    from PIL import Image

    with Image.open(io.BytesIO(picture)) as read:
        noted = json.loads(read.info["comment"])
        width, height = read.size
    indices = tuple(noted["indices"])
    return Sprite(
        n=len(indices),
        width=width // len(indices),
        height=height,
        indices=indices,
        times=tuple(noted.get("times", ())),
        seconds=noted.get("seconds", 0.0),
        plays=noted.get("plays", False),
    )


def remove_others(out: Path, sprites: Iterable[Sprite]) -> None:
    """Remove pictures and clips of earlier reports that are not among these."""
    kept = {Path(name).name for sprite in sprites for name in (sprite.file, sprite.video)}
    for folder in (out / _FRAMES, out / _MEDIA):
        for path in folder.glob("*"):
            if re.fullmatch(r"[0-9a-f]{20}\..+", path.name) and path.name not in kept:
                path.unlink()

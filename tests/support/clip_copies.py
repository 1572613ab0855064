"""Copies of a clip as they go round: coded again, scaled, cut, framed, turned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

Pixels = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Change:
    """What is done to a clip. `trim` is the part kept, in shares of its length.

    `skip_s` seconds are cut from its beginning before that; `crf` is libx264's quality, 23 its
    default, 51 its worst.
    """

    size: tuple[int, int] | None = None
    crf: int = 28
    codec: str = "libx264"
    fps: int | None = None
    skip_s: float = 0.0
    trim: tuple[float, float] = (0.0, 1.0)
    frame: Callable[[Pixels], Pixels] | None = None


def letterboxed(frame: Pixels) -> Pixels:
    """Black bars above and below, a sixth of the height each."""
    return np.pad(frame, ((frame.shape[0] // 6,) * 2, (0, 0), (0, 0)))


def brighter(frame: Pixels) -> Pixels:
    """More contrast and brightness."""
    return np.clip(frame * 1.15 + 12, 0, 255).astype(np.uint8)


def mirrored(frame: Pixels) -> Pixels:
    """Left and right swapped."""
    return frame[:, ::-1]


def cropped(frame: Pixels) -> Pixels:
    """A twentieth cut off at each side."""
    high, wide = frame.shape[0] // 20, frame.shape[1] // 20
    return frame[high:-high, wide:-wide]


CHANGES: dict[str, Change] = {
    "coded again, crf 35": Change(crf=35),
    "MPEG-4 part 2": Change(codec="mpeg4"),
    "160×120, crf 40": Change(size=(160, 120), crf=40),
    "224×224": Change(size=(224, 224)),
    "960×720": Change(size=(960, 720), crf=30),
    "10 frames a second": Change(fps=10),
    "2 frames a second": Change(fps=2),
    "0.37 s cut off in front": Change(skip_s=0.37),
    "middle half": Change(trim=(0.25, 0.75)),
    "first two thirds": Change(trim=(0.0, 0.66)),
    "letterboxed": Change(frame=letterboxed),
    "mirrored": Change(frame=mirrored),
    "brighter": Change(frame=brighter),
    "200×150, crf 36, 12 a second, middle 60 %": Change(
        size=(200, 150), crf=36, fps=12, trim=(0.2, 0.8)
    ),
}
"""Those that a copy is to be known by."""

BEYOND: dict[str, Change] = {"a twentieth cropped at each side": Change(frame=cropped)}
"""Those that it is not."""


def copy_clip(source: Path, out: Path, change: Change) -> Path:
    """Write a copy of `source` with one change; 0.37 s is said not to fit the sampling."""
    timed = list(_frames(source))
    length = timed[-1][0] + (timed[-1][0] / max(len(timed) - 1, 1))
    start = max(change.skip_s, change.trim[0] * length)
    kept = [(t - start, f) for t, f in timed if start <= t < change.trim[1] * length]
    rate = Fraction(change.fps) if change.fps else Fraction(round((len(timed) - 1) / timed[-1][0]))
    due = 0.0
    with av.open(str(out), "w") as container:
        stream: Any = None
        for time, pixels in kept:
            if change.fps and time < due - 1e-6:
                continue
            due += 1 / rate
            changed = change.frame(pixels) if change.frame else pixels
            # Coders want even sides.
            changed = np.ascontiguousarray(
                changed[: changed.shape[0] & ~1, : changed.shape[1] & ~1]
            )
            wide, high = change.size or (changed.shape[1], changed.shape[0])
            frame = av.VideoFrame.from_ndarray(changed, format="rgb24")
            frame = frame.reformat(wide, high, format="yuv420p")
            if stream is None:
                stream = container.add_stream(change.codec, rate=rate)
                stream.width, stream.height, stream.pix_fmt = wide, high, "yuv420p"
                stream.thread_count = 1  # the same copy each time
                if change.codec == "libx264":
                    stream.options = {"crf": str(change.crf), "preset": "veryfast"}
                number = 0
            frame.pts, frame.time_base = number, 1 / rate
            number += 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return out


def frame_folder(source: Path, out: Path) -> Path:
    """A copy as the release has its training clips: two pictures a second, 336 pixels wide."""
    out.mkdir(parents=True)
    number = 0
    for time, pixels in _frames(source):
        if time >= number / 2 - 1e-6:
            image = Image.fromarray(pixels)
            image.resize((336, round(336 * image.height / image.width))).save(
                out / f"c01_{number + 1:04d}.jpeg", quality=75
            )
            number += 1
    return out


def _frames(source: Path) -> Iterator[tuple[float, Pixels]]:
    with av.open(str(source)) as container:
        start = None
        for frame in container.decode(video=0):
            start = frame.time if start is None else start
            yield frame.time - start, frame.to_ndarray(format="rgb24")

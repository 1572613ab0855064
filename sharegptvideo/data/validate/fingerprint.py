"""Fingerprints of clips, in 64 bytes a sampled frame: signs of low frequencies, and colours.

Two parts, both taken from the frame without dark borders, stretched to 128×128:

- *light*: brightness brought down to 32×32 and transformed by a two-dimensional DCT-II; the
  signs of the 255 coefficients of lowest frequency (u + v), the mean left out, as bits. It is the
  sign form of the perceptual hash of Zauner 2010 ("pHash"), with more bits. Rescaling and lossy
  coding hardly touch low frequencies; brightness, contrast and another shape of pixels do not
  touch signs at all.
- *colour*: means of R - G and (R + G)/2 - B, halved, in 4×4 cells. It separates what is drawn
  alike in other colours.

A mirrored frame has the same coefficients with the sign of odd horizontal frequencies turned, so
mirrored copies are found without decoding again.

Fingerprints are taken by several threads, and kept in the cache folder between runs.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from sharegptvideo._concurrency import available_cores, ordered_map
from sharegptvideo._io import cache_folder
from sharegptvideo._sqlite import Layout, OtherFileError, open_sqlite, transaction
from sharegptvideo.media import MediaError
from sharegptvideo.media.folder import FOLDER_FPS, is_picture, natural_order
from sharegptvideo.media.video import orientation, timed_frames, upright

__all__ = [
    "BITS",
    "CELLS",
    "MIRROR",
    "VIDEO_FPS",
    "Fingerprint",
    "FingerprintCache",
    "take_fingerprint",
]

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

BITS = 256
"""Bits of light: 255 signs, and one that is always 0."""
CELLS = 4
VIDEO_FPS = 8
"""Samples a second of a video file."""

_SIDE = 128
_SMALL = 32
_LONGEST = 600  # seconds; what comes after ten minutes is left out
_FLAT = 3.0  # a frame with less deviation in brightness (of 255) shows nothing to go by
_DARK = 24  # borders no pixel of which is ever brighter are cut off ...
_BORDER = 0.4  # ... up to this share of a side

# Raised with any change of how a fingerprint is taken.
_VERSION = 1
_TABLE = """
CREATE TABLE IF NOT EXISTS looks (
    path TEXT PRIMARY KEY, stamp TEXT NOT NULL, ticks BLOB NOT NULL, light BLOB NOT NULL,
    colour BLOB NOT NULL, damage TEXT, readable INTEGER NOT NULL
) WITHOUT ROWID
"""
_LAYOUT = Layout((_TABLE,))  # its version is in the name of the file
# A clip changed this recently may change again without a new time.
_SETTLED_NS = 2_000_000_000
_COMMIT_S = 1.0
_AHEAD = 4


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The samples of a clip that show something.

    Attributes:
        ticks: n times, in units of 1/8 s from the clip's start (int32).
        light: n×4 words of 64 bits (uint64).
        colour: n×4×4×2 (int8).
        damage: what did not decode, if some frames did; or why nothing can be seen.
        readable: whether a frame could be decoded at all.
    """

    ticks: npt.NDArray[np.int32]
    light: npt.NDArray[np.uint64]
    colour: npt.NDArray[np.int8]
    damage: str | None = None
    readable: bool = True


def take_fingerprint(path: Path) -> Fingerprint:
    """Sample a clip, a video file or a folder of pictures. A broken one gives its cause, no error.

    A video gives eight samples a second, a folder all its pictures, of the first ten minutes.
    """
    import av
    from PIL.Image import DecompressionBombError

    damage: list[str] = []
    samples: list[tuple[int, Bytes]] = []
    try:
        samples.extend(_pictures(path) if path.is_dir() else _video(path, damage))
    except MediaError as error:
        return _nothing(str(error).removeprefix(f"{path}: "))
    except (av.FFmpegError, OSError, ValueError, SyntaxError, DecompressionBombError) as error:
        # Of a folder one bad picture spoils the clip, for `sample_frames` too; PIL raises the
        # last three for data that are no picture, or too large a one.
        cause = getattr(error, "strerror", None) or str(error).splitlines()[0]
        return _nothing(str(cause))
    if not samples:
        return _nothing(damage[0] if damage else "it holds no frame")
    ticks, frames = zip(*samples, strict=True)
    return _described(np.array(ticks), np.stack(frames), damage[0] if damage else None)


def _nothing(cause: str) -> Fingerprint:
    return Fingerprint(
        np.empty(0, np.int32),
        np.empty((0, BITS // 64), np.uint64),
        np.empty((0, CELLS, CELLS, 2), np.int8),
        cause,
        readable=False,
    )


def _pictures(folder: Path) -> Iterator[tuple[int, Bytes]]:
    from PIL import Image, ImageOps

    names = sorted((p.name for p in folder.iterdir() if is_picture(p.name)), key=natural_order)
    for number, name in enumerate(names[: _LONGEST * FOLDER_FPS]):
        with Image.open(folder / name) as image:
            # JPEG decodes at an eighth, quarter or half of its size in a fraction of the time.
            image.draft("RGB", (2 * _SIDE, 2 * _SIDE))
            upright = ImageOps.exif_transpose(image).convert("RGB")
            pixels = np.asarray(upright.resize((_SIDE, _SIDE), Image.Resampling.BOX))
            yield number * VIDEO_FPS // FOLDER_FPS, pixels


def _video(path: Path, damage: list[str]) -> Iterator[tuple[int, Bytes]]:
    """Yield (tick, pixels) of the first frame in each eighth of a second that has one."""
    from av.video.reformatter import VideoReformatter

    # One for the clip: each frame's own `reformat` would set up its scaling anew.
    scaler, due, turn = VideoReformatter(), 0, None
    for seconds, frame in timed_frames(path, str(path), damage):
        # A thousandth's leeway: times are rounded in some containers.
        tick = int((seconds + 1e-3) * VIDEO_FPS)
        if tick >= _LONGEST * VIDEO_FPS:
            return
        if tick >= due:
            turn = turn or orientation(frame)
            small = scaler.reformat(frame, _SIDE, _SIDE, format="rgb24", interpolation="AREA")
            yield tick, upright(np.asarray(small.to_ndarray(), np.uint8), turn)
            due = tick + 1


def _described(ticks: npt.NDArray[Any], frames: Bytes, damage: str | None) -> Fingerprint:
    """Return light and colour of frames (n×128×128×3, RGB) taken at some times."""
    rows, columns = _inside(frames)
    shown = frames[:, rows, columns].astype(np.float32)
    light = shown @ np.array([0.299, 0.587, 0.114], np.float32)
    kept = np.flatnonzero(light.std(axis=(1, 2)) >= _FLAT)
    light, shown = light[kept], shown[kept]
    small = _squeezed(light[..., None], _SMALL)[..., 0]
    basis = _cosines()
    waves = (basis @ small @ basis.T)[:, *_ORDER]
    bits = np.zeros((len(kept), BITS), bool)
    bits[:, : BITS - 1] = waves > 0
    red, green, blue = shown[..., 0], shown[..., 1], shown[..., 2]
    hues = np.stack([(red - green) / 2, (red + green) / 4 - blue / 2], axis=-1, dtype=np.float32)
    colour = np.clip(np.rint(_squeezed(hues, CELLS)), -127, 127).astype(np.int8)
    return Fingerprint(ticks[kept].astype(np.int32), _words(bits), colour, damage)


def _words(bits: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint64]:
    packed = np.packbits(bits, axis=-1)
    return np.ascontiguousarray(packed).view(np.uint64).reshape(*bits.shape[:-1], BITS // 64)


def _inside(frames: Bytes) -> tuple[slice, slice]:
    """Return the part of the frames within borders that stay dark through the whole clip."""
    brightest = frames.max(axis=(0, 3))
    return _lit(brightest.max(axis=1)), _lit(brightest.max(axis=0))


def _lit(brightest: Bytes) -> slice:
    lit = np.flatnonzero(brightest > _DARK)
    if not lit.size:
        return slice(0, _SIDE)
    first, last = int(lit[0]), int(lit[-1]) + 1
    most = int(_SIDE * _BORDER)
    # One line may be the coder's ringing.
    return slice(0 if first > most else first, _SIDE if _SIDE - last > most else last)


def _squeezed(images: Floats, side: int) -> Floats:
    """Scale n×H×W×c to n×side×side×c by the mean of what falls into each cell, in shares."""
    down = _shares(images.shape[1], side)
    across = _shares(images.shape[2], side)
    squeezed: Floats = np.einsum("yh,nhwc,xw->nyxc", down, images, across, optimize=True)
    return squeezed


def _shares(size: int, side: int) -> Floats:
    edges = np.linspace(0, size, side + 1)
    low, high = edges[:-1, None], edges[1:, None]
    cells = np.arange(size)[None]
    covered = np.clip(np.minimum(high, cells + 1) - np.maximum(low, cells), 0, None)
    shares: Floats = (covered / covered.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


def _cosines() -> Floats:
    k = np.arange(_SMALL)
    return np.cos(np.pi * (2 * k[None] + 1) * k[:, None] / (2 * _SMALL)).astype(np.float32)


def _order() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the frequencies of the bits, lowest sums first, the mean left out."""
    pairs = [(u, v) for u in range(_SMALL) for v in range(_SMALL) if u + v]
    pairs.sort(key=lambda pair: (sum(pair), pair))
    chosen: Any = np.array(pairs[: BITS - 1])
    return chosen[:, 0], chosen[:, 1]


_ORDER = _order()


def _mirror() -> npt.NDArray[np.uint64]:
    bits = np.zeros((1, BITS), bool)
    bits[0, : BITS - 1] = _ORDER[1] % 2 == 1
    words: npt.NDArray[np.uint64] = _words(bits)[0]
    return words


MIRROR = _mirror()
"""The bits that mirroring turns, 4 words."""


class FingerprintCache:
    """Takes fingerprints, and keeps them in a file of the cache folder.

    A clip's is taken again when its path, size or time has changed. A folder of frames has the
    time of its last added, removed or renamed frame. Where the file cannot be written, as on a
    full disk, fingerprints are taken and not kept; `problem` then says why.

    Attributes:
        taken: clips whose fingerprint was taken now.
        kept: clips whose fingerprint was in the file.
    """

    def __init__(
        self, workers: int | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Open the cache; `now` is the clock, in seconds, by which it is committed."""
        self.file = cache_folder() / f"looks-v{_VERSION}.sqlite"
        self.problem: str | None = None
        self.taken = self.kept = 0
        self._workers = workers or available_cores()
        self._now, self._last = now, now()
        # By path: stamp and fingerprint, until the next commit. Other processes write meanwhile.
        self._new: dict[Path, tuple[str, Fingerprint]] = {}
        self._base: sqlite3.Connection | None = None
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._base = open_sqlite(self.file, _LAYOUT)
        except (OSError, sqlite3.Error, OtherFileError) as error:
            self._give_up(error)

    def fingerprints(
        self, paths: Iterable[Path]
    ) -> Generator[tuple[Path, Fingerprint], None, None]:
        """Yield (path, fingerprint) of each, in order; a few are taken ahead."""
        clips = ((path, stamp := _stamp(path), self._get(path, stamp)) for path in paths)
        ahead = self._workers * _AHEAD
        results = ordered_map(_taken, clips, ahead=ahead, workers=self._workers)
        with contextlib.closing(results):
            for path, stamp, known, fingerprint in results:
                if known:
                    self.kept += 1
                else:
                    self.taken += 1
                    self._put(path, stamp, fingerprint)
                yield path, fingerprint

    def _get(self, path: Path, stamp: str | None) -> Fingerprint | None:
        if self._base is None or stamp is None:
            return None
        if path in self._new and self._new[path][0] == stamp:
            return self._new[path][1]
        try:
            row = self._base.execute(
                "SELECT ticks, light, colour, damage, readable FROM looks "
                "WHERE path = ? AND stamp = ?",
                (str(path), stamp),
            ).fetchone()
        except sqlite3.Error as error:
            self._give_up(error)
            return None
        if row is None:
            return None
        ticks, light, colour, damage, readable = row
        return Fingerprint(
            np.frombuffer(ticks, np.int32),
            np.frombuffer(light, np.uint64).reshape(-1, BITS // 64),
            np.frombuffer(colour, np.int8).reshape(-1, CELLS, CELLS, 2),
            damage,
            bool(readable),
        )

    def _put(self, path: Path, stamp: str | None, fingerprint: Fingerprint) -> None:
        if self._base is None or stamp is None:
            return
        self._new[path] = (stamp, fingerprint)
        # A kill costs what was taken in the last second.
        if self._now() - self._last >= _COMMIT_S:
            self._commit()

    def _commit(self) -> None:
        if self._base is None:
            return
        rows = [
            (
                *(str(path), stamp, one.ticks.tobytes(), one.light.tobytes()),
                *(one.colour.tobytes(), one.damage, one.readable),
            )
            for path, (stamp, one) in self._new.items()
        ]
        try:
            with transaction(self._base):
                self._base.executemany(
                    "INSERT OR REPLACE INTO looks VALUES (?, ?, ?, ?, ?, ?, ?)", rows
                )
        except sqlite3.Error as error:
            self._give_up(error)
        self._new = {}
        self._last = self._now()

    def _give_up(self, error: Exception) -> None:
        cause = getattr(error, "strerror", None) or error
        self.problem = f"{self.file}: fingerprints are not kept ({cause})"
        if self._base is not None:
            self._base.close()
            self._base = None

    def __enter__(self) -> FingerprintCache:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._new:  # on Ctrl-C too: what is done is kept
            self._commit()
        if self._base is not None:
            self._base.close()


_Clip = tuple[Path, str | None, Fingerprint | None]
"""Path, stamp, and the fingerprint that was kept."""


def _taken(clip: _Clip) -> tuple[Path, str | None, bool, Fingerprint]:
    path, stamp, known = clip
    return path, stamp, known is not None, known or take_fingerprint(path)


def _stamp(path: Path) -> str | None:
    """Return what changes with the clip; None while it may change unseen, or is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    if status.st_mtime_ns + _SETTLED_NS > time.time_ns():
        return None
    size = -1 if path.is_dir() else status.st_size
    return f"{size}/{status.st_mtime_ns}"

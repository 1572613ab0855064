"""Draw a clip state and write it as a real H.264 MP4 file."""

from __future__ import annotations

import io
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharegptvideo.synthetic.state import GRID, ClipState, ObjectState

__all__ = ["FPS", "FRAMES", "SIDE", "render", "write_mp4", "write_png"]

FRAMES = 16
FPS = 8
SIDE = 96
_SHAKE = 0.012  # of the picture's side, how far an object strays from its cell's centre

Picture = NDArray[np.float32]

_PALETTE: dict[str, dict[str, tuple[int, int, int]]] = {
    "plain": {
        "red": (225, 40, 40),
        "green": (40, 180, 60),
        "blue": (45, 80, 230),
        "yellow": (240, 220, 50),
        "purple": (160, 50, 190),
        "white": (250, 250, 250),
    },
    "outlined": {
        "red": (205, 60, 50),
        "green": (60, 160, 80),
        "blue": (65, 95, 210),
        "yellow": (225, 205, 75),
        "purple": (145, 70, 175),
        "white": (235, 235, 235),
    },
}


def render(state: ClipState, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw the clip: uint8, FRAMES×SIDE×SIDE×3, RGB, with sensor-like noise."""
    backdrop = _backdrop(state)
    frames = np.empty((FRAMES, SIDE, SIDE, 3), np.float32)
    for index in range(FRAMES):
        frames[index] = backdrop
        for item in state.objects:
            shake = rng.uniform(-_SHAKE, _SHAKE, 2)
            _draw(frames[index], item, index / (FRAMES - 1), state.style, shake)
    sigma = 6.0 if state.style == "plain" else 9.0
    grain = rng.standard_normal((FRAMES, SIDE, SIDE, 1), dtype=np.float32)
    frames += sigma * grain
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)


def _backdrop(state: ClipState) -> Picture:
    low, high = (30.0, 62.0) if state.dark else (112.0, 144.0)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    if state.background == "striped":
        mask = (x * 9).astype(int) % 2 == 0
    elif state.background == "checkered":
        mask = ((x * 6).astype(int) + (y * 6).astype(int)) % 2 == 0
    elif state.background == "dotted":
        mask = np.hypot(x * 6 % 1 - 0.5, y * 6 % 1 - 0.5) < 0.27
    else:
        mask = np.zeros_like(x, bool)
    grey = np.where(mask, high, low).astype(np.float32)
    if state.style == "outlined":
        tint = np.array([1.08, 1.0, 0.88], np.float32)
        shade = (0.85 + 0.3 * y[..., None]).astype(np.float32)
        return np.asarray(grey[..., None] * tint * shade, np.float32)
    return np.repeat(grey[..., None], 3, axis=2)


def _draw(
    picture: Picture, item: ObjectState, moment: float, style: str, shake: NDArray[np.float64]
) -> None:
    late = moment > 0.5
    if (item.change == "vanish" and late) or (item.change == "appear" and not late):
        return
    colour = item.new_colour if late and item.new_colour else item.colour
    radius = {"small": 0.095, "large": 0.16}[item.size]
    if item.change in ("grow", "shrink"):
        first, last = (0.07, 0.165) if item.change == "grow" else (0.165, 0.07)
        radius = first + (last - first) * moment
    x, y = (np.array(item.cell(moment)) + 0.5) / GRID + shake
    side = picture.shape[0]
    left, top = (max(0, int((centre - 1.3 * radius) * side)) for centre in (x, y))
    reach = int(2.6 * radius * side) + 2
    window = picture[top : top + reach, left : left + reach]
    rows, columns = np.mgrid[top : top + window.shape[0], left : left + window.shape[1]]
    u = (columns + 0.5) / side - x
    v = (rows + 0.5) / side - y
    inside = _inside(item.shape, u, v, radius)
    window[inside] = _PALETTE[style][colour]
    if style == "outlined":
        window[inside & ~_inside(item.shape, u, v, radius * 0.78)] *= 0.45


def _inside(
    shape: str, u: NDArray[np.float64], v: NDArray[np.float64], radius: float
) -> NDArray[np.bool_]:
    """Return which points, at offsets (u, v) from the centre, belong to the shape."""
    if shape == "ring":
        distance = np.hypot(u, v)
        return np.asarray((distance <= radius) & (distance >= 0.55 * radius))
    if shape == "square":
        return np.asarray(np.maximum(abs(u), abs(v)) <= radius * 0.9)
    if shape == "triangle":
        return np.asarray((v <= radius * 0.9) & (abs(u) <= (v + radius) * 0.55))
    arm = radius * 0.28
    return np.asarray(
        ((abs(u) <= arm) & (abs(v) <= radius)) | ((abs(v) <= arm) & (abs(u) <= radius))
    )


def write_mp4(frames: NDArray[np.uint8], path: Path) -> None:
    """Encode frames (uint8, N×H×W×3) as an H.264 MP4 file, whole or not at all.

    One encoder thread and bit-exact muxing: the same frames give the same file.
    """
    import av

    temporary = path.with_name(f".{path.stem}.{os.getpid()}.mp4")
    try:
        with av.open(str(temporary), "w", options={"fflags": "+bitexact"}) as container:
            stream: Any = container.add_stream("libx264", rate=FPS)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv420p"
            stream.time_base = Fraction(1, FPS)
            stream.codec_context.thread_count = 1
            # Without lookahead: with it, x264 gave other bytes for the same small pictures.
            stream.options = {
                "crf": "16",
                "preset": "veryfast",
                "tune": "zerolatency",
                "flags": "+bitexact",
            }
            for picture in frames:
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
                for packet in stream.encode(frame):
                    container.mux(packet)
            for packet in stream.encode(None):
                container.mux(packet)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_png(picture: NDArray[np.uint8], path: Path) -> None:
    """Write a picture (uint8, H×W×3) as a PNG file, whole or not at all."""
    from PIL import Image

    temporary = path.with_name(f".{path.stem}.{os.getpid()}.png")
    try:
        content = io.BytesIO()  # Pillow takes no notice of what a full disk cuts off
        Image.fromarray(picture).save(content, "PNG")
        temporary.write_bytes(content.getvalue())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)

"""Frames as the pictures of a chat message."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["LONGEST_SIDE", "QUALITY", "frame_urls", "with_pictures"]

QUALITY = 90
LONGEST_SIDE = 768


def frame_urls(frames: NDArray[np.uint8]) -> list[str]:
    """JPEG data URLs of frames (n×H×W×3, RGB), their longest side at most 768 pixels."""
    from PIL import Image

    urls = []
    for frame in frames:
        picture = Image.fromarray(frame)
        picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
        buffer = io.BytesIO()
        picture.save(buffer, format="JPEG", quality=QUALITY)
        urls.append(f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}")
    return urls


def with_pictures(text: str, urls: list[str]) -> list[dict[str, Any]]:
    """The content of a message: the pictures in order, then the text."""
    pictures = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [*pictures, {"type": "text", "text": text}]

"""Frames of a folder of pictures, as the release ships its training clips."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from sharegptvideo._io import os_errors
from sharegptvideo.media.errors import MediaError
from sharegptvideo.media.picking import spread

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["is_picture", "natural_order", "sample_folder"]

_SUFFIXES = (".jpeg", ".jpg", ".png", ".webp", ".bmp")


def is_picture(name: str) -> bool:
    """Whether a file of this name is a frame; hidden files (`._c01_0001.jpeg`) are not."""
    return name.lower().endswith(_SUFFIXES) and not name.startswith(".")


def natural_order(name: str) -> tuple[list[tuple[str, int]], str]:
    """A sort key that takes digits as numbers: frame_2 comes before frame_10."""
    parts = re.findall(r"([^0-9]*)([0-9]*)", name)
    return [(text.casefold(), int(digits or -1)) for text, digits in parts], name


def sample_folder(folder: Path, name: str, n: int) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """`n` evenly spread pictures of `folder` (n×H×W×3, RGB) and their indices.

    Opens only the pictures it returns: a folder may lie on a network and hold hundreds.
    """
    import numpy as np

    with (
        os_errors(folder, action="opened", raises=MediaError, exit_code=1),
        os.scandir(folder) as entries,
    ):
        names = sorted((e.name for e in entries if is_picture(e.name)), key=natural_order)
    if not names:
        kinds = ", ".join(_SUFFIXES)
        raise MediaError(f"{name}: the folder holds no frames (pictures named *{kinds})")
    indices = spread(len(names), n)
    pictures = {index: _read(folder / names[index], name) for index in sorted(set(indices))}
    first = pictures[indices[0]]
    for index, picture in pictures.items():
        if picture.shape != first.shape:
            sizes = " and ".join(
                f"{names[i]} is {pictures[i].shape[1]}×{pictures[i].shape[0]}"
                for i in (indices[0], index)
            )
            raise MediaError(f"{name}: the frames differ in size ({sizes})")
    return np.stack([pictures[index] for index in indices]), indices


def _read(path: Path, name: str) -> npt.NDArray[np.uint8]:
    import numpy as np
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            # A camera's orientation tag is to pictures what the display matrix is to videos.
            upright = ImageOps.exif_transpose(image)
            return np.asarray(upright.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        # PIL's messages repeat the path; those of the system carry it apart.
        cause = str(getattr(error, "strerror", None) or error).split(" '")[0]
        raise MediaError(f"{name}: frame {path.name} cannot be read ({cause})") from error

"""Still images: find one by the path that a row names, and read it."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from sharegptvideo._io import os_error_words
from sharegptvideo._text import few
from sharegptvideo.errors import MediaError, UserError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

__all__ = [
    "MAX_IMAGE_PIXELS",
    "ImageFolder",
    "image_errors",
    "open_image",
    "read_image",
    "read_pixels",
]

MAX_IMAGE_PIXELS = 178_956_970
"""An image of more is taken for a decompression bomb: where Pillow, too, refuses one."""

# Pillow also "opens" formats that run other programs or hold no pixels (EPS, WMF).
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000", "ICO")

# The release's rows name ALLaVA's and Vision-Flan's images by these folders. Neither archive says
# so of itself, and people unpack them in several ways; an image that is not at its path is looked
# for by its name in these places too. All other images have to lie where their rows say.
_USUAL_PLACES = {
    "allava_laion/images": ("allava_laion/images", "allava_laion/image_chunks", "image_chunks"),
    "allava_vflan/images/images_191task_1k": (
        "allava_vflan/images",
        "allava_vflan/images_191task_1k",
        "image_191-task_1k",
        "images_191task_1k",
    ),
}


class ImageFolder:
    """The images below one folder, by the relative paths that rows name.

    Images added later are seen at their own path alone. Can be pickled for loader workers.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise UserError(f"{root}: no such folder of media")
        self._places: dict[str, tuple[list[str], list[str]]] = {}

    def locate(self, image: str) -> str | None:
        """Return what `resolve` does, as a path below the root with `/` between its parts."""
        path = self.resolve(image)
        return None if path is None else path.relative_to(self.root).as_posix()

    def resolve(self, image: str) -> Path | None:
        """Return the file that `image` names, or None.

        `image` is a path below the root, with its ending: `allava_laion/images/1.jpeg`. The root
        may also be one of the folders that the path begins with (`.../allava_laion`). Images of
        ALLaVA and Vision-Flan are found where their archives are usually unpacked, too.

        Raises:
            MediaError: `image` is empty, absolute or has `..` in it; or two files fit equally.
        """
        folder, _, name = image.rpartition("/")
        if folder not in self._places:
            self._places[folder] = self._places_of(folder, image)
        if name in {"", ".", ".."} or "\0" in image:
            raise _no_path(image)
        own, usual = self._places[folder]
        fits = _files(own, name)[:1] or _files(usual, name)
        if len(fits) > 1:
            names = sorted(Path(path).relative_to(self.root).as_posix() for path in fits)
            listed = " and ".join(few(names, 2))
            raise MediaError(f"{self.root}: {image!r} fits {listed}; remove or rename all but one")
        return Path(fits[0]) if fits else None

    def _places_of(self, folder: str, image: str) -> tuple[list[str], list[str]]:
        """Return where a folder of images may lie: by its path, and the usual places there are."""
        parts = PurePosixPath(folder).parts
        if image.startswith("/") or ".." in parts:
            raise _no_path(image)
        root = self.root.absolute().parts
        own = [
            # Less its first folders only where the root is those folders: no other set's image.
            str(self.root.joinpath(*parts[dropped:]))
            for dropped in range(len(parts) + 1)
            if root[len(root) - dropped :] == parts[:dropped]
        ]
        walks = (os.walk(self.root / place) for place in _USUAL_PLACES.get("/".join(parts), ()))
        usual = {path: None for walk in walks for path, _, _ in walk}  # each once
        return own, list(usual)


def _files(folders: list[str], name: str) -> list[str]:
    paths = [f"{folder}/{name}" for folder in folders]
    return [path for path in paths if os.path.isfile(path)]  # noqa: PTH113  # a million times


def _no_path(image: str) -> MediaError:
    return MediaError(f"{image!r} is not the path of an image: a relative one without '..'")


def read_image(path: str | Path) -> npt.NDArray[np.uint8]:
    """Return an image as uint8 H×W×3, RGB, upright as its EXIF orientation says.

    Grey, palette, CMYK and 16-bit images become RGB (16 bits by their upper eight); transparency
    is dropped and shows the colours below, as Pillow's `convert("RGB")` does; of an animation it
    is the first frame.

    Raises:
        MediaError: there is no such file; it is no image, cut off or damaged; it has more than
            `MAX_IMAGE_PIXELS`. One line with path and cause.
    """
    with image_errors(f"{path}:"):
        return read_pixels(Path(path))


def read_pixels(path: Path) -> npt.NDArray[np.uint8]:
    """Do what `read_image` does, without `image_errors`."""
    import numpy as np
    from PIL import ImageOps

    with open_image(path) as image:
        return np.asarray(_rgb(ImageOps.exif_transpose(image)))


@contextlib.contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image: its header is read and its size checked, and nothing decoded."""
    from PIL import Image

    with Image.open(path, formats=_known_formats()) as image:
        width, height = image.size
        if width * height > MAX_IMAGE_PIXELS:
            raise ValueError(f"{width}×{height} pixels, more than {MAX_IMAGE_PIXELS:,}")
        yield image


@functools.cache
def _known_formats() -> tuple[str, ...]:
    from PIL import Image

    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)  # AVIF is not in every build


@contextlib.contextmanager
def image_errors(what: str) -> Iterator[None]:
    """Turn what goes wrong with an image into one line that begins with `what`.

    Raises:
        MediaError: `what cannot be read (cause)`.
    """
    from PIL import UnidentifiedImageError

    try:
        yield
    except UnidentifiedImageError as error:
        raise MediaError(f"{what} cannot be read (no image, or of an unknown format)") from error
    except Exception as error:  # Pillow's decoders meet strange bytes
        cause = os_error_words(error) if isinstance(error, OSError) else str(error)
        # Pillow's messages repeat the path.
        cause = " ".join(cause.split(" '")[0].split(" <")[0].split()) or type(error).__name__
        raise MediaError(f"{what} cannot be read ({cause})") from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in {"I", "I;16", "I;16B", "I;16L", "I;16N"}:  # 16 bits; `convert` would clip
        image = image.convert("I").point(lambda level: level / 256).convert("L")
    elif image.mode == "F":
        raise ValueError("floating-point pixels, whose white is not known")
    elif image.mode in {"P", "PA", "LA", "La", "RGBa"}:
        image = image.convert("RGBA")
    return image.convert("RGB")

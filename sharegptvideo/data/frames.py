"""`ClipFrames`: a column of clips that gives decoded frames when a row of it is read.

Only imported once `datasets` is. Like `datasets.Video` it stores where a clip is, or its bytes,
and never a pixel, so the one can be cast to the other.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
from datasets.features import Video
from datasets.features.features import register_feature

from sharegptvideo.errors import MediaError, MediaWarning, UserError
from sharegptvideo.media import sample_frames

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["ClipFrames"]

_Stored = dict[str, Any] | str


@dataclass
class ClipFrames:
    """A feature of `datasets` whose values are frames of a clip, decoded as they are asked for.

    A value is uint8, n×H×W×3 RGB: the frames that `sample_frames` takes, which are those that the
    evaluation shows a model. It is None where there is no clip, and where none of its frames can
    be read; a `MediaWarning` then says why. Nothing decoded is kept.

    `load_dataset(..., media=..., frames=8)` adds such a column. Clips that are in the rows already
    become frames by a cast: `dataset.cast_column("clip", ClipFrames(8))`.

    Args:
        n: frames of a clip, 1 or more, first and last included.
        size: height and width in pixels: the shorter side is scaled to it (bicubic) and the
            middle is cut out. None: each clip as it is.
        reader: "pyav", "decord" or "torchcodec", as in `sample_frames`.
        decode: False to get what is stored, `{"path", "bytes"}`.
    """

    n: int
    size: int | None = None
    reader: str = "pyav"
    decode: bool = True
    dtype: ClassVar[str] = "uint8"
    pa_type: ClassVar[Any] = Video.pa_type
    _type: str = field(default="ClipFrames", init=False, repr=False)

    def __post_init__(self) -> None:
        _check_count("frames", self.n)
        if self.size is not None:
            _check_count("frames_size", self.size)

    def __call__(self) -> Any:
        """Return the Arrow type of what is stored."""
        return self.pa_type

    def encode_example(self, value: Any) -> Any:
        """Return what is stored of a path, bytes, or a dict of them."""
        return value if isinstance(value, np.ndarray) else Video().encode_example(value)

    def decode_example(
        self, value: _Stored | npt.NDArray[np.uint8], token_per_repo_id: Any = None
    ) -> npt.NDArray[np.uint8] | None:
        """Return the frames of what is stored; frames are returned as they are."""
        del token_per_repo_id  # no clip is fetched
        if isinstance(value, np.ndarray):
            return value
        path, content = (value, None) if isinstance(value, str) else (value["path"], value["bytes"])
        try:
            clip = path if content is None else content
            frames = sample_frames(clip, self.n, reader=self.reader).frames
        except MediaError as error:
            named = "" if content is None or path is None else f"{path}: "
            warnings.warn(f"{named}{error}; its frames are null", MediaWarning, stacklevel=2)
            return None
        return frames if self.size is None else _fitted(frames, self.size)

    def cast_storage(self, storage: pa.Array) -> pa.Array:
        """Return paths, bytes or `{"path", "bytes"}` in the type that is stored.

        Raises:
            UserError: these are decoded frames, as from a `map` that returns what it was given.
        """
        if pa.types.is_list(storage.type) or pa.types.is_large_list(storage.type):
            raise UserError(
                "frames are decoded anew each time and never stored: give map the columns that its "
                'function takes (input_columns=["frames"]), or remove_columns=["frames"]'
            )
        return Video().cast_storage(storage)

    def flatten(self) -> Any:
        """Return the feature, or the columns of what is stored where nothing is decoded."""
        return self if self.decode else Video(decode=False).flatten()


def _check_count(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"{name} must be a whole number of at least 1, got {value!r}")


def _fitted(frames: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """Return the middle of each frame, n×size×size×3, its shorter side scaled."""
    from PIL import Image, ImageOps

    bicubic = Image.Resampling.BICUBIC
    fitted = (ImageOps.fit(Image.fromarray(frame), (size, size), bicubic) for frame in frames)
    return np.stack([np.asarray(frame) for frame in fitted])


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that registering is experimental
    register_feature(ClipFrames, "ClipFrames")

"""Which frames are picked, and how a decoded one becomes an upright RGB array."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import av.video
    import numpy as np
    import numpy.typing as npt

__all__ = ["Picker", "orientation", "spread", "upright"]


def spread(count: int, n: int) -> list[int]:
    """`floor(linspace(0, count - 1, n))`, in whole numbers so that no rounding can be off by one.

    >>> spread(10, 4), spread(3, 5), spread(10, 1)
    ([0, 3, 6, 9], [0, 0, 1, 1, 2], [0])
    """
    last = max(count - 1, 0)
    return [i * last // (n - 1) for i in range(n)] if n > 1 else [0]


class Picker:
    """Takes decoded frames in order and keeps those at `indices`, converted.

    The first frame of the clip sets size and orientation for all. A later frame of another size
    (a stream that changes resolution) is scaled to the first one's, as players do.
    """

    def __init__(self, indices: list[int]) -> None:
        self.indices = indices
        self._slots: dict[int, list[int]] = {}
        for slot, index in enumerate(indices):
            self._slots.setdefault(index, []).append(slot)
        self._array: npt.NDArray[np.uint8] | None = None
        self._size = (0, 0)
        self._turn = (1, 0, 0, 1)

    def offer(self, index: int, frame: av.video.VideoFrame) -> None:
        """Keep `frame`, number `index` of the clip, if it is wanted."""
        import numpy as np

        slots = self._slots.get(index)
        if slots is None:
            return
        if self._array is None:
            self._size = (frame.width, frame.height)
            self._turn = orientation(frame)
        width, height = self._size
        if (frame.width, frame.height) != self._size:
            frame = frame.reformat(width, height, format="rgb24")
        pixels = np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
        image = upright(pixels, self._turn)
        if self._array is None:
            self._array = np.empty((len(self.indices), *image.shape), dtype=np.uint8)
        self._array[slots] = image

    def frames(self) -> npt.NDArray[np.uint8]:
        """The frames kept, n×H×W×3."""
        assert self._array is not None
        return self._array


def orientation(frame: av.video.VideoFrame) -> tuple[int, int, int, int]:
    """(a, b, c, d) of the frame's display matrix, x' = ax + cy and y' = bx + dy, y downwards."""
    import numpy as np
    from av.sidedata.sidedata import Type

    found: Mapping[Type, Any] = frame.side_data  # type: ignore[assignment]  # av's stub is wrong
    if Type.DISPLAYMATRIX not in found:
        return (1, 0, 0, 1)
    side_data = found[Type.DISPLAYMATRIX]
    a, b, _, c, d, *_ = np.frombuffer(bytes(side_data), dtype=np.int32, count=9).tolist()
    return (a, b, c, d)


def upright(image: npt.NDArray[np.uint8], turn: tuple[int, int, int, int]) -> npt.NDArray[np.uint8]:
    """`image` (H×W×3) as a display matrix shows it, turned and mirrored to the nearest quarter.

    The matrix is that of ISO/IEC 14496-12, 6.2.2 and of FFmpeg's libavutil/display.h.
    """
    a, b, c, d = turn
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, across, down = image.swapaxes(0, 1), c, b
    else:
        across, down = a, d
    return image[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]

"""Frames of clips as a judge is sent them: each clip decoded once for all its questions."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

__all__ = ["ClipPictures", "Pictures"]

# Questions come clip by clip, so a few clips are enough; 8 pictures take about half a megabyte.
_KEPT = 32


@dataclass(frozen=True, slots=True)
class Pictures:
    """JPEG data URLs of the frames of a clip, and which frames of it they are, from 0."""

    urls: list[str]
    indices: list[int]


class ClipPictures:
    """Samples clips in threads, for the tasks of one event loop at a time."""

    def __init__(self, count: int) -> None:
        """`count`: frames per clip, spread over the whole of it."""
        self._count = count
        self._kept: OrderedDict[str, asyncio.Future[Pictures]] = OrderedDict()

    async def of(self, clip: str) -> Pictures:
        """Return the pictures of the clip at the path `clip`.

        Raises:
            MediaError: it cannot be read.
        """
        if clip not in self._kept:
            self._kept[clip] = asyncio.ensure_future(asyncio.to_thread(self._sample, clip))
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(clip)
        # Several questions wait for one decoding; a cancelled one must not take it from the rest.
        return await asyncio.shield(self._kept[clip])

    def clear(self) -> None:
        """Forget all; called when the event loop ends, which the waiting results belong to."""
        self._kept.clear()

    def _sample(self, clip: str) -> Pictures:
        from sharegptvideo.endpoint.messages import frame_urls
        from sharegptvideo.media import sample_frames

        frames, indices = sample_frames(clip, self._count)
        return Pictures(frame_urls(frames), [int(index) for index in indices])

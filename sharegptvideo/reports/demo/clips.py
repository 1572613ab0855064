"""A few test questions by a rule that cannot flatter, with the frames that the models saw."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sharegptvideo.media import MediaError, MediaFolder, sample_frames
from sharegptvideo.reports.demo.facts import outcomes
from sharegptvideo.reports.demo.record import Case

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["WANTED", "Frame", "Strip", "choose_clips", "frame_strip"]

# (test set, outcome), in the order of the page.
WANTED = (
    ("test", "fixed"),
    ("test", "fixed"),
    ("test", "both_right"),
    ("test", "both_wrong"),
    ("test", "broke"),
    ("out_of_domain", "fixed"),
)


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture as a data URL, and its index among the clip's frames, from 0."""

    url: str
    index: int


@dataclass(frozen=True, slots=True)
class Strip:
    """The frames of a clip, `side` pixels wide; `error` where it cannot be read."""

    frames: tuple[Frame, ...]
    side: int
    error: str | None = None


def choose_clips(cases: Sequence[Case], seed: int) -> list[tuple[str, Case]]:
    """(outcome, question) for every entry of `WANTED` that the answers offer.

    All questions are put in an order drawn with `seed`; each entry takes the first question of
    its set and outcome whose clip is not taken yet.
    """
    order = list(cases)
    random.Random(f"page/{seed}").shuffle(order)
    taken: set[str] = set()
    chosen = []
    for name, outcome in WANTED:
        found = outcomes(case for case in order if case.task_set == name)[outcome]
        case = next((case for case in found if case.video not in taken), None)
        if case is not None:
            taken.add(case.video)
            chosen.append((outcome, case))
    return chosen


def frame_strip(media: MediaFolder, video: str, count: int) -> Strip:
    """The `count` frames that a model is given of a clip, before they are scaled for it."""
    path = media.resolve(video)
    if path is None:
        return Strip((), 0, f"{video}: no such clip")
    try:
        frames, indices = sample_frames(path, count)
    except MediaError as error:
        return Strip((), 0, str(error))
    pictures = [Frame(_jpeg(frame), index) for frame, index in zip(frames, indices, strict=True)]
    return Strip(tuple(pictures), frames.shape[2])


def _jpeg(frame: NDArray[np.uint8]) -> str:
    from PIL import Image

    target = io.BytesIO()
    # No chroma subsampling: a clip is 64 pixels wide, and colour is what is asked about.
    Image.fromarray(frame).save(target, "JPEG", quality=90, subsampling=0, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(target.getvalue()).decode()}"

"""The rows of a recipe's data: of each part as many as its weight says; what a row is about."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from sharegptvideo.errors import UserError
from sharegptvideo.models.prompts import Kind
from sharegptvideo.training.recipes import DataSource, Part

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["Visual", "check_parts", "kind_of", "mixed_rows", "visual_of", "visuals_of", "weighted"]

Row = dict[str, Any]
_T = TypeVar("_T")
_BLOCK = 1024  # rows among which those of a fraction are drawn


class Visual(NamedTuple):
    """A clip or an image, by its path."""

    kind: Literal["video", "image"]
    path: str


def kind_of(row: Row) -> Kind:
    """Return what a row names, be it there or not."""
    return "video" if row.get("video") else "image" if row.get("image") else "text"


def visual_of(row: Row) -> Visual | None:
    """Return the clip or image of a row or example; None where it has none or none was found."""
    if row.get("video_path"):
        return Visual("video", row["video_path"])
    if row.get("image_path"):
        return Visual("image", row["image_path"])
    return None


def visuals_of(examples: Dataset) -> list[Visual | None]:
    """Return the clip or image of each example, columns `video_path` and `image_path`."""
    columns = (examples["video_path"], examples["image_path"])
    return [
        visual_of({"video_path": video, "image_path": image})
        for video, image in zip(*columns, strict=True)
    ]


def mixed_rows(data: DataSource, seed: int, *, media: bool = True) -> Iterator[tuple[int, Row]]:
    """Yield the rows of all parts, one part after the other, each with its part's number.

    Args:
        seed: chooses the rows of a part whose weight is no whole number.
        media: look for clips and images below `data.media`.

    Raises:
        UserError: as `read_rows`.
    """
    from sharegptvideo.data.sources.report import DataWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # the callers count what is missing
        for number, part in enumerate(data.parts):
            rows = _part_rows(data, part, media=media)
            for row in weighted(islice(rows, data.limit), part.weight, f"{seed}/{number}"):
                yield number, row
            del rows  # a reader that is left at a limit warns too, when it goes


def check_parts(data: DataSource) -> None:
    """Make sure that each part has a row and that the folder of clips is there.

    Raises:
        UserError: as `read_rows`; or a part without rows.
    """
    for part in data.parts:
        _part_rows(data, part, media=True)  # looks for the folders, and reads no row
        rows = _part_rows(data, part, media=False)
        if next(rows, None) is None:
            raise UserError(f"data: {part} has no rows; give another source, split or files")


def _part_rows(data: DataSource, part: Part, *, media: bool) -> Iterator[Row]:
    from sharegptvideo.data.load import read_rows

    return read_rows(
        part.name,
        data_dir=data.data_dir,
        split=data.split,
        media=data.media if media else None,
        files=part.files,
        on_error="raise",
    )


def weighted(rows: Iterable[_T], weight: float, key: str) -> Iterator[_T]:
    """Yield each row `weight` times; of a fraction, that share of rows, chosen by `key`.

    Of n rows floor(n × fraction) are chosen, as many from each stretch of 1,024 as from any other.
    The choice rests on SHA-256 of key and row number, and so on no machine or version.
    """
    share = Fraction(str(weight))  # 0.29 × 100 is 29, and less in binary
    times = math.floor(share)
    fraction = share - times
    if not fraction:
        for row in rows:
            for _ in range(times):
                yield row
        return
    source, start = iter(rows), 0
    while block := list(islice(source, _BLOCK)):
        stop = start + len(block)
        count = math.floor(stop * fraction) - math.floor(start * fraction)
        drawn = sorted(range(len(block)), key=lambda at: _draw(key, start + at))
        more = set(drawn[:count])
        for at, row in enumerate(block):
            for _ in range(times + (at in more)):
                yield row
        start = stop


def _draw(key: str, number: int) -> bytes:
    return hashlib.sha256(f"{key}/{number}".encode()).digest()

"""What a reader left out or could not find, counted and named; nothing goes missing in silence."""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from sharegptvideo._io import read_json, write_json
from sharegptvideo._text import few, plural
from sharegptvideo.errors import UserError, unknown_name

__all__ = ["DataWarning", "OnError", "ReadReport", "on_error_of", "refuse"]

OnError = Literal["raise", "skip"]

_LISTED = 3
_FILE = "left_out.json"


class DataWarning(UserWarning):
    """Rows were left out, or media were not found; the text says how many and which first."""


@dataclass(slots=True)
class ReadReport:
    """Filled while rows are read; pass one in to see what happened.

    Attributes:
        skipped: `FILE:LINE: cause` of each row that breaks the schema (`on_error="skip"`).
        repeated: `FILE:LINE` of each row that an earlier file holds too, word for word.
        missing_videos: videos that `media=` does not have, each once, in order.
        unlisted_videos: files that have the name of a missing video and no known ending of one.
        broken_links: links that have the name of a missing medium and lead nowhere.
        unreadable_videos: videos that the index of the media lists as unreadable, likewise;
            only looked at with `require_media=True`.
        missing_images, unreadable_images: the same of images.
        without_media: ids of the rows that `require_media=True` left out.
    """

    skipped: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    missing_videos: list[str] = field(default_factory=list)
    unlisted_videos: list[str] = field(default_factory=list)
    broken_links: list[str] = field(default_factory=list)
    unreadable_videos: list[str] = field(default_factory=list)
    missing_images: list[str] = field(default_factory=list)
    unreadable_images: list[str] = field(default_factory=list)
    without_media: list[str] = field(default_factory=list)

    def merge(self, other: ReadReport) -> None:
        """Add what `other` lists and this one does not; two splits share their files' faults."""
        for name, values in other.as_dict().items():
            mine = getattr(self, name)
            there = set(mine)
            mine += [value for value in values if value not in there]

    def lines(self) -> list[str]:
        """One sentence for each kind of trouble, with its count and the first few."""
        broken = "unreadable, says the index of the media"
        absent = {
            "video": self.missing_videos or self.unreadable_videos,
            "image": self.missing_images or self.unreadable_images,
        }
        media = " or ".join(name for name, listed in absent.items() if listed) or "video"
        kinds = (
            (self.skipped, "skipped, breaking the schema", "row"),
            (self.repeated, "left out, repeating an earlier file's", "row"),
            (self.without_media, f"left out for want of a readable {media}", "row"),
            (self.missing_videos, self._absent("video_path"), "video"),
            (self.unlisted_videos, "there under an ending no video is known by; rename it", "file"),
            (self.broken_links, "leading nowhere; fix or remove it", "link"),
            (self.unreadable_videos, broken, "video"),
            (self.missing_images, self._absent("image_path"), "image"),
            (self.unreadable_images, broken, "image"),
        )
        return [_sentence(values, what, noun) for values, what, noun in kinds if values]

    def _absent(self, column: str) -> str:
        return "not found" if self.without_media else f"not found, {column} is null"

    def warn(self) -> None:
        """Give a `DataWarning` for each kind of trouble."""
        for line in self.lines():
            warnings.warn(line, DataWarning, stacklevel=3)

    def as_dict(self) -> dict[str, list[str]]:
        """Return the lists as plain JSON values."""
        return asdict(self)

    def save(self, folder: str) -> None:
        """Keep the report beside a cached table, for those who load it again."""
        write_json(Path(folder, _FILE), self.as_dict())

    @classmethod
    def load(cls, folder: str) -> ReadReport:
        """Return the report that was kept beside a cached table."""
        return cls(**read_json(Path(folder, _FILE)))


def _sentence(values: list[str], what: str, noun: str) -> str:
    return f"{plural(len(values), noun)} {what}: {'; '.join(few(values, _LISTED))}"


def on_error_of(value: str) -> OnError:
    """`value` as one of the two ways to treat a row that breaks the schema.

    Raises:
        UserError: it is neither "raise" nor "skip".
    """
    if value == "raise":
        return "raise"
    if value == "skip":
        return "skip"
    raise unknown_name("on_error", value, ("raise", "skip"))


def refuse(problem: str | UserError, on_error: OnError, report: ReadReport) -> None:
    """Raise the problem, or list it and go on.

    Raises:
        UserError: `on_error` is "raise"; the problem itself where it is one, with its own fix.
    """
    if on_error == "skip":
        report.skipped.append(str(problem))
    elif isinstance(problem, UserError):
        raise problem
    else:
        raise UserError(f'{problem}; fix the row, or pass on_error="skip" to go on without it')

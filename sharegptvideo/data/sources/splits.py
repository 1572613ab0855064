"""Splits: which videos are for validation, and how a user names splits and slices of them.

One rule for every training config decides about validation, so no video leaks.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType

from sharegptvideo._io import read_json
from sharegptvideo.data.schema import Config
from sharegptvideo.data.sources.base import Source
from sharegptvideo.errors import UserError, unknown_name
from sharegptvideo.media.folder import PICTURE_SUFFIXES, VIDEO_SUFFIXES

__all__ = [
    "SPLITS_FILE",
    "VALIDATION_SHARE",
    "SplitPart",
    "SplitRule",
    "asked_splits",
    "split_parts",
    "stem_of",
]

VALIDATION_SHARE = 0.01
"""Expected share of the videos in `validation`; the release has no validation file of its own."""

SPLITS_FILE = "splits.json"
"""A source's own list, `{"validation": [stem, ...], ...}`; it is taken instead of the rule."""


class SplitRule:
    """`validation` for about 1 % of the videos, `train` for the rest; always one for a video.

    The side depends on the video's stem alone (last part of its path, without a file ending):
    SHA-256 of "sharegptvideo/validation/STEM", its first 8 bytes as a fraction of 2^64, below
    0.01. So the captions, questions, conversations and preferences of a video lie on one side
    in every config. A source with a `splits.json` says itself which videos are for validation;
    all others are for training. Rows about an image go by the image, rows about neither by id.
    """

    def __init__(self, listed: frozenset[str] | None = None) -> None:
        self._listed = listed

    @classmethod
    def of(cls, root: Path) -> SplitRule:
        """Return the rule for a source folder: its own list, or the hash.

        Raises:
            UserError: its `splits.json` is not an object with lists of stems.
        """
        path = root / SPLITS_FILE
        if not path.exists():
            return cls()
        table = read_json(path)
        stems = table.get("validation", []) if isinstance(table, dict) else None
        if not isinstance(stems, list) or not all(isinstance(stem, str) for stem in stems):
            raise UserError(f'{path}: expected {{"validation": [stem, ...]}}; fix or remove it')
        return cls(frozenset(stem_of(stem) for stem in stems))

    def split_of(self, video: str) -> str:
        """Return "train" or "validation"."""
        stem = stem_of(video)
        if self._listed is not None:
            return "validation" if stem in self._listed else "train"
        digest = hashlib.sha256(f"sharegptvideo/validation/{stem}".encode()).digest()
        drawn = int.from_bytes(digest[:8], "big") / 2**64
        return "validation" if drawn < VALIDATION_SHARE else "train"


_SUFFIXES = VIDEO_SUFFIXES.union(PICTURE_SUFFIXES)


def stem_of(video: str) -> str:
    """Return the last part of a video's path, without the file ending of a video or picture.

    Accents are composed (NFC), so that both of a name's Unicode forms have one stem.
    """
    name = unicodedata.normalize("NFC", video.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1])
    stem, dot, ending = name.rpartition(".")
    return stem if f"{dot}{ending}".lower() in _SUFFIXES else name


_PART = re.compile(r"([\w.]+)(?:\[(-?\d+)?(%?):(-?\d+)?(%?)\])?(?:\(\w+\))?")


@dataclass(frozen=True, slots=True)
class SplitPart:
    """A split, or a slice of one: rows from `start` up to `stop`, in percent with `is_share`.

    As in Python, None means the first or past the last row, and a negative number counts from
    the end.
    """

    name: str
    start: int | None
    stop: int | None
    is_share: bool

    @property
    def is_whole(self) -> bool:
        """Whether this is the split itself."""
        return self.start is None and self.stop is None


def split_parts(config: Config, split: str) -> list[SplitPart]:
    """Return the parts of a split as `datasets` writes it: `train`, `train[:5]+validation[90%:]`.

    Raises:
        UserError: unknown split, or a slice of another form.
    """
    parts = []
    for text in map(str.strip, split.split("+")):
        match = _PART.fullmatch(text)
        name = match[1] if match else text.partition("[")[0]
        if name not in config.splits:
            raise unknown_name(f"split of {config.name}", name, config.splits)
        if not match:
            raise UserError(f"split {text!r}: a slice is written as in train[:5] or train[10%:20%]")
        ends = [None if end is None else int(end) for end in (match[2], match[4])]
        parts.append(SplitPart(name, ends[0], ends[1], bool(match[3] or match[5])))
    return parts


def asked_splits(config: Config, source: Source, split: str | EllipsisType | None) -> str:
    """Return the splits that are meant, joined by "+".

    `...` (nothing was asked for) means the only or first one that `source` has, None and "all"
    mean all that it has; anything else means itself.

    Raises:
        UserError: the source has none of the config's splits.
    """
    if split not in (None, ..., "all"):
        return str(split)
    there = source.splits(config)
    if not there:
        raise UserError(f"{config.name}: no split of it is here ({' or '.join(config.splits)})")
    return there[0] if split is ... else "+".join(there)

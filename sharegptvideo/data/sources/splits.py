"""Which videos are for validation: one rule for every training config, so none leaks."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sharegptvideo._io import read_json
from sharegptvideo.errors import UserError

__all__ = ["SPLITS_FILE", "VALIDATION_SHARE", "SplitRule", "stem_of"]

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


_ENDINGS = (".mp4", ".avi", ".webm", ".mkv", ".gif", ".mov", ".m4v", ".jpg", ".jpeg", ".png")


def stem_of(video: str) -> str:
    """Return the last part of a video's path, without the file ending of a video or picture."""
    name = video.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    for ending in _ENDINGS:
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return name

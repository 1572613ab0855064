"""Clips of videos: where they are in media folders, their fingerprints, what a match says."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sharegptvideo._text import percent
from sharegptvideo.data.validate.copies import Match
from sharegptvideo.data.validate.fingerprint import Fingerprint, FingerprintCache
from sharegptvideo.media import MediaError
from sharegptvideo.media.index import MediaIndex

__all__ = ["Shelves", "described", "fingerprints_of"]

# A shift in time below this is not worth a word.
_SHIFT_S = 0.5

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Shelves:
    """Media folders searched one after the other."""

    indexes: list[MediaIndex]

    def find(self, video: str) -> Path | None:
        """Return the clip of a video, if one of the folders has it and can read it."""
        path, problem = self._look_up(video)
        return None if problem else path

    def problem(self, video: str) -> tuple[str, str] | None:
        """Return (check, message) of what is wrong with the clip of a video, if anything is."""
        return self._look_up(video)[1]

    def _look_up(self, video: str) -> tuple[Path | None, tuple[str, str] | None]:
        for index in self.indexes:
            try:
                clip = index.folder.locate(video)
            except MediaError as error:
                return None, ("ambiguous-media", str(error))
            if clip is not None:
                path, cause = index.root / clip, index.errors.get(clip)
                return path, ("unreadable-media", f"{path}: {cause}") if cause else None
        hint = ""
        for folder in (index.folder for index in self.indexes):
            if file := folder.unlisted(video):
                hint = hint or f" ({file} has no known ending of a video)"
            elif link := folder.broken_link(video):
                hint = hint or f" ({link}: a link that leads nowhere)"
        return None, ("missing-media", f"no clip for {video}{hint}")


def fingerprints_of(
    cache: FingerprintCache, clips: Iterable[tuple[_T, Path]]
) -> Generator[tuple[_T, Path, Fingerprint], None, None]:
    """Yield (item, path, fingerprint) of each (item, path), in order; a few are taken ahead."""
    waiting: deque[_T] = deque()

    def paths() -> Iterator[Path]:
        for item, path in clips:
            waiting.append(item)
            yield path

    with contextlib.closing(cache.fingerprints(paths())) as fingerprints:
        for path, fingerprint in fingerprints:
            yield waiting.popleft(), path, fingerprint


def described(match: Match) -> str:
    """Return in words how alike two clips are."""
    shift = ""
    if match.seconds >= _SHIFT_S:
        shift = f", from its second {match.seconds:g}"
    elif match.seconds <= -_SHIFT_S:
        shift = f", from {-match.seconds:g} s before it"
    turned = ", mirrored" if match.mirrored else ""
    return (
        f"{percent(match.alike, 0)} of {match.overlap} samples alike, "
        f"{percent(match.distance, 0)} of signs differ{shift}{turned}"
    )

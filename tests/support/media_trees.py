"""Folders of frames for tests of the media index, aged so that it trusts what it saw."""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

from sharegptvideo.media.facts import ClipFacts
from sharegptvideo.media.index import MediaIndex

__all__ = ["LONG_AGO", "aged", "cut", "facts", "frames", "size_of"]

LONG_AGO = 1_500_000_000


def frames(folder: Path, count: int, size: tuple[int, int] = (12, 8), kind: str = "jpeg") -> Path:
    """A folder of `count` pictures, last changed long ago."""
    folder.mkdir(parents=True)
    for number in range(1, count + 1):
        Image.new("RGB", size, (number, 0, 0)).save(folder / f"c01_{number:04d}.{kind}")
    return aged(folder)


def aged(path: Path, seconds: int = LONG_AGO) -> Path:
    """As if nobody had touched it since: the index opens what is new once more."""
    os.utime(path, (seconds, seconds))
    return path


def facts(index: MediaIndex) -> dict[str, ClipFacts]:
    return {clip.path: clip.facts for clip in index.clips()}


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def cut(path: Path, share: float) -> None:
    """Keep the first `share` of a file."""
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

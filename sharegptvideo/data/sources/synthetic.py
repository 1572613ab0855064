"""The synthetic world as a source: built once in the cache folder, then read like a release."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sharegptvideo._io import cache_folder

__all__ = ["cache_folder", "world_folder"]


def world_folder(progress: Callable[[int, int, str], None] | None = None) -> Path:
    """The tiny world with seed 0 in the cache folder; built on the first call, in half a minute.

    The folder's name carries the version of the world, so a package that makes another one never
    reads these clips.
    """
    from sharegptvideo.synthetic.world import WORLD_VERSION, build_world

    out = cache_folder() / "synthetic" / f"tiny-seed0-v{WORLD_VERSION}"
    build_world(out, seed=0, sizes="tiny", workers=1, progress=progress)
    return out

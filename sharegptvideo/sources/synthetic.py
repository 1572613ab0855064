"""The synthetic world as a source: built once in the cache folder, then read like a release."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from sharegptvideo.cache import cache_folder

__all__ = ["cache_folder", "world_folder"]


def world_folder(progress: Callable[[int, int, str], None] | None = None) -> Path:
    """The tiny world with seed 0 in the cache folder; built on the first call, in half a minute.

    The folder's name carries a digest of the code that makes the world, so a new version of
    the package never reads an old one's clips.
    """
    import sharegptvideo.synthetic as package

    assert package.__file__ is not None
    digest = hashlib.sha256()
    for path in sorted(Path(package.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    out = cache_folder() / "synthetic" / f"tiny-seed0-{digest.hexdigest()[:12]}"
    package.build_world(out, seed=0, scale="tiny", workers=1, progress=progress)
    return out

"""Where this package keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """`SHAREGPTVIDEO_CACHE`, else `sharegptvideo` below `XDG_CACHE_HOME` or `~/.cache`."""
    own = os.environ.get("SHAREGPTVIDEO_CACHE")
    if own:
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "sharegptvideo"

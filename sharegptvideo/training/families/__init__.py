"""What differs between architectures in training: loading, clips, towers. The rest is shared."""

from __future__ import annotations

from sharegptvideo.training.families.base import Clip, ClipReader, Family, TowerFamily
from sharegptvideo.training.families.opening import bare_family, open_family

__all__ = ["Clip", "ClipReader", "Family", "TowerFamily", "bare_family", "open_family"]

"""Sizes as people write them."""

from __future__ import annotations

import re

from sharegptvideo.errors import UserError

__all__ = ["parse_size"]

_UNITS = "KMGT"


def parse_size(text: str, what: str = "size") -> int:
    """Bytes of a size with or without a unit: 1000, 500M, 64 GB, 64 GiB; `what` it is for.

    Raises:
        UserError: it is none, or none above zero.
    """
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,9})?)\s*([KMGT]?)(i?)B?", text.strip(), re.IGNORECASE)
    if not match or (match[3] and not match[2]):
        raise UserError(f"{what}: {text!r} is no size; write it as in 500M or 64G")
    power = _UNITS.find(match[2].upper()) + 1 if match[2] else 0
    size = int(float(match[1]) * (1024 if match[3] else 1000) ** power)
    if size < 1:
        raise UserError(f"{what}: {text!r} is no size: at least one byte")
    return size

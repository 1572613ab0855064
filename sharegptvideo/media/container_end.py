"""Find from a file's outer structure, without decoding, whether its end is missing.

FFmpeg reads a file that was cut short as if it simply ended there. The lengths that containers
write down say otherwise: MP4 boxes (ISO/IEC 14496-12), RIFF chunks (AVI), the EBML segment
(Matroska, WebM; RFC 8794) and the trailer byte of GIF. Formats without such a length (MPEG-TS,
live WebM) pass.
"""

from __future__ import annotations

import os
from typing import IO

__all__ = ["is_cut_short", "why_unreadable"]

_FIRST_BOXES = {b"ftyp", b"styp", b"moov", b"moof", b"mdat", b"free", b"skip", b"wide", b"pnot"}
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_GIF_TRAILER = b";"


def is_cut_short(file: IO[bytes]) -> bool:
    """Return whether `file` ends before its container says; moves the file position."""
    length = file.seek(0, os.SEEK_END)
    head = _at(file, 0, 12)
    if head[4:8] in _FIRST_BOXES:
        return _boxes_overrun(file, length)
    if head[:4] == b"RIFF":
        return 8 + int.from_bytes(head[4:8], "little") > length
    if head[:4] == _EBML:
        return _segment_overruns(file, length)
    if head[:4] == b"GIF8":
        # Some writers pad the end with zeros.
        return not _at(file, max(0, length - 1024), 1024).rstrip(b"\0").endswith(_GIF_TRAILER)
    return False


def why_unreadable(file: IO[bytes]) -> str | None:
    """Return the plain cause, where one can be seen, why no demuxer takes `file`; else None."""
    head = _at(file, 0, 1024)
    if not head:
        return "the file is empty"
    if is_cut_short(file):
        return "the file is cut short and the part that describes its frames is missing"
    if not head.strip(b"\0"):
        return "the file begins with nothing but zero bytes"
    if b"\0" not in head:
        try:
            # The last character may be cut by the limit of the head.
            head[:-4].decode() if len(head) == 1024 else head.decode()
        except UnicodeDecodeError:
            return None
        return "this is text, not a video"
    return None


def _at(file: IO[bytes], position: int, size: int) -> bytes:
    file.seek(position)
    return file.read(size)


def _boxes_overrun(file: IO[bytes], length: int) -> bool:
    position = 0
    while position + 8 <= length:
        header = _at(file, position, 16)
        size, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if not all(32 <= byte < 127 or byte == 0xA9 for byte in kind):
            return False  # no longer boxes: padding or a tag after the last one
        if size == 1:
            size = int.from_bytes(header[8:16], "big")
        elif size == 0:
            return False  # "up to the end of the file"
        if size < 8:
            return False
        position += size
    return position > length


def _segment_overruns(file: IO[bytes], length: int) -> bool:
    header_size, used = _vint(_at(file, 4, 8))
    if header_size is None:
        return False
    position = 4 + used + header_size
    if _at(file, position, 4) != _SEGMENT:
        return position > length
    size, used = _vint(_at(file, position + 4, 8))
    return size is not None and position + 4 + used + size > length


def _vint(data: bytes) -> tuple[int | None, int]:
    """Read an EBML variable-length integer as (value, bytes used); None for "unknown"."""
    if not data or not data[0]:
        return None, 1
    used = 9 - data[0].bit_length()
    mask = (1 << (7 * used)) - 1
    value = int.from_bytes(data[:used], "big") & mask
    return (None if value == mask else value), used

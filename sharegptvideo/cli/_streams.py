"""Standard streams that no output of ours can fail on: closed ones, and those of few characters."""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import sys
import unicodedata

__all__ = ["prepare_streams"]

_NEAREST = "sharegptvideo-nearest"
_PLAIN = {"–": "-", "—": "-", "−": "-", "±": "+/-", "…": "...", "·": "-", "×": "x", "’": "'"}
_PLAIN |= {"→": "->", "≥": ">=", "≤": "<=", "•": "*"}


def prepare_streams() -> None:
    """Make stdin, stdout and stderr usable, whatever the process was started with.

    A closed one is the null device from here on: its number would else go to the next file that
    is opened, and messages into that file. What an encoding lacks is written as its nearest ASCII
    characters, or as a question mark.
    """
    for number in (0, 1, 2):
        try:  # of nothing: fails where it is closed, or open for the other direction alone
            os.read(number, 0) if number == 0 else os.write(number, b"")
        except OSError as error:
            if error.errno != errno.EBADF:  # open, and says itself what is wrong when it is used
                continue
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            else:
                os.set_inheritable(number, True)
    codecs.register_error(_NEAREST, _nearest)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # Refused where another file has got a stream's number since the process began.
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(OSError):
                stream.reconfigure(errors=_NEAREST)


def _nearest(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    shown = map(_in_ascii, error.object[error.start : error.end])
    return "".join(shown), error.end


def _in_ascii(character: str) -> str:
    if "\ud800" <= character <= "\udfff":  # a byte of a path that is not UTF-8, or half a pair
        return repr(character)[1:-1]
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return _PLAIN.get(character) or plain or "?"

"""`python -m sharegptvideo.data.download.worker`: unpack one archive in a process of its own.

A process, since unpacking keeps Python busy; started as a module and not by multiprocessing,
since that imports the caller's script again. Reads one JSON object from stdin, writes JSON
lines to stdout: `{"entries", "read"}` while at work, at the end `{"done"}`, `{"refused"}` (the
archive is at fault) or `{"errno", "filename"}` (the disk is). When the reader of the lines is
gone, the next line fails and so does this process: a killed download leaves none behind.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

__all__ = ["main"]

_EVERY = 0.2


def main() -> None:
    """Unpack what stdin asks for, and tell stdout."""
    from sharegptvideo.data.download.unpack import ArchiveError, Limits, unpack

    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=_die_with_the_reader, daemon=True).start()
    last = time.monotonic()

    def tick(entries: int, read: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _EVERY:
            last = now
            _tell({"entries": entries, "read": read})

    try:
        done = unpack(
            Path(asked["archive"]),
            Path(asked["into"]),
            Limits(**asked["limits"]),
            drop=frozenset(asked["drop"]),
            label=asked["label"],
            tick=tick,
        )
    except ArchiveError as error:
        _tell({"refused": str(error)})
    except OSError as error:
        _tell({"errno": error.errno, "filename": error.filename})
    else:
        _tell({"done": [done.entries, done.bytes, str(done.folder)]})


def _die_with_the_reader() -> None:
    """stdin stays open as long as the process that asked lives, and nothing more comes there."""
    os.read(sys.stdin.fileno(), 1)  # not sys.stdin.read: its lock breaks the interpreter's exit
    os._exit(1)  # this module is a process of its own, started by `running.py`


def _tell(line: dict[str, Any]) -> None:
    try:
        print(json.dumps(line), flush=True)
    except BrokenPipeError:  # nobody reads any more; see above
        os._exit(1)


if __name__ == "__main__":
    main()

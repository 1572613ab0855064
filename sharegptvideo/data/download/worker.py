"""`python -m sharegptvideo.data.download.worker`: unpack one archive in a process of its own.

A process, since unpacking keeps Python busy; started as a module and not by multiprocessing,
since that imports the caller's script again, and since a stop has to kill it in the middle of an
archive. Reads one JSON object from stdin, writes JSON lines to stdout: `{"entries", "read"}` while
at work, at the end `{"done"}`, `{"refused"}` (the archive is at fault) or `{"errno", "filename"}`
(the disk is). When the reader of the lines is gone, the next line fails and so does this process:
a killed download leaves none.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from sharegptvideo.data.download.unpack import ArchiveError, Limits, unpack

__all__ = ["main"]

_REPORT_EVERY_S = 0.2


def main() -> None:
    """Unpack what stdin asks for, and report on stdout."""
    line = sys.stdin.readline()
    if not line.endswith("\n"):  # the process that asked was killed before it had said all
        return
    request = json.loads(line)
    threading.Thread(target=_die_with_the_reader, daemon=True).start()
    last = time.monotonic()

    def tick(entries: int, read: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _REPORT_EVERY_S:
            last = now
            _report({"entries": entries, "read": read})

    try:
        done = unpack(
            Path(request["archive"]),
            Path(request["into"]),
            Limits(**request["limits"]),
            drop=frozenset(request["drop"]),
            label=request["label"],
            tick=tick,
        )
    except ArchiveError as error:
        _report({"refused": str(error)})
    except OSError as error:
        _report({"errno": error.errno, "filename": error.filename})
    else:
        _report({"done": [done.entries, done.bytes, str(done.folder)]})


def _die_with_the_reader() -> None:
    """Wait for the end of stdin, which stays open as long as the process that asked lives."""
    os.read(sys.stdin.fileno(), 1)  # not sys.stdin.read: its lock breaks the interpreter's exit
    os._exit(1)  # this module is a process of its own, started by `execute.py`


def _report(line: dict[str, Any]) -> None:
    try:
        print(json.dumps(line), flush=True)
    except BrokenPipeError:  # the reader is gone
        os._exit(1)  # as above: a process of its own


if __name__ == "__main__":
    main()

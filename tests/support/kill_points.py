"""Work that is killed at every change that it makes to a file system, one process for each."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sharegptvideo._staging import STAGE

__all__ = ["contents", "kill_points"]

# What the standard library says before it changes a folder; the last is the exchange of two.
_CHANGES = {"os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir", "ctypes.dlsym"}


def kill_points(work: Callable[[], object]) -> Iterator[int]:
    """Run `work` in forks; yield N once one got SIGKILL before its Nth change. One ends at last."""
    number = 1
    while _is_killed(work, number):
        yield number
        number += 1


def _is_killed(work: Callable[[], object], left: int) -> bool:
    child = os.fork()
    if child == 0:

        def watch(event: str, args: tuple[Any, ...]) -> None:
            nonlocal left
            if event in _CHANGES and args[-1] != "__errno_location":
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        try:
            work()
        except BaseException:  # noqa: BLE001 - whatever it is, the fork must not go on
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, -signal.SIGKILL}
    return code != 0


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder, but for those that wait for the rest."""
    return {
        name: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not (name := str(path.relative_to(folder))).startswith(STAGE)
    }

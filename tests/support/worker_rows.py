"""Rows that go wrong in a loader worker; a module that the worker can import."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from torch.utils.data import Dataset

from sharegptvideo.errors import UserError

__all__ = ["Deaf", "Dying", "Modules", "Signalled", "Unreadable"]


class Dying(Dataset[int]):
    """The third row kills the process that reads it."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, number: int) -> int:
        if number == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return number


class Modules(Dataset[list[str]]):
    """A row of what its process has imported."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, number: int) -> list[str]:
        return list(sys.modules)


class Unreadable(Dataset[int]):
    """The third row is one that the user can fix."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, number: int) -> int:
        if number == 2:
            raise UserError("clip.mp4: cannot be read", exit_code=1)
        return number


class Deaf(Dataset[bool]):
    """Whether the process that reads a row ignores Ctrl-C."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, _: int) -> bool:
        return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


class Signalled(Dataset[int]):
    """Sends SIGTERM to the process that reads a row, by another than the one that loads."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, number: int) -> int:
        subprocess.run(["kill", "-TERM", str(os.getpid())], check=True)
        return number

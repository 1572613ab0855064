"""What a file system refuses, as one line that says how to go on."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from sharegptvideo._io import FULL_DISK, NO_RIGHTS, os_error_words
from sharegptvideo.errors import UserError

__all__ = ["DiskError", "disk_errors", "safe_parts"]


class DiskError(UserError):
    """The disk, not one file, is at fault: nothing else can be written there either."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=1)


@contextlib.contextmanager
def disk_errors(root: Path) -> Iterator[None]:
    """Turn the system's errors below `root` into one line with the fix; a taken lock passes.

    Raises:
        DiskError: the disk is full, or `root` may not be written to, or whatever it says.
    """
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        where, words = error.filename or root, os_error_words(error)
        if error.errno in FULL_DISK:
            fix = "free some space and run the same command again, it goes on where it stopped"
            raise DiskError(f"{root}: the disk is full ({words}); {fix}") from error
        if error.errno in NO_RIGHTS:
            raise DiskError(
                f"{where}: no right to write there ({words}); "
                "choose another folder with --to, or mend its rights"
            ) from error
        if error.errno == errno.EXDEV:
            raise DiskError(
                f"{where}: lies on another disk than {root}; choose a folder on that disk with --to"
            ) from error
        if isinstance(error, FileExistsError | NotADirectoryError):
            raise DiskError(
                f"{where}: a file stands where a folder is needed; move it away, "
                "or choose another folder with --to"
            ) from error
        raise DiskError(f"{where}: {words}") from error


def safe_parts(name: str) -> tuple[str, ...] | None:
    """The folders and the last name of a relative path; None where it could lead outside.

    `.` and empty parts are dropped, so "./" gives an empty tuple. Absolute paths, `..`, drive
    letters, backslashes and NUL are refused on every system, so a folder means the same on all.
    """
    if name.startswith("/") or "\\" in name or "\0" in name or name[1:2] == ":":
        return None
    parts = tuple(part for part in name.split("/") if part not in {"", "."})
    return None if ".." in parts else parts

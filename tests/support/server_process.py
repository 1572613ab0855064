"""Servers that are processes of their own: they print their address, and end with the tests."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

__all__ = ["serve_until_orphaned", "server_process"]

ROOT = Path(__file__).parents[2]


@contextlib.contextmanager
def server_process(module: str, *arguments: str) -> Iterator[str]:
    """Run a module as a process; yield the line that it prints once it can be asked."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline().strip()
            if not line:
                raise RuntimeError(f"{module} has ended before it could be asked")
            yield line
        finally:
            process.kill()


def serve_until_orphaned(address: str) -> None:
    """Print the address, then return when the process that started this one is gone."""
    print(address, flush=True)
    # A thread of the caller's own choice serves meanwhile. The pipe closes with its other end,
    # whatever ended that process.
    done = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
    done.wait()

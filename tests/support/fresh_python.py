"""Code in an interpreter of its own, for what must work without this package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["run_python"]


def run_python(code: str, folder: Path, **environment: str) -> str:
    """The stdout of `code`, run in `folder` with caches of its own; fails where it fails."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "HF_HOME": str(folder / "hf"), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

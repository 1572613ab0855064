"""The process that unpacks: it may die, and it does not outlive the download."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sharegptvideo.data.download import download
from sharegptvideo.errors import UserError


@pytest.mark.usefixtures("release_hub")
def test_a_process_that_dies_while_unpacking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(UserError, match=r"the process that unpacked it died \(out of memory\?\)"):
        download("qa", tmp_path, media=True)
    monkeypatch.undo()
    assert not list(tmp_path.glob("train_300k/*"))


def test_no_process_goes_on_unpacking_when_the_download_is_gone(tmp_path: Path) -> None:
    """The worker waits for an archive that never comes; its stdin is what ties it to us."""
    os.mkfifo(tmp_path / "archive")
    worker = subprocess.Popen(
        [sys.executable, "-m", "sharegptvideo.data.download.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    asked = {
        "archive": str(tmp_path / "archive"),
        "into": str(tmp_path / "into"),
        "limits": {},
        "drop": [],
        "label": "archive",
    }
    out, _ = worker.communicate(json.dumps(asked) + "\n", timeout=30)  # closes stdin
    assert (worker.returncode, out) == (1, "")


@pytest.mark.parametrize("said", ["", '{"archive": "a'])
def test_nothing_is_said_where_the_download_is_gone_before_it_asked(said: str) -> None:
    command = [sys.executable, "-m", "sharegptvideo.data.download.worker"]
    done = subprocess.run(command, input=said, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

"""The line that installs this package again: it works from where the package came."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo import _install
from sharegptvideo._install import extras_with, install_line
from tests.support.fresh_python import run_python

ROOT = Path(__file__).parents[1]


def test_a_checkout_is_named_by_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert install_line() == f"pip install -e {ROOT}"
    assert install_line("train", "eval") == f"pip install -e '{ROOT}[train,eval]'"
    monkeypatch.chdir(ROOT)
    assert install_line("train") == "pip install -e '.[train]'"  # as the README has it
    assert "pip install -e '.[train,eval]'" in (ROOT / "README.md").read_text()


RECORDS = {
    "sharegptvideo[train]": None,
    "sharegptvideo[train] @ file:///w/a.whl": {"url": "file:///w/a.whl", "archive_info": {}},
    "sharegptvideo[train] @ git+https://h/r@c0": {
        "url": "https://h/r",
        "vcs_info": {"vcs": "git", "commit_id": "c0"},
    },
}


@pytest.mark.parametrize(("expected", "record"), RECORDS.items())
def test_another_is_named_by_its_address(expected: str, record: Any, tmp_path: Path) -> None:
    """As pip records it; without a record it came from an index, by its name."""
    (tmp_path / "own").mkdir()
    shutil.copyfile(str(_install.__file__), tmp_path / "own" / "installed.py")
    info = tmp_path / "sharegptvideo-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: sharegptvideo\nVersion: 0.1.0\n")
    if record is not None:
        (info / "direct_url.json").write_text(json.dumps(record))
    code = "from own.installed import install_line; print(install_line('train'))"
    said = run_python(code, tmp_path, PYTHONPATH=str(tmp_path))
    assert said == f"pip install '{expected}'\n"


def test_what_brings_a_module() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert extras_with("torch") == [n for n in ("eval", "train") if "torch>=2.7" in extras[n]]
    assert extras_with("trl") == ["train"]
    assert extras_with("openai") == ["eval"]
    assert extras_with("google") == ["eval", "train"]  # protobuf's
    assert extras_with("bitsandbytes") == ["optimizer-8bit"]
    assert extras_with("ray") == ["ray"]
    assert extras_with("numpy") == [""]
    assert extras_with("ours_alone") == []

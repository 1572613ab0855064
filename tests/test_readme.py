"""What the README gives people to paste must run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sharegptvideo.cli import app

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```(\w+)( no-run)?\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
COMMANDS = [
    shlex.split(line)
    for language, _, block in BLOCKS
    if language == "bash"
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("sharegptvideo")
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands_and_options_exist(command: list[str]) -> None:
    words = [word for word in command[1:] if not word.startswith("-")]
    path = words[:2] if words[0] in {"eval", "train", "build", "data", "study"} else words[:1]
    shown = CliRunner().invoke(app, [*path, "--help"], terminal_width=200)
    assert shown.exit_code == 0, shown.output
    for option in (word for word in command if word.startswith("--")):
        assert option in shown.output


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 8


def test_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAREGPTVIDEO_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    code = [block for language, skip, block in BLOCKS if language == "python" and not skip]
    assert code
    for block in code:
        exec(compile(block, str(README), "exec"), {"__name__": "pasted"})


def test_python_blocks_that_need_a_release_compile() -> None:
    code = [block for language, skip, block in BLOCKS if language == "python" and skip]
    assert code
    for block in code:
        compile(block, str(README), "exec")


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README.read_text("utf-8")):
        assert (README.parent / target).exists(), target

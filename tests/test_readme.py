"""What the README and the tutorials give people to paste must run, and print what they show."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from sharegptvideo.cli import app

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
TUTORIALS = ROOT / "docs" / "tutorials"


def blocks(page: Path) -> list[tuple[str, str]]:
    """The kind and the text of every block of a page."""
    text = page.read_text("utf-8")
    return re.findall(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


COMMANDS = [
    shlex.split(line, comments=True)
    for language, block in blocks(README)
    if language == "bash"
    for line in block.replace("\\\n", " ").splitlines()
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which the built-in world is rendered once for all of these pages."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def elsewhere(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder to work in; modules that were written there are dropped afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHAREGPTVIDEO_CACHE", str(cache))
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in ("my_model", "guesser"):
        sys.modules.pop(name, None)


def follow(page: Path) -> str:
    """Do what a page says: write its modules, run its Python and commands, compare its output.

    Returns:
        All that the commands printed.
    """
    printed = ""
    for kind, block in blocks(page):
        module = re.match(r"# (\w+)\.py\n", block)
        if kind == "python" and module:
            Path(f"{module[1]}.py").write_text(block)
        elif kind == "python":
            exec(compile(block, page.name, "exec"), {"__name__": "pasted"})
        elif kind == "bash":
            for line in block.replace("\\\n", " ").splitlines():
                program, *words = shlex.split(line)
                assert program == "sharegptvideo", line
                ran = CliRunner().invoke(app, words)
                assert ran.exit_code == 0, f"{line}\n{ran.output}"
                printed += ran.output
        else:
            assert kind == "text", kind
            for line in block.splitlines():
                assert line.strip() in printed, f"{page.name} shows {line!r}, but:\n{printed}"
    return printed


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands_and_options_exist(command: list[str]) -> None:
    program, *words = command
    if program == "make":
        assert f"\n{words[0]}:" in (ROOT / "Makefile").read_text("utf-8")
        return
    assert program == "sharegptvideo"
    named: Any = typer.main.get_command(app)
    path = []
    while hasattr(named, "commands"):
        path.append(words[len(path)])
        named = named.commands[path[-1]]
    shown = CliRunner().invoke(app, [*path, "--help"], terminal_width=200)
    assert shown.exit_code == 0, shown.output
    for option in (word for word in command if word.startswith("--")):
        assert option in shown.output


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 8


@pytest.mark.usefixtures("elsewhere")
def test_python_blocks_run() -> None:
    code = [block for language, block in blocks(README) if language == "python"]
    assert code
    for block in code:
        exec(compile(block, str(README), "exec"), {"__name__": "pasted"})


def test_links_lead_somewhere() -> None:
    for page in (README, *TUTORIALS.glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), target


@pytest.mark.usefixtures("elsewhere")
def test_tutorial_of_evaluation() -> None:
    follow(TUTORIALS / "evaluate.md")
    board = Path("board/index.html").read_text("utf-8")
    assert "Nearest colour" in board
    assert "Always no" in board


@pytest.mark.slow
@pytest.mark.usefixtures("elsewhere")
def test_tutorial_of_pairs() -> None:
    follow(TUTORIALS / "pairs.md")
    assert Path("models/dpo/model.safetensors").is_file()


@pytest.mark.usefixtures("elsewhere")
def test_tutorial_of_publishing(hub_server: Any) -> None:
    hub_server.namespaces.add("alice")
    follow(TUTORIALS / "publish.md")
    assert hub_server.repo("alice/two-captions").private
    page = hub_server.files("alice/two-captions")["captions/README.md"].decode()
    assert "Written by hand" in page

"""The commands in the guides to evaluation and judges, run as they stand, one after another."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharegptvideo._io import write_jsonl
from sharegptvideo.cli import app
from sharegptvideo.eval.tasks import load_questions, load_task
from sharegptvideo.models import build_tiny
from tests.support.recorded_results import write_archive

ROOT = Path(__file__).parents[2]
GUIDES = (
    *(ROOT / "docs" / f"{name}.md" for name in ("evaluation", "models", "endpoints")),
    ROOT / "sharegptvideo" / "judges" / "README.md",
)
SERVER = "http://localhost:8000/v1"
# What this machine need not have, what stands for another program's output, and submissions, which
# are of whole tasks and run in tests/test_readme_blocks.py.
ELSEWHERE = ("cuda:0", "logs/MODEL", "answers.csv", "hound")


def commands(file: Path) -> list[list[str]]:
    """The commands in the fenced blocks of a guide, as a shell splits them."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", file.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    plain = (block for language, block in blocks if not language)
    lines = (line for block in plain for line in block.replace("\\\n", " ").splitlines())
    return [
        shlex.split(line, comments=True)[1:] for line in lines if line.startswith("sharegptvideo ")
    ]


@pytest.mark.parametrize("file", GUIDES, ids=lambda file: str(file.stem))
def test_every_command_and_option_exists(file: Path) -> None:
    found = commands(file)
    assert found
    for command in found:
        path = command[:2] if command[0] in ("eval", "submission") else command[:1]
        shown = CliRunner().invoke(app, [*path, "--help"], terminal_width=200)
        assert shown.exit_code == 0, shown.output
        for option in (word for word in command if word.startswith("--")):
            assert option in shown.output, command


@pytest.mark.slow
def test_they_run_one_after_another(
    shared_data: Path, chat_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a tiny model for the Hub's, and three questions a task for thousands."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHAREGPTVIDEO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENAI_BASE_URL", chat_server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    for name, folder in (("release", "release"), ("annotations", "annotations"), ("MEDIA", "")):
        (tmp_path / name).symlink_to(shared_data / folder)
    build_tiny(
        ["what is the man doing ? a man is playing a guitar ."] * 5, tmp_path / "tiny", seed=0
    )
    ids = [
        question.id
        for task, folder in (("msvd_qa", "annotations"), ("msrvtt_qa", "release"))
        for question in load_questions(load_task(task), shared_data / folder)[:3]
    ]
    write_jsonl(tmp_path / "answers.jsonl", [{"id": i, "prediction": "a man"} for i in ids])
    write_archive(tmp_path / "compile_test_result.tar.gz")
    chat_server.models = ["MODEL", "JUDGE", "NAME", "A", "B", "C", "gpt-4o-mini"]
    chat_server.answer = _answer
    for command in (command for file in GUIDES for command in commands(file)):
        if any(part in word for word in command for part in ELSEWHERE):
            continue
        words = [
            re.sub(r"^hf:.*", f"hf:{tmp_path / 'tiny'}", word).replace(SERVER, chat_server.url)
            for word in command
        ]
        words = [
            part
            for word in words  # as a shell does it
            for part in (map(str, sorted(Path().glob(word))) if "*" in word else [word])
        ]
        few = ["--limit", "3"] if words[1] in {"run", "judge", "attack"} else []
        few += ["--max-new-tokens", "2"] if words[1] == "run" else []
        ran = CliRunner().invoke(app, [*words, *few])
        assert ran.exit_code == 0, f"{' '.join(command)}\n{ran.output}"
    assert (tmp_path / "both" / "index.html").is_file()
    assert (tmp_path / "agreement" / "agreement.png").is_file()
    assert (tmp_path / "board" / "index.html").is_file()


def _answer(body: dict[str, Any]) -> str:
    """A verdict where one is asked for, else an answer."""
    if "response_format" not in body:
        return "A man."
    asked = body["response_format"]["json_schema"]["schema"]["properties"]
    return json.dumps({k: v for k, v in {"explanation": "", "correct": "yes", "score": 4}.items()
                       if k in asked})  # fmt: skip

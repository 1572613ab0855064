"""Every command that writes, at places that a file system refuses: one line, nothing left."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sharegptvideo import cli
from sharegptvideo._io import write_json, write_jsonl
from tests.support.authors_checkpoint import TOWERS, write_authors
from tests.support.eval_fixtures import CountingModel, SmallRelease
from tests.support.recorded_results import write_archive

# What each command is given; {out} is the place.
COMMANDS = {
    "data convert": "data convert plain {here}/rows.jsonl --config qa --split train --to {out}",
    "data stats": "data stats {release} --config msvd_qa --workers 1 --out {out}",
    "data validate": "data validate {release} --out {out}",
    "data publish": "data publish {release} --repo-id me/set --dry-run {out}",
    "data status": "data status --data-dir {release} --media {release} --missing {out}",
    "build candidates": "build candidates --input {here}/world --media {release}/test/msvd"
    " --model {model} -k 1 --out {out}",
    "build rewards": "build rewards --input {here}/candidates.jsonl --judge answer-match"
    " --out {out}",
    "build preferences": "build preferences --input {here}/rewards.jsonl --out {out}",
    "eval run": "eval run --model {model} --task msvd_qa --data-dir {release} --media {release}"
    " --judge exact --out {out}",
    "eval judge": "eval judge --predictions {here}/run/predictions.jsonl --task msvd_qa"
    " --data-dir {release} --judge exact --out {out}",
    "eval report": "eval report {here}/run --out {out}",
    "eval agreement": "eval agreement {here}/run {here}/run --out {out}",
    "eval attack": "eval attack --judge exact --limit 1 --out {out}",
    "eval import": "eval import {here}/results.tar.gz --to {out}",
    "submission make": "submission make {here}/run --name M --organisation O --params 1B"
    " --link https://example.org --licence MIT --out {out}",
    "leaderboard": "leaderboard {here}/run --out {out}",
    "train cp": "train cp demo/dpo {out}",
    "train run": "train run demo/sft {recipe} output={out}",
    "model convert": "model convert {here}/authors --towers {here}/towers.json --to {out}",
    "demo": "demo --scale tiny --out {out}",
}


def run(words: list[str]) -> Any:
    return CliRunner().invoke(cli.app, words)


@pytest.fixture
def words(
    small_release: SmallRelease,
    model: CountingModel,
    pointed_at: Callable[..., list[str]],
    tmp_path: Path,
) -> Callable[[str, Path], list[str]]:
    """The words of a command that writes to a place, after all that it reads was made."""
    here = tmp_path / "here"
    here.mkdir()

    def written(command: str, out: Path) -> list[str]:
        given = {
            "here": str(here), "release": str(small_release.folder), "model": model.spec,
            "out": str(out),
        }  # fmt: skip
        row = {"id": "1", "video": "a", "source": "s", "question": "q", "answer": "a red one",
               "caption": "All is red."}  # fmt: skip
        answers = [{"text": text, "score": score, "copies": 1, "status": "scored", "reason": "",
                    "reply": "", "judge": "j", "tokens": 0}
                   for text, score in (("a red one", 5), ("a blue one", 1))]  # fmt: skip
        write_jsonl(here / "rows.jsonl", [row])
        write_jsonl(here / "candidates.jsonl", [row | {"candidates": ["red"], "error": None}])
        write_jsonl(here / "rewards.jsonl", [row | {"answers": answers, "error": None}])
        turns = [{"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "Red."}]
        for file in ("qa/video_qa", "pretrain/video_caption_pretrain"):
            write_jsonl(
                here / "world" / "video_instruction" / "train" / f"{file}.jsonl",
                [{"id": "a_0", "video": "a", "conversations": turns}],
            )
        write_json(here / "rewards.json", {"settings": {}, "report": {}})
        if "{here}/run" in COMMANDS[command]:
            made = run([*_filled("eval run", given | {"out": str(here / "run")})])
            assert made.exit_code == 0, made.output
        if command == "data status":  # its index of the clips is kept
            run(_filled(command, given | {"out": str(here / "missing.txt")}))
        if command == "eval import":
            write_archive(here / "results.tar.gz")
        if command == "model convert":
            write_authors(here / "authors")
            write_json(here / "towers.json", TOWERS)
        filled = _filled(command, given)
        if "{recipe}" in filled:
            at = filled.index("{recipe}")
            recipe = [one for one in pointed_at(out, steps=1) if not one.startswith("output=")]
            filled[at : at + 1] = recipe
        return filled

    return written


def _filled(command: str, given: dict[str, str]) -> list[str]:
    texts = given | {"recipe": "{recipe}"}
    return [word.format(**texts) for word in COMMANDS[command].split()]


def everything(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*") if "__pycache__" not in str(path)}


def refused(words: list[str], place: str, folder: Path) -> str:
    """The one line of a command that may not write, which leaves what there was."""
    before = everything(folder)
    result = run(words)
    assert result.exit_code in {1, 2}, result.output
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert errors == result.stderr.splitlines()[-1:], result.stderr
    assert place in errors[0]
    assert everything(folder) == before
    return errors[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_places_that_are_refused(
    command: str, words: Callable[[str, Path], list[str]], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("mine")
    long = "n" * 300
    filled = words(command, tmp_path / "PLACE")

    def at(out: Path) -> list[str]:
        return [word.replace(str(tmp_path / "PLACE"), str(out)) for word in filled]

    if command not in {"train cp", "data status"}:  # these write a file
        refused(at(tmp_path / "file"), str(tmp_path / "file"), tmp_path)
    refused(at(tmp_path / "file" / "out"), str(tmp_path / "file"), tmp_path)
    refused(at(tmp_path / long), long, tmp_path)
    refused(at(tmp_path / "new" / long), long, tmp_path)
    if Path("/sys/kernel").is_dir():  # where no one may make a folder, root neither
        refused(at(Path("/sys/kernel/out")), "/sys/kernel", tmp_path)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("command", COMMANDS)
def test_no_file_may_grow(
    command: str, words: Callable[[str, Path], list[str]], tmp_path: Path
) -> None:
    """As on a full disk, in the middle of the first line."""
    filled = words(command, tmp_path / "new" / "out")
    if command == "train cp":
        (tmp_path / "new").mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, before[1]))
    try:
        refused(filled, "", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)

"""Blocks of the guides in docs/ and of the folders' READMEs: they run, or are whole commands.

What needs eight GPUs, the Hub or hours is parsed by the command line itself and, where it is a
recipe, validated with its changes; the rest is run as it stands.
"""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from sharegptvideo._io import read_json, write_jsonl
from sharegptvideo._shipped import shipped
from sharegptvideo.cli import app
from sharegptvideo.eval import judge_predictions, load_questions, load_task
from sharegptvideo.training import load_recipe, load_steps
from tests.support.export_release import export_release
from tests.support.media_trees import frames as pictures

ROOT = Path(__file__).parents[1]
GUIDES = [
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / folder / "README.md" for folder in ("eval", "training", "datasets_cards")),
]
BLOCKS = [
    (guide.parent.name if guide.stem == "README" else guide.stem, kind, text)
    for guide in GUIDES
    for kind, text in re.findall(r"```(\w*)\n(.*?)```", guide.read_text("utf-8"), re.DOTALL)
]
RECIPE_PARTS = [
    text for guide, kind, text in BLOCKS if kind == "yaml" and guide in ("training", "speed")
]
COMMANDS = [
    (guide, line)
    for guide, kind, text in BLOCKS
    if not kind
    for line in text.replace("\\\n", " ").splitlines()
    if re.match(r"(.* -m )?sharegptvideo ", line)
]


def arguments(line: str) -> list[str]:
    """What stands after `sharegptvideo`, launched by accelerate or not, comments left out."""
    line = re.sub(r"\$\([^)]*\)", "CONFIG", line)
    words = shlex.split(line, comments=True)
    return words[words.index("sharegptvideo") + 1 :]


def parsed(words: list[str]) -> dict[str, Any]:
    """The parameters of a command, as its own parser reads them; nothing is run."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("sharegptvideo", [words[0]], resilient_parsing=True)
    while hasattr(command, "commands"):
        _, command, words = command.resolve_command(context, words)
        assert command is not None
        context = command.make_context(
            command.name, list(words), resilient_parsing=hasattr(command, "commands")
        )
    return dict(context.params)


@pytest.mark.parametrize(("guide", "line"), COMMANDS, ids=lambda value: str(value)[:60])
def test_every_command_is_complete(guide: str, line: str) -> None:
    assert parsed(arguments(line)), f"{guide}: {line}"


def test_a_command_with_a_typing_mistake_is_not() -> None:
    with pytest.raises(Exception, match="No such option"):
        parsed(["train", "run", "demo/sft", "--dryrun"])


def test_the_commands_of_training_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`run` is checked as `validate`, with the same recipe and changes."""
    monkeypatch.chdir(tmp_path)
    ran = 0
    for guide, line in COMMANDS:
        group, command, *rest = arguments(line)
        if guide not in ("training", "speed") or group != "train":
            continue
        if command == "run":
            rest = [word for word in rest if word != "--dry-run"]
            if "--gpus" in rest:
                place = rest.index("--gpus")
                rest[place : place + 2] = []
            command = "validate"
        if command == "cp":
            Path("mine.yaml").unlink(missing_ok=True)
        result = CliRunner().invoke(app, [group, command, *rest])
        assert result.exit_code == 0, f"{line}\n{result.output}"
        ran += 1
    assert ran >= 12


def test_the_commands_of_publishing_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the first block; the others need the Hub."""
    monkeypatch.chdir(tmp_path)
    row = {"id": "a", "video": "clip", "prompt": "Describe it.", "caption": "A red square moves."}
    write_jsonl(Path("mine.jsonl"), [row, row | {"id": "b", "video": "other"}])
    Path("my_cards").mkdir()
    text = (shipped("datasets_cards") / "captions.md").read_text("utf-8")
    Path("my_cards/captions.md").write_text(text)
    lines = [line for guide, line in COMMANDS if guide == "publishing"][:3]
    assert [arguments(line)[1] for line in lines] == ["convert", "validate", "publish"]
    for line in lines:
        result = CliRunner().invoke(app, arguments(line))
        assert result.exit_code == 0, f"{line}\n{result.output}"
    assert "alice/my-captions" in (tmp_path / "out" / "README.md").read_text("utf-8")


@pytest.mark.usefixtures("small_release")
def test_the_commands_of_submitting_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a file of answers to a board that shows it beside what comes along."""
    monkeypatch.chdir(tmp_path)
    answers = "".join(f"{clip}_{n},red\n" for clip in "abc" for n in "01")
    Path("answers.csv").write_text(f"id,prediction\n{answers}")
    lines = [line for _, line in COMMANDS if "answers.csv" in line or "hound-7b" in line]
    assert [arguments(line)[1] for line in lines] == ["judge", "judge", "make", "check", "hound-7b"]
    for line in lines:
        result = CliRunner().invoke(app, arguments(line))
        assert result.exit_code == 0, f"{line}\n{result.output}"
    board = Path("board/index.html").read_text("utf-8")
    assert "Hound 7B" in board
    assert "Demo at tiny scale, DPO" in board


def test_rows_with_frames_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (text,) = (text for guide, kind, text in BLOCKS if kind == "python" and "frames=8" in text)
    said = [{"from": "human", "value": "<video>\nWho?"}, {"from": "gpt", "value": "A cat."}]
    rows = [{"id": name, "video": name, "conversations": said} for name in ("a", "b", "c")]
    Path("release/video_instruction/train/qa").mkdir(parents=True)
    write_jsonl(Path("release/video_instruction/train/qa/a.jsonl"), rows)
    Path("release/splits.json").write_text('{"validation": []}')
    for name in ("a", "b"):
        pictures(tmp_path / "media" / name, 2)
    exec(compile(text, "README", "exec"), {})
    assert capsys.readouterr().out == "torch.Size([2, 8, 224, 224, 3])\n"


def test_the_commands_for_other_trainers_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    export_release(tmp_path)
    lines = [line for guide, line in COMMANDS if guide == "datasets" and " export " in line]
    assert len(lines) == 4
    for line in lines:
        result = CliRunner().invoke(app, arguments(line))
        assert result.exit_code == 0, f"{line}\n{result.output}"
        assert (Path(arguments(line)[-1]) / "export.json").is_file()


def test_the_commands_of_people_run(
    small_release: Any, chat_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order; between the first two, the sheet is answered as its page does it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "MEDIA").symlink_to(small_release.folder)
    for name, text in (("sft", "red"), ("dpo", "blue")):
        write_jsonl(Path(f"{name}.jsonl"), [{"id": f"{c}_0", "prediction": text} for c in "abc"])
        answers, folder = f"{name}.jsonl", str(small_release.folder)
        judge_predictions(answers, ["msvd_qa"], "exact", f"runs/{name}", data_dir=folder)
    chat_server.models = ["JUDGE"]
    chat_server.answer = lambda _: '{"explanation": "", "correct": "yes", "score": 4}'
    (table,) = (text for guide, kind, text in BLOCKS if (guide, kind) == ("people", "csv"))
    Path("preferences.csv").write_text(table)
    lines = [line for guide, line in COMMANDS if guide == "people"]
    assert len(lines) == 4
    for line in lines:
        words = [
            part
            for word in arguments(line.replace("http://localhost:8000/v1", chat_server.url))
            for part in (sorted(map(str, Path().glob(word))) if "*" in word else [word])
        ]
        result = CliRunner().invoke(app, words)
        if "--prompt" in words:  # its clips are examples: none is there
            assert "the clip clips/u is missing" in result.stderr
            continue
        assert result.exit_code == 0, f"{line}\n{result.output}"
        if words[:2] == ["study", "sheet"]:
            key = read_json(Path("given/sheet.key.json"))
            rows = [
                {"id": name, "video": item["video"], "question": item["question"],
                 "answer_a": item["answers"][0]["text"], "answer_b": item["answers"][1]["text"],
                 "rater": "ann", "choice": "a"}
                for name, item in key["items"].items()
            ]  # fmt: skip
            write_jsonl(Path("saved/ann.jsonl"), rows)
    assert read_json(Path("agreement/agreement.json"))["runs"][0]["people"]["n"] == 3
    assert read_json(Path("by-rules/agreement.json"))["all"]["n"] == 3


@pytest.mark.parametrize("text", RECIPE_PARTS)
def test_every_part_of_a_recipe_is_one(text: str, tmp_path: Path) -> None:
    (name,) = yaml.safe_load(text)
    base = {"steps": "llava_hound/sft_two_step"}.get(name, "llava_hound/sft")
    file = tmp_path / "recipe.yaml"
    shipped_text = (shipped("training/recipes") / f"{base}.yaml").read_text("utf-8")
    recipe = yaml.safe_load(shipped_text)
    recipe[name] = yaml.safe_load(text)[name]
    recipe.setdefault("output", "runs/x")
    file.write_text(yaml.safe_dump(recipe, sort_keys=False))
    changes = ["data.data_dir=release", "data.media=release", "output=runs/x"]
    if name == "lora":
        changes.append("freeze.projector=true")  # adapters are the language model's
    assert load_steps(str(file), changes) if name == "steps" else load_recipe(str(file), changes)


def test_the_example_of_a_task_is_one(tmp_path: Path) -> None:
    (text,) = (text for guide, kind, text in BLOCKS if (guide, kind) == ("eval", "yaml"))
    (tmp_path / "kitchen.yaml").write_text(text)
    wording = (shipped("eval/prompts") / "caption_grounded.yaml").read_text("utf-8")
    (tmp_path / "wording.yaml").write_text(wording)
    row = {"id": "a", "video": "clip", "question": "What boils?", "answer": "Water."}
    write_jsonl(tmp_path / "kitchen.jsonl", [row])
    task = load_task("kitchen", tmp_path)
    assert [question.answer for question in load_questions(task)] == ["Water."]


@pytest.mark.parametrize("text", [text for _, kind, text in BLOCKS if kind == "python"])
def test_python_imports_what_is_there(text: str) -> None:
    """They train or load from the Hub: names are imported, calls are not made."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)

"""The model's card, where it is pushed to, and where figures are reported."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.testing import CliRunner

from sharegptvideo._io import read_json, write_json
from sharegptvideo._text import number
from sharegptvideo.cli import app
from sharegptvideo.errors import UserError
from sharegptvideo.models import open_model
from sharegptvideo.training import DpoRecipe, SftRecipe, TrainResult, push_model, run_recipe
from sharegptvideo.training.outputs import write_card
from sharegptvideo.training.recipes import Freeze, Hub, Lora, recipe_hash
from sharegptvideo.training.run_dir import TRAINING_VERSION, TrainingDir

if TYPE_CHECKING:
    from tests.support.hub_server import HubServer

REPO = "tester/my-dpo"


def head_and_body(folder: Path) -> tuple[dict[str, Any], str]:
    _, head, body = (folder / "README.md").read_text("utf-8").split("---\n", 2)
    return yaml.safe_load(head), body


def to_hub(recipe: Any, **more: Any) -> Any:
    return recipe.model_copy(update={"push_to_hub": Hub(repo=REPO, **more)})


# Records.


def test_a_run_folder_says_what_it_was_made_with(dpo_recipe: DpoRecipe) -> None:
    import torch

    run_recipe(dpo_recipe)
    state = read_json(Path(dpo_recipe.output) / "run.json")
    assert state["model"] == dpo_recipe.model
    assert state["seeds"] == {"training": 0}
    assert state["versions"]["torch"] == torch.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", state["versions"]["sharegptvideo"])
    (sitting,) = state["sittings"]
    assert state["training_version"] == TRAINING_VERSION
    assert f"; training version {TRAINING_VERSION}." in head_and_body(Path(dpo_recipe.output))[1]
    assert sitting["environment"]["device"] == "cpu" or torch.cuda.is_available()
    assert sitting["environment"]["threads"] == torch.get_num_threads()


def test_each_sitting_is_recorded(sft_recipe: SftRecipe) -> None:
    def stop(done: int, _total: int, _what: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_recipe(sft_recipe, progress=stop)
    run_recipe(sft_recipe)
    assert len(read_json(Path(sft_recipe.output) / "run.json")["sittings"]) == 2


def test_a_training_of_another_version(sft_recipe: SftRecipe) -> None:
    """Of another version it is not gone on with; of the time before versions, with a note."""

    def stop(done: int, _total: int, _what: str) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_recipe(sft_recipe, progress=stop)
    record = Path(sft_recipe.output) / "run.json"
    state = read_json(record)
    write_json(record, state | {"training_version": TRAINING_VERSION + 1})
    with pytest.raises(UserError, match=rf"begun by training version {TRAINING_VERSION + 1}, this"):
        run_recipe(sft_recipe)

    del state["training_version"]
    state["sittings"][0]["source_sha256"] = "c" * 64
    write_json(record, state)
    reported: list[str] = []
    result = run_recipe(sft_recipe, report=reported.append)
    (note,) = (text for text in reported if "recorded no training version" in text)
    assert note in result.notes
    assert note in read_json(record)["notes"]


# The card.


def test_the_card_of_a_preference_training(
    dpo_run: tuple[DpoRecipe, TrainResult], release: Path
) -> None:
    """Its figures are those of the log; no folder of this machine is in it."""
    dpo_recipe, result = dpo_run
    folder = Path(dpo_recipe.output)
    head, body = head_and_body(folder)
    assert head["library_name"] == "transformers"
    assert head["pipeline_tag"] == "video-text-to-text"
    assert head["tags"] == ["video", "sharegptvideo", "dpo"]
    assert not head.keys() & {"base_model", "datasets", "model-index"}, "none is on the Hub"
    first, last = result.log[0], result.log[-1]
    assert f"The loss went from {number(first['loss'])} to {number(last['loss'])}" in body
    cells = [line.split("|")[1:-1] for line in body.splitlines() if line.startswith("| 6 |")]
    assert [float(cell.replace("−", "-")) for cell in cells[0][2:]] == pytest.approx(
        [last[key] for key in ("loss", "rewards/chosen", "rewards/rejected", "rewards/margins",
                               "rewards/accuracies")], rel=1e-3,
    )  # fmt: skip
    assert "direct preference optimisation (β 0.1, loss `sigmoid`) on `preferences`" in body
    assert "| steps | 6 of 2 rows |" in body
    assert "It was not evaluated while it was trained." in body
    for place in (release, folder.parent, Path(dpo_recipe.model).parent, Path.home()):
        assert str(place) not in body
    settings = yaml.safe_load(body.split("```yaml")[1].split("```")[0])
    assert settings["optimisation"]["max_steps"] == 6
    assert settings["model"] == Path(dpo_recipe.model).name
    assert (folder / "loss.png").is_file()


def test_the_cards_code_runs(dpo_run: tuple[DpoRecipe, TrainResult], release: Path) -> None:
    dpo_recipe, _ = dpo_run
    _, body = head_and_body(Path(dpo_recipe.output))
    code = body.split("```python")[1].split("```")[0]
    name = f'"hf:{Path(dpo_recipe.output).name}"'
    assert code.count('"clip.mp4"') == code.count(name) == 1
    code = code.replace("clip.mp4", str(release / "videos" / "clip_red.mp4"))
    code = code.replace(name, repr(f"hf:{dpo_recipe.output}"))
    exec(code, {})  # what a reader would do


ROW = {
    "step": 6, "epoch": 3.0, "status": "ok", "task": "msvd_qa", "task_version": 2,
    "judge": "answer-match v1", "accuracy": 0.625, "ci95": [0.3, 0.9], "score": 3.5, "n": 8,
    "n_scored": 7, "coverage": 0.875, "words": 4.25,
}  # fmt: skip


def test_names_are_text_in_a_card(
    sft_recipe: SftRecipe, change: Callable[..., Any], tmp_path: Path
) -> None:
    """A model's, a task's, a judge's and the folder's: none ends a cell, a code, or the block."""
    odd = "a|b `c` <i>x</i> [y](z)"
    recipe = change(sft_recipe, data={"data_dir": None}).model_copy(update={"model": odd})
    run = TrainingDir(sft_recipe)
    run.recipe = recipe
    run.state = {
        "model_sha256": "a" * 64, "data_sha256": "b" * 64, "rows": 8, "missing": ["x"], "cut": 1,
        "versions": {}, "warnings": [{"text": odd}], "notes": [], "training_version": 1,
        "sittings": [{"environment": {"processes": 1, "devices": 1, "device": "cpu"}}],
    }  # fmt: skip
    write_json(tmp_path / "config.json", {"model_type": "qwen2_vl"})
    rows = [ROW | {"task": odd, "judge": odd}]
    write_card(run, tmp_path, [{"step": 1, "loss": 2.0}], rows, 6, 7200.0)
    _, body = head_and_body(tmp_path)
    blocks = re.split(r"^```.*$", body, flags=re.MULTILINE)
    text = "".join(blocks[::2])
    assert len(blocks) == 7  # three blocks: the recipe, a command, code
    assert "<i>" not in re.sub(r"(`+).*?\1", "", text)
    assert "](z)" not in re.sub(r"(`+).*?\1", "", text).replace(r"\](z)", "")
    row = next(line for line in text.splitlines() if line.startswith("| starting model |"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 3
    row = next(line for line in text.splitlines() if line.startswith(r"| a\|b"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 11


def test_evaluations_in_a_card(
    sft_recipe: SftRecipe, change: Callable[..., Any], tmp_path: Path
) -> None:
    """By hand: two tasks, one of them evaluated twice, one failed evaluation."""
    recipe = change(sft_recipe, data={"data_dir": None}).model_copy(
        update={"model": "owner/base", "push_to_hub": Hub(repo=REPO)}
    )
    run = TrainingDir(sft_recipe)
    run.recipe = recipe
    run.state = {
        "model_sha256": "a" * 64, "data_sha256": "b" * 64, "rows": 8, "missing": ["x", "y"],
        "cut": 1, "versions": {"sharegptvideo": "1.2.3"}, "warnings": [], "notes": [],
        "training_version": 1, "sittings": [{"environment": {
            "processes": 8, "devices": 8, "device": "H100"}}],
    }  # fmt: skip
    rows = [
        ROW | {"step": 0, "epoch": 0.0, "accuracy": 0.5},
        ROW,
        ROW | {"task": "synthetic_qa", "accuracy": 0.25, "ci95": None},
        ROW | {"step": 3, "status": "failed", "reason": "gone"},
    ]
    write_json(tmp_path / "config.json", {"model_type": "qwen2_vl"})
    write_card(run, tmp_path, [{"step": 1, "loss": 2.0}], rows, 6, 7200.0)
    head, body = head_and_body(tmp_path)
    assert head["base_model"] == "owner/base"
    assert head["datasets"] == ["ShareGPTVideo/train_video_and_instruction"]
    (model,) = head["model-index"]
    assert model["name"] == "my-dpo"
    found = {
        result["dataset"]["config"]: (result["dataset"]["type"], result["metrics"][0]["value"])
        for result in model["results"]
    }
    assert found == {
        "msvd_qa": ("ShareGPTVideo/test_video_and_instruction", 62.5),
        "synthetic_qa": ("sharegptvideo", 25.0),
    }
    figures = "6 | 3.00 | 62.5 | 30.0 to 90.0 | 3.50 | 7 / 8 | 87.5 | 4.2 |"
    assert f"| msvd_qa v2 | answer-match v1 | {figures}" in body
    assert body.count("| msvd_qa v2 |") == 2
    assert "gone" not in body
    assert "| trained on | 8 × H100, 2.0 h |" in body
    assert "| steps | 6 of 16 rows on 8 devices |" in body
    assert "2 rows without a clip: left out." in body
    assert "1 row was cut" in body
    assert f'open_model("hf:{REPO}")' in body


# Pushing.


def test_a_finished_model_is_pushed_with_its_card(
    dpo_recipe: DpoRecipe, hub_server: HubServer
) -> None:
    recipe = to_hub(dpo_recipe)
    result = run_recipe(recipe)
    assert result.pushed == f"{hub_server.url}/{REPO}"
    files = hub_server.files(REPO, repo_type="model")
    folder = Path(recipe.output)
    assert set(files) == {
        ".gitattributes", "README.md", "chat_template.jinja", "config.json",
        "generation_config.json", "log.jsonl", "loss.png", "model.safetensors",
        "processor_config.json", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    for name in set(files) - {".gitattributes"}:
        assert files[name] == (folder / name).read_bytes(), name
    assert hub_server.repo(REPO, "model").private
    assert read_json(folder / "run.json")["pushed"] == result.pushed
    # It loads by its name, and the same command again pushes nothing.
    assert open_model(f"hf:{REPO}").frames == 4
    commits = len(hub_server.commits(REPO, repo_type="model"))
    again = run_recipe(recipe)
    assert (again.already_done, again.pushed) == (True, result.pushed)
    assert len(hub_server.commits(REPO, repo_type="model")) == commits


def test_pushed_adapters_name_no_path_of_this_machine(
    sft_recipe: SftRecipe, hub_server: HubServer
) -> None:
    freeze = Freeze(vision_tower=True, projector=True)
    lora = Lora(rank=4, merge=False)
    recipe = to_hub(sft_recipe).model_copy(update={"lora": lora, "freeze": freeze})
    run_recipe(recipe)
    file = "adapter_config.json"
    there = json.loads(hub_server.files(REPO, repo_type="model")[file])
    here = read_json(Path(recipe.output) / file)
    assert there == here | {"base_model_name_or_path": Path(recipe.model).name}
    assert Path(here["base_model_name_or_path"]).is_absolute()


def test_event_files_go_along_where_they_are_wanted(
    sft_recipe: SftRecipe, hub_server: HubServer
) -> None:
    run_recipe(to_hub(sft_recipe, tensorboard=True, private=False))
    files = hub_server.files(REPO, repo_type="model")
    assert any(name.startswith("tensorboard/events.") for name in files)
    assert not hub_server.repo(REPO, "model").private


def test_a_push_that_fails_leaves_the_model_and_is_done_again(
    dpo_recipe: DpoRecipe, hub_server: HubServer, tmp_path: Path
) -> None:
    """By the same command, which trains nothing; the first may not write there."""
    hub_server.namespaces.discard("tester")
    recipe = to_hub(dpo_recipe)
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    failed = CliRunner().invoke(app, ["train", "run", str(file)])
    assert failed.exit_code == 1
    message = failed.stderr.splitlines()[-1]
    assert "the training is finished, but not pushed: tester/my-dpo: " in message
    assert "the Hub answered 403" in message
    assert "run the same command again, or sharegptvideo.training.push_model(" in message
    state = read_json(Path(recipe.output) / "run.json")
    assert (state["status"], state.get("pushed")) == ("finished", None)
    weights = Path(recipe.output) / "model.safetensors"
    when = weights.stat().st_mtime_ns
    hub_server.namespaces.add("tester")
    again = CliRunner().invoke(app, ["train", "run", str(file), "--json"])
    assert again.exit_code == 0, again.stderr
    assert f'"pushed": "{hub_server.url}/{REPO}"' in again.stdout
    assert weights.stat().st_mtime_ns == when


def test_a_push_to_another_repository_later(sft_recipe: SftRecipe, hub_server: HubServer) -> None:
    """Where results go is no part of what a training is: the folder is still the recipe's."""
    run_recipe(sft_recipe)
    result = run_recipe(to_hub(sft_recipe))
    assert result.already_done
    assert result.pushed == f"{hub_server.url}/{REPO}"
    assert push_model(sft_recipe.output, "test-org/other") == f"{hub_server.url}/test-org/other"
    assert recipe_hash(to_hub(sft_recipe)) == recipe_hash(sft_recipe)


@pytest.mark.parametrize(
    ("repo", "message"),
    [("no owner", "push_to_hub.repo 'no owner': "), ("alone", "OWNER/NAME is needed")],
)
def test_a_name_that_cannot_be_is_found_before_the_first_step(
    repo: str, message: str, sft_recipe: SftRecipe, hub_server: HubServer
) -> None:
    recipe = sft_recipe.model_copy(update={"push_to_hub": Hub(repo=repo)})
    with pytest.raises(UserError, match=message):
        run_recipe(recipe)
    assert not Path(recipe.output).exists()
    assert hub_server.requests == []


def test_without_a_token_nothing_is_begun(
    sft_recipe: SftRecipe, hub_server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError, match="needs a token of the Hub; set HF_TOKEN"):
        run_recipe(to_hub(sft_recipe))
    assert not Path(sft_recipe.output).exists()
    assert hub_server.requests == []


def test_only_a_finished_training_is_pushed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no finished training"):
        push_model(tmp_path, REPO)


# Reports.


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {
        tag: {event.step: event.value for event in events.Scalars(tag)}
        for tag in events.Tags()["scalars"]
    }


def test_tensorboard_has_the_log_of_a_resumed_training_once(
    dpo_recipe: DpoRecipe, change: Callable[..., Any]
) -> None:
    """Steps behind the checkpoint, done twice, are shown once."""
    recipe = change(dpo_recipe, save_every=2)

    def stop(done: int, _total: int, what: str) -> None:
        if what.startswith("training") and done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, progress=stop)
    log = run_recipe(recipe).log
    found = scalars(Path(recipe.output))
    for key in ("loss", "rewards/margins", "learning_rate"):
        assert found[f"train/{key}"] == pytest.approx({e["step"]: e[key] for e in log}), key


def test_without_reports_there_are_none(sft_recipe: SftRecipe) -> None:
    recipe = sft_recipe.model_copy(update={"report_to": ()})
    run_recipe(recipe)
    assert not (Path(recipe.output) / "tensorboard").exists()


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_what_is_not_installed_is_said_before_anything_else(
    name: str, sft_recipe: SftRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    recipe = sft_recipe.model_copy(update={"report_to": ("tensorboard", name)})
    with pytest.raises(UserError, match=f"report_to.*{name}.*pip install {name}"):
        run_recipe(recipe)
    assert not Path(recipe.output).exists()

"""A training that was cut off ends with the same weights, to the bit, as one that was not."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from sharegptvideo._io import dumps, read_json, sha256_text, write_json
from sharegptvideo.errors import UserError
from sharegptvideo.models import build_tiny
from sharegptvideo.training import DpoRecipe, Recipe, SftRecipe, TrainResult, run_recipe
from sharegptvideo.training.recipes import NOT_HASHED
from sharegptvideo.training.run_dir import COMPLETE, TrainingDir
from tests.support.warm_python import WarmPython


def interrupt_at(step: int) -> Callable[[int, int, str], None]:
    def progress(done: int, _total: int, _what: str) -> None:
        if done == step:
            raise KeyboardInterrupt

    return progress


def weights(folder: str | Path) -> bytes:
    return (Path(folder) / "model.safetensors").read_bytes()


def losses(result: TrainResult) -> list[tuple[int, float]]:
    return [(entry["step"], entry["loss"]) for entry in result.log]


@pytest.fixture(params=["sft", "dpo"])
def recipe(request: pytest.FixtureRequest, change: Callable[..., Any]) -> Recipe:
    """Eleven steps over more than one epoch, a checkpoint after every third."""
    found: Recipe = request.getfixturevalue(f"{request.param}_recipe")
    return change(found, save_every=3, optimisation={"max_steps": 11})  # type: ignore[no-any-return]


def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    recipe: Recipe, change: Callable[..., Any]
) -> None:
    """Stopped in the second epoch between two checkpoints, and again with a torn checkpoint."""
    whole = run_recipe(change(recipe, output=f"{recipe.output}-whole"))
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, progress=interrupt_at(5))
    assert read_json(Path(recipe.output) / "run.json")["status"] == "training"
    assert not (Path(recipe.output) / "model.safetensors").exists()

    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, progress=interrupt_at(8))
    torn = Path(recipe.output) / "checkpoints" / "checkpoint-9"
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"half")

    result = run_recipe(recipe)
    assert (result.resumed_from, result.steps) == (6, 11)
    assert losses(result) == losses(whole)
    files = [(Path(one.output) / "log.jsonl").read_bytes() for one in (recipe, whole)]
    assert files[0] == files[1]
    assert weights(recipe.output) == weights(whole.output)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(
    recipe: Recipe, change: Callable[..., Any]
) -> None:
    first, again, other = (
        run_recipe(change(recipe, output=f"{recipe.output}-{name}", seed=seed))
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )
    assert weights(first.output) == weights(again.output) != weights(other.output)
    assert losses(first) == losses(again)


def test_resuming_needs_the_same_model(
    sft_recipe: SftRecipe, change: Callable[..., Any], tmp_path: Path
) -> None:
    start = build_tiny(["What colour is it?"], tmp_path / "start", seed=1, size="tiny")
    recipe = change(sft_recipe, model=str(start), save_every=2)
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, progress=interrupt_at(3))
    build_tiny(["What colour is it?"], start, seed=2, size="tiny")
    with pytest.raises(UserError, match="model changed since this training began"):
        run_recipe(recipe)


@pytest.mark.parametrize("steps", [8, 11])
def test_cut_off_between_the_last_step_and_the_end(
    steps: int,
    sft_recipe: SftRecipe,
    change: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last checkpoint has all steps, at an epoch's end and within one; no step follows."""
    recipe = change(sft_recipe, save_every=100, optimisation={"max_steps": steps})
    whole = run_recipe(change(recipe, output=f"{recipe.output}-whole"))
    with monkeypatch.context() as patch:
        patch.setattr(TrainingDir, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_recipe(recipe)
    result = run_recipe(recipe)
    assert (result.resumed_from, result.steps) == (steps, steps)
    assert losses(result) == losses(whole)
    assert weights(recipe.output) == weights(whole.output)


def test_killed_before_anything_was_written(sft_recipe: SftRecipe) -> None:
    folder = Path(sft_recipe.output)
    folder.mkdir()
    (folder / ".run.json.ab12.tmp").write_text("{")
    assert run_recipe(sft_recipe).steps == 6


def test_begun_when_the_data_folder_had_its_old_name(
    sft_recipe: SftRecipe, change: Callable[..., Any]
) -> None:
    """The record of that time: the key in `recipe.yaml` and in the hash is `data.source`."""
    with pytest.raises(KeyboardInterrupt):
        run_recipe(sft_recipe, progress=interrupt_at(3))
    folder = Path(sft_recipe.output)
    text = (folder / "recipe.yaml").read_text().replace("data_dir:", "source:")
    text = text.replace("attention: auto", "attention: split").replace("  keep_clips: none\n", "")
    text = text.replace("  fused: auto\n", "")
    content = yaml.safe_load(text)
    assert content["data"].keys() >= {"source"}
    assert content["sharing"]["attention"] == "split"
    assert "keep_clips" not in content["data"]
    content = {key: value for key, value in content.items() if key not in NOT_HASHED}
    state = read_json(folder / "run.json") | {"recipe_sha256": sha256_text(dumps(content))}
    write_json(folder / "run.json", state)
    (folder / "recipe.yaml").write_text(text)
    with pytest.raises(UserError, match=r"seed"):
        run_recipe(change(sft_recipe, seed=4))
    with pytest.raises(UserError) as caught:
        run_recipe(change(sft_recipe, data={"data_dir": "elsewhere"}))
    assert "data.data_dir" in str(caught.value)
    assert run_recipe(sft_recipe).steps == 6


def test_killed_when_all_was_done(
    sft_recipe: SftRecipe, change: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record is written, the checkpoints are not gone yet: the next time they go."""
    recipe = change(sft_recipe, save_every=1, optimisation={"max_steps": 1})
    checkpoints = Path(recipe.output) / "checkpoints"

    def killed(folder: Path, **_: Any) -> None:
        if folder == checkpoints:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            run_recipe(recipe)
    assert list(checkpoints.glob("checkpoint-*"))
    assert run_recipe(recipe).already_done
    assert not checkpoints.exists()


@pytest.mark.slow
def test_kill_9_and_again(
    dpo_recipe: DpoRecipe, change: Callable[..., Any], tmp_path: Path, warm_python: WarmPython
) -> None:
    """The command line is killed once a checkpoint is there, then run again to the end."""
    recipe = change(dpo_recipe, save_every=2, optimisation={"max_steps": 40})
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    command = ["-m", "sharegptvideo", "train", "run", str(file)]
    process = warm_python.start(*command)
    checkpoints = Path(recipe.output) / "checkpoints"
    while not list(checkpoints.glob(f"checkpoint-*/{COMPLETE}")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "the training ended before it could be killed"
    assert read_json(Path(recipe.output) / "run.json")["status"] == "training"

    again = warm_python.run(*command, "--json")
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("\n") == 1
    assert '"steps": 40' in again.stdout
    assert '"resumed_from": null' not in again.stdout
    assert "resuming from step " in again.stderr
    assert "Warning" not in again.stderr
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the other processes: the number of threads changes sums
    try:
        whole = run_recipe(change(recipe, output=f"{recipe.output}-whole"))
    finally:
        torch.set_num_threads(threads)
    assert weights(recipe.output) == weights(whole.output)

"""Reference log-probabilities: the same as those of a reference model in memory, computed once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from sharegptvideo._io import read_jsonl, write_jsonl
from sharegptvideo.errors import UserError
from sharegptvideo.models import build_tiny, load_model
from sharegptvideo.training import DpoRecipe, run_dpo
from sharegptvideo.training.precompute.reference import (
    COLUMNS,
    ReferenceCache,
    pair_key,
    reference_cache,
    use_reference,
)
from sharegptvideo.training.recipes import Lora
from sharegptvideo.training.run_dir import TrainingDir
from sharegptvideo.training.trainers import VideoDPOTrainer, quiet_and_quick
from tests.support.warm_python import WarmPython

Change = Callable[..., Any]
Trained = Callable[[DpoRecipe], Any]


@pytest.fixture(autouse=True)
def _as_in_training() -> Iterator[None]:
    with quiet_and_quick():
        yield


@pytest.fixture
def recipe(dpo_recipe: DpoRecipe, change: Change, tmp_path: Path) -> DpoRecipe:
    """With a cache of the test's own; the shared one is beside the data of all tests."""
    found: DpoRecipe = change(dpo_recipe, dpo={"reference_cache": str(tmp_path / "kept")})
    return found


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pairs of each call that computes reference log-probabilities."""
    calls: list[int] = []
    inner = VideoDPOTrainer.compute_ref_log_probs

    def counted(self: Any, model: Any, inputs: Any) -> Any:
        calls.append(len(inputs["input_ids"]) // 2)
        assert not model.training, "nothing may drop out"
        return inner(self, model, inputs)

    monkeypatch.setattr(VideoDPOTrainer, "compute_ref_log_probs", counted)
    return calls


class ReadyError(Exception):
    """Ends a run where its trainer is ready."""


@pytest.fixture
def trainer_of(monkeypatch: pytest.MonkeyPatch) -> Trained:
    """The trainer that `run_dpo` makes, as it is before the first step."""

    def made(recipe: DpoRecipe) -> Any:
        trainers: list[Any] = []

        def train(trainer: Any, *_: Any) -> None:
            trainers.append(trainer)
            raise ReadyError

        with monkeypatch.context() as patch:
            patch.setattr("sharegptvideo.training.trainers.train", train)
            with pytest.raises(ReadyError):
                run_dpo(recipe)
        return trainers[0]

    return made


def values(trainer: Any) -> torch.Tensor:
    rows = trainer.train_dataset
    return torch.tensor([rows["ref_chosen_logps"][:], rows["ref_rejected_logps"][:]])


@pytest.mark.parametrize("share", [True, False])
def test_loss_and_gradients_are_those_with_the_reference_in_memory(
    share: bool, recipe: DpoRecipe, change: Change, trainer_of: Trained
) -> None:
    """Float32, batches of other sizes: 1e-6 on the loss, 1e-5 of the largest gradient."""
    recipe = change(recipe, sharing={"video": share}, dpo={"beta": 0.7})
    found = {}
    for way in ("precomputed", "model"):
        trainer = trainer_of(
            change(recipe, output=f"{recipe.output}-{way}", dpo={"reference": way})
        )
        assert (trainer.ref_model is None) == (way == "precomputed")
        torch.manual_seed(0)
        with torch.no_grad():
            for weight in trainer.model.model.language_model.parameters():
                weight.add_(0.1 * torch.randn_like(weight))
        trainer.model.train()
        loss = trainer.compute_loss(
            trainer.model, trainer.data_collator(list(trainer.train_dataset))
        )
        loss.backward()
        gradients = {
            name: weight.grad
            for name, weight in trainer.model.named_parameters()
            if weight.grad is not None
        }
        found[way] = float(loss.detach()), gradients
    assert found["precomputed"][0] == pytest.approx(found["model"][0], abs=1e-6)
    assert found["model"][0] != pytest.approx(0.6931, abs=1e-3), "policy and reference differ"
    largest = max(float(gradient.abs().max()) for gradient in found["model"][1].values())
    assert largest > 1e-3
    assert found["precomputed"][1].keys() == found["model"][1].keys()
    for name, gradient in found["model"][1].items():
        assert torch.allclose(found["precomputed"][1][name], gradient, atol=1e-5 * largest), name


def test_trained_weights_are_those_with_the_reference_in_memory(
    recipe: DpoRecipe, change: Change
) -> None:
    """After six steps at 1e-3, to 1e-4 (Adam divides by gradients that are all but nought)."""
    recipe = change(recipe, optimisation={"learning_rate": 1e-3})
    runs = [
        run_dpo(change(recipe, output=f"{recipe.output}-{way}", dpo={"reference": way}))
        for way in ("precomputed", "model")
    ]
    for one, other in zip(runs[0].log, runs[1].log, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-5)
        assert one["rewards/margins"] == pytest.approx(other["rewards/margins"], abs=1e-4)
    assert runs[0].log[-1]["rewards/margins"] > 0.01
    weights = [load_model(str(run.output), dtype="float32").state_dict() for run in runs]
    for name, value in weights[0].items():
        assert torch.allclose(value, weights[1][name], atol=1e-4), name


def test_another_run_computes_nothing(
    recipe: DpoRecipe, change: Change, computed: list[int], trainer_of: Trained
) -> None:
    """β, loss, learning rate, length of training, batch and seed are not what they depend on."""
    first = trainer_of(recipe)
    assert sum(computed) == len(first.train_dataset) == 4
    computed.clear()
    other = change(
        recipe,
        output=f"{recipe.output}-other",
        seed=5,
        dpo={"beta": 0.3, "loss_type": "ipo"},
        optimisation={
            "learning_rate": 1e-6,
            "max_steps": None,
            "epochs": 2.0,
            "per_device_batch_size": 1,
        },
    )
    assert torch.equal(values(trainer_of(other)), values(first))
    assert computed == []


def test_with_adapters_the_reference_is_the_model_without_them(
    recipe: DpoRecipe, change: Change, computed: list[int], trainer_of: Trained, tmp_path: Path
) -> None:
    """The values of a full training are those of a LoRA run, and the other way round."""
    whole = trainer_of(recipe)
    computed.clear()
    output = f"{recipe.output}-lora"
    adapters = recipe.model_copy(update={"lora": Lora(rank=4, alpha=8), "output": output})
    adapted = trainer_of(adapters)
    assert computed == []
    assert torch.equal(values(adapted), values(whole))
    with torch.no_grad():
        for name, weight in adapted.model.named_parameters():
            if "lora_B" in name:
                weight.add_(0.3)
    adapted.train_dataset = adapted.train_dataset.remove_columns(list(COLUMNS))
    fresh = change(recipe, dpo={"reference_cache": str(tmp_path / "fresh")})
    assert use_reference(adapted, fresh, TrainingDir(adapters).model_sha256) == 4
    assert torch.allclose(values(adapted), values(whole), atol=1e-5)


def test_the_cache_is_beside_the_data(dpo_recipe: DpoRecipe, trainer_of: Trained) -> None:
    trainer_of(dpo_recipe)
    assert list(Path(str(dpo_recipe.data.data_dir)).glob(".reference/*.safetensors"))


def test_data_that_cannot_be_written_have_it_elsewhere(
    dpo_recipe: DpoRecipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SHAREGPTVIDEO_CACHE", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert reference_cache(dpo_recipe, "ab", "float32").folder == tmp_path / "reference"


def test_another_key_for_whatever_changes_the_values(
    recipe: DpoRecipe, change: Change, tmp_path: Path
) -> None:
    other = build_tiny(["What colour is it?"], tmp_path / "start", seed=1, size="tiny")
    (other / "config.json").write_text((other / "config.json").read_text() + "\n")
    caches = [
        reference_cache(recipe, "ab", "float32"),
        reference_cache(recipe, "cd", "float32"),
        reference_cache(recipe, "ab", "bfloat16"),
        reference_cache(change(recipe, frames=5), "ab", "float32"),
        reference_cache(change(recipe, optimisation={"max_length": 99}), "ab", "float32"),
        reference_cache(change(recipe, model=str(other)), "ab", "float32"),
    ]
    assert len({cache.file for cache in caches}) == len(caches)
    same = reference_cache(change(recipe, dpo={"beta": 0.9}, seed=3), "ab", "float32")
    assert same.file == caches[0].file


def test_a_pair_has_another_key_with_other_tokens_or_another_clip(tmp_path: Path) -> None:
    clip, frames = tmp_path / "a.mp4", tmp_path / "frames"
    clip.write_bytes(b"one")
    frames.mkdir()
    (frames / "1.jpg").write_bytes(b"one")
    row = {"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3], "video_path": str(clip)}
    keys = [pair_key(row), pair_key(row | {"video_path": str(frames)})]
    for side in ("prompt_ids", "chosen_ids", "rejected_ids"):
        keys.append(pair_key(row | {side: [4]}))
    keys.append(pair_key(row | {"chosen_ids": [3], "rejected_ids": [2]}))
    moved = tmp_path / "elsewhere" / "a.mp4"
    moved.parent.mkdir()
    clip.rename(moved)
    assert pair_key(row | {"video_path": str(moved)}) == keys[0], "data may be moved"
    clip.write_bytes(b"other")
    (frames / "2.jpg").write_bytes(b"two")
    keys += [pair_key(row), pair_key(row | {"video_path": str(frames)})]
    assert len(set(keys)) == len(keys)
    with pytest.raises(UserError, match=r"gone\.mp4: cannot be read"):
        pair_key(row | {"video_path": str(tmp_path / "gone.mp4")})


def test_only_what_changed_is_computed_again(
    recipe: DpoRecipe, change: Change, computed: list[int], trainer_of: Trained, tmp_path: Path
) -> None:
    first = trainer_of(recipe)
    computed.clear()
    file = next(Path(str(recipe.data.data_dir)).rglob("sft_dpo_17k.jsonl"))
    rows = [row for _, row in read_jsonl(file)]
    copy = tmp_path / "release" / file.relative_to(Path(str(recipe.data.data_dir)))
    copy.parent.mkdir(parents=True)
    write_jsonl(copy, [*rows[:3], rows[3] | {"rejected": "It is a dog."}])
    again = trainer_of(
        change(
            recipe,
            output=f"{recipe.output}-again",
            data={"data_dir": str(tmp_path / "release")},
            optimisation={"per_device_batch_size": 1},
        )
    )
    assert computed == [1]
    assert (values(again) == values(first)).sum() >= 6


@pytest.mark.parametrize("harm", ["torn", "changed", "empty", "other"])
def test_a_damaged_file_is_computed_again(
    harm: str, recipe: DpoRecipe, change: Change, computed: list[int], trainer_of: Trained
) -> None:
    first = trainer_of(recipe)
    file = next(Path(str(recipe.dpo.reference_cache)).glob("*.safetensors"))
    whole = file.read_bytes()
    file.write_bytes(
        {
            "torn": whole[:-5],
            "changed": whole[:-1] + bytes([whole[-1] ^ 1]),
            "empty": b"",
            "other": b"no such file" * 50,
        }[harm]
    )
    computed.clear()
    again = trainer_of(change(recipe, output=f"{recipe.output}-again"))
    assert sum(computed) == 4
    assert torch.equal(values(again), values(first))
    assert file.read_bytes()[-8:] == whole[-8:]


def test_an_interrupted_fill_goes_on_to_the_same_bits(
    recipe: DpoRecipe, change: Change, computed: list[int], trainer_of: Trained, tmp_path: Path
) -> None:
    """The last line of what a kill left behind is torn; it counts for nothing."""
    whole = trainer_of(recipe)
    kept = tmp_path / "cut"
    recipe = change(recipe, output=f"{recipe.output}-cut", dpo={"reference_cache": str(kept)})
    done: list[int] = []

    def stop(count: int, _total: int, what: str) -> None:
        if what == "reference log-probabilities":
            done.append(count)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_dpo(recipe, progress=stop)
    assert done == [2]
    part = next(kept.glob("*.part.jsonl"))
    with part.open("ab") as file:
        file.write(b'{"key": "1", "pairs": {"ab')
    assert not list(kept.glob("*.safetensors"))
    computed.clear()
    assert torch.equal(values(trainer_of(recipe)), values(whole))
    assert computed == [2]
    assert [path.suffix for path in kept.iterdir()] == [".safetensors"]


_KILLED = """
import os, signal, sys
from sharegptvideo.training import load_recipe, run_recipe

def progress(done, total, what):
    if what.startswith("reference") and done == 2:
        os.kill(os.getpid(), signal.SIGKILL)

run_recipe(load_recipe(sys.argv[1]), progress=progress)
"""


@pytest.mark.slow
def test_kill_9_loses_nothing_that_was_computed(
    recipe: DpoRecipe,
    change: Change,
    computed: list[int],
    trainer_of: Trained,
    tmp_path: Path,
    warm_python: WarmPython,
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    assert warm_python.run("-c", _KILLED, file).returncode == -signal.SIGKILL
    assert len(list(Path(str(recipe.dpo.reference_cache)).glob("*.part.jsonl"))) == 1
    found = trainer_of(recipe)
    assert computed == [2]
    whole = trainer_of(
        change(
            recipe,
            output=f"{recipe.output}-whole",
            dpo={"reference_cache": str(tmp_path / "whole")},
        )
    )
    assert torch.allclose(values(found), values(whole), atol=1e-5)


def test_a_run_that_finds_them_trains_as_the_one_that_computed_them(
    recipe: DpoRecipe, change: Change
) -> None:
    """To the bit: computing them draws no random number that training would have drawn."""
    runs = [run_dpo(change(recipe, output=f"{recipe.output}-{name}")) for name in "ab"]
    files = [(run.output / "model.safetensors").read_bytes() for run in runs]
    assert files[0] == files[1]


def test_what_two_runs_fill_at_once_is_kept(tmp_path: Path) -> None:
    one, two = (ReferenceCache(tmp_path, "ab" * 16) for _ in range(2))
    keys = [letter * 32 for letter in "abc"]
    with one.filling() as first:
        first({keys[0]: (-1.0, -2.0)})
        with two.filling() as second:
            second({keys[1]: (-3.0, -4.0)})
        first({keys[2]: (-5.0, -6.0)})
    assert one.read() == {
        keys[0]: (-1.0, -2.0),
        keys[1]: (-3.0, -4.0),
        keys[2]: (-5.0, -6.0),
    }
    assert len(list(tmp_path.iterdir())) == 1


def test_a_log_probability_that_is_no_number_stops_the_run(
    recipe: DpoRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_self: Any, _model: Any, inputs: Any) -> Any:
        half = len(inputs["input_ids"]) // 2
        return torch.full((half,), -1.0), torch.full((half,), torch.nan)

    monkeypatch.setattr(VideoDPOTrainer, "compute_ref_log_probs", broken)
    with pytest.raises(UserError, match=r"a pair about clip_\w+\.mp4 .* -1\.0 and nan"):
        run_dpo(recipe)


def test_a_folder_that_is_a_file_is_told(recipe: DpoRecipe, change: Change, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written .* dpo\.reference_cache"):
        run_dpo(change(recipe, dpo={"reference_cache": str(tmp_path / "file")}))

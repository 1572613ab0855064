"""A frozen tower's features from disk: the same training, no decoding, no tower."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from sharegptvideo.errors import UserError
from sharegptvideo.training import DpoRecipe, SftRecipe, run_dpo, run_recipe, run_sft
from sharegptvideo.training.plan import dry_run
from sharegptvideo.training.precompute.features import (
    FeatureStore,
    Filling,
    check_features,
    kept_bytes,
    use_features,
    visits,
    worth,
)
from sharegptvideo.training.trainers import quiet_and_quick

Change = Callable[..., Any]
Trained = Callable[[Any], Any]


@pytest.fixture(autouse=True)
def _as_in_training() -> Iterator[None]:
    with quiet_and_quick():
        yield


@pytest.fixture
def recipe(sft_recipe: SftRecipe, change: Change, tmp_path: Path) -> SftRecipe:
    """SFT with the tower frozen and its features kept; the projector learns."""
    found: SftRecipe = change(
        sft_recipe,
        freeze={"vision_tower": True, "projector": False},
        features={"enabled": True, "folder": str(tmp_path / "kept")},
    )
    return found


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the clips that are decoded."""
    from sharegptvideo.training.families import video_llava

    names: list[str] = []
    inner = video_llava.sample_frames

    def counted(path: str, frames: int) -> Any:
        names.append(Path(path).name)
        return inner(path, frames)

    monkeypatch.setattr(video_llava, "sample_frames", counted)
    return names


class ReadyError(Exception):
    """Ends a run where its trainer is ready."""


@pytest.fixture
def trainer_of(monkeypatch: pytest.MonkeyPatch) -> Trained:
    """The trainer that a run makes, as it is before the first step."""

    def made(recipe: Any) -> Any:
        trainers: list[Any] = []

        def train(trainer: Any, *_: Any) -> None:
            trainers.append(trainer)
            raise ReadyError

        with monkeypatch.context() as patch:
            patch.setattr("sharegptvideo.training.trainers.train", train)
            with pytest.raises(ReadyError):
                run_recipe(recipe)
        return trainers[0]

    return made


@pytest.mark.parametrize("stage", ["sft", "dpo"])
@pytest.mark.parametrize("projector", ["frozen", "learns"])
def test_loss_and_gradients_are_those_of_clips(
    stage: str,
    projector: str,
    request: pytest.FixtureRequest,
    change: Change,
    trainer_of: Trained,
    tmp_path: Path,
) -> None:
    """Float32: 1e-6 on the loss, 1e-6 of the largest gradient; no pixel is in the batch."""
    recipe = change(
        request.getfixturevalue(f"{stage}_recipe"),
        freeze={"vision_tower": True, "projector": projector == "frozen"},
    )
    found = {}
    for kept in (False, True):
        features = {"enabled": kept, "folder": str(tmp_path / "kept")}
        trainer = trainer_of(change(recipe, output=f"{recipe.output}-{kept}", features=features))
        torch.manual_seed(0)
        with torch.no_grad():
            for weight in trainer.model.model.multi_modal_projector.parameters():
                weight.add_(0.1 * torch.randn_like(weight))
        trainer.model.train()
        batch = trainer.data_collator(list(trainer.train_dataset))
        assert ("pixel_values_videos" in batch["clips"]) != kept
        loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        weights = trainer.model.named_parameters()
        found[kept] = (
            float(loss.detach()),
            {name: weight.grad for name, weight in weights if weight.grad is not None},
        )
    assert found[True][0] == pytest.approx(found[False][0], abs=1e-6)
    assert found[True][1].keys() == found[False][1].keys()
    assert any("projector" in name for name in found[True][1]) == (projector == "learns")
    largest = max(float(gradient.abs().max()) for gradient in found[False][1].values())
    assert largest > 1e-3
    for name, gradient in found[False][1].items():
        assert torch.allclose(found[True][1][name], gradient, atol=1e-6 * largest), name


def test_in_bf16_features_are_kept_as_the_projector_rounds_them(
    sft_recipe: SftRecipe, change: Change, trainer_of: Trained, tmp_path: Path
) -> None:
    """Half the bytes, and what is behind the projector is the same to the bit."""
    recipe = change(sft_recipe, freeze={"vision_tower": True}, optimisation={"bf16": True})
    trainer = trainer_of(
        change(recipe, features={"enabled": True, "folder": str(tmp_path / "kept")})
    )
    row = trainer.train_dataset[0]
    kept = trainer.data_collator([row])["clips"]
    assert kept["features"].dtype == torch.bfloat16
    sizes = kept_bytes(trainer.model.config, recipe.frames, bf16=True)
    assert sizes is not None
    assert kept["features"].nbytes == sizes["video"]
    reader = trainer.data_collator.clips.reader.reader
    pixels = reader.batch([reader.read(row["video_path"])])
    with torch.no_grad(), trainer.accelerator.autocast():
        seen = [
            trainer.family.encode_clips(trainer.model, clips)["video"].pooler_output
            for clips in (kept, pixels)
        ]
    assert torch.equal(*seen)


def test_each_clip_is_decoded_once_and_by_no_later_run(
    recipe: SftRecipe, change: Change, decoded: list[str]
) -> None:
    """Another stage with the same tower finds them, whatever its projector does."""
    first = run_sft(recipe)
    assert sorted(decoded) == sorted(set(decoded))
    assert len(decoded) == 4
    assert first.steps == 6
    decoded.clear()
    again = run_sft(
        change(
            recipe,
            output=f"{recipe.output}-again",
            freeze={"projector": True},
            optimisation={"learning_rate": 1e-6},
        )
    )
    assert decoded == []
    assert again.log[0]["loss"] == pytest.approx(first.log[0]["loss"], abs=1e-6)


def test_dpo_and_its_reference_take_the_features_of_sft(
    recipe: SftRecipe, dpo_recipe: DpoRecipe, change: Change, decoded: list[str], tmp_path: Path
) -> None:
    run_sft(recipe)
    decoded.clear()
    kept = {"reference_cache": str(tmp_path / "reference")}
    run_dpo(
        change(dpo_recipe, model=recipe.output, features=recipe.features.model_dump(), dpo=kept)
    )
    assert decoded == []


@pytest.mark.parametrize("changed", ["frames", "clip", "tower"])
def test_what_changes_the_features_computes_them_again(
    changed: str,
    recipe: SftRecipe,
    sft_recipe: SftRecipe,
    change: Change,
    decoded: list[str],
    trainer_of: Trained,
    tmp_path: Path,
) -> None:
    trainer_of(recipe)
    other = change(recipe, output=f"{recipe.output}-other")
    if changed == "frames":
        other = change(other, frames=3)
    elif changed == "clip":
        copy = tmp_path / "release"
        shutil.copytree(str(recipe.data.data_dir), copy)  # keeps the times of the files
        (copy / "videos" / "clip_red.mp4").touch()
        other = change(other, data={"data_dir": str(copy), "media": str(copy)})
    else:
        # A training in which the tower learns makes another tower.
        assert not sft_recipe.freeze.vision_tower
        trained = run_sft(change(sft_recipe, output=f"{recipe.output}-tower"))
        other = change(other, model=str(trained.output))
    decoded.clear()
    trainer_of(other)
    assert sorted(decoded) == (
        ["clip_red.mp4"]
        if changed == "clip"
        else [f"clip_{name}.mp4" for name in ("blue", "green", "red", "white")]
    )


def test_an_interrupted_fill_goes_on(
    recipe: SftRecipe,
    change: Change,
    decoded: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one_by_one = partial(use_features, filling=Filling(batch=1, shard_bytes=1))
    monkeypatch.setattr("sharegptvideo.training.precompute.features.use_features", one_by_one)
    whole = run_sft(change(recipe, output=f"{recipe.output}-whole"))
    folder = Path(str(recipe.features.folder))
    shutil.rmtree(folder)
    labels: list[str] = []

    def stop(count: int, _total: int, what: str) -> None:
        labels.append(what)
        if what.startswith("vision features") and count == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sft(recipe, progress=stop)
    assert labels[0] == "vision features (4 clips x 2.6 kB = 10.2 kB)", "reported first"
    files = sorted(folder.rglob("*.safetensors"))
    assert len(files) == 2
    files[0].write_bytes(files[0].read_bytes()[:-1])
    decoded.clear()
    result = run_sft(recipe)
    assert len(decoded) == 3, "two that were missing, one that was damaged"
    assert [row["loss"] for row in result.log] == [row["loss"] for row in whole.log]
    weights = [(run.output / "model.safetensors").read_bytes() for run in (result, whole)]
    assert weights[0] == weights[1]


def test_an_architecture_without_such_a_cache_is_told(recipe: SftRecipe) -> None:
    from transformers import AutoConfig

    with pytest.raises(UserError, match=r"for video_llava and llava_hound only, not qwen3_vl"):
        check_features(recipe, AutoConfig.for_model("qwen3_vl"))


def test_a_tower_that_learns_has_no_features_to_keep(recipe: SftRecipe, change: Change) -> None:
    with pytest.raises(UserError, match=r"features\.enabled: the vision tower learns"):
        run_sft(change(recipe, freeze={"vision_tower": False}))


def test_a_disk_without_room_is_found_before_anything_is_computed(
    recipe: SftRecipe, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, usage = Path(str(recipe.features.folder)), shutil.disk_usage("/")
    folder.mkdir()
    monkeypatch.setattr(
        shutil,
        "disk_usage",
        lambda path: usage._replace(free=10_000) if Path(path) == folder else usage,
    )
    with pytest.raises(UserError, match=r"4 clips of 2\.6 kB take 10\.2 kB, and 10\.0 kB are free"):
        run_sft(recipe)
    assert decoded == []


def test_a_store_goes_to_other_processes(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    one = torch.arange(6.0).view(1, 2, 3)
    store.add({"a": one, "b": one + 1})
    assert torch.equal(store.features("b"), one + 1)
    copy = pickle.loads(pickle.dumps(store))
    assert torch.equal(copy.features("a"), one)
    assert "c" not in copy
    assert len(FeatureStore(tmp_path)) == 2


def test_what_it_takes_and_when_it_pays(
    recipe: SftRecipe, dpo_recipe: DpoRecipe, change: Change
) -> None:
    """Video-LLaVA-7B: 8 frames of 257 positions of 1,024 numbers of 2 bytes are 4.2 MB."""
    from transformers import AutoConfig, VideoLlavaConfig

    config = VideoLlavaConfig()
    config.vision_config.image_size, config.vision_config.patch_size = 224, 14
    config.vision_config.hidden_size = 1024
    of_bf16 = {"video": 8 * 257 * 1024 * 2, "image": 256 * 1024 * 2}
    assert kept_bytes(config, 8, bf16=True) == of_bf16
    of_float32 = {kind: 2 * size for kind, size in of_bf16.items()}
    assert kept_bytes(config, 8, bf16=False) == of_float32
    assert kept_bytes(AutoConfig.for_model("qwen3_vl"), 8, bf16=True) is None

    three = {"epochs": 3.0, "max_steps": None}
    shared = change(recipe, optimisation=three)
    assert visits(shared, examples=300, rows_of_clip=3.0) == 3.0
    assert visits(change(shared, sharing={"video": False}), examples=300, rows_of_clip=3.0) == 9.0
    pairs = change(dpo_recipe, optimisation=three)
    assert visits(pairs, examples=300, rows_of_clip=3.0) == 9.0, "its pairs stay apart"
    # 6 steps of 2 rows on each of 4 devices.
    assert visits(recipe, examples=24, rows_of_clip=1.0, processes=4) == 2.0

    kept, off = recipe, change(recipe, features={"enabled": False})
    counts: dict[Any, int] = {"video": 1000, "image": 0}
    both: dict[Any, int] = {"video": 1000, "image": 2000}
    line = "each of 1,000 clips and 2,000 images is seen 3.0 times; it is computed once; 5.3 GB in"
    assert str(worth(kept, 3.0, both, of_bf16)).startswith(line)
    assert "it is computed once; 4.2 GB in" in str(worth(kept, 3.0, counts, of_bf16))
    assert "pays in later runs only" in str(worth(kept, 1.0, counts, of_bf16))
    assert "features.enabled=true would" in str(worth(off, 3.0, counts, of_bf16))
    assert worth(off, 1.0, counts, of_bf16) is None
    assert worth(off, 3.0, counts, None) is None
    assert worth(change(off, freeze={"vision_tower": False}), 3.0, counts, of_bf16) is None


def test_a_run_notes_what_the_cache_does(recipe: SftRecipe) -> None:
    """4 clips, 6 steps of 2 of 8 rows: 1.5 passes, so the cache is for later runs."""
    assert run_sft(recipe).notes == [
        "features: each of 4 clips is seen 1.5 times; the cache pays in later runs only; "
        f"10.2 kB in {recipe.features.folder}"
    ]


def test_a_dry_run_says_the_same(recipe: SftRecipe, change: Change) -> None:
    found = dry_run(recipe)
    assert found.features == (
        "each of 4 clips is seen 1.5 times; the cache pays in later runs only; "
        f"10.2 kB in {recipe.features.folder}"
    )
    assert found.problems == []
    learns = dry_run(change(recipe, freeze={"vision_tower": False}))
    assert [text for text in learns.problems if "the vision tower learns" in text]

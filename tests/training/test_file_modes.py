"""What is written has the mode that the umask gives, whichever library writes it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sharegptvideo._io import follow_umask, write_jsonl, write_text
from sharegptvideo.models import build_tiny
from sharegptvideo.synthetic.render import write_mp4
from sharegptvideo.training import Recipe, SftRecipe, merge_adapters, run_recipe
from sharegptvideo.training.precompute.features import FeatureStore
from sharegptvideo.training.precompute.reference import ReferenceCache
from sharegptvideo.training.recipes import Lora


@pytest.fixture(params=[0o022, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def differing(folder: Path, umask: int) -> dict[str, str]:
    """The files and folders below `folder` that have another mode than new ones get."""
    found = {}
    for path in sorted(folder.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode != (0o777 if path.is_dir() else 0o666) & ~umask:
            found[str(path.relative_to(folder))] = oct(mode)
    return found


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_a_training_with_full_weights(
    stage: str, umask: int, request: pytest.FixtureRequest, change: Callable[..., Any]
) -> None:
    """The finished model and all beside it, and the checkpoints while there are any."""
    recipe: Recipe = request.getfixturevalue(f"{stage}_recipe")
    recipe = change(recipe, save_every=1, optimisation={"max_steps": 2})
    checkpoints: list[dict[str, str]] = []

    def progress(done: int, _total: int, what: str) -> None:
        if done == 2 and what.startswith("training"):
            folder = Path(recipe.output) / "checkpoints" / "checkpoint-1"
            assert (folder / "model.safetensors").is_file()
            checkpoints.append(differing(folder, umask))

    result = run_recipe(recipe, progress=progress)
    assert (result.output / "model.safetensors").is_file()
    assert differing(result.output, umask) == {}
    assert checkpoints == [{}]


def test_a_training_with_adapters(
    sft_recipe: SftRecipe, umask: int, change: Callable[..., Any], tmp_path: Path
) -> None:
    """Adapters alone, the model that they are merged into, and that of `merge_adapters`."""
    merged, apart = (
        change(
            sft_recipe.model_copy(update={"lora": Lora(rank=4, alpha=16, merge=merge)}),
            freeze={"vision_tower": True, "projector": True},
            optimisation={"max_steps": 1},
            output=str(tmp_path / str(merge)),
        )
        for merge in (True, False)
    )
    folders = [run_recipe(recipe).output for recipe in (merged, apart)]
    folders.append(merge_adapters(folders[1], tmp_path / "by hand"))
    names = ("model.safetensors", "adapter_model.safetensors", "model.safetensors")
    for folder, name in zip(folders, names, strict=True):
        assert (folder / name).is_file()
        assert differing(folder, umask) == {}


def test_files_that_are_renamed_into_place(umask: int, tmp_path: Path) -> None:
    """Texts, rows, clips, features, log-probabilities, and a model that is built."""
    write_text(tmp_path / "a.txt", "a")
    write_text(tmp_path / "a.txt", "b")
    write_jsonl(tmp_path / "rows" / "a.jsonl", [{"a": 1}])
    write_mp4(np.zeros((2, 32, 32, 3), dtype=np.uint8), tmp_path / "a.mp4")
    FeatureStore(tmp_path / "features").add({"clip": torch.zeros(2)})
    with ReferenceCache(tmp_path / "reference", "key").filling() as write:
        write({"00" * 32: (-1.0, -2.0)})
    build_tiny(["what is it"] * 3, tmp_path / "model", seed=0, size="tiny")
    assert len(list(tmp_path.rglob("*.safetensors"))) == 3
    assert differing(tmp_path, umask) == {}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux alone says its umask")
def test_the_umask_stays_as_it_is_while_it_is_read(
    umask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of another thread, made meanwhile, would be open to all."""
    closed = tmp_path / "closed"
    closed.touch(0o600)
    with monkeypatch.context() as patch:
        patch.setattr(os, "umask", lambda _: pytest.fail("the umask was changed"))
        follow_umask([closed, tmp_path])
        write_text(tmp_path / "a.txt", "a")
    assert differing(tmp_path, umask) == {}

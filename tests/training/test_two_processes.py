"""Two processes train as one does on the same batches: DDP to the bit, FSDP2 but for rounding.

Real launches with gloo. One process with twice the gradient accumulation sees the same batches: a
step of two processes takes two of them, one each. The rows of a batch have other numbers of
tokens than those of its neighbour, so a mean of means would be another loss.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file

from sharegptvideo._io import read_json, read_jsonl
from sharegptvideo.models import build_tiny
from sharegptvideo.training import Recipe, SftRecipe, run_recipe
from sharegptvideo.training.examples import sft_dataset
from sharegptvideo.training.families import open_family
from sharegptvideo.training.launch import config_path
from sharegptvideo.training.mix import visuals_of
from sharegptvideo.training.run_dir import COMPLETE
from sharegptvideo.training.sampling import Shuffled
from tests.support.training_fixtures import TEXTS
from tests.support.warm_python import Command, WarmPython

STEPS = 6

pytestmark = pytest.mark.slow


@pytest.fixture
def launch(tmp_path: Path, warm_python: WarmPython) -> Callable[..., Command]:
    """`launch(config, recipe, NAME=value)` starts `train run` in two processes, without waiting.

    The names are of the environment.
    """

    def start(config: str, recipe: Recipe, **env: str) -> Command:
        settings = yaml.safe_load(config_path(config).read_text())
        launcher = tmp_path / f"{config}.yaml"
        launcher.write_text(yaml.safe_dump({**settings, "num_processes": 2, "use_cpu": True}))
        file = tmp_path / "recipe.yaml"
        file.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
        return warm_python.start(
            *("-m", "tests.support.warm_launch"),
            *("--main_process_port", "0", "--config_file", launcher),
            *("-m", "tests.support.on_cpus", "train", "run", file, "--json"),
            env=env,
        )

    return start


def in_one_process(recipe: Recipe, change: Callable[..., Any]) -> Path:
    """The weights and log of one process on the same batches."""
    output = f"{recipe.output}-one"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the others: their number changes sums
    try:
        run_recipe(change(recipe, output=output, optimisation={"gradient_accumulation": 2}))
    finally:
        torch.set_num_threads(threads)
    return Path(output)


def furthest(left: Path, right: Path) -> float:
    """The largest difference between two models' weights."""
    a, b = (load_file(folder / "model.safetensors") for folder in (left, right))
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def losses(folder: Path) -> list[float]:
    return [row["loss"] for _, row in read_jsonl(folder / "log.jsonl")]


@pytest.mark.parametrize(
    ("stage", "config", "bound", "killed", "architecture"),
    [
        ("sft", "cpu_2", 0.0, False, "video_llava"),
        ("dpo", "cpu_2", 0.0, True, "video_llava"),
        ("sft", "fsdp2", 1e-5, True, "video_llava"),
        ("dpo", "fsdp2", 1e-5, False, "video_llava"),
        # Its tower learns here, so that the layers over time are spread as well.
        ("sft", "fsdp2", 1e-5, True, "llava_hound"),
    ],
)
def test_two_processes_are_one(
    stage: str,
    config: str,
    bound: float,
    killed: bool,
    architecture: Any,
    launch: Callable[..., Command],
    change: Callable[..., Any],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    """Two of them killed in the step after a checkpoint, within an epoch, and run to the end.

    DPO under FSDP2 computes one of two layers again, which the one process does not.
    """
    recipe = change(
        request.getfixturevalue(f"{stage}_recipe"), save_every=3, optimisation={"max_steps": STEPS}
    )
    if stage == "dpo":  # four pairs: one of each clip a process, so two epochs are four steps
        recipe = change(recipe, optimisation={"per_device_batch_size": 1})
    if config == "cpu_2":  # the two decode for each other; what they kept is the same clips
        recipe = change(recipe, data={"keep_clips": "memory" if killed else "disk"})
    if architecture == "llava_hound":
        start = tmp_path / "hound"
        build_tiny(TEXTS, start, seed=3, size="tiny", architecture=architecture)
        recipe = change(recipe, model=str(start))
    whole = recipe
    if (stage, config) == ("dpo", "fsdp2"):
        recipe = change(recipe, optimisation={"gradient_checkpointing": 1})
    folder = Path(recipe.output)
    if killed:
        assert launch(config, recipe, KILLED_AT_STEP="4").wait() == -signal.SIGKILL
        assert read_json(folder / "run.json")["status"] == "training"

    out, err = (last := launch(config, recipe)).communicate()
    assert last.returncode == 0, err
    figures = json.loads(out)  # one object: one process printed
    assert figures["resumed_from"] == (3 if killed else None)
    assert (figures["steps"], figures["rows"]) == (STEPS, 8 if stage == "sft" else 4)
    assert err.count(f"training ({stage}): {STEPS}/{STEPS}") == 1

    one = in_one_process(change(whole, data={"keep_clips": "none"}), change)
    assert losses(folder) == pytest.approx(losses(one), rel=bound)
    assert furthest(folder, one) <= bound
    assert sorted(f.name for f in folder.iterdir()) == sorted(f.name for f in one.iterdir())


@pytest.mark.parametrize("to_all", [False, True])
def test_a_signal_to_one_of_two_processes_or_all_stops_both_after_the_same_step(
    to_all: bool, launch: Callable[..., Command], sft_recipe: Recipe, change: Callable[..., Any]
) -> None:
    """The second one gets it; the first one, that writes and speaks, has to learn of it.

    As of a terminal all get it, the launcher too, which sends it to each of them once more.
    """
    recipe = change(sft_recipe, save_every=10**6, optimisation={"max_steps": 10**6})
    launcher = launch("cpu_2", recipe)
    log = Path(recipe.output) / "log.jsonl"
    while launcher.poll() is None and not (log.exists() and log.read_text()):
        time.sleep(0.01)
    assert launcher.poll() is None, launcher.communicate()[1]
    processes = psutil.Process(launcher.pid).children()
    assert len(processes) == 2
    if to_all:
        for process in processes:
            process.send_signal(signal.SIGHUP)
        time.sleep(0.1)  # the first one is noted
        launcher.send_signal(signal.SIGHUP)
    else:
        max(processes, key=lambda process: process.pid).terminate()
    err = launcher.communicate()[1]
    assert err.count("stopping after this step") <= 1
    assert "at once; the same" not in err
    assert "interrupted" not in err
    assert err.count("the same command goes on from there") == 1
    (checkpoint,) = Path(recipe.output).glob("checkpoints/checkpoint-*")
    step = checkpoint.name.rpartition("-")[2]
    assert f"stopped at step {step} of 1000000; the same command goes on from there" in err
    assert (checkpoint / COMPLETE).exists()
    assert {path.name for path in checkpoint.glob("rng_state*")} == {
        "rng_state_0.pth", "rng_state_1.pth",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("config", "features", "bound"),
    [("cpu_2", False, 0.0), ("cpu_2", True, 0.0), ("fsdp2", False, 1e-5)],
)
def test_processes_with_rows_of_different_kinds_are_one(
    config: str,
    features: bool,
    bound: float,
    launch: Callable[..., Command],
    change: Callable[..., Any],
    mixed: Callable[..., SftRecipe],
    hound: Path,
    tmp_path: Path,
) -> None:
    """One has a clip where the other has an image or text; with checkpointing DDP waits for all."""
    recipe = mixed(
        hound,
        data={"order": "plain"},
        features={"enabled": features, "folder": str(tmp_path / "kept")},
        optimisation={
            "max_steps": STEPS,
            "per_device_batch_size": 1,
            "gradient_checkpointing": True,
            "learning_rate": 1e-3,
        },
    )
    family = open_family(recipe, weights=False)
    rows, _ = sft_dataset(recipe.data, family, limit=recipe.optimisation.length_limit)
    kinds = [one.kind if one else "text" for one in visuals_of(rows)]
    order = list(Shuffled(len(kinds), recipe.seed))
    steps = [{kinds[row] for row in order[at : at + 2]} for at in range(0, 2 * STEPS, 2)]
    assert {"video", "image"} in steps
    assert any("text" in step for step in steps)

    out, err = (last := launch(config, recipe)).communicate()
    assert last.returncode == 0, err
    assert json.loads(out)["rows"] == 21
    folder, one = Path(recipe.output), in_one_process(recipe, change)
    assert losses(folder) == pytest.approx(losses(one), rel=bound)
    assert furthest(folder, one) <= bound
    assert furthest(folder, hound) > 1e-4

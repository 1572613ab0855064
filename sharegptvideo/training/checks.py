"""What would stop a training later, reported before its first step: each a line with its fix."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from sharegptvideo._install import extras_with, install_line
from sharegptvideo._io import FULL_DISK, full_disk_errors, os_error_words
from sharegptvideo._text import byte_size
from sharegptvideo.errors import UserError
from sharegptvideo.eval.tasks import load_task
from sharegptvideo.models.checkpoints import check_layout
from sharegptvideo.training.recipes import maker_of

if TYPE_CHECKING:
    from sharegptvideo.training.families import Family
    from sharegptvideo.training.recipes import Hub, Recipe

__all__ = [
    "check_machine",
    "check_output",
    "check_paths",
    "check_push",
    "check_room",
    "full_disk_in_training",
    "lacking_packages",
    "machine_problems",
    "memory_problem",
    "nearest_folder",
    "not_made_yet",
]


def nearest_folder(path: Path) -> Path:
    """Return the folder at `path`, or the nearest above it that is there."""
    path = path.expanduser().absolute()
    while not path.is_dir():
        path = path.parent
    return path


def check_output(output: Path) -> None:
    """Make sure that a run can write where it is to.

    Raises:
        UserError: a file stands there or above, or the folder may not be written to.
    """
    there = output.expanduser().absolute()
    while not (there.exists() or there.is_symlink()):
        there = there.parent
    if not there.is_dir():
        raise UserError(f"output {output}: {there} is a file; give another output")
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".writable"):
            pass
    except OSError as error:
        if error.errno in FULL_DISK:
            raise UserError(
                f"output {output}: the disk of {there} is full; free some space or give another "
                "output",
                exit_code=1,
            ) from error
        cause = os_error_words(error)
        raise UserError(
            f"output {output}: {there} cannot be written to ({cause}); fix its rights or give "
            "another output"
        ) from error


def lacking_packages(recipe: Recipe) -> list[str]:
    """Return a line for each package that a recipe asks for and that is not installed."""
    wanted: list[tuple[str, str, str]] = [
        (name, f"report_to {name}", "report_to=[]")
        for name in recipe.report_to
        if name != "tensorboard"
    ]
    if recipe.optimisation.optimizer == "adamw_8bit":
        wanted.append(("bitsandbytes", "optimizer adamw_8bit", "optimisation.optimizer=adamw"))
    if recipe.lora:
        wanted.append(("peft", "lora", "lora=null"))
    lacking = []
    for package, use, without in wanted:
        if find_spec(package) is None:
            extras = extras_with(package)
            line = install_line(*extras) if extras else f"pip install {package}"
            lacking.append(f"{use} needs {package}: {line}, or set {without}")
    return lacking


def not_made_yet(model: str, command: str) -> str:
    """Return the line for a model that is missing and that `command` makes."""
    return f"model {model}: not there yet; `{command}` makes it, or give model=FOLDER"


def machine_problems(recipe: Recipe) -> list[str]:
    """Return a line for each thing that a recipe wants of this machine and that it lacks."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    problems = lacking_packages(recipe)
    if recipe.optimisation.optimizer == "adamw_8bit" and not gpus:
        problems.append(
            "optimisation.optimizer adamw_8bit needs a GPU, and there is none here; set "
            "optimisation.optimizer=adamw"
        )
    if recipe.sharing.attention == "flex" and not gpus:
        problems.append(
            "sharing.attention flex needs a GPU, and there is none here; set "
            "sharing.attention=split"
        )
    if gpus and here > gpus:
        problems.append(
            f"{here} processes were launched here for {gpus} GPU{'s' * (gpus > 1)}; launch as "
            f"many as there are GPUs (--num_processes {gpus})"
        )
    # Emulated bf16 runs on any GPU, many times slower than float32.
    if gpus and recipe.optimisation.bf16 and not torch.cuda.is_bf16_supported(False):
        problems.append(f"{torch.cuda.get_device_name()} has no bf16; set optimisation.bf16=false")
    return problems


def check_machine(recipe: Recipe) -> None:
    """Make sure that this machine has what a recipe asks for.

    Raises:
        UserError: all that it lacks, in one line; or the model is another recipe's to make.
    """
    if not Path(recipe.start).is_dir() and (command := maker_of(recipe.start)):
        raise UserError(not_made_yet(recipe.start, command))
    problems = machine_problems(recipe)
    if (lack := memory_problem(recipe)) is not None:
        problems.append(lack)
    if problems:
        raise UserError(f"recipe for {recipe.output}: {'; '.join(problems)}")


def check_paths(recipe: Recipe) -> None:
    """Make sure that what an unfinished recipe names on this disk is there; needs no torch.

    Raises:
        UserError: the model, the rows or the media are not where the recipe says, in one line; the
            model is none that can be trained on, a task is not known, the output cannot be
            written to, or the Hub not be pushed to.
    """
    if (Path(recipe.output) / "run.json").is_file():
        return  # begun: its own checks say what it still needs
    problems = []
    start = recipe.start
    if isinstance(recipe.model, str) and not Path(start).is_dir():
        if command := maker_of(start):
            problems.append(not_made_yet(start, command))
        elif start.startswith((".", "/", "~")) or start.count("/") > 1:
            problems.append(f"model {start}: no checkpoint there; it is no folder")
    places = [("data.data_dir", recipe.data.data_dir), ("data.media", recipe.data.media)]
    if recipe.eval is not None:
        places += [("eval.data_dir", recipe.eval.data_dir), ("eval.media", recipe.eval.media)]
    problems += [
        f"{key} {place}: no such folder; fix the path"
        for key, place in places
        if place not in {None, "synthetic"} and not Path(str(place)).expanduser().exists()
    ]
    if problems:
        raise UserError("; ".join(problems))
    if Path(start).is_dir():
        check_layout(start)
    if recipe.eval is not None:
        own = recipe.eval.task_path
        for task in recipe.eval.tasks:
            load_task(task, None if own is None else Path(own))
    check_output(Path(recipe.output))
    check_push(recipe.push_to_hub)


def check_push(hub: Hub | None) -> None:
    """Check, before the first step, that the model can be pushed to the Hub at the end.

    Raises:
        UserError: a name that cannot be, or no token.
    """
    if hub is None:
        return
    from huggingface_hub import get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import (  # type: ignore[attr-defined]  # exported all the same
        validate_repo_id,
    )

    try:
        validate_repo_id(hub.repo)
    except HFValidationError as error:
        cause = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"push_to_hub.repo {hub.repo!r}: {cause}") from error
    if hub.repo.count("/") != 1:
        raise UserError(f"push_to_hub.repo {hub.repo!r}: OWNER/NAME is needed, as in alice/my-dpo")
    if get_token() is None:
        raise UserError(
            "push_to_hub: needs a token of the Hub; set HF_TOKEN to one that may write there, or "
            "run `hf auth login`"
        )


def check_room(recipe: Recipe, family: Family, rows: int) -> None:
    """Make sure that checkpoints and model have room on the disk.

    Args:
        family: with its model; freezes as the recipe says.
        rows: to train on.

    Raises:
        UserError: not enough space free where the output goes.
    """
    from sharegptvideo.training.estimate import disk_bytes, shape_of, steps_of

    shape = shape_of(recipe, family)
    devices = int(os.environ.get("WORLD_SIZE", "1"))
    need = disk_bytes(recipe, shape, steps_of(recipe.optimisation, rows, devices))
    folder = nearest_folder(Path(recipe.output))
    free = shutil.disk_usage(folder).free
    if Path(recipe.output).is_dir():
        # What an interrupted run has written is part of what it needs.
        free += sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if need > free:
        raise UserError(
            f"output {recipe.output}: checkpoints and model take {byte_size(need)} at their "
            f"largest, {byte_size(free)} are free at {folder}; free some space or give another "
            "output",
            exit_code=1,
        )


def memory_problem(recipe: Recipe) -> str | None:
    """Return a line where weights, gradients and optimiser exceed this machine's memory.

    Known from the model's config, before any weights are read. None where FSDP or DeepSpeed spread
    them, where the architecture is not known here, or the model is yet in parts.
    """
    import torch

    from sharegptvideo.models import outline
    from sharegptvideo.models.convert import ModelParts
    from sharegptvideo.models.memory import free_bytes
    from sharegptvideo.training.estimate import ADAMW_BYTES, shape_of
    from sharegptvideo.training.families import Family, bare_family

    if any(os.environ.get(f"ACCELERATE_USE_{way}") == "true" for way in ("FSDP", "DEEPSPEED")):
        return None
    if isinstance(recipe.model, ModelParts) and not Path(recipe.start).is_dir():
        return None
    try:
        family = bare_family(outline(recipe.start, dtype=Family.weights_dtype(recipe)))
    except (KeyError, ValueError):
        return None  # no architecture that is trained here: loading it says so
    shape = shape_of(recipe, family)
    held = (shape.parameters - shape.adapters) * shape.bytes_a_weight + 4 * shape.adapters
    held += (4 + ADAMW_BYTES[recipe.optimisation.optimizer]) * shape.trainable
    gpu = torch.cuda.is_available()
    free = free_bytes(torch.device("cuda" if gpu else "cpu"))
    if not gpu:
        held *= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if free is None or held <= free:
        return None
    where = f"{torch.cuda.get_device_name()} has" if gpu else "there is no GPU here and memory has"
    return (
        f"weights, gradients and optimiser take {byte_size(held)}, {where} "
        f"{byte_size(free)} free; spread them over several GPUs (`sharegptvideo train config`), or "
        "train adapters (lora)"
    )


def full_disk_in_training(output: Path) -> contextlib.AbstractContextManager[None]:
    """Turn a disk that fills up inside the block into one line.

    Raises:
        UserError: the disk is full; the same command goes on once there is room.
    """
    fix = (
        "free some space and run the same command again, it goes on from the last whole checkpoint"
    )
    return full_disk_errors(f"output {output}", fix)

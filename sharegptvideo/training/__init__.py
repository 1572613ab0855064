"""Training: recipes in YAML, run by TRL on video through collators of our own.

Importing this package is light; torch and TRL come in with a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from sharegptvideo._concurrency import Progress
    from sharegptvideo.training.dpo import run_dpo
    from sharegptvideo.training.lora import merge_adapters
    from sharegptvideo.training.outputs import push_model
    from sharegptvideo.training.recipes import (
        DpoRecipe,
        Recipe,
        SftRecipe,
        load_recipe,
        load_steps,
        recipe_names,
        recipe_text,
    )
    from sharegptvideo.training.run_dir import TrainResult
    from sharegptvideo.training.sft import run_sft

__all__ = [
    "DpoRecipe",
    "Recipe",
    "SftRecipe",
    "TrainResult",
    "load_recipe",
    "load_steps",
    "merge_adapters",
    "push_model",
    "recipe_names",
    "recipe_text",
    "run_dpo",
    "run_recipe",
    "run_sft",
]

_HOME = {
    "DpoRecipe": "recipes",
    "Recipe": "recipes",
    "SftRecipe": "recipes",
    "TrainResult": "run_dir",
    "load_recipe": "recipes",
    "load_steps": "recipes",
    "merge_adapters": "lora",
    "push_model": "outputs",
    "recipe_names": "recipes",
    "recipe_text": "recipes",
    "run_dpo": "dpo",
    "run_sft": "sft",
}


def run_recipe(
    recipe: Recipe,
    *,
    progress: Progress | None = None,
    report: Callable[[str], None] | None = None,
) -> TrainResult:
    """Run a recipe of any stage; see `run_sft` and `run_dpo`.

    Of several processes (`accelerate launch`) only the first one reports and shows progress.
    """
    from sharegptvideo.training.checks import check_paths
    from sharegptvideo.training.launch import rank_of_environment, start_worker_server
    from sharegptvideo.training.recipes import DpoRecipe

    check_paths(recipe)  # before the seconds that torch takes
    if recipe.data.workers:
        start_worker_server()  # its imports go on beside those of this process
    from sharegptvideo.training.dpo import run_dpo
    from sharegptvideo.training.sft import run_sft

    if rank_of_environment() != 0:
        progress = report = None

    if isinstance(recipe, DpoRecipe):
        return run_dpo(recipe, progress=progress, report=report)
    return run_sft(recipe, progress=progress, report=report)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

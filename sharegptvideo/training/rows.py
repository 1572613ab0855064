"""The rows of a recipe as the trainers take them: all prepared at the start, or streamed."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sharegptvideo._io import read_json, write_json
from sharegptvideo.training.examples import DataReport, preference_dataset, sft_dataset
from sharegptvideo.training.launch import processes
from sharegptvideo.training.recipes import DpoRecipe

if TYPE_CHECKING:
    from pathlib import Path

    from sharegptvideo.training.families import Family
    from sharegptvideo.training.recipes import Recipe

__all__ = ["training_rows"]


def training_rows(recipe: Recipe, family: Family, folder: Path) -> tuple[Any, DataReport]:
    """Return a dataset of examples, or a `StreamedRows` (`data.stream`), and what became of rows.

    The first process tokenises the rows, once, and writes them to `folder`, which all
    processes see; they and loader workers map that file, so no memory holds them.

    Raises:
        UserError: as `sft_dataset`, `preference_dataset` and `streamed_rows`.
    """
    from datasets import Dataset

    data, limit = recipe.data, recipe.optimisation.length_limit
    if data.stream:
        from sharegptvideo.training.streaming import streamed_rows

        return streamed_rows(recipe, family, folder, limit=limit)

    group, file, about = processes(), folder / "examples.arrow", folder / "report.json"
    group.wait()  # all have read the run's folder before the first one writes to it

    def write() -> None:
        if isinstance(recipe, DpoRecipe):
            equal = recipe.dpo.equal_pairs
            _, report = preference_dataset(
                data, family, limit=limit, seed=recipe.seed, equal_pairs=equal, file=file
            )
        else:
            _, report = sft_dataset(data, family, limit=limit, seed=recipe.seed, file=file)
        write_json(about, asdict(report))

    group.first(write)
    return Dataset.from_file(str(file)), DataReport(**read_json(about))

"""The rows of a recipe as the trainers take them: all prepared at the start, or streamed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sharegptvideo.training.examples import DataReport, preference_dataset, sft_dataset
from sharegptvideo.training.launch import rows_for_all
from sharegptvideo.training.recipes import DpoRecipe

if TYPE_CHECKING:
    from datasets import Dataset

    from sharegptvideo.training.families import Family
    from sharegptvideo.training.recipes import Recipe
    from sharegptvideo.training.run_dir import TrainingDir

__all__ = ["training_rows"]


def training_rows(recipe: Recipe, family: Family, run: TrainingDir) -> tuple[Any, DataReport]:
    """A dataset of examples, a `StreamedRows` where `data.stream` says so, and what became of rows.

    Raises:
        UserError: as `sft_dataset`, `preference_dataset` and `streamed_rows`.
    """
    data, length = recipe.data, recipe.optimisation.max_length
    if data.stream:
        from sharegptvideo.training.streaming import streamed_rows

        return streamed_rows(recipe, family, run.rows, max_length=length)

    def make() -> tuple[Dataset, DataReport]:
        if isinstance(recipe, DpoRecipe):
            equal = recipe.dpo.equal_pairs
            return preference_dataset(data, family, max_length=length, equal_pairs=equal)
        return sft_dataset(data, family, max_length=length)

    # Loader workers get what lies in memory as a copy each, and what lies in a file by its name.
    return rows_for_all(make, run.rows, mapped=data.workers > 0)

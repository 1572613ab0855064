"""Where figures go besides the run's folder: TensorBoard, Weights & Biases, Trackio."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from sharegptvideo.training.run_dir import RunFolder

__all__ = ["PROJECT", "report_evaluation", "reporters"]

PROJECT = "sharegptvideo"
"""Of W&B and Trackio, where they are told of no other."""


def reporters(run: RunFolder, done: int | None) -> list[TrainerCallback]:
    """The callbacks of the recipe's `report_to`, for the first process; `done` steps lie behind.

    TensorBoard's files are in OUT/tensorboard; what a resumed training does again is hidden there.
    W&B and Trackio go by their own settings; the project is `sharegptvideo` where
    WANDB_PROJECT says nothing else.
    """
    from transformers import integrations

    kinds: Any = integrations  # which says nothing of its callbacks' types
    found: list[TrainerCallback] = []
    for name in run.recipe.report_to:
        if name == "tensorboard":
            from torch.utils.tensorboard import SummaryWriter

            make: Any = SummaryWriter  # untyped in torch
            first = None if done is None else done + 1
            writer = make(str(run.path / "tensorboard"), purge_step=first)
            found.append(kinds.TensorBoardCallback(writer))
        elif name == "wandb":
            os.environ.setdefault("WANDB_PROJECT", PROJECT)
            os.environ.setdefault("WANDB_DIR", str(run.path))
            found.append(kinds.WandbCallback())
        else:
            found.append(kinds.TrackioCallback())
    return found


def report_evaluation(
    callbacks: Sequence[TrainerCallback], trainer: Any, rows: Sequence[dict[str, Any]]
) -> None:
    """Send the figures of an evaluation to `callbacks`, as `eval/TASK/accuracy` and so on."""
    logs = {
        f"eval_{row['task']}/{key}": row[key]
        for row in rows
        for key in ("accuracy", "score", "coverage", "words")
        if row.get(key) is not None
    }
    for callback in callbacks:
        callback.on_log(
            trainer.args, trainer.state, trainer.control, logs=logs, model=trainer.model
        )

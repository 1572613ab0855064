"""Where figures go besides the run's folder: TensorBoard, Weights & Biases, Trackio."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from sharegptvideo.training.running import RunFolder

__all__ = ["PROJECT", "check_reporters", "report_evaluation", "reporters"]

PROJECT = "sharegptvideo"
"""Of W&B and Trackio, where they are told of no other."""


def check_reporters(names: Sequence[str]) -> None:
    """Look for what a recipe's `report_to` needs.

    Raises:
        UserError: a package is not installed; says how to install it or do without.
    """
    missing = [name for name in names if not _installed(name)]
    if missing:
        raise UserError(
            f"report_to: {', '.join(missing)} not installed; `pip install {' '.join(missing)}`, or "
            f"leave it out: report_to=[{','.join(n for n in names if n not in missing)}]"
        )


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


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # a module that was put in place by hand, or kept out
        return False

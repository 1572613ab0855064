"""From a recipe's model to the family that trains it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from sharegptvideo._concurrency import limit_torch_threads

if TYPE_CHECKING:
    from sharegptvideo.training.families.base import Family
    from sharegptvideo.training.recipes import Recipe

__all__ = ["bare_family", "open_family"]


def open_family(recipe: Recipe, *, weights: bool = True) -> Family:
    """Load the model that a recipe starts from, with what prepares text and clips for it.

    Torch takes this process's part of the machine's cores (`limit_torch_threads`) for it.
    Without `weights` the model is its shapes alone, on the meta device: enough for an estimate.

    Raises:
        UserError: no such model, or one of an architecture that no family here trains.
    """
    from sharegptvideo.models import model_type

    kind = model_type(recipe.model)
    family: Family
    if kind == "video_llava":
        from sharegptvideo.training.families.video_llava import VideoLlavaFamily

        family = VideoLlavaFamily(recipe, weights=weights)
    else:
        from sharegptvideo.training.families.general import GeneralFamily

        family = GeneralFamily(recipe, kind, weights=weights)
    if weights:
        _take_cores(family.model.num_parameters())
    return family


def bare_family(model: Any) -> Family:
    """A family of a model alone, without the tokenizer and processor that may not be here.

    Raises:
        KeyError: an architecture that no family here trains.
    """
    from sharegptvideo.training.families.general import PARTS, GeneralFamily
    from sharegptvideo.training.families.video_llava import VideoLlavaFamily

    kind = model.config.model_type
    bare: Any = object.__new__(VideoLlavaFamily if kind == "video_llava" else GeneralFamily)
    if kind != "video_llava":
        bare._tower, bare._projector = PARTS[kind]
    bare.model = model
    return bare  # type: ignore[no-any-return]  # one of the two families


def _take_cores(parameters: int) -> None:
    import torch

    limit_torch_threads(
        None if torch.cuda.is_available() else parameters,
        processes=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),  # set by every launcher
    )

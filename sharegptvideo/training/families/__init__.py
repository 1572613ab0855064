"""What differs between architectures in training: loading, clips, towers. The rest is shared."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from sharegptvideo._concurrency import limit_torch_threads
from sharegptvideo.training.families.base import Clip, ClipReader, Family, TowerFamily

if TYPE_CHECKING:
    from sharegptvideo.training.recipes import Recipe

__all__ = [
    "Clip",
    "ClipReader",
    "Family",
    "TowerFamily",
    "bare_family",
    "open_family",
    "trained_architectures",
]


def open_family(recipe: Recipe, *, weights: bool = True) -> Family:
    """Load the model that a recipe starts from, with what prepares text and clips for it.

    Torch takes this process's part of the machine's cores (`limit_torch_threads`) for it.
    Without `weights` the model is its shapes alone, on the meta device: enough for an estimate.

    Raises:
        UserError: no such model, or one of an architecture that no family here trains.
    """
    import torch

    from sharegptvideo.models import model_type

    family = _family_class(model_type(recipe.start)).open(recipe, weights=weights)
    if weights:
        limit_torch_threads(
            None if torch.cuda.is_available() else family.model.num_parameters(),
            processes=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),  # set by every launcher
        )
    return family


def bare_family(model: Any) -> Family:
    """Make a family of a model alone, without tokenizer and processor, which may not be here.

    Raises:
        KeyError: an architecture that no family here trains.
    """
    return _family_class(model.config.model_type)(model)


def trained_architectures() -> frozenset[str]:
    """Return the architectures, as transformers calls them, that a family here trains."""
    from sharegptvideo.training.families.processor import PARTS

    return frozenset({"video_llava", "llava_hound", *PARTS})


def _family_class(model_type: str) -> type[Family]:
    """Return the family that stands on the class that answers with this architecture."""
    from sharegptvideo.models import VideoLlavaModel, local_class
    from sharegptvideo.training.families.processor import ProcessorFamily
    from sharegptvideo.training.families.video_llava import VideoLlavaFamily

    answers = local_class(model_type)
    return VideoLlavaFamily if issubclass(answers, VideoLlavaModel) else ProcessorFamily

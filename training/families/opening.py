"""From a recipe's model to the family that trains it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sharegptvideo.training.families.base import Family
    from sharegptvideo.training.recipe import Recipe

__all__ = ["open_family"]


def open_family(recipe: Recipe, *, weights: bool = True) -> Family:
    """Load the model that a recipe starts from, with what prepares text and clips for it.

    Without `weights` the model is its shapes alone, on the meta device: enough for an estimate.

    Raises:
        UserError: no such model, or one of an architecture that no family here trains.
    """
    from sharegptvideo.modeling import model_type

    kind = model_type(recipe.model)
    if kind == "video_llava":
        from sharegptvideo.training.families.video_llava import VideoLlavaFamily

        return VideoLlavaFamily(recipe, weights=weights)
    from sharegptvideo.training.families.general import GeneralFamily

    return GeneralFamily(recipe, kind, weights=weights)

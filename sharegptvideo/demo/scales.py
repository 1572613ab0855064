"""How large a demo is: the world, the model, and what its recipes change."""

from __future__ import annotations

from dataclasses import dataclass, field

from sharegptvideo.errors import unknown_name
from sharegptvideo.models.tiny import ModelSize
from sharegptvideo.synthetic import SCALES as WORLDS
from sharegptvideo.synthetic import Faults, Sizes

__all__ = ["SCALES", "DemoScale", "scale_named"]

# The towers are shallow and their patches large (one is a cell of the world): both halves of the
# model have to learn from nothing in a few minutes on two cores, and the clip's tokens are most of
# the cost. The embeddings are drawn wide: one step of Adam then moves them little, and what is
# seen, where and when, is of like size from the start. training/INTERNALS.md has what was tried.
_MODEL = ModelSize(
    frames=8,
    image=48,
    patch=16,
    vision_hidden=96,
    vision_layers=2,
    vision_mlp=288,
    text_hidden=96,
    text_layers=2,
    text_mlp=288,
    init_std=0.05,
    position_std=0.5,
    patch_std=0.05,
    time_std=0.3,
    word_std=0.2,
)


@dataclass(frozen=True, slots=True)
class DemoScale:
    """Sizes of one demo; `overrides` are `key=value` changes of the recipe of each stage."""

    name: str
    world: Sizes
    model: ModelSize
    faults: Faults = field(default_factory=Faults)
    candidates: int = 6
    max_new_tokens: int = 32
    batch_size: int = 64
    overrides: dict[str, tuple[str, ...]] = field(default_factory=dict)


SCALES = {
    "tiny": DemoScale(
        name="tiny",
        world=WORLDS["tiny"],
        model=_MODEL,
        overrides={
            "pretrain": ("optimisation.epochs=8",),
            "sft": ("optimisation.epochs=6",),
            "dpo": ("optimisation.epochs=2",),
        },
    ),
    "small": DemoScale(name="small", world=WORLDS["small"], model=_MODEL),
}


def scale_named(name: str) -> DemoScale:
    """Look up a scale.

    Raises:
        UserError: there is none; names the nearest.
    """
    if name not in SCALES:
        raise unknown_name("scale", name, SCALES)
    return SCALES[name]

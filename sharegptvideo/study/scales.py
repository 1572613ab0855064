"""How large a study is: the demo's world and model, or one that only shows that all works."""

from __future__ import annotations

from dataclasses import dataclass

from sharegptvideo.demo.scales import SCALES as DEMO
from sharegptvideo.demo.scales import DemoScale
from sharegptvideo.errors import unknown_name
from sharegptvideo.models.tiny import ModelSize
from sharegptvideo.synthetic import Sizes

__all__ = ["SCALES", "StudyScale", "scale_named"]


@dataclass(frozen=True, slots=True)
class StudyScale:
    """Sizes of each seed's world, model and trainings.

    Attributes:
        loop: of the world, the model and the loop's stages.
        seeds: at most, where none are asked for; None: as the experiment's file says.
        sample: how many things the experiments without training look at; each says of what.
        judged: questions at most, where a level says how many are judged.
        pace: seconds of a piece of work, as a share of what one takes at `small`.
    """

    name: str
    loop: DemoScale
    seeds: int | None = None
    sample: int = 200
    judged: int = 1_000_000
    pace: float = 1.0


_TINY = DemoScale(
    name="tiny",
    world=Sizes(train=40, preference=10, test=6, out_of_domain=1, images=4),
    model=ModelSize(
        frames=4,
        image=48,
        patch=16,
        vision_hidden=32,
        vision_layers=2,
        vision_heads=2,
        vision_mlp=64,
        text_hidden=48,
        text_layers=2,
        text_heads=2,
        text_mlp=96,
    ),
    candidates=4,
    max_new_tokens=16,
    overrides={
        "pretrain": ("frames=4", "optimisation.epochs=1"),
        "sft": ("frames=4", "optimisation.epochs=4", "optimisation.learning_rate=2e-2"),
        "dpo": ("frames=4", "optimisation.epochs=3"),
    },
)

SCALES = {
    "tiny": StudyScale("tiny", _TINY, seeds=2, sample=12, judged=1, pace=0.02),
    "small": StudyScale("small", DEMO["small"]),
}


def scale_named(name: str) -> StudyScale:
    """Return a scale.

    Raises:
        UserError: there is none; names the nearest.
    """
    if name not in SCALES:
        raise unknown_name("scale", name, SCALES)
    return SCALES[name]

"""Operations of the estimate against those that torch counts in real trainings of a small model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from torch.utils.flop_counter import FlopCounterMode

from sharegptvideo.models import build_tiny
from sharegptvideo.models.tiny import ModelSize
from sharegptvideo.training import load_recipe, run_recipe
from sharegptvideo.training.estimate import workload_of
from sharegptvideo.training.plan import dry_run
from tests.support.training_fixtures import SHORT, TEXTS, common

# Ten layers, so that what the estimate leaves out of the first one weighs little: it learns
# adapters, and nothing before it wants a gradient.
SIZE = ModelSize(
    frames=4,
    image=16,
    vision_hidden=16,
    vision_layers=4,
    vision_heads=2,
    vision_mlp=64,
    text_hidden=64,
    text_layers=10,
    text_heads=2,
    text_mlp=128,
    positions=1024,
)
TOWER = "freeze.vision_tower=true"
AGAIN = "optimisation.gradient_checkpointing="
LORA = ("lora.rank=8", TOWER, "freeze.projector=true")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny(TEXTS, tmp_path_factory.mktemp("ten") / "model", seed=3, size=SIZE)


@pytest.mark.parametrize(
    "changes",
    [
        ("sft", TOWER),
        ("sft", TOWER, "sharing.video=false"),
        ("sft", TOWER, AGAIN + "true"),
        ("sft", TOWER, AGAIN + "3"),
        ("sft", *LORA, AGAIN + "3"),
        ("dpo",),
        ("dpo", AGAIN + "true"),
        ("dpo", *LORA),
        ("dpo", *LORA, AGAIN + "true"),
    ],
    ids=" ".join,
)
def test_operations_are_those_that_torch_counts(
    changes: tuple[str, ...], model: Path, release: Path, tmp_path: Path
) -> None:
    """Within 3 %; without attention, which torch does not count on a CPU.

    A row at a time: rows of a clip begin with the same words beside it, which the estimate takes
    to be each row's own.
    """
    stage, *overrides = changes
    more = ["sharing.pack_tokens=null"]
    if stage == "dpo":
        more = ["dpo.sft_weight=0", "dpo.reference=model"]
    place = common(release, model, tmp_path / "out", 4 if stage == "dpo" else 8)  # every row once
    alone = "optimisation.per_device_batch_size=1"
    recipe = load_recipe(f"demo/{stage}", [*place, *SHORT, alone, *more, *overrides])
    plan = dry_run(recipe)
    assert plan.shape is not None
    assert plan.data is not None
    linear = replace(plan.shape, heads=0, tower_layers=0)
    with FlopCounterMode(display=False) as counted:
        run_recipe(recipe)
    estimated = workload_of(recipe, linear, plan.data).flops
    assert estimated == pytest.approx(counted.get_total_flops(), rel=0.03)

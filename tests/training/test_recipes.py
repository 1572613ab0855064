"""Recipes: what they accept, what they refuse, and that every shipped one trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from sharegptvideo.errors import UserError
from sharegptvideo.training import DpoRecipe, load_recipe, recipe_names, recipe_text, run_recipe
from sharegptvideo.training.recipe import recipe_hash

FOLDER = Path(__file__).parents[2] / "training" / "recipes"
SHIPPED = sorted(str(file.relative_to(FOLDER).with_suffix("")) for file in FOLDER.rglob("*.yaml"))


def test_all_shipped_recipes_are_listed() -> None:
    assert recipe_names() == SHIPPED
    assert {"demo/pretrain", "demo/sft", "demo/dpo", "llava_hound/dpo"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_opens_with_its_command(name: str) -> None:
    comment = recipe_text(name).split("stage:")[0]
    assert f"sharegptvideo train run {name}" in comment
    assert all(line.startswith("#") for line in comment.splitlines())


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_trains(
    name: str, pointed_at: Callable[..., list[str]], tmp_path: Path
) -> None:
    """Two steps on the smallest model, everything else as shipped, bf16 and all."""
    overrides = [
        *pointed_at(tmp_path / "out", steps=2),
        "frames=4",
        "optimisation.per_device_batch_size=2",
        "data.split=train+validation",
    ]
    result = run_recipe(load_recipe(name, overrides))
    assert result.steps == 2
    assert (result.output / "model.safetensors").exists()


def test_the_papers_settings() -> None:
    """Learning rates, schedule, batch and β of PAPER.md (8 devices)."""
    pretrain, sft, dpo = (load_recipe(f"llava_hound/{s}") for s in ("pretrain", "sft", "dpo"))
    for recipe, rate in ((pretrain, 2e-5), (sft, 5e-6)):
        o = recipe.optimisation
        assert (o.learning_rate, o.scheduler, o.warmup_ratio, o.epochs) == (
            rate, "cosine", 0.03, 1,
        )  # fmt: skip
        assert (o.per_device_batch_size, o.bf16, o.gradient_checkpointing) == (16, True, True)
        assert (recipe.freeze.vision_tower, recipe.freeze.projector) == (True, False)
    assert isinstance(dpo, DpoRecipe)
    o = dpo.optimisation
    assert (o.learning_rate, o.scheduler, o.warmup_ratio, o.epochs) == (5e-7, "linear", 0.1, 3)
    assert o.per_device_batch_size * o.gradient_accumulation * 8 == 128
    assert (dpo.freeze.vision_tower, dpo.freeze.projector, dpo.dpo.beta) == (True, True, 0.1)


def test_overrides_reach_every_level() -> None:
    changed = load_recipe(
        "demo/dpo", ["seed=7", "optimisation.learning_rate=1e-6", "dpo.beta=0.3", "data.limit=5"]
    )
    assert isinstance(changed, DpoRecipe)
    assert (changed.seed, changed.optimisation.learning_rate) == (7, 1e-6)
    assert (changed.dpo.beta, changed.data.limit) == (0.3, 5)


@pytest.mark.parametrize(
    ("override", "cause"),
    [
        ("seed", "write it as key=value"),
        ("a..b=1", "write it as key=value"),
        ("seed.x=1", "seed has no keys below it"),
        ("seed=[", "not YAML"),
        ("optimisation.max_steps=3", "give either epochs or max_steps"),
        ("stage=sfft", "did you mean sft"),
        ("data.name=preference", "did you mean preferences"),
        ("data.name=preferences", "has no rows for this stage"),
        ("data.split=test", "unknown split of sft 'test'"),
    ],
)
def test_an_override_that_will_not_do(override: str, cause: str) -> None:
    with pytest.raises(UserError, match=cause):
        load_recipe("demo/sft", [override])


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    content = yaml.safe_load(recipe_text("demo/sft"))
    content["optimization"] = {}
    content["optimisation"]["learning_rte"] = 1
    content["optimisation"]["warmup_ratio"] = 3
    del content["model"]
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError) as caught:
        load_recipe(str(file))
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "unknown key optimization (did you mean optimisation?)",
        "unknown key optimisation.learning_rte (did you mean learning_rate?)",
        "optimisation.warmup_ratio: Input should be less than 1, not 3",
        "model is missing",
    ):
        assert part in message


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    with pytest.raises(UserError, match="not YAML"):
        load_recipe(str(broken))
    broken.write_text("- a")
    with pytest.raises(UserError, match="a mapping"):
        load_recipe(str(broken))
    with pytest.raises(UserError, match="cannot be read"):
        load_recipe(str(tmp_path / "nothing.yaml"))
    with pytest.raises(UserError, match="unknown recipe 'demo/sftt'; did you mean demo/sft"):
        load_recipe("demo/sftt")


def test_the_hash_is_of_all_but_the_output() -> None:
    recipe = load_recipe("demo/sft")
    assert recipe_hash(recipe) == recipe_hash(load_recipe("demo/sft", ["output=elsewhere"]))
    assert recipe_hash(recipe) != recipe_hash(load_recipe("demo/sft", ["seed=1"]))

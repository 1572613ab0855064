"""The demo's recipes run by themselves on what `sharegptvideo demo` leaves, beside its models."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharegptvideo.demo.scales import scale_named
from sharegptvideo.demo.stages import Demo
from sharegptvideo.errors import UserError
from sharegptvideo.training import load_recipe, run_recipe

DEMO = Demo(Path("demo-out"), scale_named("small"), seed=0)


@pytest.mark.parametrize(
    ("stage", "model", "source"),
    [
        ("pretrain", "start", DEMO.world),
        ("sft", "pretrain", DEMO.world),
        ("dpo", "sft", DEMO.preferences),
    ],
)
def test_their_folders_are_the_demos(stage: str, model: str, source: Path) -> None:
    recipe = load_recipe(f"demo/{stage}")
    assert Path(recipe.model) == DEMO.model(model)
    assert (recipe.data.data_dir, recipe.data.media) == (str(source), str(DEMO.world))
    assert DEMO.folder not in Path(recipe.output).parents
    assert recipe.save_every % recipe.log_every == 0, "a kill would move the logged steps"


def test_without_the_demo_they_name_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"not there yet; `sharegptvideo demo` makes it"):
        run_recipe(load_recipe("demo/pretrain"))

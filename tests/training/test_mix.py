"""`data.mix`: which rows it gives, by weights, and what a dry run counts of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sharegptvideo.errors import UserError
from sharegptvideo.training import SftRecipe, load_recipe, load_steps, run_recipe
from sharegptvideo.training.mix import mixed_rows, weighted
from sharegptvideo.training.plan import dry_run, dry_run_lines

MIX = "data.mix=[{name: captions}, {name: sft, weight: 0.5}]"


@pytest.mark.parametrize(
    ("weight", "rows", "count"),
    [(1, 5, 5), (2, 5, 10), (0.5, 4001, 2000), (0.29, 100, 29), (2.25, 1000, 2250), (0.1, 9, 0)],
)
def test_a_weight_is_a_number_of_rows(weight: float, rows: int, count: int) -> None:
    """floor(rows × fraction) of a fraction, none twice; the whole part times all."""
    drawn = Counter(weighted(range(rows), weight, "0/0"))
    assert drawn.total() == count
    assert max(drawn.values(), default=0) - min(drawn[n] for n in range(rows)) <= 1


def test_the_draw_is_the_same_on_every_machine() -> None:
    """The six smallest of twelve SHA-256 sums of "42/0/0" to "42/0/11"."""
    assert list(weighted(range(12), 0.5, "42/0")) == [2, 6, 7, 9, 10, 11]
    assert list(weighted(range(12), 1.5, "42/0"))[:4] == [0, 1, 2, 2]
    assert list(weighted(range(12), 0.5, "1/0")) == [0, 1, 2, 5, 10, 11]


def test_rows_come_part_by_part(sft_recipe: SftRecipe) -> None:
    recipe = mixed(sft_recipe, [{"name": "sft", "weight": 2}, {"name": "captions"}])
    rows = [(number, row["id"]) for number, row in mixed_rows(recipe.data, 0)]
    assert [number for number, _ in rows] == [0] * 16 + [1] * 4
    assert Counter(key for number, key in rows if number == 0).most_common()[-1][1] == 2


def mixed(recipe: SftRecipe, parts: list[dict[str, Any]], **data: Any) -> SftRecipe:
    content = recipe.model_dump()
    content["data"] |= {"name": None, "mix": parts, **data}
    return SftRecipe.model_validate(content)


def test_limit_is_of_each_part(sft_recipe: SftRecipe) -> None:
    """And of rows as they are read, before weights."""
    recipe = mixed(sft_recipe, [{"name": "sft", "weight": 2}, {"name": "captions"}], limit=3)
    assert len(list(mixed_rows(recipe.data, 0))) == 9


@pytest.mark.parametrize(
    ("overrides", "cause"),
    [
        (["data.mix=[{name: captions}]"], "give either name or mix"),
        (["data.name=null"], "give either name or mix"),
        (["data.name=null", "data.mix=[]"], "mix has no parts"),
        (["data.name=null", "data.mix=captions"], r"data\.mix: must be a list, not 'captions'"),
        (["data.name=null", "data.mix=[captions]"], r"mix\.0: must be a mapping"),
        (["data.name=null", "data.mix=[{name: caption}]"], "did you mean captions"),
        (["data.name=null", "data.mix=[{name: preferences}]"], "preferences has no rows for this"),
        (["data.name=null", "data.mix=[{name: msvd_qa}]"], "unknown split of msvd_qa 'train'"),
        (["data.name=null", MIX, "data.files=a.jsonl"], "files goes into the part"),
        (["data.name=null", MIX, "data.mix.1.wieght=2"], r"data\.mix\.1\.wieght .*mean weight"),
        (["data.name=null", MIX, "data.mix.1.weight=0"], "greater than 0"),
        (["data.name=null", MIX, "data.mix.2.weight=2"], "2 is no entry of the list"),
        (["data.weight=2"], r"did you mean data\.mix\.weight"),
    ],
)
def test_a_mix_that_will_not_do(overrides: list[str], cause: str) -> None:
    with pytest.raises(UserError, match=cause):
        load_recipe("demo/sft", overrides)


def test_an_entry_of_the_list_is_overridden_by_number() -> None:
    recipe = load_recipe("demo/sft", ["data.name=null", MIX, "data.mix.1.weight=2"])
    assert str(recipe.data) == "captions + 2 × sft"


def test_a_dry_run_counts_the_parts(sft_recipe: SftRecipe) -> None:
    """Four captions and half of eight conversations on the same four clips; two rows a step."""
    recipe = mixed(sft_recipe, [{"name": "captions"}, {"name": "sft", "weight": 0.5}])
    content = recipe.model_dump()
    content["optimisation"] |= {"epochs": 1, "max_steps": None}
    found = dry_run(SftRecipe.model_validate(content))
    assert found.data is not None
    assert (found.data.rows, found.data.clips, found.data.images) == (8, 4, 0)
    assert [(part.part, part.rows) for part in found.data.parts] == [
        ("captions", 4), ("0.5 × sft", 4),
    ]  # fmt: skip
    assert found.plan is not None
    assert found.plan.steps == 4
    assert any("captions: 4 rows on 4 clips" in line for line in dry_run_lines(found))


def test_published_counts_of_a_mix_before_its_download(tmp_path: Path) -> None:
    """900k captions on clips and half of the conversations about images, which are 599,950."""
    parts = "[{name: captions}, {name: sft, files: image_instruction_600k.jsonl, weight: 0.5}]"
    recipe = load_recipe(
        "llava_hound/pretrain",
        [f"data.data_dir={tmp_path / 'not there'}", "data.name=null", f"data.mix={parts}"],
    )
    found = dry_run(recipe)
    assert found.data is not None
    assert (found.data.rows, found.data.clips, found.data.images) == (1_199_975, 900_000, 299_975)
    assert any(
        "on 900,000 clips and 299,975 images, as published; images so" in t for t in found.assumed
    )


def test_a_run_trains_on_all_parts(sft_recipe: SftRecipe) -> None:
    recipe = mixed(sft_recipe, [{"name": "captions"}, {"name": "sft", "weight": 0.5}])
    result = run_recipe(recipe)
    assert (result.steps, result.rows) == (6, 8)


def test_steps_have_mixes_of_their_own(
    pointed_at: Callable[..., list[str]], tmp_path: Path
) -> None:
    """The second of two steps leaves the mix of the recipe for one config."""
    import yaml

    from sharegptvideo.training import recipe_text

    content = yaml.safe_load(recipe_text("demo/sft"))
    content["data"] = {"mix": [{"name": "captions"}, {"name": "sft"}], "split": "train+validation"}
    content["steps"] = {"both": None, "one": {"data": {"mix": None, "name": "sft"}}}
    file = tmp_path / "two.yaml"
    file.write_text(json.dumps(content))
    steps = load_steps(str(file), [*pointed_at(tmp_path / "out", 1), "frames=4"])
    assert [str(step.data) for step in steps] == ["captions + sft", "sft"]
    assert [run_recipe(step).rows for step in steps] == [12, 8]

"""Streamed rows: the order, disjoint and complete; seeking; what is refused; and a real resume."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from sharegptvideo.data.load import read_rows
from sharegptvideo.data.publish.shards import SplitWriter
from sharegptvideo.data.schema import config_of
from sharegptvideo.data.sources.columns import arrow_schema
from sharegptvideo.errors import UserError
from sharegptvideo.training import DpoRecipe, Recipe, SftRecipe, run_recipe
from sharegptvideo.training.examples import sft_dataset
from sharegptvideo.training.families import open_family
from sharegptvideo.training.recipes import LengthLimit
from sharegptvideo.training.streaming import ByWindow, Plan, StreamedRows, streamed_rows


def as_parquet(name: str, release: Path, out: Path, times: int = 1) -> Path:
    """The rows of the fixture as Parquet, a row group for every three rows or so."""
    import pyarrow as pa

    rows = [*read_rows(name, data_dir=release, split="train")]
    rows += [*read_rows(name, data_dir=release, split="validation")]
    rows = [{**row, "id": f"{row['id']}_{n}"} for n in range(times) for row in rows]
    config = config_of(name)
    table = pa.Table.from_pylist(rows, schema=arrow_schema(config))
    with SplitWriter(config, "train", out, group_bytes=200, shard_bytes=900) as writer:
        writer.append(table)
        writer.close()
    return out


@pytest.fixture
def streamed(
    sft_recipe: SftRecipe, release: Path, tmp_path: Path, change: Callable[..., Any]
) -> SftRecipe:
    source = as_parquet("sft", release, tmp_path / "parquet", times=3)
    data = {"data_dir": str(source), "split": "train", "stream": True}
    return change(sft_recipe, data=data)  # type: ignore[no-any-return]


def a_plan(sizes: list[int], dropped: set[int]) -> Plan:
    import numpy as np

    rows = np.array([n for n in range(sum(sizes)) if n not in dropped])
    return Plan(
        files=("a",),
        group_of=np.array([(0, n) for n in range(len(sizes))], dtype=np.int32),
        starts=np.concatenate([[0], np.cumsum(sizes)]),
        rows=rows,
        lengths=(rows % 7 + 1).astype(np.int32),
        clips=rows // 3,
    )


def test_every_row_once_in_each_epoch_and_never_those_left_out() -> None:
    plan = a_plan([30] * 21 + [7], dropped={0, 31, 32, 33, 636})
    sampler = ByWindow(plan, batch=4, seed=5, together=True)
    assert list(plan.of_group(1)) == list(range(29, 56))  # 30 rows less one before, less three
    orders = []
    for epoch in (0, 1):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
        assert sorted(orders[-1]) == list(range(len(plan.rows))) == list(range(637 - 5))
    assert orders[0] != orders[1]
    again = ByWindow(plan, batch=4, seed=5, together=True)
    again.set_epoch(1)
    assert list(again) == orders[1]
    assert list(ByWindow(plan, batch=4, seed=6, together=True)) != orders[0]


def test_only_a_window_of_row_groups_is_read_at_any_time() -> None:
    """Of 40 groups, a batch and what follows it in the next 8 groups' rows never need more."""
    plan = a_plan([20] * 40, dropped=set())
    order = list(ByWindow(plan, batch=8, seed=1, together=False))
    groups = [row // 20 for row in order]
    for start in range(0, len(groups) - 160, 8):
        assert len(set(groups[start : start + 160])) <= 17
    assert len(set(groups[:160])) in (8, 9)


def test_rows_of_a_clip_stand_together() -> None:
    plan = a_plan([30] * 4, dropped=set())
    order = list(ByWindow(plan, batch=6, seed=2, together=True))
    clips = [row // 3 for row in order]
    assert sum(left == right for left, right in pairwise(clips)) >= 75


def test_random_and_plain_order_in_a_window() -> None:
    """All rows once; a clip's three together, or where chance has them."""
    plan = a_plan([30] * 4, dropped=set())
    together, plain = (
        list(ByWindow(plan, batch=6, seed=2, order=order, together=True))
        for order in ("random", "plain")
    )
    assert sorted(together) == sorted(plain) == list(range(120))
    pairs = [sum(a // 3 == b // 3 for a, b in pairwise(one)) for one in (together, plain)]
    assert pairs[0] == 80
    assert pairs[1] < 20


def test_examples_are_those_of_all_rows_prepared(streamed: SftRecipe, tmp_path: Path) -> None:
    family = open_family(streamed)
    rows, report = streamed_rows(streamed, family, tmp_path / "plan", limit=LengthLimit(128))
    prepared, expected = sft_dataset(streamed.data, family, limit=LengthLimit(128))
    assert len(rows) == len(prepared) == report.used == expected.used == 24
    assert len(rows.plan.group_of) >= 6
    assert len(rows.plan.files) >= 2
    for number, row in enumerate(prepared):
        assert rows[number] == {k: v for k, v in row.items() if k != "length"}


def interrupt_at(step: int) -> Callable[[int, int, str], None]:
    def progress(done: int, _total: int, what: str) -> None:
        if done == step and what.startswith("training"):
            raise KeyboardInterrupt

    return progress


def test_a_resume_sees_the_rows_of_an_uninterrupted_run_and_reads_no_others(
    streamed: SftRecipe, change: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve batches an epoch; stopped in the second epoch."""
    recipe = change(streamed, save_every=5, optimisation={"max_steps": 17})
    whole = run_recipe(change(recipe, output=f"{recipe.output}-whole"))
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, progress=interrupt_at(16))
    read: list[int] = []
    original = StreamedRows.__getitem__

    def noted(self: StreamedRows, number: int) -> dict[str, Any]:
        read.append(number)
        return original(self, number)

    monkeypatch.setattr(StreamedRows, "__getitem__", noted)
    result = run_recipe(recipe)
    assert (result.resumed_from, result.steps, result.rows) == (15, 17, 24)
    # TRL looks at the first row; steps 16 and 17 and one batch ahead.
    assert len(read) <= 1 + 3 * 2
    assert [e["loss"] for e in result.log] == [e["loss"] for e in whole.log]
    names = ("model.safetensors",)
    for name in names:
        assert (result.output / name).read_bytes() == (whole.output / name).read_bytes()


def test_pairs_are_streamed_too(
    dpo_recipe: DpoRecipe, release: Path, tmp_path: Path, change: Callable[..., Any]
) -> None:
    source = as_parquet("preferences", release, tmp_path / "parquet")
    data = {"data_dir": str(source), "split": "train", "stream": True}
    recipe = change(dpo_recipe, data=data, optimisation={"max_steps": 3})
    with pytest.raises(UserError, match=r"set dpo\.reference=model, or data\.stream=false"):
        run_recipe(recipe)
    result = run_recipe(change(recipe, dpo={"reference": "model"}))
    assert (result.steps, result.rows) == (3, 4)


def test_jsonl_is_refused_with_the_way_to_parquet(
    sft_recipe: SftRecipe, change: Callable[..., Any]
) -> None:
    with pytest.raises(UserError, match=r"data publish .*--dry-run"):
        run_recipe(change(sft_recipe, data={"stream": True}))


def test_missing_clips_are_refused_or_left_out_before_the_first_step(
    streamed: SftRecipe, release: Path, tmp_path: Path, change: Callable[..., Any]
) -> None:
    media = tmp_path / "media"
    media.mkdir()
    for clip in (release / "videos").iterdir():
        if "red" not in clip.name:
            (media / clip.name).symlink_to(clip)
    recipe: Recipe = change(streamed, data={"media": str(media)})
    with pytest.raises(UserError, match=r"6 rows have no clip .*clip_red_0_0 \(clip_red\)"):
        run_recipe(recipe)
    recipe = change(recipe, data={"missing_media": "skip"}, optimisation={"max_steps": 1})
    result = run_recipe(recipe)
    assert result.rows == 18
    assert "6 rows without a clip or readable image left out" in result.notes[0]


def test_rows_about_clips_alone_are_streamed(
    mixed: Callable[..., SftRecipe], hound: Path, both: Path, tmp_path: Path
) -> None:
    """A mix and a config of images are refused; of conversations, those about clips are taken."""
    root = as_parquet("sft", both, tmp_path / "parquet")
    here = {"data_dir": str(root), "media": str(both), "stream": True}
    with pytest.raises(UserError, match=r"reads one config: give data\.name, or .*stream=false"):
        run_recipe(mixed(hound, data=here))
    images = {**here, "mix": None, "name": "image_captions"}
    with pytest.raises(UserError, match=r"image_captions has none; set data\.stream=false"):
        run_recipe(mixed(hound, data=images))
    talks = {**here, "mix": None, "name": "sft"}
    with pytest.raises(UserError, match=r"8 rows have no clip .*red_0_0 \(not about a clip\)"):
        run_recipe(mixed(hound, data=talks))
    result = run_recipe(
        mixed(hound, data={**talks, "missing_media": "skip"}, optimisation={"max_steps": 1})
    )
    assert result.rows == 8


def test_rows_without_room_for_an_answer_are_refused(
    streamed: SftRecipe, change: Callable[..., Any]
) -> None:
    with pytest.raises(UserError, match="24 rows have no room for an answer"):
        run_recipe(change(streamed, optimisation={"max_length": 24}))


@pytest.mark.slow
@pytest.mark.parametrize("stream", [False, True])
def test_workers_change_nothing_but_the_time(
    stream: bool, streamed: SftRecipe, change: Callable[..., Any]
) -> None:
    """The same weights with none and with two, and resumed in the middle of an epoch."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in workers
    try:
        alone = change(
            streamed, data={"stream": stream}, save_every=3, optimisation={"max_steps": 5}
        )
        helped = change(alone, output=f"{alone.output}-2", data={"workers": 2})
        one = run_recipe(alone)
        with pytest.raises(KeyboardInterrupt):
            run_recipe(helped, progress=interrupt_at(4))
        two = run_recipe(helped)
    finally:
        torch.set_num_threads(threads)
    assert two.resumed_from == 3
    assert [e["loss"] for e in one.log] == [e["loss"] for e in two.log]
    name = "model.safetensors"
    assert (one.output / name).read_bytes() == (two.output / name).read_bytes()

"""The cache with room ahead holds what transformers' own holds, whatever is done to it."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import DynamicCache

from sharegptvideo.modeling.memory import RoomyLayer, rows_of

LAYERS, HEADS, SIZE = 2, 3, 4


def tokens(rows: int, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    keys, values = torch.randn(2, rows, HEADS, count, SIZE, generator=generator)
    return keys, values


def filled(rows: int, count: int) -> DynamicCache:
    cache = DynamicCache()
    for layer in range(LAYERS):
        cache.update(*tokens(rows, count, layer), layer)
    return cache


def plain_rows(cache: DynamicCache, rows: torch.Tensor) -> DynamicCache:
    chosen = copy.deepcopy(cache)
    chosen.batch_select_indices(rows)
    return chosen


def same(left: DynamicCache, right: DynamicCache) -> bool:
    return left.get_seq_length() == right.get_seq_length() and all(
        torch.equal(a.keys, b.keys) and torch.equal(a.values, b.values)
        for a, b in zip(left.layers, right.layers, strict=True)
    )


@pytest.mark.parametrize("steps", [3, 150])  # 64 tokens have room; more make new room
def test_same_as_the_plain_cache_through_growth_selection_and_repetition(steps: int) -> None:
    clips = filled(2, 7)
    before = copy.deepcopy(clips)
    rows = torch.tensor([1, 0, 0, 1, 1])
    ours, plain = rows_of(clips, rows), plain_rows(clips, rows)
    assert all(type(layer) is RoomyLayer for layer in ours.layers)
    for step in range(steps):
        if step == 1:
            for cache in (ours, plain):
                cache.batch_repeat_interleave(2)
        if step == 2:
            for cache in (ours, plain):
                cache.batch_select_indices(torch.tensor([9, 0, 3]))
        count = len(plain.layers[0].keys)
        for layer in range(LAYERS):
            new = tokens(count, 1 + step % 2, 100 + 10 * step + layer)
            given = ours.update(*new, layer)
            expected = plain.update(*new, layer)
            assert all(torch.equal(a, b) for a, b in zip(given, expected, strict=True))
        assert same(ours, plain)
    assert same(clips, before)  # the clips' own cache is not written into


def test_two_copies_of_one_cache_do_not_meet() -> None:
    clips = filled(1, 5)
    first, second = (rows_of(clips, torch.tensor([0, 0])) for _ in range(2))
    first.update(*tokens(2, 1, 1), 0)
    second.update(*tokens(2, 1, 2), 0)
    assert torch.equal(first.layers[0].keys[..., 5:, :], tokens(2, 1, 1)[0])
    assert torch.equal(second.layers[0].keys[..., 5:, :], tokens(2, 1, 2)[0])

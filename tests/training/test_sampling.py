"""The order of rows: all of them, like lengths together, the same after a resume."""

from __future__ import annotations

import itertools
import random

from sharegptvideo.training.sampling import ByLength, Shuffled, row_order

_DRAW = random.Random(7)
LENGTHS = [_DRAW.randrange(20, 200) for _ in range(533)]


def padded(order: list[int]) -> int:
    """Tokens of all batches of 16 when each is padded to its longest row."""
    batches = [order[i : i + 16] for i in range(0, len(order), 16)]
    return sum(len(batch) * max(LENGTHS[row] for row in batch) for batch in batches)


def test_every_row_comes_once_and_in_another_order_each_epoch() -> None:
    sampler = ByLength(LENGTHS, 16, seed=0)
    first = list(sampler)
    assert sorted(first) == list(range(533)) != first
    assert len(sampler) == 533
    sampler.set_epoch(1)
    assert sorted(sampler) == list(range(533))
    assert list(sampler) != first


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    orders = []
    for seed, epoch in ((0, 3), (0, 3), (1, 3)):
        sampler = ByLength(LENGTHS, 16, seed=seed)
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert orders[0] == orders[1] != orders[2]


def test_padding_shrinks_to_near_nothing() -> None:
    order = list(ByLength(LENGTHS, 16, seed=0))
    plain = list(range(533))
    random.Random(0).shuffle(plain)
    assert padded(order) < 1.12 * sum(LENGTHS)
    assert padded(plain) > 1.5 * sum(LENGTHS)


def test_rows_of_a_clip_stand_together() -> None:
    """Three rows a clip: nearly all share their batch with the others, all come once."""
    clips = [str(row // 3) for row in range(533)]
    order = list(ByLength(LENGTHS, 16, seed=0, clips=clips))
    assert sorted(order) == list(range(533))
    batches = [order[i : i + 16] for i in range(0, len(order), 16)]
    pieces = sum(len({clips[row] for row in batch}) for batch in batches)
    whole = len(set(clips))
    assert pieces < 1.35 * whole  # a batch's end cuts a clip at times
    alone = list(ByLength(LENGTHS, 16, seed=0))
    cut = [alone[i : i + 16] for i in range(0, len(alone), 16)]
    assert sum(len({clips[row] for row in batch}) for batch in cut) > 2.5 * whole


def test_random_order_is_no_order_of_length() -> None:
    """As much padding as a plain shuffle; whole, another one each epoch, the same again."""
    order = row_order("random", LENGTHS, 16, 0, clips=None)
    assert not isinstance(order, ByLength)
    first = list(order)
    assert sorted(first) == list(range(533)) != first
    assert padded(first) > 1.5 * sum(LENGTHS)
    order.set_epoch(1)
    assert sorted(order) == list(range(533))
    assert list(order) != first
    assert list(Shuffled(533, 0)) == first


def test_random_keeps_a_clips_rows_and_plain_does_not() -> None:
    clips = [str(row % 100) for row in range(533)]  # of one clip, far apart in the data
    together = list(row_order("random", LENGTHS, 16, 3, clips=clips))
    assert sorted(together) == list(range(533))
    changes = sum(clips[a] != clips[b] for a, b in itertools.pairwise(together))
    assert changes == 99
    plain = list(row_order("plain", LENGTHS, 16, 3, clips=clips))
    assert plain == list(Shuffled(533, 3))
    assert sum(clips[a] != clips[b] for a, b in itertools.pairwise(plain)) > 500

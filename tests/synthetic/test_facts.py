"""Facts of clips and captions: precision, recall and ranks, with numbers worked out by hand."""

from __future__ import annotations

import random

import pytest

from sharegptvideo.synthetic.facts import (
    Fact,
    caption_facts,
    check_caption,
    clip_facts,
    places,
)
from sharegptvideo.synthetic.language import caption
from sharegptvideo.synthetic.state import ClipState, ObjectState, sample_state, state_key

RING = ObjectState("ring", "red", "small", "up", "colour", "blue", None, (1, 2))
STATE = ClipState((RING,), "dotted", dark=True, style="plain")
FACTS = {
    Fact("scene", "count", "one"),
    Fact("scene", "background", "dotted"),
    Fact("scene", "tone", "dark"),
    Fact("ring", "presence", "yes"),
    Fact("ring", "colour", "red"),
    Fact("ring", "size", "small"),
    Fact("ring", "direction", "up"),
    Fact("ring", "then colour", "blue"),
}


def test_facts_of_a_clip():
    assert clip_facts(STATE) == FACTS


@pytest.mark.parametrize(
    ("text", "claimed", "true"),
    [
        (
            "There is one object, and the background is dark and dotted. A small red ring moves up,"
            " from the south to the north. First the ring is red, then it turns blue.",
            8,
            8,
        ),
        # The tone is wrong, and it disappears in place of turning blue.
        (
            "There is one object, and the background is light and dotted. A small red ring moves"
            " up, from the south to the north. Then the ring disappears.",
            8,
            6,
        ),
        ("A red ring.", 2, 2),
        ("A red ring, next to a wooden table.", 3, 2),  # the table
        ("A large white cross moves down.", 4, 0),
        ("We see how a small red ring moves up. Halfway through, it turns from red to red.", 5, 4),
        ("A small red ring moves up first, then the ring turns and moves up.", 5, 4),
        ("A small ring stays still. It does not move and stays still.", 3, 2),
        ("", 0, 0),
        ("northwest of of", 0, 0),
    ],
)
def test_precision_and_recall(text, claimed, true):
    check = check_caption(caption_facts(text), clip_facts(STATE))
    assert (check.claimed, check.true, check.facts) == (claimed, true, 8)
    assert check.recall == true / 8
    assert check.precision == (true / claimed if claimed else 0)
    assert check.f1 == pytest.approx(2 * true / (claimed + 8))


@pytest.mark.parametrize("held_out", [False, True])
def test_every_exact_caption_claims_all_facts_and_no_other(held_out):
    for seed in range(400):
        draw = random.Random(seed)
        state = sample_state(draw, held_out=held_out)
        text = caption(state, draw)
        assert caption_facts(text) == clip_facts(state), text


def test_clips_that_differ_have_different_facts():
    drawn = [sample_state(random.Random(seed), held_out=False) for seed in range(800)]
    keys = {state_key(state) for state in drawn}
    assert len({clip_facts(state) for state in drawn}) == len(keys) > 500


def test_ranks_among_clips():
    red, blue = frozenset({Fact("ring", "colour", "red")}), {Fact("ring", "colour", "blue")}
    small = frozenset({Fact("ring", "size", "small")})
    pool = [red | small, red, small, blue]
    assert places(red | small, 0, pool) == (0, 1)  # it alone has both
    assert places(red, 0, pool) == (0, 2)  # level with the second
    assert places(red | small, 3, pool) == (3, 1)  # none of it holds of the blue one
    assert places(frozenset(), 1, pool) == (0, 4)  # no claim: all are level
    assert places(blue | red | small, 2, pool) == (1, 3)

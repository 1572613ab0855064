"""The exact check: what an answer claims, and whether that is right."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sharegptvideo.synthetic import check_answer, is_right
from sharegptvideo.synthetic.language import INVENTED
from sharegptvideo.synthetic.reading import read_answer
from sharegptvideo.synthetic.state import (
    BACKGROUNDS,
    COLOURS,
    DIRECTIONS,
    SHAPES,
    ClipState,
    ObjectState,
)

# A small red ring moves to the left, then up; a large blue square stays still and does not change.
RING = ObjectState("ring", "red", "small", "left", "turn", None, "up", (1, 1))
SQUARE = ObjectState("square", "blue", "large", "still", "none", None, None, (0, 0))
# A green triangle turns white, and a cross appears.
TRIANGLE = ObjectState("triangle", "green", "small", "right", "colour", "white", None, (0, 1))
CROSS = ObjectState("cross", "purple", "large", "down", "appear", None, None, (2, 0))
GROWING = ObjectState("cross", "red", "small", "still", "grow", None, None, (1, 1))

CLIP = ClipState((RING, SQUARE), "striped", dark=True, style="plain")
OTHER = ClipState((TRIANGLE, CROSS), "plain", dark=False, style="plain")
SINGLE = ClipState((GROWING,), "dotted", dark=False, style="plain")


def question(
    kind: str, about: str | None, attribute: str, *accepted: str, state: ClipState = CLIP
) -> dict[str, Any]:
    """A row as `load_questions` gives it; values of a sequence are parted by blanks."""
    return {
        "kind": kind,
        "about": about,
        "expected": {attribute: [values.split() for values in accepted]},
        "state": state.as_dict(),
    }


COLOUR = question("colour", "ring", "colour", "red")
SHAPE = question("shape", "ring", "shape", "ring")
SIZE = question("size", "ring", "size", "small")
DIRECTION = question("direction", "ring", "direction", "left")
STILL = question("direction", "square", "direction", "still")
TURN = question("order", "ring", "direction", "left up")
UNCHANGED = question("change", "square", "change", "none")
TURNS = question("change", "ring", "direction", "up", "left up")
RECOLOURED = question("change", "triangle", "colour", "white", "green white", state=OTHER)
COLOURS_IN_ORDER = question("order", "triangle", "colour", "green white", state=OTHER)
FIRST_AND_LATER = question("order", None, "shape", "triangle cross", state=OTHER)
GROWS = question("change", "cross", "change", "grows", state=SINGLE)
APPEARS = question("change", "cross", "change", "appears", state=OTHER)
COUNT = question("count", None, "count", "two")
ALONE = question("count", None, "count", "one", state=SINGLE)
BACKGROUND = question("background", None, "background", "striped")
PRESENT = question("presence", "red ring", "polarity", "yes")
A_RING = question("presence", "ring", "polarity", "yes")
ABSENT = question("presence", "cross", "polarity", "no")
GREEN_SQUARE = question("presence", "green square", "polarity", "no")
LAMP = question("presence", "lamp", "polarity", "no")

RIGHT, WRONG, CONTRADICTS = "right", "wrong", "contradicts"


@pytest.mark.parametrize(
    ("asked", "answer", "verdict"),
    [
        # colour
        (COLOUR, "The ring is red.", RIGHT),
        (COLOUR, "red", RIGHT),
        (COLOUR, "It is not blue, it is red.", RIGHT),
        (COLOUR, "The ring isn't blue but red.", RIGHT),
        (COLOUR, "The small red ring on the striped background.", RIGHT),
        (COLOUR, "The ring is red. The square is blue.", RIGHT),
        (COLOUR, "The ring is red, and there is no lamp.", RIGHT),
        (COLOUR, "The ring is red without a fence.", RIGHT),
        (COLOUR, "The ring is blue.", WRONG),
        (COLOUR, "The ring is not red.", WRONG),
        (COLOUR, "The ring isn't red.", WRONG),
        (COLOUR, "The ring is not blue.", WRONG),
        (COLOUR, "Not blue, red.", WRONG),  # can be read as denying both
        (COLOUR, "The square is red.", WRONG),
        (COLOUR, "The triangle is red.", WRONG),
        (COLOUR, "The ring is red. The square is red.", WRONG),
        (COLOUR, "The ring is red, with a lamp hanging above.", WRONG),
        (COLOUR, "The ring is red, in front of a wooden fence.", WRONG),
        (COLOUR, "The ring is red or blue.", WRONG),
        (COLOUR, "The ring is red and blue.", WRONG),
        (COLOUR, "Yes, the ring is red.", WRONG),
        (COLOUR, "Is the ring red?", WRONG),
        (COLOUR, "It is false that the ring is red.", WRONG),
        (COLOUR, "There is no red ring.", WRONG),
        (COLOUR, "", WRONG),
        (COLOUR, "The ring is red and the ring is not red.", CONTRADICTS),
        (COLOUR, "There is a red ring. There is no ring.", CONTRADICTS),
        (COLOUR, "Yes and no.", CONTRADICTS),
        # shape
        (SHAPE, "It is a ring.", RIGHT),
        (SHAPE, "The red object is a ring.", RIGHT),
        (SHAPE, "It is not a square, it is a ring.", RIGHT),
        (SHAPE, "It is not a ring.", WRONG),
        (SHAPE, "It is a square.", WRONG),
        (SHAPE, "It is a ring or a square.", WRONG),
        (SHAPE, "The blue object is a ring, next to a wooden table.", WRONG),
        (SHAPE, "It is a ring, it is not a ring.", CONTRADICTS),
        # size
        (SIZE, "The ring is small.", RIGHT),
        (SIZE, "The ring is not large but small.", RIGHT),
        (SIZE, "The ring is large.", WRONG),
        (SIZE, "The ring is not small.", WRONG),
        (SIZE, "The ring is small or large.", WRONG),
        (SIZE, "The ring is small and large.", CONTRADICTS),
        # direction
        (DIRECTION, "The ring moves to the left.", RIGHT),
        (DIRECTION, "The ring moves left at first.", RIGHT),
        (DIRECTION, "The ring does not stay still, it moves left.", RIGHT),
        (DIRECTION, "The ring moves to the right.", WRONG),
        (DIRECTION, "The ring does not move to the left.", WRONG),
        (DIRECTION, "The ring moves.", WRONG),
        (DIRECTION, "The ring stays still.", WRONG),
        (DIRECTION, "The ring moves to the left and stays still.", CONTRADICTS),
        (DIRECTION, "The ring moves to the left and does not move.", CONTRADICTS),
        (STILL, "The square stays still.", RIGHT),
        (STILL, "The square does not move and stays still.", RIGHT),
        (STILL, "The square doesn't move.", RIGHT),
        (STILL, "It is motionless.", RIGHT),
        (STILL, "The square does not stay still.", WRONG),
        (STILL, "The square never stays still.", WRONG),
        (STILL, "The square isn\u2019t still.", WRONG),
        (STILL, "The square moves.", WRONG),
        (STILL, "The square does not move to the left.", WRONG),
        (STILL, "The square stays still and does not stay still.", CONTRADICTS),
        # order
        (TURN, "First it moves to the left, then up.", RIGHT),
        (TURN, "It moves up after it moves left.", RIGHT),
        (TURN, "Before it moves up, it moves to the left.", RIGHT),
        (TURN, "Then it moves up, first to the left.", RIGHT),
        (TURN, "First it moves up, then to the left.", WRONG),
        (TURN, "It moves to the left after it moves up.", WRONG),
        (TURN, "It moves to the left.", WRONG),
        (TURN, "First it moves to the left, then it does not move up.", WRONG),
        (TURN, "It moves left or up.", WRONG),
        (COLOURS_IN_ORDER, "First it is green, then white.", RIGHT),
        (COLOURS_IN_ORDER, "It turns from green to white.", RIGHT),
        (COLOURS_IN_ORDER, "It turns white from green.", RIGHT),
        (COLOURS_IN_ORDER, "It turns from white to green.", WRONG),
        (COLOURS_IN_ORDER, "First it is green.", WRONG),
        (COLOURS_IN_ORDER, "First it is green, then not white.", WRONG),
        (FIRST_AND_LATER, "First there is the triangle, then the cross appears.", RIGHT),
        (FIRST_AND_LATER, "First there is the cross, then the triangle appears.", WRONG),
        (FIRST_AND_LATER, "First there is the triangle, then the cross disappears.", WRONG),
        # change
        (UNCHANGED, "The square does not change.", RIGHT),
        (UNCHANGED, "Nothing about the square changes.", RIGHT),
        (UNCHANGED, "It stays the same.", RIGHT),
        (UNCHANGED, "The square does not grow.", WRONG),
        (UNCHANGED, "The square changes.", WRONG),
        (UNCHANGED, "The square does not change, with a lamp hanging above.", WRONG),
        (UNCHANGED, "The square does not change with a lamp hanging above.", WRONG),
        (UNCHANGED, "The square does not change, it grows.", CONTRADICTS),
        (TURNS, "The ring turns and moves up.", RIGHT),
        (TURNS, "The ring does not turn and moves down.", WRONG),
        (TURNS, "The ring does not move up.", WRONG),
        (RECOLOURED, "The triangle turns white.", RIGHT),
        (RECOLOURED, "The triangle turns from green to white.", RIGHT),
        (RECOLOURED, "The triangle does not turn white.", WRONG),
        (RECOLOURED, "The triangle turns red.", WRONG),
        (GROWS, "The cross grows.", RIGHT),
        (GROWS, "It gets bigger.", RIGHT),
        (GROWS, "It does not shrink, it grows.", RIGHT),
        (GROWS, "The cross does not grow.", WRONG),
        (GROWS, "The cross shrinks.", WRONG),
        (GROWS, "The cross grows and does not grow.", CONTRADICTS),
        (APPEARS, "The cross appears.", RIGHT),
        (APPEARS, "The cross does not appear.", WRONG),
        (APPEARS, "The cross disappears.", WRONG),
        # count
        (COUNT, "There are two objects.", RIGHT),
        (COUNT, "Two.", RIGHT),
        (COUNT, "There is one object.", WRONG),
        (COUNT, "There are not two objects.", WRONG),
        (COUNT, "There are no objects.", WRONG),
        (COUNT, "There are three objects.", WRONG),
        (COUNT, "There are one or two objects.", WRONG),
        (COUNT, "There are two objects, and there is one object.", CONTRADICTS),
        (ALONE, "There is one object.", RIGHT),
        (ALONE, "There is a single object.", RIGHT),
        (ALONE, "There are two crosses.", WRONG),
        # background
        (BACKGROUND, "The background is striped.", RIGHT),
        (BACKGROUND, "The background is dark and striped.", RIGHT),
        (BACKGROUND, "The background is light and striped.", WRONG),
        (BACKGROUND, "The background is not striped.", WRONG),
        (BACKGROUND, "The background is dotted.", WRONG),
        (BACKGROUND, "The background is striped, it is not striped.", CONTRADICTS),
        # presence
        (PRESENT, "Yes, there is a red ring.", RIGHT),
        (PRESENT, "Yes.", RIGHT),
        (PRESENT, "Yes, it is.", RIGHT),
        (PRESENT, "Yes, there is a small red ring that moves to the left.", RIGHT),
        (PRESENT, "Yes, there is a ring.", RIGHT),
        (PRESENT, "Yes, there is a blue square.", WRONG),
        (PRESENT, "is red ring.", WRONG),
        (PRESENT, "No.", WRONG),
        (PRESENT, "No, there is no red ring.", WRONG),
        (PRESENT, "Yes, there is a red ring, while a bird flies past.", WRONG),
        (PRESENT, "Yes, there is a red ring. It stays still.", WRONG),
        (PRESENT, "There is no red ring.", WRONG),
        (PRESENT, "Maybe.", WRONG),
        (PRESENT, "Yes, there is no red ring.", CONTRADICTS),
        (PRESENT, "Yes, there is no ring.", CONTRADICTS),
        (PRESENT, "No, there is a red ring.", CONTRADICTS),
        (PRESENT, "Yes and no.", CONTRADICTS),
        (PRESENT, "Yes. No.", CONTRADICTS),
        (PRESENT, "Yes, there is not.", CONTRADICTS),
        (PRESENT, "Yes, the red ring is not in the video.", CONTRADICTS),
        (PRESENT, "Yes, a red ring is missing.", CONTRADICTS),
        (A_RING, "Yes, there is a blue ring.", WRONG),
        (
            A_RING,
            "Yes, there is no red ring.",
            WRONG,
        ),  # another ring may be meant; this one is there
        (ABSENT, "No, there is no cross.", RIGHT),
        (ABSENT, "No.", RIGHT),
        (ABSENT, "There is no cross.", WRONG),
        (ABSENT, "No cross.", WRONG),
        (ABSENT, "is no cross.", WRONG),
        (ABSENT, "No, there is no square.", WRONG),
        (ABSENT, "No, there is no lamp.", WRONG),
        (ABSENT, "No, there is no moves to the right.", WRONG),
        (ABSENT, "No, there is no cross, there is no lamp.", RIGHT),
        (ABSENT, "No, the cross is not in the video.", RIGHT),
        (ABSENT, "No, I can't see a cross.", RIGHT),
        (ABSENT, "No, there is no cross, there is a red ring.", RIGHT),
        (ABSENT, "No, there is no cross, there is a green ring.", WRONG),
        (ABSENT, "No, there is no cross or ring.", WRONG),
        (ABSENT, "Yes, there is a cross.", WRONG),
        (ABSENT, "There is a cross.", WRONG),
        (ABSENT, "A ring.", WRONG),
        (ABSENT, "No, there is a cross.", CONTRADICTS),
        (ABSENT, "Yes, there is no cross.", CONTRADICTS),
        (ABSENT, "No, the cross is not absent.", CONTRADICTS),
        (GREEN_SQUARE, "No, there is no green square.", RIGHT),
        (GREEN_SQUARE, "No, the square is blue.", RIGHT),
        (GREEN_SQUARE, "No, there is a square, but it is not green.", RIGHT),
        (GREEN_SQUARE, "No, there is no square.", WRONG),
        (GREEN_SQUARE, "Yes, there is a square.", WRONG),
        (GREEN_SQUARE, "Yes, there is no square.", CONTRADICTS),
        (GREEN_SQUARE, "No, there is a green square.", CONTRADICTS),
        (GREEN_SQUARE, "Yes, there is nothing green in the video.", WRONG),
        (LAMP, "No, there is no lamp.", RIGHT),
        (LAMP, "Yes, there is a lamp.", WRONG),
        (LAMP, "No, there is a lamp.", CONTRADICTS),
        (LAMP, "Yes, there is no lamp.", CONTRADICTS),
    ],
)
def test_answers(asked: dict[str, Any], answer: str, verdict: str) -> None:
    checked = check_answer(asked, answer)
    found = CONTRADICTS if checked.contradicts else RIGHT if checked.right else WRONG
    assert found == verdict, checked.reason
    assert is_right(asked, answer) == (verdict == RIGHT)
    assert checked.reason


def test_reading_keeps_order_and_ignores_other_words() -> None:
    found = read_answer("First a Blue ring moves down, then two squares; it reappears elsewhere.")
    assert [(c.attribute, c.value, c.subject) for c in found.claims] == [
        ("colour", "blue", "ring"),
        ("direction", "down", "ring"),
        ("copies", "two square", None),
    ]
    assert [mention.noun for mention in found.mentions] == ["ring", "square"]
    assert found.in_order
    assert not found.polarities


# Clauses about an object, true or false, asserted or denied, with what they are about.


def _values(item: ObjectState, attribute: str) -> tuple[tuple[str, ...], set[str]]:
    """The values that may be said of an attribute, and those that hold of `item`."""
    return {
        "colour": (COLOURS, {item.colour, item.new_colour or item.colour}),
        "size": (("small", "large"), {item.size}),
        "direction": ((*DIRECTIONS, "still"), {item.motion, item.new_motion or item.motion}),
    }[attribute]


def _clause(shape: str, attribute: str, value: str, denied: bool, form: int) -> str:
    if attribute == "direction":
        does = "stay still" if value == "still" else f"move {value}"
        asserted = "stays still" if value == "still" else f"moves {value}"
        return f"the {shape} {f'does not {does}' if denied else asserted}"
    negation = (" not", "n't", " never")[form % 3] if denied else ""
    return f"the {shape} is{negation} {value}"


@st.composite
def _said(draw: st.DrawFn) -> tuple[ClipState, ObjectState, list[tuple[str, str, str, bool]]]:
    state = draw(st.sampled_from((CLIP, OTHER)))
    asked = draw(st.sampled_from(state.objects))
    claims = []
    for _ in range(draw(st.integers(1, 4))):
        item = draw(st.sampled_from(state.objects))
        attribute = draw(st.sampled_from(("colour", "size", "direction")))
        value = draw(st.sampled_from(_values(item, attribute)[0]))
        claims.append((item.shape, attribute, value, draw(st.booleans())))
    return state, asked, claims


@settings(max_examples=600, deadline=None)
@given(_said(), st.sampled_from(("colour", "size", "direction")), st.integers(0, 5), st.data())
def test_composed_answers_get_the_verdict_of_their_parts(
    said: tuple[ClipState, ObjectState, list[tuple[str, str, str, bool]]],
    attribute: str,
    form: int,
    data: st.DataObject,
) -> None:
    """The verdict is worked out from the parts, in plain sets, without reading the text."""
    state, asked, claims = said
    items = {item.shape: item for item in state.objects}
    wanted = {"colour": asked.colour, "size": asked.size, "direction": asked.motion}[attribute]
    row = question(attribute, asked.shape, attribute, wanted, state=state)
    joint = data.draw(st.sampled_from((". ", ", ", " and ", " but ")))
    text = joint.join(_clause(s, a, v, denied, form) for s, a, v, denied in claims) + "."

    asserted = {(s, a, v) for s, a, v, denied in claims if not denied}
    refused = {(s, a, v) for s, a, v, denied in claims if denied}
    contradicts = bool(asserted & refused) or any(
        (s, a) == (t, b) and v != w and (a == "size" or (a == "direction" and "still" in (v, w)))
        for s, a, v in asserted
        for t, b, w in asserted
    )
    stated = [v for s, a, v in asserted if (s, a) == (asked.shape, attribute)]
    false = any(v not in _values(items[s], a)[1] for s, a, v in asserted)
    false |= any(v in _values(items[s], a)[1] for s, a, v in refused)
    checked = check_answer(row, text)
    assert checked.contradicts == contradicts, (text, checked)
    assert checked.right == (not contradicts and stated == [wanted] and not false), (text, checked)


_PARTS = ("yes", "no", "there is a {}", "there is no {}", "i can see a {}", "i can not see a {}",
          "the {} is not in the video", "a {} is missing", "there is not")  # fmt: skip
_MEANS = (True, False, True, False, True, False, False, False, False)


@settings(max_examples=600, deadline=None)
@given(
    st.sampled_from((PRESENT, A_RING, ABSENT, GREEN_SQUARE, LAMP)),
    st.lists(st.integers(0, len(_PARTS) - 1), min_size=1, max_size=4),
    st.sampled_from((". ", ", ", " and ", "; ")),
)
def test_yes_and_no_are_counted_in_every_clause(
    asked: dict[str, Any], parts: list[int], joint: str
) -> None:
    text = joint.join(_PARTS[part].format(asked["about"]) for part in parts) + "."
    meant = {_MEANS[part] for part in parts}
    checked = check_answer(asked, text)
    assert checked.contradicts == (len(meant) == 2), (text, checked)
    in_words = bool({0, 1} & set(parts))
    right = in_words and meant == {asked["expected"]["polarity"] == [["yes"]]}
    assert checked.right == right, (text, checked)


@given(st.sampled_from((COLOUR, SHAPE, SIZE, DIRECTION, STILL, UNCHANGED, BACKGROUND, COUNT)),
       st.sampled_from([words for _, words in INVENTED.values()]),
       st.sampled_from((", {}", " {}", ". {}")))  # fmt: skip
def test_an_invented_detail_is_never_right(asked: dict[str, Any], detail: str, form: str) -> None:
    values = next(iter(asked["expected"].values()))[0]
    right = {
        "still": "The square stays still",
        "none": "The square does not change",
        "two": "There are two objects",
        "ring": "It is a ring",
    }.get(values[0], values[0])
    assert is_right(asked, right)
    assert not is_right(asked, right + form.format(detail))
    checked = check_answer(asked, right + form.format(detail), ignore_things=True)
    assert checked.right


def test_every_background_can_be_told_apart() -> None:
    for shown in BACKGROUNDS:
        state = ClipState((RING, SQUARE), shown, dark=True, style="plain")
        row = question("background", None, "background", shown, state=state)
        for said in BACKGROUNDS:
            assert is_right(row, f"The background is {said}.") == (said == shown)


def test_shapes_can_be_told_apart() -> None:
    for said in SHAPES:
        assert is_right(SHAPE, f"It is a {said}.") == (said == "ring")

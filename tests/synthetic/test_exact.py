"""The exact check: what an answer claims, and whether that is right."""

from __future__ import annotations

import pytest

from sharegptvideo.synthetic import claims, is_right

COLOUR = {"expected": {"colour": [["red"]]}, "allowed": {"shape": ["ring"]}}
ORDER = {"expected": {"direction": [["left", "up"]]}, "allowed": {"shape": ["ring"]}}
ABSENT = {"expected": {"polarity": [["no"]]}, "allowed": {"shape": ["ring"]}}


@pytest.mark.parametrize(
    ("question", "answer", "right"),
    [
        (COLOUR, "The ring is red.", True),
        (COLOUR, "red", True),
        (COLOUR, "The ring is blue.", False),
        (COLOUR, "The square is red.", False),
        (COLOUR, "The ring is red, with a lamp hanging above.", False),
        (COLOUR, "The ring is red or blue.", False),
        (COLOUR, "", False),
        (ORDER, "First it moves to the left, then up.", True),
        (ORDER, "First it moves up, then to the left.", False),
        (ORDER, "It moves to the left.", False),
        (ABSENT, "No, there is no ring.", True),
        (ABSENT, "No.", True),
        (ABSENT, "Yes, there is a ring.", False),
        (ABSENT, "There is no ring.", False),
    ],
)
def test_answers(question: dict[str, object], answer: str, right: bool) -> None:
    assert is_right(question, answer) is right


def test_claims_keep_their_order_and_ignore_other_words() -> None:
    found = claims("Yes, first a Blue ring moves down, then two red squares; it reappears upwards.")
    assert found["colour"] == ("blue", "red")
    assert found["direction"] == ("down",)
    assert found["polarity"] == ("yes",)
    assert found["count"] == ("two",)
    assert "change" not in found
    assert "size" not in found

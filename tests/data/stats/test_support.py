"""How much of an answer a caption supports, by hand."""

from __future__ import annotations

import pytest

from sharegptvideo.data.stats.answerability import (
    Asked,
    Support,
    SupportTotals,
    question_kind,
    support,
    support_block,
)

CAPTION = "A brown dog with a red collar runs over the grass. It does not bark."


@pytest.mark.parametrize(
    ("question", "answer", "wanted"),
    [
        ("What color is the collar?", "red", Support(1.0, None)),
        ("What color is the collar?", "blue", Support(0.0, None)),
        # A collar's colour weighs half as much as the thing: dog 10, black 5 of 15.
        ("What is there?", "A black dog.", Support(10 / 15, None)),
        ("What animal is it?", "an animal", Support(0.8, None)),  # a dog is one
        ("Is the dog on the grass?", "Yes.", Support(1.0, True)),
        ("Is the cat on the sofa?", "Yes, it is.", Support(0.0, True)),
        ("Is there a cat?", "No.", Support(None, False)),
        ("What is there?", "...", Support(None, None)),
        # What the caption only denies, it does not support.
        ("What does the dog do?", "barks", Support(0.0, None)),
    ],
)
def test_support_by_hand(question: str, answer: str, wanted: Support) -> None:
    found = support(question, answer, CAPTION)
    assert found.polarity == wanted.polarity
    assert found.share == pytest.approx(wanted.share)


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("How many dogs are there?", "how many"),
        ("How does it look?", "how"),
        ("In which room is she?", "which"),
        ("Who is it that does what?", "who"),
        ("Describe the dog.", "other"),
    ],
)
def test_kinds_of_question(question: str, kind: str) -> None:
    assert question_kind(question, None) == kind


def test_yes_or_no_goes_before_wording() -> None:
    assert question_kind("Is this where she lives?", True) == "yes or no"


def test_chance_is_another_videos_caption_and_sums_are_by_source() -> None:
    asked = [
        Asked("A", "v1", "What is it?", "dog", "A dog."),
        Asked("A", "v1", "What is it?", "cat", "A dog."),
        Asked("B", "v2", "What is it?", "cat", "A cat."),
        Asked("B", "v2", "Is it a dog?", "No.", "A cat."),
    ]
    found = support_block(asked)
    assert [one.share for one in found] == [1.0, 0.0, 1.0, None]
    assert [one.chance for one in found[:3]] == [0.0, 1.0, 0.0]
    totals = SupportTotals(without_caption=2)
    totals.add(found)
    figures = totals.figures()
    assert (figures["questions"], figures["mean"], figures["chance"]) == (3, 2 / 3, 1 / 3)
    assert (figures["full"], figures["part"], figures["none"]) == (2 / 3, 0, 1 / 3)
    assert figures["not_measured"] == {
        "without_caption": 2, "answered_no": 1, "without_key_words": 0,
    }  # fmt: skip
    assert figures["by_source"]["A"]["mean"] == 0.5
    assert figures["by_question"]["what"]["questions"] == 3


def test_one_video_has_no_chance() -> None:
    found = support_block([Asked("A", "v", "What is it?", "dog", "A dog.")] * 2)
    assert [one.chance for one in found] == [None, None]
    totals = SupportTotals()
    totals.add(found)
    assert totals.figures()["chance"] is None

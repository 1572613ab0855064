"""How much of an answer a caption supports, by hand."""

from __future__ import annotations

import pytest

from sharegptvideo.data.stats.answerability import (
    Answerability,
    AnswerabilityTotals,
    Question,
    answerability,
    answerability_of_batch,
    question_kind,
)

CAPTION = "A brown dog with a red collar runs over the grass. It does not bark."


@pytest.mark.parametrize(
    ("question", "answer", "wanted"),
    [
        ("What color is the collar?", "red", Answerability(1.0, None)),
        ("What color is the collar?", "blue", Answerability(0.0, None)),
        # A collar's colour weighs half as much as the thing: dog 10, black 5 of 15.
        ("What is there?", "A black dog.", Answerability(10 / 15, None)),
        ("What animal is it?", "an animal", Answerability(0.8, None)),  # a dog is one
        ("Is the dog on the grass?", "Yes.", Answerability(1.0, True)),
        ("Is the cat on the sofa?", "Yes, it is.", Answerability(0.0, True)),
        ("Is there a cat?", "No.", Answerability(None, False)),
        ("What is there?", "...", Answerability(None, None)),
        # What the caption only denies, it does not support.
        ("What does the dog do?", "barks", Answerability(0.0, None)),
    ],
)
def test_answerability_by_hand(question: str, answer: str, wanted: Answerability) -> None:
    score = answerability(question, answer, CAPTION)
    assert score.polarity == wanted.polarity
    assert score.share == pytest.approx(wanted.share)


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
        Question("A", "v1", "What is it?", "dog", "A dog."),
        Question("A", "v1", "What is it?", "cat", "A dog."),
        Question("B", "v2", "What is it?", "cat", "A cat."),
        Question("B", "v2", "Is it a dog?", "No.", "A cat."),
    ]
    scores = answerability_of_batch(asked)
    assert [one.share for one in scores] == [1.0, 0.0, 1.0, None]
    assert [one.chance for one in scores[:3]] == [0.0, 1.0, 0.0]
    totals = AnswerabilityTotals(without_caption=2)
    totals.add(scores)
    figures = totals.figures()
    assert (figures["questions"], figures["mean"], figures["chance"]) == (3, 2 / 3, 1 / 3)
    assert (figures["full"], figures["part"], figures["none"]) == (2 / 3, 0, 1 / 3)
    assert figures["not_measured"] == {
        "without_caption": 2, "answered_no": 1, "without_key_words": 0,
    }  # fmt: skip
    assert figures["by_source"]["A"]["mean"] == 0.5
    assert figures["by_question"]["what"]["questions"] == 3


def test_one_video_has_no_chance() -> None:
    scores = answerability_of_batch([Question("A", "v", "What is it?", "dog", "A dog.")] * 2)
    assert [one.chance for one in scores] == [None, None]
    totals = AnswerabilityTotals()
    totals.add(scores)
    assert totals.figures()["chance"] is None

"""`exact`, the normaliser beneath all text judges, and the look-up of judges by name."""

from __future__ import annotations

import pytest

from sharegptvideo import judges
from sharegptvideo.errors import UserError
from sharegptvideo.judges import Exact, Judge, JudgeItem, open_judge
from sharegptvideo.judges.rules.text import parse, plain, stem


def verdicts(*pairs: tuple[str, str]) -> list[bool | None]:
    items = [JudgeItem(str(i), "t", "v", "Q", r, p) for i, (r, p) in enumerate(pairs)]
    return [verdict.correct for verdict in Exact().judge(items)]


def test_exact_overlooks_case_marks_articles_and_number_words() -> None:
    assert verdicts(
        ("two", "2"),
        ("The Dog.", "a dog"),
        ("ice-cream", "ice cream"),
        ("dog", "dogs"),
        ("dog", "a dog runs"),
        ("no", ""),
    ) == [True, True, True, False, False, False]


def test_exact_scores_five_or_one_and_leaves_an_empty_reference_unscored() -> None:
    items = [JudgeItem(i, "t", "v", "Q", r, "a") for i, r in (("1", "a b"), ("2", "b"), ("3", "!"))]
    items.append(JudgeItem("4", "t", "v", "Q", "x", "X!"))
    found = {v.id: (v.status, v.score) for v in Exact().judge(items)}
    assert found == {
        "1": ("scored", 1.0),
        "2": ("scored", 1.0),
        "3": ("unscored", None),
        "4": ("scored", 5.0),
    }


@pytest.mark.parametrize(
    "family",
    [
        "play plays played playing",
        "chop chops chopped chopping slice slicing",
        "dance dances danced dancing",
        "carry carries carried carrying",
        "box boxes",
        "horse horses",
        "child children kid kids",
        "knife knives",
        "use uses used using",
        "grass gras",
        "ride rode ridden riding",
        "colour color colours",
        "two 2",
        "quick quickly fast",
    ],
)
def test_forms_of_one_word_share_a_stem(family: str) -> None:
    assert len({stem(word) for word in family.split()}) == 1


@pytest.mark.parametrize(
    "different",
    ["bee be", "toe to", "red reed", "king kite", "man woman", "left right", "seed see"],
)
def test_different_words_keep_different_stems(different: str) -> None:
    a, b = different.split()
    assert stem(a) != stem(b)


def test_negation_reaches_a_few_words_and_ends_with_the_clause() -> None:
    negated = {
        t.stem for t in parse("It isn't a dog, it is a cat without fur.").tokens if t.negated
    }
    assert stem("dog") in negated
    assert stem("fur") in negated
    assert stem("cat") not in negated


def test_plain_keeps_other_scripts() -> None:
    assert plain("Ein Hünd — 二") == "ein hünd 二"


def test_judges_are_found_by_name() -> None:
    assert isinstance(open_judge("exact"), Judge)
    assert open_judge("answer-match").name == "answer-match"
    assert open_judge("openai:m").name == "openai:m"
    assert judges.open_judge is open_judge


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("answer_match", "did you mean answer-match"),
        ("exat", "did you mean exact"),
        ("openai:", "write openai:NAME"),
        ("", "unknown judge"),
    ],
)
def test_unknown_judges_name_the_nearest(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_judge(spec)

"""One task's figures: nothing asked is lost from the denominator."""

from __future__ import annotations

from typing import Any

import pytest

from sharegptvideo.eval.score import score_task

Row = dict[str, Any]


def rows(*videos: str) -> list[Row]:
    return [{"id": str(i), "video": video} for i, video in enumerate(videos)]


def good(*ids: str) -> dict[str, Row]:
    return {key: {"status": "ok"} for key in ids}


def verdict(correct: bool, score: float) -> Row:
    return {"status": "scored", "correct": correct, "score": score}


UNSCORED: Row = {"status": "unscored", "correct": None, "score": None}


def test_a_small_task_by_hand() -> None:
    """Five questions: two right, one wrong, one failed, one unscored.

    Known outcomes 1, 1 | 0, 0 in clusters a (two) and b (two): m = 1/2, residual sums 1 and −1,
    se² = 2/1 · 2 / 16 = 1/4. Scores 5, 4, 2 and 1 for the failed one.
    """
    found = score_task(
        rows("a", "a", "b", "b", "c"),
        good("0", "1", "2", "4") | {"3": {"status": "failed", "error": "missing clip x"}},
        {"0": verdict(True, 5), "1": verdict(True, 4), "2": verdict(False, 2), "4": UNSCORED},
    )
    assert found["n"] == 5
    assert (found["n_predicted"], found["n_failed"]) == (4, 1)
    assert (found["n_scored"], found["n_unscored"]) == (3, 1)
    assert found["coverage"] == pytest.approx(4 / 5)
    assert found["accuracy"]["value"] == pytest.approx(0.5)
    assert found["accuracy"]["se"] == pytest.approx(0.5)
    assert found["accuracy_bounds"] == [pytest.approx(2 / 5), pytest.approx(3 / 5)]
    assert found["score"]["value"] == pytest.approx(3.0)
    # The authors leave out the failed one, and the one without a reply.
    assert found["paper_accuracy"] == pytest.approx(2 / 3)
    assert found["paper_score"] == pytest.approx(11 / 3)
    assert found["paper_n"] == {"accuracy": 3, "score": 3}
    assert found["clusters"] == 3
    assert found["missing_clips"] == ["x"]
    assert found["failures"] == {"missing clip": 1}


def test_failed_predictions_do_not_shrink_the_denominator() -> None:
    predictions = good("0") | {str(i): {"status": "failed", "error": "e"} for i in range(1, 10)}
    found = score_task(rows(*"abcdefghij"), predictions, {"0": verdict(True, 5)})
    assert found["accuracy"]["value"] == pytest.approx(0.1)
    assert found["paper_accuracy"] == 1.0
    assert found["coverage"] == 1.0


def test_no_prediction_and_no_judgement_are_counted() -> None:
    found = score_task(rows("a", "b", "c"), good("0", "1"), {"0": verdict(True, 5)})
    assert (found["n_failed"], found["n_unscored"]) == (1, 1)
    assert found["failures"] == {"no prediction": 1}


def test_a_verdict_on_a_failed_prediction_is_not_looked_at() -> None:
    predictions = {"0": {"status": "failed", "error": "e"}}
    found = score_task(rows("a"), predictions, {"0": verdict(True, 5)})
    assert found["accuracy"]["value"] == 0.0
    assert found["n_scored"] == 0
    assert found["paper_n"] == {"accuracy": 0, "score": 0}


def test_a_failed_prediction_scores_the_lowest() -> None:
    predictions = {"0": {"status": "failed", "error": "e"}}
    assert score_task(rows("a"), predictions, {})["score"]["value"] == 1.0
    assert score_task(rows("a"), predictions, {}, lowest_score=0.0)["score"]["value"] == 0.0


def test_nothing_known_gives_null_and_wide_bounds() -> None:
    found = score_task(rows("a", "b"), good("0", "1"), {})
    assert found["accuracy"] == {
        "value": None,
        "se": None,
        "ci95": None,
        "ci95_bootstrap": None,
        "n": 0,
    }
    assert found["accuracy_bounds"] == [0.0, 1.0]
    assert found["coverage"] == 0.0
    assert score_task([], {}, {})["coverage"] is None


def test_mistakes_are_errors() -> None:
    twice = [{"id": "0", "video": "a"}, {"id": "0", "video": "b"}]
    with pytest.raises(ValueError, match="'0' is asked twice"):
        score_task(twice, {}, {})
    with pytest.raises(ValueError, match="no cluster id"):
        score_task([{"id": "0", "video": None}], {}, {})
    with pytest.raises(ValueError, match="does not say whether correct"):
        score_task(rows("a"), good("0"), {"0": {"status": "scored", "correct": None, "score": 5}})


def test_missing_clips_are_listed_once_in_order() -> None:
    predictions = {
        str(i): {"status": "failed", "error": error}
        for i, error in enumerate(["missing clip b", "missing clip a", "missing clip b", "broken"])
    }
    found = score_task(rows("b", "a", "b", "c"), predictions, {})
    assert found["missing_clips"] == ["b", "a"]
    assert found["failures"] == {"missing clip": 3, "broken": 1}

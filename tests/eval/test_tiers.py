"""Tiers: tests of all pairs and the rule, with numbers by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharegptvideo._io import write_json, write_jsonl
from sharegptvideo.eval.comparison import compare_runs
from sharegptvideo.eval.score import score_task
from sharegptvideo.eval.tiers import (
    PairTest,
    Tier,
    Values,
    mean_of_tasks,
    pair_tests,
    rank_tiers,
)


def answers(*right: int, of: int = 4) -> Values:
    """Answers to `of` questions on each of several videos, the first `right` of them right."""
    return {
        f"{video}-{n}": (f"v{video}", float(n < count))
        for video, count in enumerate(right)
        for n in range(of)
    }


def test_tiers_by_hand() -> None:
    """Eight videos, a question each: A is right on all, C on five of them, B on none.

    A and B: all eight changed, for the better: of 2⁸ ways to set signs two give as much, 1/128.
    A and C: three changed, 2/2³ = 1/4 (t: 3/8 and se² = 8/7 · (3 · 25/64 + 5 · 9/64) / 64, p 0.08).
    C and B: five changed, 2/2⁵ = 1/16 (t: 0.011). Holm: 3/128, 2/16, 1/4.
    A opens tier 1, C does not differ from it, B does: tier 2. C and B do not differ, so that both
    reach from 1 to 2.
    """
    runs = [answers(*[right] * 8, of=1) for right in (0, 1)] + [answers(*[1] * 5, 0, 0, 0, of=1)]
    tests = pair_tests([[one] for one in runs])
    assert {pair: test.p_value for pair, test in tests.items()} == pytest.approx(
        {(0, 1): 1 / 128, (0, 2): 1 / 16, (1, 2): 1 / 4}
    )
    p_holm = [test.p_holm for test in tests.values()]
    assert p_holm == pytest.approx([3 / 128, 2 / 16, 1 / 4])
    assert tests[1, 2].delta == pytest.approx(-3 / 8)
    assert rank_tiers([0.0, 1.0, 5 / 8], tests) == [
        Tier(2, (1, 2)), Tier(1, (1, 1)), Tier(1, (1, 2)),
    ]  # fmt: skip


def test_few_changes_are_not_taken_for_many() -> None:
    """Four of 40 videos changed, all for the better. t says 0.044: mean 1/10, squares less it
    4 · 0.81 + 36 · 0.01 = 3.6, se² = 40/39 · 3.6/40². By signs it is 2/2⁴.
    """
    before, after = answers(*[0] * 40, of=1), answers(*[1] * 4, *[0] * 36, of=1)
    (test,) = pair_tests([[before], [after]]).values()
    assert test.p_value == pytest.approx(1 / 8)
    assert test.delta == pytest.approx(1 / 10)
    # One for the worse: of 2⁵ ways those with at most one sign unlike the rest, 12.
    (test,) = pair_tests([[{**before, "39-0": ("v39", 1.0)}], [after]]).values()
    assert test.p_value == pytest.approx(12 / 32)


def test_the_mean_of_two_tasks_by_hand() -> None:
    """One question a video changes by 1, 1, 0 in the first task; two a video by 1, 0, 0 in all in
    the second. Differences 2/3 and 1/6, their mean 5/12.

    By video, (x − d) / (k n): 1/18, 1/18, −1/9 and 1/18, −1/36, −1/36, together 4/36, 1/36, −5/36;
    squares 42/36², se² = 3/2 · 42/36² = 63/36². Two videos changed: p by signs is 2/4.
    """
    first = [answers(0, 0, 0, of=1), answers(0, 0, 0, of=2)]
    second = [answers(1, 1, 0, of=1), answers(1, 0, 0, of=2)]
    (test,) = pair_tests([first, second]).values()
    assert (test.delta, test.n) == (pytest.approx(5 / 12), 9)
    assert test.p_value == pytest.approx(1 / 2)
    mean = mean_of_tasks(second)  # less zero: the same
    assert (mean.value, mean.se) == (pytest.approx(5 / 12), pytest.approx(63**0.5 / 36))
    assert mean_of_tasks([answers(1, 1), {}]).value is None


def test_what_cannot_be_compared_differs_from_nothing() -> None:
    other = {"9-0": ("v9", 1.0)}
    unscored: Values = {key: (video, None) for key, (video, _) in answers(4, 4, 4).items()}
    tests = pair_tests([[answers(4, 4, 4)], [other], [unscored]])
    assert {test.p_holm for test in tests.values()} == {None}
    assert [tier.number for tier in rank_tiers([0.9, 0.5, 0.1], tests)] == [1, 1, 1]
    assert rank_tiers([], {}) == []


def test_a_new_tier_is_held_against_its_own_first_run() -> None:
    """Only neighbours two apart differ: the third opens a tier, which the fourth belongs to."""
    differ = {(0, 2), (0, 3), (1, 3), (0, 4), (1, 4), (2, 4)}
    tests = {
        (a, b): PairTest(0.1, 0.01, 0.01 if (a, b) in differ else 0.5, 9)
        for a in range(5)
        for b in range(a + 1, 5)
    }
    tiers = rank_tiers([0.9, 0.8, 0.7, 0.6, 0.5], tests)
    assert [tier.number for tier in tiers] == [1, 1, 2, 2, 3]
    assert [tier.reach for tier in tiers] == [(1, 1), (1, 2), (1, 2), (2, 3), (2, 3)]


def test_a_pair_is_tested_as_eval_compare_tests_it(tmp_path: Path) -> None:
    """Where more than twelve videos changed, as here."""
    runs = [answers(*[3, 1, 4, 0, 2] * 4), answers(*[4, 2, 4, 1, 1] * 4)]
    folders = []
    for name, run in zip("ab", runs, strict=True):
        path = tmp_path / name
        rows = [{"id": key, "video": video} for key, (video, _) in run.items()]
        predictions = [row | {"task": "t", "prediction": "x", "status": "ok"} for row in rows]
        verdicts = [{"id": key, "task": "t", "status": "scored", "correct": bool(right), "score": 3}
                    for key, (_, right) in run.items()]  # fmt: skip
        scored = score_task(
            rows, {row["id"]: row for row in predictions}, {row["id"]: row for row in verdicts}
        )
        judge = {"name": "exact"}
        about = {"version": 1, "protocol": "official", "judge": judge}
        write_json(path / "run.json", {"model": {"spec": name}, "judge": "exact",
                                       "tasks": {"t": about}})  # fmt: skip
        write_json(path / "results.json", {"tasks": {"t": scored}})
        write_jsonl(path / "predictions.jsonl", predictions)
        write_jsonl(path / "judgements.jsonl", verdicts)
        folders.append(path)
    compared = compare_runs(*folders)["tasks"]["t"]
    (test,) = pair_tests([[run] for run in runs]).values()
    assert (test.delta, test.n) == (pytest.approx(compared["delta"]), compared["n"])
    assert test.p_value == pytest.approx(compared["p_value"])

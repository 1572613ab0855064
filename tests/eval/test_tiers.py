"""Tiers: tests of all pairs and the rule, with numbers by hand.

With three videos Student's t has two degrees of freedom, and p = 1 − t / √(2 + t²).
"""

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
    """A is right 4, 4, 4 times on three videos, C 3, 4, 4, B 0, 1, 1; four questions each.

    A − B by video: 4, 3, 3. Mean 10/12; sums less their mean 10/3: 2/3, −1/3, −1/3, squares 2/3;
    se² = 3/2 · 2/3 / 12² = 1/144, t = 10/12 · 12 = 10, p = 1 − 10/√102 = 0.00985.
    A − C: 1, 0, 0; the same se, t = 1, p = 1 − 1/√3 = 0.423.
    C − B: 3, 3, 3; no spread: p of the sign test, 2/2³ = 0.25.
    Holm: 3 · 0.00985, 2 · 0.25, then 0.423 rises to the 0.5 before it.
    A opens tier 1, C does not differ from it, B does: tier 2. C and B do not differ, so that both
    reach from 1 to 2.
    """
    runs = [answers(0, 1, 1), answers(4, 4, 4), answers(3, 4, 4)]
    tests = pair_tests([[one] for one in runs])
    assert list(tests) == [(0, 1), (0, 2), (1, 2)]
    raw = [tests[pair].p_value for pair in tests]
    assert raw == pytest.approx([1 - 10 / 102**0.5, 0.25, 1 - 1 / 3**0.5])
    p_holm = [tests[pair].p_holm for pair in tests]
    assert p_holm == pytest.approx([3 * raw[0], 0.5, 0.5])  # type: ignore[operator]  # none is None
    assert tests[0, 1].delta == pytest.approx(10 / 12)
    assert rank_tiers([2 / 12, 1.0, 11 / 12], tests) == [
        Tier(2, (1, 2)), Tier(1, (1, 1)), Tier(1, (1, 2)),
    ]  # fmt: skip


def test_the_mean_of_two_tasks_by_hand() -> None:
    """One question a video changes by 1, 1, 0 in the first task; two a video by 1, 0, 0 in all in
    the second. Differences 2/3 and 1/6, their mean 5/12.

    By video, (x − d) / (k n): 1/18, 1/18, −1/9 and 1/18, −1/36, −1/36, together 4/36, 1/36, −5/36;
    squares 42/36², se² = 3/2 · 42/36² = 63/36², t = 5/12 · 36/√63 = 15/√63.
    """
    first = [answers(0, 0, 0, of=1), answers(0, 0, 0, of=2)]
    second = [answers(1, 1, 0, of=1), answers(1, 0, 0, of=2)]
    (test,) = pair_tests([first, second]).values()
    t = 15 / 63**0.5
    assert (test.delta, test.n) == (pytest.approx(5 / 12), 9)
    assert test.p_value == pytest.approx(1 - t / (2 + t * t) ** 0.5)
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
    runs = [answers(3, 1, 4, 0, 2), answers(4, 2, 4, 1, 1)]
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

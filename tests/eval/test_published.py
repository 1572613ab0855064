"""The paper's counting against its rules, and the published table against its own means."""

from __future__ import annotations

from typing import Any

import pytest

from sharegptvideo.eval.published import (
    PublishedTable,
    paper_figures,
    paper_reading,
    published_drift,
    published_table,
)


@pytest.mark.parametrize(
    ("reply", "right", "score"),
    [
        ("{'pred': 'yes', 'score': 4}", True, 4),
        ('{"pred": "no", "score":2}', False, 2),
        ("{'pred': 'no', 'score': 4.8}", False, 4),  # the digits before the point
        ("{'pred': 'yes', 'score': '4'}", True, None),  # a string is no number
        ("{'pred': 'yes', \"score': 4}", True, None),  # quotes of two kinds
        ("YES", True, None),
        ("I do not think so.", False, None),
        ("There is no reason to say yes.", True, None),  # "yes" is looked for first
        ("cannot", False, None),
        ("{'score': 3}", None, 3),
        ("", None, None),
        ("{'score': 1, 'pred': 'yes', 'score': 5}", True, 1),
    ],
)
def test_official_replies(reply: str, right: bool | None, score: float | None) -> None:
    assert paper_reading(reply, "official") == (right, score)


@pytest.mark.parametrize("protocol", ["caption-grounded", "frames"])
@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("Explanation: fine\nScore: 4", 4),
        ("Score: 2.5 of 5", 2.5),
        ("Score: 2\nScore: 5", 2),  # the first
        ("Score:4", 4),  # the only number
        ("score: 2, since 4 of 4 are wrong", 4),  # the number that is there most often
        ("**Score**: 3 of 5", 4),  # a tie: the mean
        ("1 and 2 and 6", 3),
        ("It is good.", 1),
        ("", 1),
    ],
)
def test_grades(reply: str, score: float, protocol: str) -> None:
    assert paper_reading(reply, protocol) == (score >= 3, score)


def row(status: str, reply: str | None, **judge: Any) -> dict[str, Any]:
    scored = status == "scored"
    verdict = {"correct": True, "score": 5.0} if scored else {"correct": None, "score": None}
    return {"status": status, "reply": reply, "judge": judge, **verdict}


def test_recorded_replies_are_always_read_their_way() -> None:
    rows = [
        row("scored", "{'pred': 'no', 'score': 1}", kind="recorded", protocol="official"),
        row("scored", "{'pred': 'no', 'score': 1}", protocol="official"),
    ]
    assert paper_figures(rows[:1])["paper_score"] == 1
    assert paper_figures(rows[1:])["paper_score"] == 5  # read already


def test_of_two_replies_the_last_is_read_and_calls_that_failed_are_left_out() -> None:
    rows = [
        row("unscored", "Yes, I'd say.\n---\nNo.", protocol="official"),
        row("unscored", None, protocol="official"),
        row("unscored", "a: yes\nb: no"),  # of a panel
        row("scored", None),  # of rules
    ]
    assert paper_figures(rows) == {
        "paper_accuracy": 1 / 2,
        "paper_score": 5.0,
        "paper_n": {"accuracy": 2, "score": 1},
    }
    assert paper_figures([])["paper_accuracy"] is None


def test_the_published_table_is_whole() -> None:
    """Its means were taken before rounding, so they are within a hundredth of the cells'."""
    table = published_table()
    assert table.tasks == ("msvd_qa_official", "msrvtt_qa_official", "tgif_qa_official")
    assert list(table.judges) == [f"gpt-3.5-turbo-{v}" for v in ("0301", "0613", "1106")]
    for rows in table.judges.values():
        assert len(rows) == 7
        for each in rows.values():
            assert each.mean == pytest.approx(sum(a for a, _ in each.cells) / 3, abs=0.0101)
        means = [each.mean for each in rows.values()]
        assert max(means) == rows["LLaVA-Hound-DPO 7B"].mean
    best = {name: rows["LLaVA-Hound-DPO 7B"].mean for name, rows in table.judges.items()}
    assert list(best.values()) == [82.03, 70.75, 77.61]
    dpo = table.judges["gpt-3.5-turbo-0301"]["LLaVA-Hound-DPO 7B"]
    assert dpo.cells == ((88.5, 4.2), (82.1, 3.84), (75.48, 3.81))


def test_published_ranks_by_hand() -> None:
    """Four models by two judges: one of six pairs changes its order, so tau is (5 − 1) / 6.

    Ranks 1 2 3 4 and 1 3 2 4: rho = 1 − 6 · 2 / (4 · 15). All lose 10 points but b, which loses 25.
    """
    first = {"a": 80.0, "b": 70.0, "c": 65.0, "d": 50.0}
    second = {"a": 70.0, "c": 55.0, "b": 45.0, "d": 40.0}
    table = PublishedTable.model_validate(
        {
            "version": 1,
            "source": "made up",
            "protocol": "official",
            "tasks": ["t"],
            "judges": {
                judge: {model: {"mean": x, "cells": [[x, 3.0]]} for model, x in means.items()}
                for judge, means in (("old", first), ("new", second))
            },
        }
    )
    levels, ranks = published_drift(table)
    assert {row["model"]: row["range"] for row in levels} == pytest.approx(
        {"a": 0.1, "b": 0.25, "c": 0.1, "d": 0.1}
    )
    task, mean = ranks
    assert (task["tau"], task["rho"]) == pytest.approx((4 / 6, 1 - 12 / 60))
    assert (task["pairs"], task["pairs_changed"]) == (6, 1)
    assert task["shift"] == pytest.approx(-0.55 / 4)
    assert task["low"] < task["tau"] < task["high"] == pytest.approx(1)
    assert mean["tau"] == task["tau"]


def test_published_table_as_shipped() -> None:
    """Means keep all ranks; of MSRVTT by 0301 and 0613 four pairs of 21 change, one is tied."""
    levels, ranks = published_drift(published_table())
    assert max(row["range"] for row in levels) == pytest.approx(0.7483 - 0.6265)
    means = [row for row in ranks if row["task"] == "mean"]
    assert [(row["tau"], row["low"]) for row in means] == [(pytest.approx(1), None)] * 3
    least = min(ranks, key=lambda row: row["tau"])
    assert least["judges"] == "gpt-3.5-turbo-0301, gpt-3.5-turbo-0613"
    assert least["task"] == "msrvtt_qa_official"
    assert least["tau"] == pytest.approx((16 - 4) / (21 * 20) ** 0.5)

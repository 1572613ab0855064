"""Rows of the release that are good but for what a test changes, and findings made short."""

from __future__ import annotations

from typing import Any

from sharegptvideo.data.validate import Report

Row = dict[str, Any]


def qa(number: int, video: str | None = None, **extra: Any) -> Row:
    """A good row of a QA file of the release."""
    return {
        "id": f"q{number}",
        "video": video or f"clip_{number}",
        "conversations": [
            {"from": "human", "value": f"<video>\nWhat is {number}?"},
            {"from": "gpt", "value": f"It is {number}."},
        ],
        **extra,
    }


def pair(number: int, **extra: Any) -> Row:
    """A good row of a DPO file of the release."""
    return {
        "id": f"p{number}",
        "video": f"clip_{number}",
        "prompt": f"<video>\nWhat is {number}?",
        "chosen": f"It is {number}.",
        "rejected": "It is not there.",
        "chosen_score": 5.0,
        "rejected_score": 1.0,
        **extra,
    }


def findings_of(report: Report) -> list[tuple[str, str, str]]:
    """(check, severity, place) of each finding; the place without its folder."""
    return [
        (finding.check, finding.severity, (finding.where or "").rpartition("/")[2])
        for finding in report.sorted_findings()
    ]

"""Verdicts from text. The judges live in `sharegptvideo.judging`, where the pipeline has them."""

from sharegptvideo.judging import (
    ACCEPTABLE,
    JUDGES,
    AnswerMatch,
    Exact,
    Judge,
    JudgeItem,
    Panel,
    Verdict,
    open_judge,
)

__all__ = [
    "ACCEPTABLE",
    "JUDGES",
    "AnswerMatch",
    "Exact",
    "Judge",
    "JudgeItem",
    "Panel",
    "Verdict",
    "open_judge",
]

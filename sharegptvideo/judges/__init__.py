"""Judges: from texts to verdicts. Used by the reward stage of the pipeline and by the harness."""

from sharegptvideo.judges.base import (
    ACCEPTABLE,
    Judge,
    JudgeItem,
    Mark,
    RulesJudge,
    Verdict,
    is_judged,
    judge_items,
    verdict_row,
)
from sharegptvideo.judges.exact import Exact
from sharegptvideo.judges.panel import Panel
from sharegptvideo.judges.registry import JUDGES, JudgeChoice, open_judge
from sharegptvideo.judges.rules.answer_match import AnswerMatch, mark

__all__ = [
    "ACCEPTABLE",
    "JUDGES",
    "AnswerMatch",
    "Exact",
    "Judge",
    "JudgeChoice",
    "JudgeItem",
    "Mark",
    "Panel",
    "RulesJudge",
    "Verdict",
    "is_judged",
    "judge_items",
    "mark",
    "open_judge",
    "verdict_row",
]

"""Judges: from texts to verdicts. Used by the reward stage of the pipeline and by the harness."""

from sharegptvideo.judges.base import Judge, JudgeItem, Verdict, scale_of
from sharegptvideo.judges.exact import Exact
from sharegptvideo.judges.panel import Panel
from sharegptvideo.judges.registry import JUDGES, open_judge
from sharegptvideo.judges.rules.answer_match import ACCEPTABLE, AnswerMatch, Mark, mark

__all__ = [
    "ACCEPTABLE",
    "JUDGES",
    "AnswerMatch",
    "Exact",
    "Judge",
    "JudgeItem",
    "Mark",
    "Panel",
    "Verdict",
    "mark",
    "open_judge",
    "scale_of",
]

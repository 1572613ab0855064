"""Judges: from texts to verdicts. Used by the reward stage of the pipeline and by the harness."""

from sharegptvideo.judging.answer_match import ACCEPTABLE, AnswerMatch, Mark, mark
from sharegptvideo.judging.base import Judge, JudgeItem, Verdict, scale_of
from sharegptvideo.judging.exact import Exact
from sharegptvideo.judging.panel import Panel
from sharegptvideo.judging.registry import JUDGES, open_judge

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

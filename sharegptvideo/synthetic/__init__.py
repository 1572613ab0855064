"""A small rendered world with exact captions: data for every command without a download."""

from sharegptvideo.synthetic.exact import Check, check_answer, is_right
from sharegptvideo.synthetic.language import KINDS, Faults
from sharegptvideo.synthetic.state import ClipState
from sharegptvideo.synthetic.world import SCALES, SPLITS, Sizes, build_world, load_questions

__all__ = [
    "KINDS",
    "SCALES",
    "SPLITS",
    "Check",
    "ClipState",
    "Faults",
    "Sizes",
    "build_world",
    "check_answer",
    "is_right",
    "load_questions",
]

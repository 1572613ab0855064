"""From questions to preference pairs: candidates, rewards, preferences, one module a step."""

from sharegptvideo.pipeline.candidates import CandidatesReport, sample_candidates
from sharegptvideo.pipeline.preferences import PAIRS_FILE, PairsReport, make_pairs
from sharegptvideo.pipeline.questions import read_questions, with_captions
from sharegptvideo.pipeline.rewards import RewardsReport, score_candidates

__all__ = [
    "PAIRS_FILE",
    "CandidatesReport",
    "PairsReport",
    "RewardsReport",
    "make_pairs",
    "read_questions",
    "sample_candidates",
    "score_candidates",
    "with_captions",
]

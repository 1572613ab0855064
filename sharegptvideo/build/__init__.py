"""From questions to preference pairs: candidates, rewards, preferences, one module a step."""

from sharegptvideo.build.candidates import CandidatesReport, sample_candidates
from sharegptvideo.build.preferences import PAIRS_FILE, PairsReport, make_pairs
from sharegptvideo.build.rewards import RewardsReport, score_candidates
from sharegptvideo.build.stage import read_questions, with_captions

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

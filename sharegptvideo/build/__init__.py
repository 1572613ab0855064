"""From videos to preference pairs: captions, questions, candidates, rewards, pairs."""

from sharegptvideo.build.candidates import CandidatesReport, sample_candidates
from sharegptvideo.build.captions import CaptionStage, CaptionWording, caption_wording
from sharegptvideo.build.clips import Clips, clips_in_folder, clips_of_rows, with_titles
from sharegptvideo.build.engines import StageReport, run_stage
from sharegptvideo.build.model_stage import ModelChoice
from sharegptvideo.build.preferences import PAIRS_FILE, PairsReport, make_pairs
from sharegptvideo.build.qa import QaStage, QaWording, qa_wording, read_captions
from sharegptvideo.build.rewards import RewardsReport, score_candidates
from sharegptvideo.build.stage import read_questions, with_captions

__all__ = [
    "PAIRS_FILE",
    "CandidatesReport",
    "CaptionStage",
    "CaptionWording",
    "Clips",
    "ModelChoice",
    "PairsReport",
    "QaStage",
    "QaWording",
    "RewardsReport",
    "StageReport",
    "caption_wording",
    "clips_in_folder",
    "clips_of_rows",
    "make_pairs",
    "qa_wording",
    "read_captions",
    "read_questions",
    "run_stage",
    "sample_candidates",
    "score_candidates",
    "with_captions",
    "with_titles",
]

"""Experiments on the method's open questions, in a rendered world whose truth is known."""

from sharegptvideo.study.catalogue import list_experiments, load_experiment
from sharegptvideo.study.experiment import Contrast, Experiment
from sharegptvideo.study.kind import Chart, Done, Kind, Result
from sharegptvideo.study.node import Node, Stage, Work
from sharegptvideo.study.run import Outlook, run_study, study_outlook
from sharegptvideo.study.scales import SCALES, StudyScale

__all__ = [
    "SCALES",
    "Chart",
    "Contrast",
    "Done",
    "Experiment",
    "Kind",
    "Node",
    "Outlook",
    "Result",
    "Stage",
    "StudyScale",
    "Work",
    "list_experiments",
    "load_experiment",
    "run_study",
    "study_outlook",
]

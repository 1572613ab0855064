"""The benchmark: answer, judge and score; tasks, comparison of runs and judges, attacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sharegptvideo.eval.agreement import compare_judges
    from sharegptvideo.eval.answer import answer_questions
    from sharegptvideo.eval.attack import attack_judge
    from sharegptvideo.eval.comparison import compare_runs
    from sharegptvideo.eval.imported import import_results
    from sharegptvideo.eval.judge import judge_answers
    from sharegptvideo.eval.predictions_check import check_predictions
    from sharegptvideo.eval.preferences import compare_with_preferences, read_preferences
    from sharegptvideo.eval.run import judge_predictions, run_evaluation
    from sharegptvideo.eval.sample import SampleEvaluation
    from sharegptvideo.eval.score import score_answers
    from sharegptvideo.eval.submission import SubmissionInfo, read_submission
    from sharegptvideo.eval.submission_check import check_submission
    from sharegptvideo.eval.submission_make import make_submission
    from sharegptvideo.eval.tasks import Task, list_tasks, load_questions, load_task

__all__ = [
    "SampleEvaluation",
    "SubmissionInfo",
    "Task",
    "answer_questions",
    "attack_judge",
    "check_predictions",
    "check_submission",
    "compare_judges",
    "compare_runs",
    "compare_with_preferences",
    "import_results",
    "judge_answers",
    "judge_predictions",
    "list_tasks",
    "load_questions",
    "load_task",
    "make_submission",
    "read_preferences",
    "read_submission",
    "run_evaluation",
    "score_answers",
]

_HOME = {
    "SampleEvaluation": "sample",
    "SubmissionInfo": "submission",
    "Task": "tasks",
    "answer_questions": "answer",
    "attack_judge": "attack",
    "check_predictions": "predictions_check",
    "check_submission": "submission_check",
    "compare_judges": "agreement",
    "compare_runs": "comparison",
    "compare_with_preferences": "preferences",
    "import_results": "imported",
    "judge_answers": "judge",
    "judge_predictions": "run",
    "list_tasks": "tasks",
    "load_questions": "tasks",
    "load_task": "tasks",
    "make_submission": "submission_make",
    "read_preferences": "preferences",
    "read_submission": "submission",
    "run_evaluation": "run",
    "score_answers": "score",
}


def __getattr__(name: str) -> Any:
    # Imported on first use: pydantic and numpy would slow --help down.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

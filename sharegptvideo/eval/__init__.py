"""The benchmark: answer, judge and score; tasks, comparison of runs, and the statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sharegptvideo.eval.comparison import compare_runs
    from sharegptvideo.eval.run import judge_predictions, run_evaluation
    from sharegptvideo.eval.sample import SampleEvaluation
    from sharegptvideo.eval.tasks import Task, list_tasks, load_task

__all__ = [
    "SampleEvaluation",
    "Task",
    "compare_runs",
    "judge_predictions",
    "list_tasks",
    "load_task",
    "run_evaluation",
]

_HOME = {
    "SampleEvaluation": "sample",
    "Task": "tasks",
    "compare_runs": "comparison",
    "judge_predictions": "run",
    "list_tasks": "tasks",
    "load_task": "tasks",
    "run_evaluation": "run",
}


def __getattr__(name: str) -> Any:
    # Imported on first use: pydantic and numpy would slow --help down.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

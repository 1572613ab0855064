"""Evaluations while a training runs: every so many steps the model answers and is judged.

Who asks and judges is handed in (`Evaluator`): this package and `sharegptvideo.eval` know of each
other only what `sharegptvideo.models` says. What comes out is in the run's folder:

    evals.jsonl               a line for each task and step
    evaluations/step-000100/  the run folder of one evaluation: questions, answers, verdicts
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sharegptvideo._io import read_jsonl

if TYPE_CHECKING:
    from sharegptvideo.models import LocalModel

__all__ = ["EVALS", "Evaluator", "Row", "last_accuracies", "read_evaluations"]

Row = dict[str, Any]
EVALS = "evals.jsonl"
"""The file of a run's evaluations, a line for each task and step."""


class Evaluator(Protocol):
    """Asks and judges; `sharegptvideo.eval.SampleEvaluation` is one."""

    tasks: tuple[str, ...]
    judge: str

    def check(self) -> None:
        """Find out, before the first step, what would fail every time.

        Raises:
            UserError: no such task, judge, questions or clips.
        """
        ...

    def evaluate(self, model: LocalModel, out: Path, name: str) -> list[Row]:
        """A row for each task: task, judge, accuracy, ci95, score, n, n_scored, coverage, words.

        Args:
            out: a folder for questions, answers and verdicts.
            name: what the model is called there.

        Raises:
            UserError: the judge cannot be reached.
        """
        ...


def read_evaluations(run: Path) -> list[Row]:
    """The rows of a run's evals.jsonl by step, the last one of each task and step."""
    if not (run / EVALS).exists():
        return []
    rows = {(row["step"], row["task"]): row for _, row in read_jsonl(run / EVALS)}
    return sorted(rows.values(), key=lambda row: int(row["step"]))


def last_accuracies(rows: Sequence[Row]) -> dict[str, float | None]:
    """By task, the accuracy of the last evaluation that went well."""
    return {row["task"]: row["accuracy"] for row in rows if row["status"] == "ok"}

"""Evaluations while a training runs: every so many steps the model answers and is judged.

The same few questions each time, as `eval run` puts them. What comes out is in the run's folder:

    evals.jsonl               a line for each task and step
    evaluations/step-000100/  the run folder of one evaluation: questions, answers, verdicts
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import read_json, read_jsonl
from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    from sharegptvideo.models import LocalModel
    from sharegptvideo.training.recipes import Evaluation

__all__ = ["EVALS", "Row", "check_evaluation", "evaluate", "last_accuracies", "read_evaluations"]

Row = dict[str, Any]
EVALS = "evals.jsonl"
"""The file of a run's evaluations, a line for each task and step."""


def check_evaluation(settings: Evaluation) -> None:
    """Find out, before the first step, what would fail every time.

    The judge's endpoint may be reached later.

    Raises:
        UserError: no such task or judge, no questions, no clips, or a sample without any.
    """
    from sharegptvideo.eval.tasks import chosen_questions, load_questions, load_task, media_folder
    from sharegptvideo.judges import open_judge

    source = _Source.of(settings)
    for name in settings.tasks:
        task = load_task(name, source.task_path)
        judge = open_judge(
            settings.judge,
            base_url=settings.base_url,
            protocol=task.protocol,
            prompt_file=task.judge.prompt_file if task.judge else None,
        )
        judge.describe()  # fails where no endpoint is named
        clips = media_folder(task, source.data_dir, source.media)
        if clips is None:
            raise UserError(f"eval: task {name}: say where its clips are with eval.media")
        if not clips.exists():
            raise UserError(f"eval: {clips}: no such folder; fix eval.media")
        asked = chosen_questions(
            load_questions(task, source.data_dir, clips), settings.samples, settings.seed
        )
        if all(question.video_path is None for question in asked):
            raise UserError(f"eval: task {name}: none of its clips is in {clips}")


def evaluate(
    settings: Evaluation,
    model: LocalModel,
    out: Path,
    name: str,
    *,
    progress: Progress | None = None,
) -> list[Row]:
    """Ask `model` as it is now; keep answers, verdicts and figures in the folder `out`.

    Args:
        settings: which questions are asked, and who judges.
        model: see `answering`.
        out: a run folder as `eval run` writes it.
        name: what the model is called there.
        progress: called as `progress(done, total, what)`.

    Returns:
        A row for each task: `task`, `judge`, `accuracy` and `score` (values; with `ci95` and
        `score_ci95`), `n`, `n_failed`, `n_scored`, `n_unscored`, `coverage` (all as in
        results.json), and `words`, the answers' mean length with its standard error in
        `words_se`.

    Raises:
        UserError: the judge cannot be reached, or nothing can be answered.
    """
    from sharegptvideo.eval import run_evaluation

    source = _Source.of(settings)
    results = run_evaluation(
        model.in_training(name, batch_size=settings.batch_size),
        settings.tasks,
        settings.judge,
        out,
        data_dir=source.data_dir,
        media=source.media,
        task_path=source.task_path,
        limit=settings.samples,
        draw=settings.seed,
        base_url=settings.base_url,
        batch_size=settings.batch_size,
        max_new_tokens=settings.max_new_tokens,
        progress=progress,
    )
    tasks = read_json(out / "run.json")["tasks"]
    lengths: dict[str, list[int]] = {}
    for _, row in read_jsonl(out / "predictions.jsonl"):
        if row["status"] == "ok":
            lengths.setdefault(row["task"], []).append(len(row["prediction"].split()))
    return [
        _row(task, tasks[task], figures, lengths.get(task, []))
        for task, figures in results["tasks"].items()
    ]


class _Source(NamedTuple):
    """Folders of questions, clips and tasks, as `run_evaluation` takes them."""

    data_dir: Path | None
    media: Path | None
    task_path: Path | None

    @classmethod
    def of(cls, settings: Evaluation) -> Self:
        data = None if settings.source == "synthetic" else settings.source
        folders = (data, settings.media, settings.task_path)
        return cls(*(Path(folder) if folder else None for folder in folders))


def _row(
    task: str, about: dict[str, Any], figures: dict[str, Any], words: list[int]
) -> dict[str, Any]:
    if not figures["n_scored"] and figures["n_unscored"]:
        cause = next(iter(figures["unscored"]), "no cause given")
        raise UserError(f"no answer to {task} was scored ({cause})", exit_code=1)
    judge = about["judge"]
    version = judge.get("prompt_version", judge.get("version"))
    return {
        "task": task,
        "task_version": about["version"],
        "judge": judge["name"] + ("" if version is None else f" v{version}"),
        "accuracy": figures["accuracy"]["value"],
        "ci95": figures["accuracy"]["ci95"],
        "score": figures["score"]["value"],
        "score_ci95": figures["score"]["ci95"],
        **{key: figures[key] for key in ("n", "n_failed", "n_scored", "n_unscored", "coverage")},
        "clusters": figures["clusters"],
        "words": statistics.fmean(words) if words else None,
        "words_se": (statistics.stdev(words) / math.sqrt(len(words)) if len(words) > 1 else None),
    }


def read_evaluations(run: Path) -> list[Row]:
    """The rows of a run's evals.jsonl by step, the last one of each task and step."""
    if not (run / EVALS).exists():
        return []
    rows = {(row["step"], row["task"]): row for _, row in read_jsonl(run / EVALS)}
    return sorted(rows.values(), key=lambda row: int(row["step"]))


def last_accuracies(rows: Sequence[Row]) -> dict[str, float | None]:
    """By task, the accuracy of the last evaluation that went well."""
    return {row["task"]: row["accuracy"] for row in rows if row["status"] == "ok"}

"""The same few questions again and again, while a model is in training."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sharegptvideo._io import read_json, read_jsonl
from sharegptvideo.errors import UserError
from sharegptvideo.eval.run import run_evaluation
from sharegptvideo.eval.tasks import (
    chosen_questions,
    load_questions,
    load_task,
    media_folder,
)
from sharegptvideo.judges import open_judge

if TYPE_CHECKING:
    from sharegptvideo.models import LocalModel

__all__ = ["SampleEvaluation", "Settings"]


class Settings(Protocol):
    """The section `eval` of a recipe, which is described there."""

    @property
    def tasks(self) -> tuple[str, ...]: ...
    @property
    def judge(self) -> str: ...
    @property
    def base_url(self) -> str | None: ...
    @property
    def samples(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def source(self) -> str | None: ...
    @property
    def media(self) -> str | None: ...
    @property
    def task_path(self) -> str | None: ...
    @property
    def max_new_tokens(self) -> int: ...
    @property
    def batch_size(self) -> int: ...


class SampleEvaluation:
    """Answers and judges a fixed sample of each task, as `eval run` does, into run folders."""

    def __init__(
        self,
        tasks: Sequence[str],
        judge: str = "answer-match",
        *,
        samples: int = 100,
        seed: int = 0,
        data_dir: Path | None = None,
        media: Path | None = None,
        task_path: Path | None = None,
        base_url: str | None = None,
        max_new_tokens: int | None = None,
        batch_size: int = 16,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> None:
        """`samples` questions of each task, drawn by `seed`; for the rest see `run_evaluation`."""
        self.tasks = tuple(tasks)
        self.judge = judge
        self._samples, self._seed = samples, seed
        self._data, self._media, self._task_path = data_dir, media, task_path
        self._base_url = base_url
        self._max_new_tokens, self._batch_size = max_new_tokens, batch_size
        self._progress = progress

    @classmethod
    def of(
        cls, recipe: Settings, *, progress: Callable[[int, int, str], None] | None = None
    ) -> SampleEvaluation:
        """As the section `eval` of a recipe says."""
        return cls(
            recipe.tasks,
            recipe.judge,
            samples=recipe.samples,
            seed=recipe.seed,
            data_dir=None if recipe.source in {None, "synthetic"} else Path(str(recipe.source)),
            media=Path(recipe.media) if recipe.media else None,
            task_path=Path(recipe.task_path) if recipe.task_path else None,
            base_url=recipe.base_url,
            max_new_tokens=recipe.max_new_tokens,
            batch_size=recipe.batch_size,
            progress=progress,
        )

    def check(self) -> None:
        """Find out what would fail every time; the judge's endpoint may still come.

        Raises:
            UserError: no such task or judge, no questions, no clips, or a sample without any.
        """
        for name in self.tasks:
            task = load_task(name, self._task_path)
            judge = open_judge(
                self.judge,
                base_url=self._base_url,
                protocol=task.protocol,
                prompt_file=task.judge.prompt_file if task.judge else None,
            )
            judge.describe()  # says so where no endpoint is named
            clips = media_folder(task, self._data, self._media)
            if clips is None:
                raise UserError(f"eval: task {name}: say where its clips are with eval.media")
            if not clips.exists():
                raise UserError(f"eval: {clips}: no such folder; mend eval.media")
            asked = chosen_questions(
                load_questions(task, self._data, clips), self._samples, self._seed
            )
            if all(question.video_path is None for question in asked):
                raise UserError(f"eval: task {name}: none of its clips is in {clips}")

    def evaluate(self, model: LocalModel, out: Path, name: str) -> list[dict[str, Any]]:
        """Ask `model` as it is now, and keep answers, verdicts and figures in the folder `out`.

        Returns:
            A row for each task: `task`, `judge`, `accuracy` and `score` (values; with `ci95` and
            `score_ci95`), `n`, `n_failed`, `n_scored`, `n_unscored`, `coverage` (all as in
            results.json), and `words`, the answers' mean length with its standard error in
            `words_se`.

        Raises:
            UserError: the judge cannot be reached, or nothing can be answered.
        """
        results = run_evaluation(
            model.in_training(name, batch_size=self._batch_size),
            self.tasks,
            self.judge,
            out,
            data_dir=self._data,
            media=self._media,
            task_path=self._task_path,
            limit=self._samples,
            draw=self._seed,
            base_url=self._base_url,
            batch_size=self._batch_size,
            max_new_tokens=self._max_new_tokens,
            progress=self._progress,
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

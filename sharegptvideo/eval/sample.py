"""The same few questions again and again, while a model is in training."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import read_json, read_jsonl
from sharegptvideo._strict import StrictModel
from sharegptvideo.errors import UserError

if TYPE_CHECKING:
    from sharegptvideo.models import LocalModel

__all__ = ["SampleEvaluation"]


class SampleEvaluation(StrictModel):
    """Answer and score a fixed sample before the first step, every `every` steps and at the end.

    `tasks`, `judge` (with `base_url`, its endpoint) and `task_path`, a folder with tasks of one's
    own, are as in `eval run`; `data_dir` and `media` are its --data-dir and --media. Of each task
    `samples` questions are drawn by `seed`, the same ones every time and in every training.
    """

    tasks: tuple[str, ...] = Field(min_length=1)
    judge: str = "answer-match"
    base_url: str | None = None
    every: int = Field(ge=1)
    samples: int = Field(default=100, ge=1)
    seed: int = Field(default=0, ge=0)
    data_dir: str | None = None
    media: str | None = None
    task_path: str | None = None
    max_new_tokens: int = Field(default=64, ge=1)
    batch_size: int = Field(default=16, ge=1)

    @property
    def _folder(self) -> Path | None:
        return None if self.data_dir in {None, "synthetic"} else Path(str(self.data_dir))

    def check(self) -> None:
        """Check what would fail every time; the judge's endpoint may still come.

        Raises:
            UserError: no such task or judge, no questions, no clips, or a sample without any.
        """
        # Recipes have this section, and are read by commands that need no more.
        from sharegptvideo.eval.tasks import (
            chosen_questions,
            load_questions,
            load_task,
            media_folder,
        )
        from sharegptvideo.judges import open_judge

        for name in self.tasks:
            task = load_task(name, Path(self.task_path) if self.task_path else None)
            judge = open_judge(
                self.judge,
                base_url=self.base_url,
                protocol=task.protocol,
                prompt_file=task.judge.prompt_file if task.judge else None,
            )
            judge.describe()  # fails where no endpoint is named
            clips = media_folder(task, self._folder, Path(self.media) if self.media else None)
            if clips is None:
                raise UserError(f"eval: task {name}: give the folder of its clips as eval.media")
            if not clips.exists():
                raise UserError(f"eval: {clips}: no such folder; fix eval.media")
            questions = load_questions(task, self._folder, clips)
            asked = chosen_questions(questions, self.samples, self.seed)
            if all(question.video_path is None for question in asked):
                raise UserError(f"eval: task {name}: none of its clips is in {clips}")

    def evaluate(
        self, model: LocalModel, out: Path, name: str, progress: Progress | None = None
    ) -> list[dict[str, Any]]:
        """Ask `model` as it is now, and keep answers, verdicts and figures in the folder `out`.

        Returns:
            A row for each task: `task`, `judge`, `accuracy` and `score` (values; with `ci95` and
            `score_ci95`), `n`, `n_failed`, `n_scored`, `n_unscored`, `coverage` (all as in
            results.json), and `words`, the answers' mean length with its standard error in
            `words_se`.

        Raises:
            UserError: the judge cannot be reached, or nothing can be answered.
        """
        from sharegptvideo.eval.run import run_evaluation

        results = run_evaluation(
            model.in_training(name, batch_size=self.batch_size),
            self.tasks,
            self.judge,
            out,
            data_dir=self._folder,
            media=self.media or None,
            task_path=self.task_path or None,
            limit=self.samples,
            draw=self.seed,
            base_url=self.base_url,
            batch_size=self.batch_size,
            max_new_tokens=self.max_new_tokens,
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

"""A file of answers from elsewhere, checked before any of them is judged or paid for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sharegptvideo._text import and_more, number, plural, shortened
from sharegptvideo.errors import UserError
from sharegptvideo.eval.tasks import Task, chosen_questions, load_questions, load_task, named_tasks
from sharegptvideo.models import Question, Request, SamplingParams
from sharegptvideo.models.predictions import PredictionsInfo, PredictionsModel

__all__ = ["check_predictions"]

_SHOWN = 5
_REPLACED = "\ufffd"  # what stands where a text was read in another encoding than its own


def check_predictions(
    predictions: Path,
    tasks: Sequence[str],
    *,
    data_dir: Path | None = None,
    task_path: Path | None = None,
    split: str | None = None,
    limit: int | None = None,
    info: PredictionsInfo | None = None,
) -> dict[str, Any]:
    """Read answers and hold them against the questions; no judge is asked.

    Args:
        predictions: the file, see `PredictionsModel`.
        tasks: names of tasks, and of groups of them.
        data_dir: see `load_questions`.
        task_path: a folder with task files of one's own.
        split: another split of the tasks' data than their own.
        limit: the first N questions of each task only.
        info: what the file does not say: the key of the answers.

    Returns:
        `problems`, a line each; `tasks`, by name {version, protocol, n, n_answered, n_empty,
        n_failed, n_missing, n_unknown}: questions, those with an answer (empty ones among them),
        with a failure in its place, with neither, and answers to no question.

    Raises:
        UserError: no such file, task, group or data.
    """
    if not predictions.exists():
        raise UserError(f"{predictions}: no such file")
    chosen = [load_task(name, task_path).of_split(split) for name in named_tasks(tasks, task_path)]
    every = {task.name: load_questions(task, data_dir) for task in chosen}
    asked = {name: chosen_questions(all_of, limit, None) for name, all_of in every.items()}
    faults: list[str] = []
    model = PredictionsModel(str(predictions), info, faults=faults)
    problems = _grouped(faults)
    remarks: dict[str, Mapping[str, Any]] = {
        name: {"missing_predictions": [q.id for q in questions]}
        for name, questions in asked.items()
    }
    some = model.n_answers > 0
    if some:
        try:
            remarks |= model.check(_all(asked), _all(every))
        except UserError as error:
            problems.append(str(error))
            some = False
    figures = {}
    for task in chosen:
        figures[task.name] = _figures(task, asked[task.name], model, remarks[task.name])
        problems += _problems(task.name, figures[task.name]) if some else []
    shown = ("missing", "unknown", "empty", "replaced")
    return {
        "predictions": str(predictions),
        "problems": problems,
        "tasks": {
            name: {key: value for key, value in each.items() if key not in shown}
            for name, each in figures.items()
        },
    }


def _all(questions: Mapping[str, Sequence[Question]]) -> list[Question]:
    return [question for of_task in questions.values() for question in of_task]


_PLACE = re.compile(r"^(.*?:\d+): (.*)$", re.DOTALL)


def _grouped(faults: Iterable[str]) -> list[str]:
    """Say each cause once, with how many lines have it and where the first is."""
    causes: dict[str, list[str]] = {}
    for fault in faults:
        match = _PLACE.match(fault)
        place, cause = (match[1], match[2]) if match else ("", fault)
        causes.setdefault(cause, []).append(place)
    return [
        f"{places[0]}: {cause}"
        + (f" (and {number(len(places) - 1)} more lines)" * (len(places) > 1))
        if places[0]
        else cause
        for cause, places in causes.items()
    ]


def _figures(
    task: Task, questions: Sequence[Question], model: PredictionsModel, remarks: Mapping[str, Any]
) -> dict[str, Any]:
    missing = list(remarks.get("missing_predictions", ()))
    unknown = list(remarks.get("foreign_predictions", ()))
    requests = [Request("", question=question) for question in questions]
    answers = [
        (answer.request.question.id, answer.text, answer.error)
        for answer in model.generate(requests, SamplingParams())
        if answer.request.question is not None
    ]
    texts = {name: text for name, text, error in answers if error is None and text is not None}
    n_failed = len(questions) - len(texts) - len(missing)
    return {
        "version": task.version,
        "protocol": task.protocol,
        "n": len(questions),
        "n_answered": len(texts),
        "n_empty": sum(not text.strip() for text in texts.values()),
        "n_failed": max(n_failed, 0),
        "n_missing": len(missing),
        "n_unknown": len(unknown),
        "missing": missing,
        "unknown": unknown,
        "empty": [name for name, text in texts.items() if not text.strip()],
        "replaced": [name for name, text in texts.items() if _REPLACED in text],
    }


def _problems(name: str, figures: Mapping[str, Any]) -> list[str]:
    lines = []
    for key, noun, what in (
        ("missing", "question", "without an answer: they will count as failed, and so as wrong"),
        ("unknown", "answer", "to no question of the task: they will be left out"),
        ("empty", "answer", "empty: they are judged, and so wrong"),
        ("replaced", "answer", f"with the sign {_REPLACED}: the file was written in another"
         " encoding than it was read in; write it in UTF-8"),
    ):  # fmt: skip
        ids = [shortened(each, 40) for each in figures[key]]
        if ids:
            lines.append(f"{name}: {plural(len(ids), noun)} ({and_more(ids, _SHOWN)}) {what}")
    return lines

"""From lmms-eval's answers to our figures: judged once, when all are there.

lmms-eval has each document's values put together by one function a figure. The first one's values
are the answers: it has them judged and leaves a run folder, which `sharegptvideo eval compare`,
`agreement` and `leaderboard` read; the others look up what came of it.
"""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from sharegptvideo._io import write_json, write_jsonl
from sharegptvideo.errors import UserError
from sharegptvideo.eval.lmms_eval_tasks.documents import cannot_be_asked, task_questions
from sharegptvideo.eval.lmms_eval_tasks.settings import Settings
from sharegptvideo.eval.run import judge_predictions
from sharegptvideo.models.adapters.sample_logs import ID_FIELD, model_name

__all__ = [
    "FIGURES",
    "accuracy",
    "accuracy_high",
    "accuracy_low",
    "accuracy_se",
    "coverage",
    "n",
    "process_results",
    "score",
    "score_se",
    "videos",
]

FIGURES = (
    ID_FIELD,
    "accuracy_se",
    "accuracy_low",
    "accuracy_high",
    "score",
    "score_se",
    "coverage",
    "n",
    "videos",
)
"""Names of the figures. `accuracy` is first, by its place and by the alphabet: lmms-eval goes by
the one in a single process and by the other in several."""

_log = logging.getLogger(__name__)
_found: dict[str, dict[str, Any]] = {}  # by task, what the last answers came to


def process_results(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """One document's part of each figure; nothing is judged yet."""
    item = {"id": doc["id"], "task": doc["task"], "prediction": results[0]}
    return {ID_FIELD: item} | dict.fromkeys(FIGURES[1:], doc["task"])


def accuracy(items: Sequence[Mapping[str, Any]], args: Any = None) -> float:
    """Have all answers to one task judged; the share that is right.

    Args:
        items: `id`, `task` and `prediction` of each question that was asked.
        args: the command line of lmms-eval; None where it was called from Python.

    Where the judging ends early (an endpoint is gone) every figure is NaN, and what was answered
    and judged is in the folder that the error names.
    """
    name = str(items[0]["task"])
    _found[name] = {}
    try:
        if getattr(args, "offset", 0):
            raise UserError("lmms-eval's --offset leaves out questions from the middle of a task")
        _found[name] = _judged(name, items, args)
    except (UserError, OSError) as error:
        # The answers, hours of work perhaps, are written by lmms-eval after this.
        _log.error("%s: not judged: %s", name, error)
    return _figure(name, "accuracy", "value")


def _judged(name: str, items: Sequence[Mapping[str, Any]], args: Any) -> dict[str, Any]:
    settings = Settings.read()
    rows, limit = _rows(name, items, settings)
    with tempfile.TemporaryDirectory() as scratch:
        home = _home(settings, args) or Path(scratch)
        answers = home / "answers" / f"{name}.jsonl"
        write_jsonl(answers, rows)
        write_json(answers.parent / "run.json", {"model": _model(args)})
        try:
            results = judge_predictions(
                answers,
                [name],
                settings.judge,
                home / name,
                data_dir=settings.data_dir,
                media=settings.media,
                limit=limit,
            )
        except UserError as error:
            fix = (
                f"the answers are in {answers}; go on with: sharegptvideo eval judge"
                f" --predictions {answers} --task {name} --judge {settings.judge} --out"
                f" {home / name}"
            )
            raise UserError(f"{error}; {fix}" if home != Path(scratch) else str(error)) from error
    found: dict[str, Any] = results["tasks"][name]
    return found


def _rows(
    name: str, items: Sequence[Mapping[str, Any]], settings: Settings
) -> tuple[list[dict[str, Any]], int | None]:
    """The answers as a file of predictions, and how many questions they are about (None: all).

    A question that could not be asked is a failed one, unless a limit ended the run before it.
    """
    questions = task_questions(name, settings)
    said = {str(item["id"]): item["prediction"] for item in items}
    able = [cannot_be_asked(question) for question in questions]
    last = max(at for at, question in enumerate(questions) if question.id in said)
    limit = last + 1 if len(said) < able.count(None) else None
    rows: list[dict[str, Any]] = []
    for question, cause in zip(questions[:limit], able, strict=False):
        row = {"id": question.id, "task": name}
        if question.id in said:
            rows.append(row | {"prediction": said[question.id]})
        else:
            rows.append(row | {"status": "failed", "error": cause or "lmms-eval did not ask it"})
    return rows, limit


def _home(settings: Settings, args: Any) -> Path | None:
    if settings.out is not None:
        return settings.out
    output = getattr(args, "output_path", None)
    if not output:
        return None
    name = str(_model(args)["name"]).strip("/").replace("/", "__")
    return Path(output) / "sharegptvideo" / name


def _model(args: Any) -> dict[str, Any]:
    adapter = str(getattr(args, "model", "unknown"))
    return {
        "kind": "lmms-eval",
        "name": model_name(adapter, getattr(args, "model_args", None)),
        "adapter": adapter,
        "lmms_eval": metadata.version("lmms_eval"),
    }


def _figure(name: str, figure: str, part: str | None = None) -> float:
    value = _found[name].get(figure)
    if part is not None and value is not None:
        value = value[part]
    return math.nan if value is None else float(value)


def _bound(name: str, which: int) -> float:
    bounds = (_found[name].get("accuracy") or {}).get("ci95")
    return math.nan if bounds is None else float(bounds[which])


def accuracy_se(items: Sequence[str]) -> float:
    """Standard error of `accuracy`, clustered by video."""
    return _figure(items[0], "accuracy", "se")


def accuracy_low(items: Sequence[str]) -> float:
    """Lower end of the 95 % interval of `accuracy`, clustered by video."""
    return _bound(items[0], 0)


def accuracy_high(items: Sequence[str]) -> float:
    """Upper end of the 95 % interval of `accuracy`, clustered by video."""
    return _bound(items[0], 1)


def score(items: Sequence[str]) -> float:
    """The judge's mean score."""
    return _figure(items[0], "score", "value")


def score_se(items: Sequence[str]) -> float:
    """Standard error of `score`, clustered by video."""
    return _figure(items[0], "score", "se")


def coverage(items: Sequence[str]) -> float:
    """Share of the questions whose outcome is known."""
    return _figure(items[0], "coverage")


def n(items: Sequence[str]) -> float:
    """Questions asked, those included that could not be given to the model."""
    return _figure(items[0], "n")


def videos(items: Sequence[str]) -> float:
    """Videos that the questions are about."""
    return _figure(items[0], "clusters")

"""The runs that may stand in one table: those that the same judge judged by the same rules."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sharegptvideo._io import dumps
from sharegptvideo.errors import UserError
from sharegptvideo.eval.published import published_table
from sharegptvideo.eval.run_dir import asked_part, read_run
from sharegptvideo.eval.run_record import check_judgement, read_rows
from sharegptvideo.reports.run.record import MIN_COVERAGE, answering_models

__all__ = ["Board", "collect_published", "collect_runs"]

Board = dict[str, Any]

# What a judge's description says about one task or one place, not about the judge.
_OF_A_TASK = ("protocol", "prompt_version", "prompt_hash")
_OF_A_PLACE = ("endpoint",)
_FIGURES = (
    "n",
    "n_failed",
    "n_unscored",
    "coverage",
    "accuracy",
    "accuracy_bounds",
    "score",
    "clusters",
    "paper_accuracy",
    "paper_score",
    "by_question_type",
)


def collect_runs(runs: Sequence[Path]) -> Board:
    """Put finished runs into groups that may be ranked together.

    A group is one judge: the same description (places apart) and, for a judge of an endpoint, the
    same model that in fact answered. A column is one task in one version, from one task file,
    judged by one prompt; the same task in another version is another column.

    Returns:
        `groups`: per judge `judge` (its description, with `answered_by`), `columns` [{id, task,
        version, protocol, n}], n being the largest there, and `rows` [{model, kind, authors, link,
        weights_hash, run, cells {column id: figures of results.json, `partial`, `ranked`}, mean}],
        best first.
        A cell is `partial` where run.json says so (`part`, in words) or it has fewer questions
        than the column's `n`, and `ranked` where it is not and its coverage is at least 99 %.
        `mean` is {value, se} over all columns, where there are several and all cells are ranked.

    Raises:
        UserError: no run is given, one twice, or a folder is no finished run.
    """
    if not runs:
        raise UserError("no run given; name the folders that `eval run` wrote")
    seen: set[Path] = set()
    groups: dict[str, Board] = {}
    for path in runs:
        if path.resolve() in seen:
            raise UserError(f"{path}: given twice")
        seen.add(path.resolve())
        _add_run(path, groups)
    for group in groups.values():
        _finish(group)
    return {"groups": list(groups.values())}


def collect_published() -> Board:
    """Return the table of the paper: figures of other judges, in no group with runs.

    Returns:
        `source`, `protocol`, `tasks`, and `judges` [{judge, rows [{model, mean, cells {task:
        {accuracy, score}}}]}], accuracies from 0 to 1 as published, in the published order.
    """
    table = published_table()
    return {
        "source": table.source,
        "protocol": table.protocol,
        "tasks": list(table.tasks),
        "judges": [
            {
                "judge": judge,
                "rows": [
                    {
                        "model": model,
                        "mean": _share(row.mean),
                        "cells": {
                            task: {"accuracy": _share(accuracy), "score": score}
                            for task, (accuracy, score) in zip(table.tasks, row.cells, strict=True)
                        },
                    }
                    for model, row in rows.items()
                ],
            }
            for judge, rows in table.judges.items()
        ],
    }


def _share(points: float) -> float:
    return round(points / 100, 4)  # the digits that were published


def _add_run(path: Path, groups: dict[str, Board]) -> None:
    run, results = read_run(path)
    answered = _answered_by(path)
    model = run["model"]
    for task, figures in results["tasks"].items():
        if task not in run["tasks"]:
            raise UserError(f"{path}: results.json has a task {task} that run.json lacks")
        about = run["tasks"][task]
        judge = {
            key: value
            for key, value in about["judge"].items()
            if key not in _OF_A_TASK and key not in _OF_A_PLACE
        }
        if answered.get(task):
            judge["answered_by"] = answered[task]
        group = groups.setdefault(_key(judge), {"judge": judge, "columns": {}, "rows": {}})
        column = _column(group["columns"], task, about)
        column["n"] = max(column["n"], figures["n"])
        row = group["rows"].setdefault(
            str(path),
            {
                "model": model.get("name") or model["spec"],
                "kind": model.get("kind"),
                "authors": model.get("authors"),
                "link": model.get("link"),
                "weights_hash": model.get("weights_hash"),
                "run": path.resolve().name,
                "cells": {},
            },
        )
        row["cells"][column["id"]] = {name: figures.get(name) for name in _FIGURES} | {
            "part": asked_part(run, task, figures["n"]) or None
        }


def _answered_by(path: Path) -> dict[str, list[str]]:
    """By task, the models that in fact gave the verdicts, where the judge names them."""
    models: dict[str, set[str]] = {}
    latest = read_rows(path / "judgements.jsonl", check_judgement)
    for (task, _), row in latest.items():
        for _, model in answering_models(row):
            models.setdefault(task, set()).add(model)
    return {task: sorted(names) for task, names in models.items()}


def _column(columns: dict[str, Board], task: str, about: Mapping[str, Any]) -> Board:
    prompts = {key: about["judge"].get(key) for key in _OF_A_TASK}
    said = {"task": task, "version": about["version"], "task_hash": about.get("task_hash")}
    key = _key({**said, **prompts})
    if key not in columns:
        others = sum(column["task"] == task for column in columns.values())
        columns[key] = {
            "id": task if not others else f"{task} ({others + 1})",
            "task": task,
            "version": about["version"],
            "protocol": about["protocol"],
            "judge_prompt": prompts["prompt_hash"],
            "n": 0,
        }
    return columns[key]


def _finish(group: Board) -> None:
    columns = list(group["columns"].values())
    rows = list(group["rows"].values())
    for row in rows:
        for column in columns:
            cell = row["cells"].get(column["id"])
            if cell is not None:
                cell["partial"] = cell["part"] is not None or cell["n"] < column["n"]
                known = cell["coverage"] is not None and cell["coverage"] >= MIN_COVERAGE
                cell["ranked"] = known and not cell["partial"]
        row["mean"] = _mean(row, columns)
    group["columns"], group["rows"] = columns, sorted(rows, key=lambda row: _rank(row, columns))


def _mean(row: Board, columns: Sequence[Board]) -> dict[str, float | None] | None:
    """Plain mean over the tasks; its error takes the tasks as independent of each other."""
    cells = [row["cells"].get(column["id"]) for column in columns]
    whole = [cell["accuracy"] for cell in cells if cell is not None and cell["ranked"]]
    if len(columns) < 2 or len(whole) < len(columns):
        return None
    errors = [accuracy["se"] for accuracy in whole]
    known = None not in errors
    return {
        "value": sum(accuracy["value"] for accuracy in whole) / len(whole),
        "se": math.sqrt(sum(se**2 for se in errors)) / len(whole) if known else None,
    }


def _rank(row: Board, columns: Sequence[Board]) -> tuple[float, ...]:
    """Sort key: the mean, else the first column; cells that are not ranked or missing come last."""
    if row["mean"] is not None:
        return (0, -row["mean"]["value"])
    cell = row["cells"].get(columns[0]["id"])
    if cell is None or cell["accuracy"]["value"] is None:
        return (3, 0.0)
    return (1 if cell["ranked"] else 2, -cell["accuracy"]["value"])


def _key(value: Mapping[str, Any]) -> str:
    return dumps(dict(sorted(value.items())))

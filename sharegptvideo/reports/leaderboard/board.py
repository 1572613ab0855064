"""The runs that may stand in one table: those that the same judge judged by the same rules."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sharegptvideo._concurrency import Progress
from sharegptvideo._io import dumps
from sharegptvideo.endpoint.budget import find_price
from sharegptvideo.errors import UserError
from sharegptvideo.eval.comparison import OUTCOMES
from sharegptvideo.eval.headline import Headline, headline
from sharegptvideo.eval.published import published_drift, published_table
from sharegptvideo.eval.run_dir import asked_part, other_settings, read_run
from sharegptvideo.eval.run_record import check_judgement, read_rows
from sharegptvideo.eval.tiers import Pairs, mean_of_tasks, pair_tests, rank_tiers
from sharegptvideo.models.base import short_hash
from sharegptvideo.reports.leaderboard.facts import row_facts
from sharegptvideo.reports.run.record import MIN_COVERAGE, answering_models

__all__ = ["Board", "collect_published", "collect_runs"]

Board = dict[str, Any]
Answers = dict[str, tuple[str, float | None]]

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


def collect_runs(runs: Sequence[Path], progress: Progress | None = None) -> Board:
    """Put finished runs into groups that may be ranked together.

    A group is one judge: the same description (places apart) and, for a judge of an endpoint, the
    same model that in fact answered. A column is one task in one version, from one task file,
    judged by one prompt; the same task in another version is another column.

    Returns:
        `groups`: per judge `id`, `judge` (its description, with `answered_by`), and

        `columns` [{id, task, version, protocol, headline (which figure counts), n}], n being the
        largest there;
        `rows` [{id, run, what `row_facts` says, cells, mean, tier, ranked}], best first. A cell,
        by the column's id, has figures of results.json; `figure`, the headline's {value, se,
        ci95}; `cost` {frames, tokens, dollars, price_date}, per question, each null where it is
        not known; `apart`, in words, why it is not ranked, or null: a part of the task, other
        settings than the task's, coverage under 99 %, fewer questions than the column's n, or
        withdrawn; and `tier`. `mean` is {value, se, ci95} over all columns, where there are
        several, all cells are ranked, and all figures are shares. `tier` is that by the mean, or
        by the only column. A row is `ranked` where one of its cells is;
        `pairs` {column or "mean": [{first, second (ids of rows), delta, p_value, p_holm, n}]}, the
        comparisons from which tiers come: see `sharegptvideo.eval.tiers`;
        `best` {column or "mean": [{date, row, value}]}: which row was the best from that date on.

    Raises:
        UserError: no run is given, one twice, or a folder is no finished run.
    """
    if not runs:
        raise UserError("no run given; name run folders that `eval run` finished, or submissions")
    seen: set[Path] = set()
    groups: dict[str, Board] = {}
    for done, path in enumerate(runs, start=1):
        if path.resolve() in seen:
            raise UserError(f"{path}: given twice")
        seen.add(path.resolve())
        _add_run(path, groups)
        if progress:
            progress(done, len(runs), "runs read")
    for group in groups.values():
        _finish(group, progress)
    return {"groups": list(groups.values())}


def collect_published() -> Board:
    """Return the table of the paper: figures of other judges, in no group with runs.

    Returns:
        `source`, `protocol`, `tasks`, and `judges` [{judge, rows [{model, mean, cells {task:
        {accuracy, score}}}]}], accuracies from 0 to 1 as published, in the published order; under
        `drift` what `published_drift` returns: `levels`, `ranks`.
    """
    table = published_table()
    levels, ranks = published_drift(table)
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
        "drift": {"levels": levels, "ranks": ranks},
    }


def _share(points: float) -> float:
    return round(points / 100, 4)  # the digits that were published


def _add_run(path: Path, groups: dict[str, Board]) -> None:
    run, results = read_run(path)
    answered = _answered_by(path)
    outcomes: dict[str, Any] = {}
    if (path / "predictions.jsonl").is_file():
        used = {headline(figures).key for figures in results["tasks"].values()}
        outcomes = {key: OUTCOMES[key](path) for key in sorted(used)}
    facts = row_facts(path, run)
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
        key = _key(judge)
        if key not in groups:
            name = f"{slug(str(judge['name']))}-{short_hash(key)[:6]}"
            groups[key] = {"id": name, "judge": judge, "columns": {}, "rows": {}}
        group = groups[key]
        main = headline(figures)
        column = _column(group["columns"], task, about, main)
        column["n"] = max(column["n"], figures["n"])
        if str(path) not in group["rows"]:
            taken = {row["id"] for row in group["rows"].values()}
            group["rows"][str(path)] = {"id": _free(slug(path.resolve().name), taken),
                                        **facts, "cells": {}}  # fmt: skip
        row = group["rows"][str(path)]
        row["cells"][column["id"]] = {name: figures.get(name) for name in _FIGURES} | {
            "figure": {name: main.estimate.get(name) for name in ("value", "se", "ci95")},
            "part": asked_part(run, task, figures["n"]) or None,
            "settings": other_settings(run, task) or None,
            "cost": _cost(run["model"], about, figures),
            "answers": outcomes.get(main.key, {}).get(task, {}),
        }


def slug(text: str) -> str:
    """Return a text as a part of an address: small letters, digits and hyphens.

    >>> slug("openai:GPT 4o"), slug("…")
    ('openai-gpt-4o', 'x')
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


def _free(name: str, taken: set[str]) -> str:
    if name not in taken:
        return name
    return next(one for n in itertools.count(2) if (one := f"{name}-{n}") not in taken)


def _answered_by(path: Path) -> dict[str, list[str]]:
    """By task, the models that in fact gave the verdicts, where the judge names them."""
    models: dict[str, set[str]] = {}
    latest = read_rows(path / "judgements.jsonl", check_judgement)
    for (task, _), row in latest.items():
        for _, model in answering_models(row):
            models.setdefault(task, set()).add(model)
    return {task: sorted(names) for task, names in models.items()}


def _cost(model: Board, about: Board, figures: Board) -> Board:
    """Return what an answer took: frames, tokens as the server counted, dollars at list prices."""
    usage = figures.get("usage") or {}
    n = usage.get("n")
    tokens = dollars = price = None
    if n:
        prompt, completion = usage["prompt_tokens"], usage["completion_tokens"]
        tokens = (prompt + completion) / n
        price = find_price(str(model.get("endpoint") or ""), str(model.get("name") or ""))
        dollars = price.of(prompt, completion) / n if price else None
    return {
        "frames": about.get("frames"),
        "tokens": tokens,
        "dollars": dollars,
        "price_date": price.date if price else None,
    }


def _column(
    columns: dict[str, Board], task: str, about: Mapping[str, Any], main: Headline
) -> Board:
    prompts = {key: about["judge"].get(key) for key in _OF_A_TASK}
    said = {"task": task, "version": about["version"], "task_hash": about.get("task_hash")}
    key = _key({**said, **prompts, "headline": main.key})
    if key not in columns:
        others = sum(column["task"] == task for column in columns.values())
        columns[key] = {
            "id": task if not others else f"{task} ({others + 1})",
            "task": task,
            "version": about["version"],
            "protocol": about["protocol"],
            "judge_prompt": prompts["prompt_hash"],
            "headline": main.key,
            "chance": main.chance,
            "n": 0,
        }
    return columns[key]


def _finish(group: Board, progress: Progress | None) -> None:
    columns = list(group["columns"].values())
    rows = list(group["rows"].values())
    for row in rows:
        for column in columns:
            cell = row["cells"].get(column["id"])
            if cell is not None:
                cell["apart"] = _apart(row, cell, column)
                cell["partial"] = cell["part"] is not None or cell["n"] < column["n"]
                cell["ranked"] = cell["apart"] is None
                cell["tier"] = None
        row["ranked"] = any(cell["ranked"] for cell in row["cells"].values())
        row["mean"] = _mean(row, columns)
        row["tier"] = None
    group["columns"] = columns
    group["rows"] = sorted(rows, key=lambda row: _rank(row, columns))
    _set_tiers(group, progress)
    group["best"] = _best(group)
    for row, column in itertools.product(rows, columns):
        row["cells"].get(column["id"], {}).pop("answers", None)


def _apart(row: Board, cell: Board, column: Board) -> str | None:
    if row["withdrawn"]:
        return f"withdrawn: {row['withdrawn']}"
    if cell["part"] is not None:
        return str(cell["part"])
    if cell["settings"] is not None:
        return str(cell["settings"])
    if cell["n"] < column["n"]:
        return f"fewer questions: {cell['n']:,} of {column['n']:,}"
    if cell["coverage"] is None or cell["coverage"] < MIN_COVERAGE:
        return f"coverage under {100 * MIN_COVERAGE:g} %"
    return None if cell["figure"]["value"] is not None else "no verdict"


def _mean(row: Board, columns: Sequence[Board]) -> Board | None:
    """Return the plain mean over the tasks, where all are ranked and shares.

    Its error is clustered by video over all tasks where the run's answers are there; else it takes
    the tasks as independent, and there is no interval.
    """
    cells = [row["cells"].get(column["id"]) for column in columns]
    whole = [cell for cell in cells if cell is not None and cell["ranked"]]
    scores = any(column["headline"] == "score" for column in columns)
    if len(columns) < 2 or len(whole) < len(columns) or scores:
        return None
    value = sum(cell["figure"]["value"] for cell in whole) / len(whole)
    if all(cell["answers"] for cell in whole):
        mean = mean_of_tasks([cell["answers"] for cell in whole])
        ends = mean.ci95
        within = [max(ends[0], 0.0), min(ends[1], 1.0)] if ends else None
        return {"value": value, "se": mean.se, "ci95": within}
    errors = [cell["figure"]["se"] for cell in whole]
    known = None not in errors
    se = math.sqrt(sum(se**2 for se in errors)) / len(whole) if known else None
    return {"value": value, "se": se, "ci95": None}


def _rank(row: Board, columns: Sequence[Board]) -> tuple[float, ...]:
    """Sort key: the mean, else the first column; cells that are not ranked or missing come last."""
    if row["mean"] is not None:
        return (0, -row["mean"]["value"])
    cell = row["cells"].get(columns[0]["id"])
    if cell is None or cell["figure"]["value"] is None:
        return (3 if row["ranked"] else 4, 0.0)
    return (1 if cell["ranked"] else 2 if row["ranked"] else 4, -cell["figure"]["value"])


def _set_tiers(group: Board, progress: Progress | None) -> None:
    """Compare all ranked rows of each column, and of the mean, where their answers are there."""
    group["pairs"] = {}
    ids = [column["id"] for column in group["columns"]]
    for column in group["columns"]:
        name = column["id"]
        ranked = [row for row in group["rows"] if row["cells"].get(name, {}).get("ranked")]
        tested = [row for row in ranked if _is_tested(row, column)]
        figures = [row["cells"][name]["figure"]["value"] for row in tested]
        tests = _tests(tested, [name], progress)
        tiers = _compared(group, name, tested, tests, figures)
        for row, tier in zip(tested, tiers, strict=True):
            row["cells"][name]["tier"] = tier
            if len(ids) == 1:
                row["tier"] = tier
    with_mean = [
        row
        for row in group["rows"]
        if row["mean"] is not None and all(_is_tested(row, column) for column in group["columns"])
    ]
    means = [row["mean"]["value"] for row in with_mean]
    if with_mean:
        tests = _tests(with_mean, ids, progress)
        tiers = _compared(group, "mean", with_mean, tests, means)
        for row, tier in zip(with_mean, tiers, strict=True):
            row["tier"] = tier


def _is_tested(row: Board, column: Board) -> bool:
    """Whether the run's folder has the values that the figure is the mean of."""
    return bool(row["cells"][column["id"]]["answers"])


def _tests(rows: Sequence[Board], columns: Sequence[str], progress: Progress | None) -> Pairs:
    answers = [[row["cells"][name]["answers"] for name in columns] for row in rows]
    return pair_tests(answers, progress)


def _compared(
    group: Board, name: str, rows: Sequence[Board], tests: Pairs, figures: Sequence[float]
) -> list[Board]:
    """Keep the tests of all pairs of rows, and return the tiers."""
    group["pairs"][name] = [
        {
            "first": rows[one]["id"],
            "second": rows[other]["id"],
            "delta": test.delta,
            "p_value": test.p_value,
            "p_holm": test.p_holm,
            "n": test.n,
        }
        for (one, other), test in tests.items()
    ]
    tiers = rank_tiers(figures, tests)
    return [{"number": tier.number, "reach": list(tier.reach)} for tier in tiers]


def _best(group: Board) -> dict[str, list[Board]]:
    """By column and mean, from which date on which row was the best; rows with a date alone."""
    history: dict[str, list[Board]] = {}
    dated = sorted((row for row in group["rows"] if row["date"]), key=lambda row: row["date"])
    for name in [*(column["id"] for column in group["columns"]), "mean"]:
        best: list[Board] = []
        for date, rows in itertools.groupby(dated, key=lambda row: row["date"]):
            values = [(value, row) for row in rows if (value := _value(row, name)) is not None]
            value, row = max(values, key=lambda pair: pair[0], default=(None, None))
            if row is not None and (not best or value > best[-1]["value"]):
                best.append({"date": date, "row": row["id"], "value": value})
        if best:
            history[name] = best
    return history


def _value(row: Board, name: str) -> float | None:
    """Return what a row is ranked by; None where it is not ranked there."""
    if name == "mean":
        return row["mean"]["value"] if row["mean"] else None
    cell = row["cells"].get(name)
    return cell["figure"]["value"] if cell is not None and cell["ranked"] else None


def _key(value: Mapping[str, Any]) -> str:
    return dumps(dict(sorted(value.items())))

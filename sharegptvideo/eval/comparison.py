"""Two runs on the same questions: differences paired by question, clustered by video."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sharegptvideo.errors import UserError
from sharegptvideo.eval.headline import HEADLINES, headline
from sharegptvideo.eval.run_dir import asked_part, other_settings, read_run
from sharegptvideo.eval.run_record import check_judgement, check_prediction, read_rows
from sharegptvideo.eval.score import outcome, pair_outcome, pair_videos
from sharegptvideo.eval.statistics import (
    bootstrap_interval,
    holm,
    minimum_detectable_difference,
    paired_difference,
)

__all__ = ["OUTCOMES", "compare_runs", "paired_outcomes", "read_outcomes"]

# task -> question id -> (video, 1.0 right / 0.0 wrong / None where the judge gave no verdict)
Outcomes = dict[str, dict[str, tuple[str, float | None]]]


def read_outcomes(run: Path) -> Outcomes:
    """Whether each answer of a run was right: a failed one is wrong, an unscored one None."""
    verdicts = read_rows(run / "judgements.jsonl", check_judgement)
    outcomes: Outcomes = {}
    for (task, key), row in read_rows(run / "predictions.jsonl", check_prediction).items():
        outcomes.setdefault(task, {})[key] = (
            row["video"],
            outcome(row, verdicts.get((task, key)))[0],
        )
    return outcomes


def paired_outcomes(run: Path) -> Outcomes:
    """Like `read_outcomes`, of pairs of questions: whether both are right.

    A pair's video stands for all that pairs share with it, as in `pair_accuracy`.
    """
    outcomes = read_outcomes(run)
    pairs: dict[str, dict[str, list[tuple[str, float | None]]]] = {}
    for (task, key), row in read_rows(run / "predictions.jsonl", check_prediction).items():
        if row.get("pair") is not None:
            pairs.setdefault(task, {}).setdefault(row["pair"], []).append(outcomes[task][key])
    paired: Outcomes = {}
    for task, members in pairs.items():
        clusters = pair_videos([[video for video, _ in pair] for pair in members.values()])
        paired[task] = {
            name: (cluster, pair_outcome([right for _, right in pair]))
            for (name, pair), cluster in zip(members.items(), clusters, strict=True)
        }
    return paired


def scored_outcomes(run: Path) -> Outcomes:
    """Like `read_outcomes`, of the scores of answers; a failed one has the lowest, 0.

    That is the lowest of the judges whose scores are a task's main figure. Of a pair neither
    answer is scored without the other, as in `score_answers`.
    """
    verdicts = read_rows(run / "judgements.jsonl", check_judgement)
    answers = read_rows(run / "predictions.jsonl", check_prediction)
    broken = {
        (task, row["pair"])
        for (task, _), row in answers.items()
        if row.get("pair") is not None and row["status"] != "ok"
    }
    outcomes: Outcomes = {}
    for (task, key), row in answers.items():
        score = outcome(row, verdicts.get((task, key)), 0.0)[1]
        if (task, row.get("pair")) in broken:
            score = 0.0
        outcomes.setdefault(task, {})[key] = (row["video"], score)
    return outcomes


OUTCOMES = {
    "accuracy": read_outcomes,
    "pair_accuracy": paired_outcomes,
    "f1": scored_outcomes,  # of descriptions: a score is the F1 of its claims
    "score": scored_outcomes,
}
"""By main figure, what reads of a run the values that it is the mean of."""


def compare_runs(first: Path | str, second: Path | str) -> dict[str, Any]:
    """Compare the main figures of two runs, `second` minus `first`, on what both were asked.

    Returns:
        `first`, `second` (model and judge of each) and per task: `headline`, the figure compared
        (`accuracy`, or `pair_accuracy` of pairs of questions, `f1`, `score`), `n` pairs of
        answers, `n_clusters`, `n_changed` (of which one is right and one wrong),
        `first_accuracy` and `second_accuracy`, the figure of each on these pairs,
        `delta`, `se`, `ci95`, `ci95_bootstrap`, `p_value`, `p_holm` (corrected for the number of
        tasks compared), `minimum_detectable_difference` (what a sample like this finds in 80 % of
        all cases), and how many questions were left out because a verdict (`n_unscored`) or the
        question (`n_only_in_one`) is missing on one side; `part`, where a run was asked only a part
        of the task: which run, and which part; `settings`, where a run was under other settings
        than the task's: which run, and which settings; where questions have types, the same by
        type under `by_question_type` (without `p_holm`). `only_first` and `only_second` are the
        tasks that the other run lacks.
        For the formulas see `sharegptvideo.eval.statistics`.

    Raises:
        UserError: not a finished run, no task in common, or tasks judged by different rules.
    """
    paths = Path(first), Path(second)
    read = [read_run(path) for path in paths]
    runs = [run for run, _ in read]
    common = sorted(runs[0]["tasks"].keys() & runs[1]["tasks"].keys())
    if not common:
        raise UserError(
            f"{paths[0]} ({', '.join(runs[0]['tasks'])}) and {paths[1]}"
            f" ({', '.join(runs[1]['tasks'])}) have no task in common"
        )
    for task in common:
        _refuse_other_rules(task, paths, (runs[0]["tasks"][task], runs[1]["tasks"][task]))
    keys = {task: _headline(task, paths, [each["tasks"] for _, each in read]) for task in common}
    outcomes = {key: [OUTCOMES[key](path) for path in paths] for key in set(keys.values())}
    tasks: dict[str, dict[str, Any]] = {}
    for task, key in keys.items():
        there, here = (each.get(task, {}) for each in outcomes[key])
        tasks[task] = {"headline": key, **_compare(there, here, key)}
    for task, figures in tasks.items():
        parts = [
            f"{path}: {part}"
            for path, (run, results) in zip(paths, read, strict=True)
            if (part := asked_part(run, task, results["tasks"].get(task, {}).get("n", 0)))
        ]
        figures["part"] = "; ".join(parts) or None
        settings = [
            f"{path}: {changed}"
            for path, (run, _) in zip(paths, read, strict=True)
            if (changed := other_settings(run, task))
        ]
        figures["settings"] = "; ".join(settings) or None
    for task, kinds in _by_type(paths[1], keys).items():
        there, here = (each.get(task, {}) for each in outcomes[keys[task]])
        tasks[task]["by_question_type"] = {
            kind: _compare(
                {key: there[key] for key in names if key in there},
                {key: here[key] for key in names},
                keys[task],
            )
            for kind, names in sorted(kinds.items())
        }
    corrected = holm([figures["p_value"] for figures in tasks.values()])
    for figures, p_holm in zip(tasks.values(), corrected, strict=True):
        figures["p_holm"] = p_holm
    return {
        "first": {"run": str(paths[0]), "model": runs[0]["model"]["spec"]},
        "second": {"run": str(paths[1]), "model": runs[1]["model"]["spec"]},
        "judge": runs[0]["judge"],
        "tasks": tasks,
        "only_first": sorted(runs[0]["tasks"].keys() - runs[1]["tasks"].keys()),
        "only_second": sorted(runs[1]["tasks"].keys() - runs[0]["tasks"].keys()),
    }


def _headline(task: str, paths: tuple[Path, Path], runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the key of the figure that two runs are compared by."""
    first, second = (headline(run.get(task, {"accuracy": None})).key for run in runs)
    if first != second:
        raise UserError(
            f"{task}: the main figure is {HEADLINES[first]} in {paths[0]}, {HEADLINES[second]} in"
            f" {paths[1]}; only like can be compared with like"
        )
    return first


def _by_type(run: Path, keys: Mapping[str, str]) -> dict[str, dict[str, dict[str, None]]]:
    """Return by task and question type the ids of a run's questions, or the names of its pairs.

    Those without a type are left out, and so are tasks that `keys`, the main figures, has not.
    """
    types: dict[str, dict[str, dict[str, None]]] = {}
    for (task, key), row in read_rows(run / "predictions.jsonl", check_prediction).items():
        name = row.get("pair") if keys.get(task) == "pair_accuracy" else key
        if task in keys and name is not None and row.get("question_type") is not None:
            types.setdefault(task, {}).setdefault(str(row["question_type"]), {})[name] = None
    return types


def _refuse_other_rules(
    task: str, paths: tuple[Path, Path], tasks: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    for what, name in (
        ("version", "task version"),
        ("protocol", "protocol"),
        ("task_hash", "task file of the hash"),
    ):
        there, here = (about.get(what) for about in tasks)
        if there != here and None not in (there, here):  # runs of old have no hash
            raise UserError(
                f"{task}: {name} {there} in {paths[0]}, {here} in {paths[1]}; only like can be"
                " compared with like"
            )
    judges = [{k: v for k, v in t["judge"].items() if k != "endpoint"} for t in tasks]
    if judges[0] != judges[1]:
        first, second = (_only_in(mine, other) for mine, other in (judges, judges[::-1]))
        raise UserError(
            f"{task}: judged differently, {first} in {paths[0]}, {second} in {paths[1]}; judge"
            " one run's answers anew (eval judge --predictions RUN/predictions.jsonl)"
        )


def _only_in(judge: dict[str, Any], other: dict[str, Any]) -> str:
    """Return what a judge's description says that the other's does not: `name exact, rules 3`."""
    phrases = [f"{key} {value}" for key, value in judge.items() if other.get(key) != value]
    return ", ".join(phrases) or f"the same without {', '.join(other.keys() - judge.keys())}"


def _compare(
    first: dict[str, tuple[str, float | None]],
    second: dict[str, tuple[str, float | None]],
    key: str,
) -> dict[str, Any]:
    shared = [name for name in first if name in second]
    pairs = [
        (video, a, b)
        for name in shared
        for video, a, b in [(*first[name], second[name][1])]
        if a is not None and b is not None
    ]
    a, b = [pair[1] for pair in pairs], [pair[2] for pair in pairs]
    videos = [pair[0] for pair in pairs]
    difference = paired_difference(a, b, videos)
    changes = [after - before for before, after in zip(a, b, strict=True)]
    ends = difference.ci95
    most = math.inf if key == "score" else 1.0
    return {
        **asdict(difference),
        # With two videos Student's t reaches beyond what a difference can be: of shares, 1.
        "ci95": [max(ends[0], -most), min(ends[1], most)] if ends else None,
        "ci95_bootstrap": bootstrap_interval(changes, videos),
        "minimum_detectable_difference": minimum_detectable_difference(
            difference.se, difference.n_clusters
        ),
        "first_accuracy": sum(a) / len(a) if a else None,
        "second_accuracy": sum(b) / len(b) if b else None,
        "n_unscored": len(shared) - len(pairs),
        "n_only_in_one": len(first.keys() ^ second.keys()),
    }

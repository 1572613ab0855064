"""Judge drift: the same answers judged by stricter and looser rules, to see if ranks hold.

The models are those of other experiments, so that nothing is trained for this one. Beside them
stands the paper's table of seven models by three versions of one served judge.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from sharegptvideo._io import read_jsonl, write_jsonl
from sharegptvideo._strict import StrictModel
from sharegptvideo._text import points, rounded
from sharegptvideo.eval.agreement import kappa
from sharegptvideo.eval.hierarchical import SeededScores, seeded_difference, seeded_mean
from sharegptvideo.eval.judge import item_of
from sharegptvideo.eval.published import published_drift, published_table
from sharegptvideo.eval.tasks import load_questions, load_task
from sharegptvideo.judges import Judge, open_judge
from sharegptvideo.judges.base import ACCEPTABLE
from sharegptvideo.study import arms
from sharegptvideo.study.degraded import Reward
from sharegptvideo.study.experiment import Experiment
from sharegptvideo.study.gains import contrast_figures, contrast_sentence
from sharegptvideo.study.kind import Chart, Done, Result
from sharegptvideo.study.loop import (
    TASK,
    answers_node,
    make_node,
    pretrain_node,
    sft_node,
    world_node,
)
from sharegptvideo.study.node import Findings, Node, Stage, Work
from sharegptvideo.study.scales import StudyScale

__all__ = ["Drift", "Level"]

# Levels of other experiments, at their settings: the same pieces of work.
_ARMS = {
    "dpo": arms.Level(),
    "dpo, 30 % of verdicts flipped": arms.Level(
        reward=Reward(right_to_wrong=0.3, wrong_to_right=0.3)
    ),
    "dpo, 60 % of wrong answers accepted": arms.Level(reward=Reward(wrong_to_right=0.6)),
    "dpo, captions lie in 60 %": arms.Level(reward=Reward(lie=0.6)),
    "dpo, blank clip": arms.Level(training=arms.Training(clip="blank")),
}


class Level(StrictModel):
    """A judge.

    Attributes:
        judge: of rules that read texts, or `state`, which knows what the clip shows.
        accept_from: the lowest score, of 1 to 5, that counts as right.
        caption: whether the judge reads the caption beside question and reference.
    """

    judge: Literal["answer-match", "exact", "state"] = "answer-match"
    accept_from: int = Field(default=ACCEPTABLE, ge=2, le=5)
    caption: bool = True


def _rejudge(work: Work) -> Findings:
    """Judge the answers of all models by all judges. Settings: judges, versions.

    Writes `verdicts.jsonl`: model, id, video, and `right` by judge. Parents: world, and the models'
    answers by the models' names.
    """
    world = work.inputs["world"]
    levels = {name: Level.model_validate(each) for name, each in work.settings["judges"].items()}
    judges = {name: open_judge(name) for name in ("answer-match", "exact")}
    questions = {each.id: each for each in load_questions(load_task(TASK), world)}
    rows = []
    models = [name for name in work.inputs if name != "world"]
    for place, model in enumerate(models):
        answers = [row for _, row in read_jsonl(work.inputs[model] / "outcomes.jsonl")]
        given = {row["id"]: row["answer"] for row in answers}
        right = {
            name: {row["id"]: row["right"] for row in answers}
            if level.judge == "state"
            else _accepted(judges[level.judge], level, questions, given)
            for name, level in levels.items()
        }
        for row in answers:
            by_judge = {name: each[row["id"]] for name, each in right.items()}
            rows.append({"model": model, "id": row["id"], "video": row["video"], "right": by_judge})
        if work.progress:
            work.progress(place + 1, len(models), "models judged")
    write_jsonl(work.folder / "verdicts.jsonl", rows)
    return {"answers": len(rows)}


def _accepted(
    judge: Judge, level: Level, questions: Mapping[str, Any], given: Mapping[str, str | None]
) -> dict[str, bool]:
    """Return by id whether an answer is right; a failed or unscored one is not."""
    from dataclasses import replace

    items = [item_of(questions[id], answer) for id, answer in given.items() if answer is not None]
    if not level.caption:
        items = [replace(item, caption=None) for item in items]
    right = dict.fromkeys(given, False)
    for verdict in judge.judge(items):
        right[verdict.id] = verdict.score is not None and verdict.score >= level.accept_from
    return right


class Drift:
    """The kind of the experiment on judge drift: a level is a judge, the first the usual one."""

    level = Level
    stages: Mapping[str, Stage] = {"rejudge": Stage(_rejudge, seconds=15)}

    def plan(
        self, experiment: Experiment, scale: StudyScale, seeds: Sequence[int]
    ) -> dict[tuple[str, int], dict[str, Node]]:
        """Return for every level a seed's one piece of work, which judges by all of them."""
        levels = {
            name: Level.model_validate(each).model_dump(mode="json")
            for name, each in experiment.levels.items()
        }
        versions = {
            name: open_judge(name).describe()["version"] for name in ("answer-match", "exact")
        }
        nodes = {
            seed: make_node(
                "rejudge",
                {"judges": levels, "versions": versions},
                stages=dict(self.stages),
                world=world_node(scale, seed),
                **_answers(scale, seed),
            )
            for seed in seeds
        }
        return {(level, seed): {"verdicts": nodes[seed]} for seed in seeds for level in levels}

    def analyse(
        self, experiment: Experiment, done: Mapping[tuple[str, int], Mapping[str, Done]]
    ) -> Result:
        """Return by judge the gain of DPO, the agreement of ranks, and the models' accuracies."""
        usual = next(iter(experiment.levels))
        rows = [
            {**row, "seed": seed}
            for seed in sorted({seed for _, seed in done})
            for _, row in read_jsonl(done[usual, seed]["verdicts"].folder / "verdicts.jsonl")
        ]
        state = next(
            (name for name, each in experiment.levels.items() if each.get("judge") == "state"), None
        )
        accuracies = {judge: _accuracies(rows, judge) for judge in experiment.levels}
        table = [
            _row(rows, judge, accuracies, usual=usual, state=state) for judge in experiment.levels
        ]
        changes = {judge: _changes(rows, judge) for judge in experiment.levels}
        contrast = contrast_figures(experiment.contrast, changes)
        levels, ranks = published_drift(published_table())
        by_model = list(_by_model(accuracies))
        return Result(
            table=table,
            contrast=contrast,
            charts=[
                Chart("points", "level", "gain", "", experiment.figure, low="low", high="high"),
                Chart(
                    "points", "level", "tau", "", f"Kendall's tau of ranks with {usual}",
                    low="tau_low", high="tau_high", unit="",
                ),
            ],
            says=(
                contrast_sentence(contrast, "gain"),
                _drift_sentence(table, by_model, levels, ranks),
            ),
            tables={"by_model": by_model, "published_levels": levels, "published_ranks": ranks},
            notes=[
                "Where all models keep their order in every seed, tau has no interval: no spread "
                "was seen, which is no proof that there is none."
            ],
        )  # fmt: skip


def _answers(scale: StudyScale, seed: int) -> dict[str, Node]:
    """Return by model the node of its answers."""
    before = {
        "pretrain": answers_node(scale, seed, pretrain_node(scale, seed)),
        "sft": answers_node(scale, seed, sft_node(scale, seed)),
    }
    after = {name: arms.arm_nodes(level, scale, seed)["answers"] for name, level in _ARMS.items()}
    return before | after


def _scores(rows: Sequence[Mapping[str, Any]], judge: str, model: str) -> SeededScores:
    kept = [row for row in rows if row["model"] == model]
    return SeededScores(
        [float(row["right"][judge]) for row in kept],
        [row["seed"] for row in kept],
        [row["video"] for row in kept],
        [row["id"] for row in kept],
    )


def _changes(rows: Sequence[Mapping[str, Any]], judge: str) -> SeededScores:
    """Return DPO − SFT by question, as the judge counts."""
    before = {
        (row["seed"], row["id"]): row["right"][judge] for row in rows if row["model"] == "sft"
    }
    after = [row for row in rows if row["model"] == "dpo"]
    return SeededScores(
        [float(row["right"][judge]) - before[row["seed"], row["id"]] for row in after],
        [row["seed"] for row in after],
        [row["video"] for row in after],
        [row["id"] for row in after],
    )


Accuracies = dict[tuple[int, str], float]


def _accuracies(rows: Sequence[Mapping[str, Any]], judge: str) -> Accuracies:
    """Return accuracy by seed and model."""
    right: dict[tuple[int, str], list[bool]] = {}
    for row in rows:
        right.setdefault((row["seed"], row["model"]), []).append(row["right"][judge])
    return {key: statistics.fmean(each) for key, each in right.items()}


def _row(
    rows: Sequence[Mapping[str, Any]],
    judge: str,
    accuracies: Mapping[str, Accuracies],
    *,
    usual: str,
    state: str | None,
) -> dict[str, Any]:
    import numpy as np

    gain = seeded_difference(_scores(rows, judge, "sft"), _scores(rows, judge, "dpo"))
    seeds = sorted({row["seed"] for row in rows})
    taus = [_tau_of(accuracies[judge], accuracies[usual], seed) for seed in seeds]
    known = [(seed, tau) for seed, tau in zip(seeds, taus, strict=True) if tau is not None]
    tau = seeded_mean(
        SeededScores([value for _, value in known], *[[seed for seed, _ in known]] * 3)
    )
    agreed = None
    if state is not None and state != judge:
        verdicts = [
            np.array([row["right"][name] for row in rows], np.float64) for name in (judge, state)
        ]
        agreed = kappa(*verdicts)
    low, high = gain.ci95 or (None, None)
    tau_low, tau_high = tau.ci95 or (None, None)
    return {
        "level": judge,
        "n_seeds": gain.n_seeds,
        "gain": gain.value,
        "low": low,
        "high": high,
        "p_value": gain.p_value,
        "tau": tau.value,
        "tau_low": tau_low,
        "tau_high": None if tau_high is None else min(1.0, tau_high),
        "tau_least": min(value for _, value in known) if known else None,
        "mean_accuracy": statistics.fmean(accuracies[judge].values()),
        "shift": statistics.fmean(accuracies[judge].values())
        - statistics.fmean(accuracies[usual].values()),
        "kappa": agreed,
    }


def _tau_of(one: Accuracies, other: Accuracies, seed: int) -> float | None:
    models = [model for at, model in one if at == seed]
    return _tau([one[seed, m] for m in models], [other[seed, m] for m in models])


def _tau(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Kendall's tau-b; None where one side has no ranks, all being equal."""
    from scipy.stats import kendalltau

    if len(set(one)) < 2 or len(set(other)) < 2:
        return None
    return float(kendalltau(one, other).statistic)


def _by_model(accuracies: Mapping[str, Accuracies]) -> Iterator[dict[str, Any]]:
    """Yield each model's mean accuracy by judge, and how far the judges lie apart."""
    models = dict.fromkeys(model for each in accuracies.values() for _, model in each)
    for model in models:
        means = {
            judge: statistics.fmean(value for (_, name), value in each.items() if name == model)
            for judge, each in accuracies.items()
        }
        yield {"model": model, **means, "range": max(means.values()) - min(means.values())}


def _drift_sentence(
    table: Sequence[Mapping[str, Any]],
    by_model: Sequence[Mapping[str, Any]],
    levels: Sequence[Mapping[str, Any]],
    ranks: Sequence[Mapping[str, Any]],
) -> str:
    """Say how far levels move and ranks hold, here and in the published table."""
    most = max(by_model, key=lambda row: row["range"])
    taus = [row["tau"] for row in table[1:] if row["tau"] is not None]
    gains = sorted(row["gain"] for row in table if row["gain"] is not None)
    held = f"tau {rounded(min(taus), 2)} to {rounded(max(taus), 2)}" if taus else "no ranks"
    published = max(levels, key=lambda row: row["range"])
    means = [row for row in ranks if row["task"] == "mean"]
    tasks = min((row for row in ranks if row["task"] != "mean"), key=lambda row: row["tau"])
    return (
        f"One model's accuracy moves by up to {points(most['range'])} points with the judge"
        f" ({most['model']}) and DPO's gain is {points(gains[0], sign=True)} to"
        f" {points(gains[-1], sign=True)}, while ranks agree with the usual judge's by {held};"
        f" in the published table one moves by up to"
        f" {points(published['range'])} ({published['model']}), with a tau of at least"
        f" {rounded(min(row['tau'] for row in means), 2)} on the mean of three tasks and of"
        f" {rounded(tasks['tau'], 2)} on one of them ({tasks['task']})."
    )

"""The paper's figures: how its authors count, and the table that they published.

The counting is that of test/eval/eval_official_qa.py, test/eval/eval_qa.py and
inference/utils.py in the authors' repository (RifleZhang/LLaVA-Hound-DPO, at ec2381f), in words and
code of our own. It is lenient where ours is strict, and stands beside it for comparison only.
"""

from __future__ import annotations

import itertools
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any

from pydantic import Field

from sharegptvideo._io import parse_yaml
from sharegptvideo._shipped import shipped
from sharegptvideo._strict import StrictModel
from sharegptvideo.eval.statistics import plain_mean, resampled_weights
from sharegptvideo.judges.base import ACCEPTABLE

__all__ = [
    "PublishedRow",
    "PublishedTable",
    "paper_figures",
    "paper_reading",
    "published_drift",
    "published_table",
]

_OFFICIAL_SCORE = re.compile(r"""(['"])score\1\s*:\s*(\d+)""")
_SCORE = re.compile(r"Score: (\d+\.?\d*)")
_NUMBER = re.compile(r"\b\d+\.?\d*\b")
_SECOND_REPLY = "\n---\n"  # between the two replies of a judge that was asked again


def paper_figures(judgements: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the figures of one task as the authors count them.

    Args:
        judgements: rows of judgements.jsonl on answers, not on failed predictions, which the
            authors leave out.

    Returns:
        `paper_accuracy`, the share of right ones among the replies that were read as right or
        wrong; `paper_score`, the mean score of those in which a score was found; `paper_n`, how
        many replies each was divided by. A figure without a reply is None.
    """
    readings = [_reading(row) for row in judgements]
    rights = [float(right) for right, _ in readings if right is not None]
    scores = [score for _, score in readings if score is not None]
    return {
        "paper_accuracy": plain_mean(rights),
        "paper_score": plain_mean(scores),
        "paper_n": {"accuracy": len(rights), "score": len(scores)},
    }


def _reading(row: Mapping[str, Any]) -> tuple[bool | None, float | None]:
    """Read a verdict: our own reading where there is one, else its reply as the authors do.

    A recorded reply is always read as they do: it is in the form that they asked for.
    """
    judge = row.get("judge") or {}
    recorded = judge.get("kind") == "recorded"
    if row["status"] == "scored" and not recorded:
        return bool(row["correct"]), row["score"]
    reply = row.get("reply")
    if reply is None or judge.get("protocol") is None:
        return None, None
    last = reply if recorded else reply.rpartition(_SECOND_REPLY)[2]
    return paper_reading(last, judge["protocol"])


def paper_reading(reply: str, protocol: str) -> tuple[bool | None, float | None]:
    """Read a judge's reply as the authors' programs do: (right, score), None where not read.

    Official: right where "yes" is anywhere in the reply, else wrong where "no" is; the score is
    the first whole number after a quoted key `score` (4.8 gives 4). Else: the number after
    "Score: "; without one, the number that the reply has most often (the mean where several are
    as frequent), or 1 where it has none; right from 3 on.

    >>> paper_reading("{'pred': 'no', 'score': 4.8}", "official")
    (False, 4.0)
    >>> paper_reading("I cannot say.", "caption-grounded")
    (False, 1.0)
    """
    if protocol != "official":
        grade = _grade(reply)
        return grade >= ACCEPTABLE, grade
    score = _OFFICIAL_SCORE.search(reply)
    lower = reply.lower()
    right = True if "yes" in lower else False if "no" in lower else None
    return right, float(score[2]) if score else None


def _grade(reply: str) -> float:
    score = _SCORE.search(reply)
    if score:
        return float(score[1])
    numbers = [float(number) for number in _NUMBER.findall(reply)]
    frequent = statistics.multimode(numbers)
    return sum(frequent) / len(frequent) if frequent else 1.0


_Cell = tuple[Annotated[float, Field(ge=0, le=100)], Annotated[float, Field(ge=0, le=5)]]


class PublishedRow(StrictModel):
    """A model's published accuracies in per cent with their mean, and scores, a cell a task."""

    mean: float
    cells: tuple[_Cell, ...]


class PublishedTable(StrictModel):
    """The published results: by judge and model, a row each."""

    version: Annotated[int, Field(ge=1)]
    source: str
    protocol: str
    tasks: tuple[str, ...]
    judges: dict[str, dict[str, PublishedRow]]


@cache
def published_table() -> PublishedTable:
    """Return the table that comes along, eval/leaderboard/published.yaml."""
    file = shipped("eval/leaderboard") / "published.yaml"
    return PublishedTable.model_validate(parse_yaml(file.name, file.read_text(encoding="utf-8")))


def published_drift(
    table: PublishedTable,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return how the published levels move by version of the judge, and how far the ranks agree.

    Returns:
        By model its mean accuracy under each judge, as shares, and the `range` between them; and
        by two judges and task (or the mean of tasks) Kendall's tau-b and Spearman's rho, tau's
        interval by 2,000 draws of models (None where no draw can differ), its exact p-value where
        there are no ties, how many pairs of models change their order, and the mean shift of the
        second judge against the first.
    """
    judges = table.judges
    models = list(next(iter(judges.values())))
    levels = []
    for model in models:
        means = {judge: rows[model].mean / 100 for judge, rows in judges.items()}
        levels.append({"model": model, **means, "range": max(means.values()) - min(means.values())})
    ranks = []
    for first, second in itertools.combinations(judges, 2):
        for place, task in enumerate((*table.tasks, "mean")):
            one, other = (
                [
                    (rows[model].cells[place][0] if task != "mean" else rows[model].mean) / 100
                    for model in models
                ]
                for rows in (judges[first], judges[second])
            )
            ranks.append({"judges": f"{first}, {second}", "task": task, **_agreement(one, other)})
    return levels, ranks


def _agreement(one: Sequence[float], other: Sequence[float]) -> dict[str, Any]:
    from scipy.stats import kendalltau, spearmanr

    pairs = list(itertools.combinations(range(len(one)), 2))
    changed = sum((one[a] - one[b]) * (other[a] - other[b]) < 0 for a, b in pairs)
    ranked = kendalltau(one, other)
    low, high = _drawn_tau(one, other) or (None, None)
    return {
        "tau": float(ranked.statistic),
        "low": low,
        "high": high,
        "p_value": float(ranked.pvalue),
        "rho": float(spearmanr(one, other).statistic),
        "pairs": len(pairs),
        "pairs_changed": changed,
        "shift": statistics.fmean(other) - statistics.fmean(one),
    }


def _drawn_tau(one: Sequence[float], other: Sequence[float]) -> tuple[float, float] | None:
    """Interval of tau-b over draws of the models; a model and itself are no pair."""
    import numpy as np

    a, b = (np.sign(np.subtract.outer(x, x)) for x in (np.asarray(one), np.asarray(other)))
    weights = np.concatenate(list(resampled_weights(len(one))))

    def together(signs: Any) -> Any:
        return np.einsum("di,ij,dj->d", weights, signs, weights)

    size = np.sqrt(together(a * a) * together(b * b))
    draws = together(a * b)[size > 0] / size[size > 0]
    if np.ptp(draws) < 1e-12:
        return None
    return float(np.quantile(draws, 0.025)), float(np.quantile(draws, 0.975))

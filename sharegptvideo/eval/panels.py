"""How far the members of a panel agree with each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sharegptvideo.eval.agreement import kappa

__all__ = ["fleiss_kappa", "member_agreement"]


def member_agreement(judgements: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Figures on a panel's members, as {"panel": ...}; empty where no panel has judged.

    Args:
        judgements: rows of judgements.jsonl of one task.

    Returns:
        `members`: each one's name, `n_scored`, `accuracy`, mean `score`, and how often it was
        outvoted; `n_all_scored` answers on which all members have a verdict, and over these
        `unanimous` (share on which all agree) and `fleiss_kappa`; `pairs`: for each two members
        `n` answers both scored, `agreement` (share) and `kappa` (Cohen's). None where a figure
        is not defined: no answers, or all verdicts alike.
    """
    votes = [row for row in judgements if "members" in (row.get("judge") or {})]
    if not votes:
        return {}
    names = [member["name"] for member in votes[0]["judge"]["members"]]
    table = [[_vote(member) for member in row["judge"]["members"]] for row in votes]
    whole = np.array([row for row in table if None not in row], dtype=float)
    whole = whole.reshape(len(whole), len(names))
    rights = whole.sum(axis=1)
    return {
        "panel": {
            "members": [_member(number, name, votes) for number, name in enumerate(names)],
            "n_all_scored": len(whole),
            "unanimous": _mean([float(right in (0, len(names))) for right in rights]),
            "fleiss_kappa": fleiss_kappa(np.stack([rights, len(names) - rights], axis=1)),
            "pairs": [_pair(a, b, names, table) for a, b in combinations(range(len(names)), 2)],
        }
    }


def fleiss_kappa(counts: ArrayLike) -> float | None:
    """Fleiss' kappa (1971): agreement of n raters beyond chance.

    Args:
        counts: items × categories, how many raters put the item into the category; every item
            has the same number of raters, at least two.

    Returns:
        None for no items, and where all ratings fall into one category.
    """
    table = np.asarray(counts, dtype=float)
    if not len(table):
        return None
    raters = table[0].sum()
    observed = (((table**2).sum(axis=1) - raters) / (raters * (raters - 1))).mean()
    by_chance = ((table.sum(axis=0) / table.sum()) ** 2).sum()
    return None if by_chance == 1 else float((observed - by_chance) / (1 - by_chance))


def _vote(member: Mapping[str, Any]) -> bool | None:
    return member["correct"] if member["status"] == "scored" else None


def _member(number: int, name: str, votes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    given = [row["judge"]["members"][number] for row in votes]
    scored = [member for member in given if member["status"] == "scored"]
    scores = [member["score"] for member in scored if member["score"] is not None]
    return {
        "name": name,
        "n_scored": len(scored),
        "accuracy": _mean([float(member["correct"]) for member in scored]),
        "score": _mean(scores),
        "n_outvoted": sum(
            row["status"] == "scored" and vote is not None and vote != row["correct"]
            for row, member in zip(votes, given, strict=True)
            for vote in [_vote(member)]
        ),
    }


def _pair(
    a: int, b: int, names: Sequence[str], table: Sequence[Sequence[bool | None]]
) -> dict[str, Any]:
    both = [(row[a], row[b]) for row in table if row[a] is not None and row[b] is not None]
    first, second = np.array(both, dtype=float).reshape(len(both), 2).T
    return {
        "first": names[a],
        "second": names[b],
        "n": len(both),
        "agreement": _mean([float(one == other) for one, other in both]),
        "kappa": kappa(first, second) if both else None,
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None

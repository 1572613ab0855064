"""Agreement of the judge of captions with the exact state: what reward hacking would break."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sharegptvideo._io import read_jsonl
from sharegptvideo.synthetic import is_right, load_questions

__all__ = ["agreement_on_rewards", "agreement_on_runs"]


def agreement_on_rewards(rewards: Path, world: Path) -> dict[str, Any]:
    """Agreement over the scored candidates, each as often as it was drawn."""
    questions = load_questions(world)
    return _agreement(
        (answer["score"] >= 3, is_right(questions[row["id"]], answer["text"]), answer["copies"])
        for _, row in read_jsonl(rewards / "rewards.jsonl")
        for answer in row["answers"]
        if answer["score"] is not None
    )


def agreement_on_runs(runs: Iterable[Path], world: Path) -> dict[str, Any]:
    """Agreement over the scored answers of evaluation runs."""
    questions = load_questions(world)
    cases = []
    for run in runs:
        answers = {row["id"]: row["prediction"] for _, row in read_jsonl(run / "predictions.jsonl")}
        for _, row in read_jsonl(run / "judgements.jsonl"):
            if row["status"] == "scored":
                right = is_right(questions[row["id"]], answers[row["id"]])
                cases.append((bool(row["correct"]), right, 1))
    return _agreement(cases)


def _agreement(cases: Iterable[tuple[bool, bool, int]]) -> dict[str, Any]:
    """Share of equal verdicts, Cohen's kappa (Cohen 1960), and the two ways to disagree."""
    table: Counter[tuple[bool, bool]] = Counter()
    for judged, right, weight in cases:
        table[judged, right] += weight
    n = table.total()
    if not n:
        return {"n": 0, "share": None, "kappa": None, "too_kind": 0, "too_strict": 0}
    same = (table[True, True] + table[False, False]) / n
    share_judged = (table[True, True] + table[True, False]) / n
    share_right = (table[True, True] + table[False, True]) / n
    chance = share_judged * share_right + (1 - share_judged) * (1 - share_right)
    return {
        "n": n,
        "share": same,
        "kappa": (same - chance) / (1 - chance) if chance < 1 else None,
        "too_kind": table[True, False],
        "too_strict": table[False, True],
    }

"""The exact state of the synthetic world as a judge, and how the judge of captions agrees with it.

Only the demo uses it, to report accuracy that no judge of captions can be fooled into: agreement
is what reward hacking would break. The rewards that the model trains on never come from here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sharegptvideo._io import read_jsonl, sha256_file
from sharegptvideo.eval.agreement import table_kappa
from sharegptvideo.judges import Judge, JudgeItem, Verdict
from sharegptvideo.synthetic import check_answer, is_right, load_questions
from sharegptvideo.synthetic.exact import RULES_VERSION

__all__ = ["ExactStateJudge", "agreement_on_rewards", "agreement_on_runs"]


class ExactStateJudge(Judge):
    """Judge by `synthetic.check_answer`; the score is 5 or 1, to fit beside other judges."""

    name = "exact-state"

    def __init__(self, world: Path) -> None:
        self._states = world / "states.jsonl"
        self._questions = load_questions(world)

    def describe(self) -> dict[str, Any]:
        """Return name, rule version and the hash of the states."""
        return {
            "name": self.name,
            "kind": "state",
            "version": RULES_VERSION,
            "hash": sha256_file(self._states),
        }

    def check(self) -> None:
        """Do nothing: the states were read when the judge was made."""

    def judge(self, items: Sequence[JudgeItem]) -> Iterator[Verdict]:
        """Yield one verdict an item; a question that the world does not know is unscored."""
        for item in items:
            # Rewards number the answers to a question: its id, "#", the number.
            question = self._questions.get(item.id.partition("#")[0])
            about = {"name": self.name, "version": RULES_VERSION}
            if question is None:
                reason = "not a question of this world"
                yield Verdict(item.id, "unscored", None, None, reason, None, about)
                continue
            checked = check_answer(question, item.prediction)
            yield Verdict(
                id=item.id,
                status="scored",
                correct=checked.right,
                score=5.0 if checked.right else 1.0,
                reason=checked.reason,
                reply=None,
                judge=about,
                contradiction=checked.contradicts,
            )


def agreement_on_rewards(rewards: Path, world: Path) -> dict[str, Any]:
    """Compare verdicts on the scored candidates, each as often as it was drawn."""
    questions = load_questions(world)
    return _agreement(
        (answer["score"] >= 3, is_right(questions[row["id"]], answer["text"]), answer["copies"])
        for _, row in read_jsonl(rewards / "rewards.jsonl")
        for answer in row["answers"]
        if answer["score"] is not None
    )


def agreement_on_runs(runs: Iterable[Path], world: Path) -> dict[str, Any]:
    """Compare verdicts on the scored answers of evaluation runs."""
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
    """Count equal verdicts, Cohen's kappa, and the two ways to disagree."""
    table: Counter[tuple[bool, bool]] = Counter()
    for judged, right, weight in cases:
        table[judged, right] += weight
    n = table.total()
    if not n:
        return {"n": 0, "share": None, "kappa": None, "too_kind": 0, "too_strict": 0}
    kappa = table_kappa([[table[row, column] for column in (True, False)] for row in (True, False)])
    return {
        "n": n,
        "share": (table[True, True] + table[False, False]) / n,
        "kappa": None if np.isnan(kappa) else kappa.item(),
        "too_kind": table[True, False],
        "too_strict": table[False, True],
    }

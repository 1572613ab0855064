"""The judge that knows: verdicts from the exact state of the synthetic world.

Only the demo uses it, to report accuracy that no judge of captions can be fooled into. The
rewards that the model trains on never come from here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sharegptvideo._io import sha256_file
from sharegptvideo.judges import Judge, JudgeItem, Verdict
from sharegptvideo.synthetic import check_answer, load_questions
from sharegptvideo.synthetic.exact import RULES_VERSION

__all__ = ["ExactStateJudge"]


class ExactStateJudge(Judge):
    """Judge by `synthetic.check_answer`; the score is 5 or 1, to fit beside other judges."""

    name = "exact-state"

    def __init__(self, world: Path) -> None:
        self._states = world / "states.jsonl"
        self._questions = load_questions(world)

    def describe(self) -> dict[str, Any]:
        """Name, rule version and the hash of the states."""
        return {
            "name": self.name,
            "kind": "state",
            "version": RULES_VERSION,
            "hash": sha256_file(self._states),
        }

    def check(self) -> None:
        """Nothing to find out: the states were read when the judge was made."""

    def judge(self, items: Sequence[JudgeItem]) -> Iterator[Verdict]:
        """One verdict an item; a question that the world does not know is unscored."""
        for item in items:
            question = self._questions.get(item.id)
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

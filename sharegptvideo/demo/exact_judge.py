"""The judge that knows: verdicts from the exact state of the synthetic world.

Only the demo uses it, to report accuracy that no judge of captions can be fooled into. The
rewards that the model trains on never come from here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sharegptvideo.judging import JudgeItem, Verdict
from sharegptvideo.storage import sha256_file
from sharegptvideo.synthetic import is_right, load_questions

__all__ = ["ExactStateJudge"]

VERSION = 1


class ExactStateJudge:
    """Right or wrong by `synthetic.is_right`; score 5 or 1, so that it fits beside other judges."""

    name = "exact-state"

    def __init__(self, world: Path) -> None:
        self._states = world / "states.jsonl"
        self._questions = load_questions(world)

    def describe(self) -> dict[str, Any]:
        """Name, rule version and the hash of the states."""
        return {
            "name": self.name,
            "kind": "state",
            "version": VERSION,
            "hash": sha256_file(self._states),
        }

    def check(self) -> None:
        """Nothing to find out: the states were read when the judge was made."""

    def judge(self, items: Sequence[JudgeItem]) -> Iterator[Verdict]:
        """One verdict an item; a question that the world does not know is unscored."""
        for item in items:
            question = self._questions.get(item.id)
            right = None if question is None else is_right(question, item.prediction)
            yield Verdict(
                id=item.id,
                status="unscored" if right is None else "scored",
                correct=right,
                score=None if right is None else (5.0 if right else 1.0),
                reason="not a question of this world" if right is None else None,
                reply=None,
                judge={"name": self.name, "version": VERSION},
            )

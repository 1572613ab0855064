"""`exact`: right if the prediction equals the reference but for case, punctuation and articles."""

from __future__ import annotations

from sharegptvideo.judges.base import JudgeItem, Mark, RulesJudge
from sharegptvideo.judges.rules.text import plain

__all__ = ["RULES_VERSION", "Exact"]

RULES_VERSION = 1
"""Raise it when tests/golden/exact.json changes."""


class Exact(RulesJudge):
    """Equality after `plain`: score 5 if equal, else 1."""

    name = "exact"
    version = RULES_VERSION

    def mark(self, item: JudgeItem) -> Mark:
        """Compare the two texts; see `RulesJudge.mark`."""
        reference = plain(item.reference)
        if not reference:
            raise ValueError("the reference answer has no words")
        if plain(item.prediction) == reference:
            return Mark(5, "equals the reference")
        return Mark(1, "differs from the reference")

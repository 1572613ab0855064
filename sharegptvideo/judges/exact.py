"""`exact`: right if the prediction equals the reference but for case, punctuation and articles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sharegptvideo.judges.base import JudgeItem, Verdict
from sharegptvideo.judges.rules.normalise import plain

__all__ = ["RULES_VERSION", "Exact"]

RULES_VERSION = 1
"""Raise it when tests/golden/exact.json changes."""


class Exact:
    """Equality after `plain`: score 5 if equal, else 1."""

    name = "exact"

    def describe(self) -> dict[str, Any]:
        """Name, kind and rule version."""
        return {"name": self.name, "kind": "rules", "version": RULES_VERSION}

    def check(self) -> None:
        """Nothing can be missing."""

    def judge(self, items: Sequence[JudgeItem]) -> Iterator[Verdict]:
        """Yield a verdict for each item in order; one without a reference is unscored."""
        about = self.describe()
        for item in items:
            wanted = plain(item.reference)
            if not wanted:
                reason = "the reference answer has no words"
                yield Verdict(item.id, "unscored", None, None, reason, None, about)
                continue
            right = plain(item.prediction) == wanted
            reason = "equals the reference" if right else "differs from the reference"
            yield Verdict(item.id, "scored", right, 5.0 if right else 1.0, reason, None, about)

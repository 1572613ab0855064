"""The main figure of a task in results.json, and what it is called wherever it is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sharegptvideo._text import percent

__all__ = ["HEADLINES", "Headline", "headline", "headline_of_type"]

HEADLINES = {
    "accuracy": "accuracy",
    "pair_accuracy": "pairs right",
    "f1": "F1 of claims",
    "score": "score",
}
"""What the figures are called, by their keys in results.json."""


@dataclass(frozen=True, slots=True)
class Headline:
    """A task's main figure.

    Attributes:
        key: in results.json.
        estimate: {value, se, ci95, ci95_bootstrap, n}.
        chance: what guessing comes to in it; None where that is not known.
        bounds: the figure with all unscored answers wrong, and all right; None where neither is
            known.
    """

    key: str
    estimate: Mapping[str, Any]
    chance: float | None
    bounds: Sequence[float] | None = None

    @property
    def name(self) -> str:
        """What it is called: `accuracy`, `pairs right`."""
        return HEADLINES[self.key]

    @property
    def label(self) -> str:
        """The name with chance, as `accuracy (chance 25.0 %)`."""
        return self.name if self.chance is None else f"{self.name} (chance {percent(self.chance)})"

    @property
    def is_share(self) -> bool:
        """Whether it lies between 0 and 1, and is shown in per cent."""
        return self.key != "score"


def headline(figures: Mapping[str, Any]) -> Headline:
    """Return the main figure of a task's entry in results.json; of an older one its accuracy."""
    key = figures.get("headline", "accuracy")
    bounds = {"accuracy": "accuracy_bounds", "pair_accuracy": "pair_bounds"}.get(key)
    return Headline(
        key, figures[key], figures.get("chance"), figures.get(bounds) if bounds else None
    )


_UNKNOWN = {"value": None, "se": None, "ci95": None}


def headline_of_type(figures: Mapping[str, Any], kind: Mapping[str, Any]) -> Headline:
    """Return the same figure of one type of a task's questions; empty where it was not counted.

    Args:
        figures: the task's entry in results.json.
        kind: the type's entry below it.
    """
    key = figures.get("headline", "accuracy")
    return Headline(key, kind.get(key) or _UNKNOWN, None)

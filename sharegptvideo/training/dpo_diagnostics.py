"""Early warnings: what the log and the evaluations show long before a training ends.

Each is reported once, when it begins. The thresholds are chosen so that a DPO that goes well, in
which both log-probabilities usually fall, does not meet them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sharegptvideo._text import interval, number, percent, rounded

__all__ = ["Diagnostics", "DpoSettings"]

Entry = Mapping[str, Any]

_CHANCE_PAIRS = 200
"""Pairs from which on accuracy is tested: at 0.65, a good start, one test in 100 would mistake it
for chance."""
_CHANCE_SHARE = 0.1  # of all steps, at the least: a slow start is no standstill
_RECENT_PAIRS = 50
_FALL_NATS = 2.0
_FALL_SHARE = 0.5
_MARGIN = 10.0
_LENGTH = 1.5
_Z = 1.96


@dataclass(frozen=True, slots=True)
class DpoSettings:
    """What the figures of a DPO mean.

    `pairs` of one step are on all devices together; `warmup` and `steps` are in steps.
    """

    beta: float
    pairs: int
    warmup: int
    steps: int


@dataclass(slots=True)
class _Window:
    """The last entries that hold `least` pairs between them, weighted by their pairs."""

    least: float
    _entries: deque[tuple[int, int, Entry]]  # first step, pairs, entry
    pairs: int = 0

    @classmethod
    def of(cls, least: float) -> _Window:
        return cls(least, deque())

    def add(self, first: int, pairs: int, entry: Entry) -> None:
        self._entries.append((first, pairs, entry))
        self.pairs += pairs
        while self.pairs - self._entries[0][1] >= self.least:
            self.pairs -= self._entries.popleft()[1]

    @property
    def full(self) -> bool:
        return self.pairs >= self.least

    @property
    def first(self) -> int:
        return self._entries[0][0]

    def mean(self, key: str) -> float:
        total = sum(float(entry[key]) * pairs for _, pairs, entry in self._entries)
        return total / self.pairs


class Diagnostics:
    """Takes log entries and evaluations in their order; `settings` None: no DPO, no warnings."""

    def __init__(self, settings: DpoSettings | None) -> None:
        self._settings = settings
        self._reported: set[str] = set()
        self._last_step = 0
        self._first_words: dict[str, Entry] = {}
        if settings is not None:
            all_pairs = settings.pairs * settings.steps
            self._chance = _Window.of(max(_CHANCE_PAIRS, _CHANCE_SHARE * all_pairs))
            self._recent = _Window.of(_RECENT_PAIRS)

    def log_warnings(self, entry: Entry) -> list[str]:
        """Return what a log entry (TRL's names; `step`) shows for the first time, a line each.

        - Reward accuracy no better than chance: not significantly above one half (one-sided,
          2.5 %) over the last 200 pairs or tenth of the training, whichever is more, warm-up left
          out. Its figures are p ± 1.96 · sqrt(1/4n).
        - Chosen answers less likely: their log-probability lies under the reference's by more
          than the margin that was won, by half of the reference's own value and by 2 nats; over
          the last 50 pairs. With reward = β · log(policy / reference).
        - Margin exploding: above 10 (of rewards) over the last 50 pairs; the loss is flat there.
        """
        settings = self._settings
        if settings is None or "rewards/margins" not in entry:
            return []
        before, step = self._last_step, int(entry["step"])
        pairs = settings.pairs * (step - before)
        if pairs <= 0:  # the end is logged twice where its step was logged already
            return []
        self._last_step = step
        self._recent.add(before + 1, pairs, entry)
        warnings = []
        if before >= settings.warmup:
            self._chance.add(before + 1, pairs, entry)
            warnings += self._once("chance", self._stuck())
        warnings += self._once("falling", self._falling(step))
        warnings += self._once("margin", self._exploding(step))
        return warnings

    def evaluation_warnings(self, row: Entry) -> list[str]:
        """Return the same for a row of evals.jsonl: answers' length, in DPO.

        A mean of more than 1.5 times that of step 0, or less than 1/1.5, and by more than 1.96
        standard errors of the difference. SFT is meant to change it.
        """
        if self._settings is None or row.get("words") is None:
            return []
        task = str(row["task"])
        first = self._first_words.setdefault(task, row) if row["step"] == 0 else None
        first = first or self._first_words.get(task)
        if first is None or row["step"] == 0:
            return []
        here, there = float(row["words"]), float(first["words"])
        error = math.hypot(row.get("words_se") or 0.0, first.get("words_se") or 0.0)
        ratio = here / there if there else math.inf
        if 1 / _LENGTH <= ratio <= _LENGTH or abs(here - there) <= _Z * error:
            return []
        direction = "longer" if here > there else "shorter"
        return self._once(
            f"length {task}",
            f"step {row['step']}: answers to {task} have become {direction}: "
            f"{rounded(here, 1)} words on average, {rounded(there, 1)} before the first step; "
            f"compare the lengths of chosen and rejected answers",
        )

    def _once(self, kind: str, text: str | None) -> list[str]:
        if text is None or kind in self._reported:
            return []
        self._reported.add(kind)
        return [text]

    def _stuck(self) -> str | None:
        window = self._chance
        if not window.full:
            return None
        share, width = window.mean("rewards/accuracies"), _Z * 0.5 / math.sqrt(window.pairs)
        if share > 0.5 + width:
            return None
        return (
            f"step {self._last_step}: reward accuracy is stuck at {percent(share)} "
            f"(95 % interval {interval((share - width, share + width))}; "
            f"{number(window.pairs)} pairs since step {window.first}), no better than chance; are "
            f"chosen and rejected different in anything, or is the learning rate too low?"
        )

    def _falling(self, step: int) -> str | None:
        window, settings = self._recent, self._settings
        assert settings is not None  # `log_warnings` has checked
        if not window.full:
            return None
        reward, margin = window.mean("rewards/chosen"), window.mean("rewards/margins")
        now = window.mean("logps/chosen")
        fall = -reward / settings.beta
        reference = now + fall
        if fall < _FALL_NATS or -reward <= margin or fall < _FALL_SHARE * abs(reference):
            return None
        return (
            f"step {step}: chosen answers have become less likely: log-probability "
            f"{rounded(now, 1)}, {rounded(reference, 1)} under the reference, while the margin "
            f"over rejected ones is {rounded(margin / settings.beta, 1)}; lower "
            f"optimisation.learning_rate or raise dpo.beta"
        )

    def _exploding(self, step: int) -> str | None:
        window = self._recent
        if not window.full or window.mean("rewards/margins") <= _MARGIN:
            return None
        return (
            f"step {step}: the margin between chosen and rejected has grown to "
            f"{rounded(window.mean('rewards/margins'), 1)}, where the loss teaches nothing more; "
            f"stop earlier, lower optimisation.learning_rate or raise dpo.beta"
        )

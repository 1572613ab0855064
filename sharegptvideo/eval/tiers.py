"""Tiers in place of ranks: which of several runs differ on the same questions.

All pairs of runs are compared: paired by question, clustered by video, two-sided, and with Holm's
correction for the number of pairs. Two runs differ where the corrected p-value is below 0.05.

The p-value is that of `paired_difference`, Student's t. That one is too small where the answers to
few videos changed: of four videos, all for the better among 40, it says 0.044. So where at most
twelve changed it is not below that of the exact test by signs (Fisher 1935): the share of all ways
to turn changes of videos round that give a difference as large; of those four 2/16.

The rule: runs are taken from the highest figure to the lowest. The first opens tier 1. A run that
does not differ from the one that opened the tier belongs to it; the first one that does opens the
next tier. "Not different" is not transitive, so a run may differ neither from the tier's first run
nor from one of another tier: its `reach` has the first and the last tier with such a run.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sharegptvideo._concurrency import Progress
from sharegptvideo.eval.statistics import Estimate, clustered_mean, holm, paired_difference

__all__ = [
    "ALPHA",
    "PairTest",
    "Pairs",
    "Tier",
    "Values",
    "mean_of_tasks",
    "pair_tests",
    "rank_tiers",
]

ALPHA = 0.05
"""Two runs differ where the corrected p-value is below this."""

Values = Mapping[str, tuple[str, float | None]]
"""By question: its video, and what its answer counts, None where that is not known."""


@dataclass(frozen=True, slots=True)
class PairTest:
    """A comparison of two runs on the questions that both have: the second minus the first.

    `p_value` and `p_holm` are None where there is nothing to compare: less than two videos.
    """

    delta: float | None
    p_value: float | None
    p_holm: float | None
    n: int

    @property
    def differs(self) -> bool:
        """Whether the two differ."""
        return self.p_holm is not None and self.p_holm < ALPHA


@dataclass(frozen=True, slots=True)
class Tier:
    """A run's tier, from 1, and the first and last tier with a run that it does not differ from."""

    number: int
    reach: tuple[int, int]


Pairs = dict[tuple[int, int], PairTest]
"""By the places of two runs, the lower one first."""


def pair_tests(runs: Sequence[Sequence[Values]], progress: Progress | None = None) -> Pairs:
    """Compare all pairs of runs, each a sequence of the same tasks.

    Over several tasks the difference is the plain mean of the tasks' differences, see
    `mean_of_tasks`.
    """
    places = list(itertools.combinations(range(len(runs)), 2))
    raw = []
    for done, (first, second) in enumerate(places, start=1):
        raw.append(_compared(runs[first], runs[second]))
        if progress:
            progress(done, len(places), "pairs of rows compared")
    corrected = holm([p_value for _, p_value, _ in raw])
    return {
        pair: PairTest(delta, p_value, p_holm, n)
        for pair, (delta, p_value, n), p_holm in zip(places, raw, corrected, strict=True)
    }


def mean_of_tasks(run: Sequence[Values]) -> Estimate:
    """Return the plain mean of the tasks' means m_t, with an error clustered by video.

    With n_t values x_i in each of k tasks and N in all, the error is that of a mean m of N values
    m + N / (k n_t) · (x_i − m_t), clustered over all tasks: a video of two tasks is one cluster.
    For one task these values are its own. The estimate is None where a task has no value.
    """
    return clustered_mean(*_of_equal_weight([_known(task) for task in run]))


_Task = tuple[list[float], list[str]]
"""Values, and the video of each."""


def _of_equal_weight(tasks: Sequence[_Task]) -> _Task:
    """Return values whose mean is the mean of the tasks' means, as `mean_of_tasks` says."""
    n = sum(len(values) for values, _ in tasks)
    if not tasks or not all(values for values, _ in tasks):
        return [], []
    means = [sum(values) / len(values) for values, _ in tasks]
    mean = sum(means) / len(means)
    together = [
        mean + n / (len(tasks) * len(values)) * (value - own)
        for (values, _), own in zip(tasks, means, strict=True)
        for value in values
    ]
    return together, [video for _, videos in tasks for video in videos]


def _known(task: Values) -> _Task:
    known = [(value, video) for video, value in task.values() if value is not None]
    return [value for value, _ in known], [video for _, video in known]


def _compared(
    first: Sequence[Values], second: Sequence[Values]
) -> tuple[float | None, float | None, int]:
    """Return the difference, its p-value, and the number of pairs."""
    changes = [_known(_changes(one, other)) for one, other in zip(first, second, strict=True)]
    values, videos = _of_equal_weight(changes)
    test = paired_difference([0.0] * len(values), values, videos)
    p_value = test.p_value
    if p_value is not None:
        p_value = max(p_value, _p_by_signs(changes))
    return test.delta, p_value, sum(len(each) for each, _ in changes)


_MOST_ENUMERATED = 12  # videos: 4,096 ways to set their signs


def _p_by_signs(tasks: Sequence[_Task]) -> float:
    """Return the p-value of the exact test by signs of the videos; 0 where too many changed."""
    by_video: dict[str, float] = {}
    for changes, videos in tasks:
        for change, video in zip(changes, videos, strict=True):
            by_video[video] = by_video.get(video, 0.0) + change / len(changes)
    sums = [value for value in by_video.values() if abs(value) > 1e-12]
    if len(sums) > _MOST_ENUMERATED:
        return 0.0
    seen = abs(sum(sums)) - 1e-9
    ways = [abs(sum(way)) >= seen for way in itertools.product(*((x, -x) for x in sums))]
    return sum(ways) / len(ways)


def _changes(first: Values, second: Values) -> Values:
    changes: dict[str, tuple[str, float | None]] = {}
    for key, (video, before) in first.items():
        after = second[key][1] if key in second else None
        change = None if before is None or after is None else after - before
        changes[key] = (video, change)
    return changes


def rank_tiers(figures: Sequence[float], tests: Pairs) -> list[Tier]:
    """Return the tier of each run, given its figure, higher being better."""
    order = sorted(range(len(figures)), key=lambda place: -figures[place])
    numbers: dict[int, int] = {}
    opened = None
    for place in order:
        if opened is None or tests[min(opened, place), max(opened, place)].differs:
            opened = place
            numbers[place] = len(set(numbers.values())) + 1
        else:
            numbers[place] = numbers[opened]
    tiers = []
    for place in range(len(figures)):
        alike = [
            numbers[other]
            for other in numbers
            if other == place or not tests[min(other, place), max(other, place)].differs
        ]
        tiers.append(Tier(numbers[place], (min(alike), max(alike))))
    return tiers

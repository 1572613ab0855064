"""Means and paired differences over seeds, equivalence, and how many seeds a claim needs.

A seed is a training that was done anew; its scores come from clips, and of each clip from several
questions. What a claim is about is the next seed, so a seed counts as one: with the mean m_s of
each of S seeds, however many questions it has,

    mean = Σ m_s / S,  seed_sd² = Σ (m_s − mean)² / (S − 1),  se = seed_sd / sqrt(S)

and interval and p-value are Student t with S − 1 degrees of freedom. A seed's mean is of the clips
it has, so its spread over seeds has the chance of clips in it. Ends of a share's interval may lie
beyond 0 and 1.

The second opinion is the bootstrap of both levels (`hierarchical_interval`). The conclusions rest
on t, which is right for few seeds too; with normal seeds its interval holds in 95 % of studies.

Scores of right and wrong are 1 and 0, so that a margin of 0.03 is 3 points. Where all seeds have
the same mean, no spread was seen: the standard error is unknown, not 0, and None.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sharegptvideo.eval.statistics import (
    RESAMPLES,
    numbered_clusters,
    resampled_weights,
    t_quantile,
)

__all__ = [
    "MOST_SEEDS",
    "NO_EFFECT_MARGIN",
    "Conclusion",
    "Equivalence",
    "SeededDifference",
    "SeededEstimate",
    "SeededScores",
    "conclusion",
    "equivalence",
    "hierarchical_interval",
    "seeded_difference",
    "seeded_mean",
    "seeds_to_detect",
    "seeds_to_show_equivalence",
]

NO_EFFECT_MARGIN = 0.03
"""A true difference below 3 points counts as no effect."""

MOST_SEEDS = 10_000

Array = NDArray[np.float64]
Conclusion = Literal["difference", "difference but within the margin", "no effect", "open"]


@dataclass(frozen=True, slots=True)
class SeededScores:
    """Scores of one arm: n finite `values` in any order, each with the ids of where it is from.

    A clip's id holds within its seed: the clips of two seeds are different clips, whatever their
    names. `questions` are what `seeded_difference` pairs by, with the seed.
    """

    values: ArrayLike
    seeds: Sequence[object]
    clips: Sequence[object]
    questions: Sequence[object]


@dataclass(frozen=True, slots=True)
class SeededEstimate:
    """A mean over seeds, each of the same weight; None of no value.

    `se`, `ci95` (t over seeds) and `seed_sd` (of the seeds' means) are None with one seed, and
    where all seeds have the same mean. `n_clusters` counts clips, `n` values.
    """

    value: float | None
    se: float | None
    ci95: tuple[float, float] | None
    ci95_bootstrap: tuple[float, float] | None
    n_seeds: int
    n_clusters: int
    n: int
    seed_sd: float | None


@dataclass(frozen=True, slots=True)
class SeededDifference(SeededEstimate):
    """The same of paired differences b − a, with the two-sided p-value against zero."""

    p_value: float | None


@dataclass(frozen=True, slots=True)
class Equivalence:
    """Two one-sided tests: against a true value of −margin or less, and of +margin or more.

    `p_value` is the larger of the two, `within` says that it is below 0.05; `ci90` lies within
    ±margin exactly then.
    """

    margin: float
    p_lower: float | None
    p_upper: float | None
    p_value: float | None
    ci90: tuple[float, float] | None
    within: bool


def seeded_mean(
    scores: SeededScores, *, resamples: int = RESAMPLES, seed: int = 0
) -> SeededEstimate:
    """Mean over seeds, its error between seeds, and both intervals.

    `resamples` and `seed` are those of the bootstrap. No value gives an estimate of None, n = 0.

    Raises:
        ValueError: an id is None or empty, a value is not finite, or lengths differ.
    """
    sums, sizes = _clip_sums(scores)
    means = np.array([s.sum() / n.sum() for s, n in zip(sums, sizes, strict=True)])
    count = len(means)
    n, n_clusters = int(sum(n.sum() for n in sizes)), sum(map(len, sizes))
    if not count:
        return SeededEstimate(None, None, None, None, 0, 0, 0, None)
    value = float(means.mean())
    drawn = hierarchical_interval(scores, resamples=resamples, seed=seed)
    if count < 2 or not _differ(means):
        return SeededEstimate(value, None, None, drawn, count, n_clusters, n, None)
    spread = float(means.std(ddof=1))
    se = spread / float(np.sqrt(count))
    half = t_quantile(count - 1) * se
    ends = value - half, value + half
    return SeededEstimate(value, se, ends, drawn, count, n_clusters, n, spread)


def hierarchical_interval(
    scores: SeededScores, *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float] | None:
    """Percentile interval of the mean over seeds when seeds and then their clips are drawn again.

    Each draw takes S of the S seeds with replacement; for each seed drawn, and anew where it is
    drawn twice, it takes as many of its clips as it has, with replacement and with all their
    questions; the draw is the mean of the S means (Davison and Hinkley 1997, section 3.8;
    Saravanan, Berman and Sober 2020). As in `bootstrap_interval` its percentiles are set out from
    the mean by sqrt(S / (S − 1)), which draws of S seeds are too narrow by. Clips are set out by
    no factor of their own, for they count twice already: with τ² between true means of seeds and
    ω² from the clips within one, the seeds' means differ by τ² + ω², and drawing clips adds ω²:

        variance of the mean      (τ² + ω²) / S
        variance of a draw, about (τ² + ω²) / S + S / (S − 1) · ω² / S  when set out

    So it is too wide where clips matter most (half as wide again at S = 5, τ = 0). Where seeds
    matter most it is too narrow, by Student's t to the normal's quantile (2.78 to 1.96 at S = 5: it
    then holds in 88 % of studies).

    None with fewer than two seeds, and where no draw differs. The same `seed` gives the same
    interval.

    Raises:
        ValueError: as `seeded_mean`.
    """
    sums, sizes = _clip_sums(scores)
    count = len(sums)
    if count < 2:
        return None
    generator = np.random.default_rng(seed)
    drawn = generator.integers(count, size=(resamples, count))
    means = np.empty(drawn.shape)
    for number, (of_clips, n) in enumerate(zip(sums, sizes, strict=True)):
        places = drawn == number
        blocks = resampled_weights(len(n), int(np.count_nonzero(places)), generator)
        means[places] = np.concatenate([np.empty(0), *(w @ of_clips / (w @ n) for w in blocks)])
    draws = means.mean(axis=1)
    if not _differ(draws):
        return None
    value = float(np.mean([s.sum() / n.sum() for s, n in zip(sums, sizes, strict=True)]))
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    wider = float(np.sqrt(count / (count - 1)))
    return value + wider * (float(low) - value), value + wider * (float(high) - value)


def seeded_difference(
    a: SeededScores, b: SeededScores, *, resamples: int = RESAMPLES, seed: int = 0
) -> SeededDifference:
    """Mean over seeds of b − a, paired by seed and question, with the t test over seeds.

    Where all seeds have the same mean difference, the p-value is that of the sign test over seeds,
    2 / 2^S, or 1 for no difference: the rule of `paired_difference`. Of five seeds it never is
    below 0.05. None with one seed.

    Raises:
        ValueError: as `seeded_mean`; or a question is in one arm only, twice in one, or of two
            clips. The message names it.
    """
    first, second = _rows(a, "a"), _rows(b, "b")
    _check_pairs(a, b, first, second)
    order = [second[key] for key in first]
    change = np.asarray(b.values, dtype=np.float64)[order] - np.asarray(a.values, dtype=np.float64)
    paired = SeededScores(change, a.seeds, a.clips, a.questions)
    estimate = seeded_mean(paired, resamples=resamples, seed=seed)
    p_value: float | None = None
    if estimate.value is not None and estimate.se is not None:
        from scipy.special import stdtr

        p_value = float(2 * stdtr(estimate.n_seeds - 1, -abs(estimate.value) / estimate.se))
    elif estimate.value is not None and estimate.n_seeds > 1:
        # Differences that cancel within each seed leave rounding errors, not zero.
        changed = abs(estimate.value) > 1e-12
        p_value = 2.0 ** (1 - estimate.n_seeds) if changed else 1.0
    return SeededDifference(
        estimate.value,
        estimate.se,
        estimate.ci95,
        estimate.ci95_bootstrap,
        estimate.n_seeds,
        estimate.n_clusters,
        estimate.n,
        estimate.seed_sd,
        p_value,
    )


def equivalence(estimate: SeededEstimate, margin: float = NO_EFFECT_MARGIN) -> Equivalence:
    """Test whether the true value lies within ±`margin`: two one-sided t tests over the seeds.

    Both null hypotheses, −margin or less and +margin or more, must be rejected at 0.05 (TOST:
    Schuirmann 1987, Journal of Pharmacokinetics and Biopharmaceutics 15). Where all seeds have the
    same mean, each p-value is that of the sign test, 1 / 2^S for a mean on this side of the bound
    and 1 otherwise. None with one seed, which is never within.

    Raises:
        ValueError: the margin is not above 0.
    """
    if not margin > 0:
        raise ValueError(f"the margin must be above 0, not {margin}")
    value, se, count = estimate.value, estimate.se, estimate.n_seeds
    if value is None or count < 2:
        return Equivalence(margin, None, None, None, None, False)
    ends: tuple[float, float] | None = None
    if se is None:
        lower, upper = (2.0**-count if past else 1.0 for past in (value > -margin, value < margin))
    else:
        from scipy.special import stdtr

        lower = float(stdtr(count - 1, -(value + margin) / se))
        upper = float(stdtr(count - 1, (value - margin) / se))
        half = t_quantile(count - 1, 0.95) * se
        ends = value - half, value + half
    p_value = max(lower, upper)
    return Equivalence(margin, lower, upper, p_value, ends, p_value < 0.05)


def conclusion(
    p_difference: float | None, p_equivalence: float | None, *, alpha: float = 0.05
) -> Conclusion:
    """Say what a contrast shows, from its p-value against zero and that of its equivalence.

    | p_difference < alpha | p_equivalence < alpha | conclusion |
    | --- | --- | --- |
    | yes | no | difference |
    | yes | yes | difference but within the margin |
    | no | yes | no effect |
    | no | no | open |

    A p-value of None is not below alpha: what could not be tested stays open. Of several contrasts
    declared together give both after `holm`, each kind over all contrasts; false differences and
    false equivalences are then each limited to alpha, not both together.
    """
    differs = p_difference is not None and p_difference < alpha
    small = p_equivalence is not None and p_equivalence < alpha
    if differs:
        return "difference but within the margin" if small else "difference"
    return "no effect" if small else "open"


def seeds_to_detect(
    sd: float | None, difference: float, *, alpha: float = 0.05, power: float = 0.8
) -> int | None:
    """Return how many seeds a two-sided paired t test needs to detect a true `difference`.

    `sd` is that of the seeds' differences (`seed_sd`). The power with S seeds is exact for normal
    differences: noncentral t, S − 1 degrees of freedom, noncentrality sqrt(S) · difference / sd
    (Cohen 1988). An `sd` of a few seeds is itself rough: that of five stands for a true one of
    0.6 to 2.9 times as much (95 %).

    Returns:
        At least 2; None where `sd` is, and where it takes more than `MOST_SEEDS`.

    Raises:
        ValueError: `sd` or `difference` is not above 0.
    """
    from scipy.special import nctdtr

    def power_of(count: int) -> float:
        far = _noncentrality(count, sd, difference)
        limit = t_quantile(count - 1, 1 - alpha / 2)
        return float(1 - nctdtr(count - 1, far, limit) + nctdtr(count - 1, far, -limit))

    return _fewest(power_of, sd, difference, power)


def seeds_to_show_equivalence(
    sd: float | None,
    margin: float = NO_EFFECT_MARGIN,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
) -> int | None:
    """Return how many seeds `equivalence` needs to be within the margin if the difference is 0.

    Each one-sided test fails with the probability that the noncentral t gives, and the two
    together at most as often as their sum: 1 minus that sum is the power taken (Phillips 1990,
    Journal of Pharmacokinetics and Biopharmaceutics 18). So the number is never too small, and at
    a power of 0.8 at most one too large.

    Returns:
        As `seeds_to_detect`.

    Raises:
        ValueError: `sd` or `margin` is not above 0.
    """
    from scipy.special import nctdtr

    def power_of(count: int) -> float:
        limit = t_quantile(count - 1, 1 - alpha)
        return float(1 - 2 * nctdtr(count - 1, _noncentrality(count, sd, margin), limit))

    return _fewest(power_of, sd, margin, power)


def _noncentrality(count: int, sd: float | None, size: float) -> float:
    assert sd is not None
    return float(np.sqrt(count)) * size / sd


def _fewest(
    power_of: Callable[[int], float], sd: float | None, size: float, power: float
) -> int | None:
    """Return the least count from 2 to `MOST_SEEDS` with that power, which rises with the count."""
    if not size > 0:
        raise ValueError(f"the difference to detect or exclude must be above 0, not {size}")
    if sd is None:
        return None
    if not sd > 0:
        raise ValueError(f"the standard deviation must be above 0, not {sd}")
    counts = range(2, MOST_SEEDS + 1)
    place = bisect_left(counts, power, key=power_of)
    return counts[place] if place < len(counts) else None


def _clip_sums(scores: SeededScores) -> tuple[list[Array], list[Array]]:
    """For each seed the sums of its clips' values, and how many values each clip has."""
    x, seeds, n_seeds = numbered_clusters(scores.values, scores.seeds, "seed")
    _, clips, n_clips = numbered_clusters(scores.values, scores.clips, "clip")
    pairs, codes = np.unique(seeds * n_clips + clips, return_inverse=True)
    sums = np.bincount(codes, weights=x, minlength=len(pairs))
    sizes = np.bincount(codes, minlength=len(pairs)).astype(np.float64)
    starts = np.searchsorted(pairs, np.arange(1, n_seeds) * n_clips)
    if not n_seeds:
        return [], []
    return np.split(sums, starts), np.split(sizes, starts)


def _differ(values: Array) -> bool:
    """Whether they differ by more than rounding."""
    return float(np.ptp(values)) > 1e-12 * max(1.0, float(np.abs(values).max()))


def _rows(scores: SeededScores, name: str) -> dict[tuple[object, object], int]:
    """Map each seed and question to its position."""
    numbered_clusters(scores.values, scores.seeds, "seed")
    numbered_clusters(scores.values, scores.clips, "clip")
    numbered_clusters(scores.values, scores.questions, "question")
    rows: dict[tuple[object, object], int] = {}
    for position, key in enumerate(zip(scores.seeds, scores.questions, strict=True)):
        if key in rows:
            raise ValueError(f"question {key[1]!r} of seed {key[0]!r} is in {name} twice")
        rows[key] = position
    return rows


def _check_pairs(
    a: SeededScores,
    b: SeededScores,
    first: dict[tuple[object, object], int],
    second: dict[tuple[object, object], int],
) -> None:
    for name, here, there in (("a", first, second), ("b", second, first)):
        seeds = {seed for seed, _ in there}
        for seed, question in here:
            if seed not in seeds:
                raise ValueError(f"seed {seed!r} is in {name} only")
            if (seed, question) not in there:
                raise ValueError(f"question {question!r} of seed {seed!r} is in {name} only")
    for key, row in first.items():
        clips = a.clips[row], b.clips[second[key]]
        if clips[0] != clips[1]:
            raise ValueError(
                f"question {key[1]!r} of seed {key[0]!r} is of clip {clips[0]!r} in a"
                f" and of {clips[1]!r} in b"
            )

"""Means and paired differences with standard errors clustered by video.

Questions about one video share its difficulty, so their scores are not independent; a standard
error that ignores this is too small. Formula (Liang and Zeger 1986, the sandwich of an ordinary
least squares fit on a constant): with n values x_i in G clusters and mean m,

    se² = G / (G − 1) · Σ_g (Σ_{i in g} (x_i − m))² / n²

The factor G / (G − 1) · (n − 1) / (n − k), k = 1, is the small-sample correction of statsmodels'
`get_robustcov_results("cluster")`, whose second part is 1 here. Intervals and p-values are Student
t with G − 1 degrees of freedom.

Of a share (right or wrong) that interval is a poor one near 0 and 1, and of a handful of videos: it
ends beyond 0, and 0 of 6 would be 0 for certain. `clustered_share` has its own, which is the same
one where there are many videos. Where no spread was seen at all (0 of 6; every pair agrees) the
standard error is unknown, not 0, and None.

The bootstrap is the second opinion: whole videos are drawn with replacement, so it assumes no
normal distribution. Where the two disagree, there are too few videos for either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "RESAMPLES",
    "Difference",
    "Estimate",
    "bootstrap_interval",
    "clustered_mean",
    "clustered_share",
    "holm",
    "minimum_detectable_difference",
    "numbered_clusters",
    "paired_difference",
    "plain_mean",
    "resampled_weights",
    "t_quantile",
]

RESAMPLES = 2000
"""Draws of a bootstrap; the ends of its interval then lie within about 0.06 standard errors."""

_BLOCK = 1 << 22  # weights held at once: 32 MiB


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean; `se` and `ci95` are None where one cluster (or none) leaves them undefined.

    `se` is so too where all clusters have the same mean, and then `ci95`, but for a share's.
    """

    value: float | None
    se: float | None
    ci95: tuple[float, float] | None
    n: int
    n_clusters: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean of paired differences b − a with its two-sided p-value against zero.

    `n_changed` pairs differ: with a handful of them, p-value and interval are rough.
    """

    delta: float | None
    se: float | None
    ci95: tuple[float, float] | None
    p_value: float | None
    n: int
    n_clusters: int
    n_changed: int


def plain_mean(values: Sequence[float]) -> float | None:
    """Return the mean of some numbers; None of none."""
    return sum(values) / len(values) if values else None


def clustered_mean(values: ArrayLike, clusters: Sequence[object]) -> Estimate:
    """Mean of `values` (n numbers) with its standard error clustered by `clusters` (n ids).

    No value gives an estimate of None with n = 0.

    Raises:
        ValueError: a cluster id is None or empty, a value is not finite, or lengths differ.
    """
    x, codes, count = numbered_clusters(values, clusters)
    if x.size == 0:
        return Estimate(None, None, None, 0, 0)
    mean = float(x.mean())
    se = _standard_error(x - mean, codes, count)
    if se is None:
        return Estimate(mean, None, None, x.size, count)
    half = t_quantile(count - 1) * se
    return Estimate(mean, se, (mean - half, mean + half), x.size, count)


def clustered_share(values: ArrayLike, clusters: Sequence[object]) -> Estimate:
    """Share of ones among `values` (n zeros and ones), with an interval that stays within [0, 1].

    The interval is Wilson's (1927) with the effective sample size n* for the sample size and
    Student's t, G − 1 degrees of freedom, for z: centre (p + t²/2n*) / (1 + t²/n*), half width
    t · sqrt(p (1 − p) / n* + t²/4n*²) / (1 + t²/n*). Franco, Little, Louis and Slud (2019, Journal
    of Survey Statistics and Methodology 7) recommend it for clustered samples and say where such
    intervals fail: n* = p (1 − p) / se² is badly estimated where ones (or zeros) are few, and not
    at all where there are none. So it is taken with two more clusters of the average size, one all
    ones and one all zeros (Agresti and Coull's 1998 device, a cluster for a case), and scaled back:
    where nothing is known of how much a video's answers agree, they count as one answer. With many
    clusters the two weigh nothing, and the interval is p ± t · se: there is no switch.

    Raises:
        ValueError: as `clustered_mean`, or a value is neither 0 nor 1.
    """
    x, codes, count = numbered_clusters(values, clusters)
    if not np.isin(x, (0.0, 1.0)).all():
        raise ValueError("a share is of zeros and ones")
    estimate = clustered_mean(values, clusters)
    if estimate.value is None or count < 2:
        return estimate
    ones = np.bincount(codes, weights=x, minlength=count).astype(np.float64)
    sizes = np.bincount(codes, minlength=count).astype(np.float64)
    size = _effective_size(ones, sizes)
    t, p = t_quantile(count - 1), estimate.value
    scale = 1 + t * t / size
    centre = (p + t * t / (2 * size)) / scale
    half = t * float(np.sqrt(p * (1 - p) / size + t * t / (4 * size * size))) / scale
    ends = min(p, max(0.0, centre - half)), max(p, min(1.0, centre + half))
    return Estimate(p, estimate.se, ends, estimate.n, count)


def _effective_size(ones: NDArray[np.float64], sizes: NDArray[np.float64]) -> float:
    """How many independent answers the clusters are worth, at the most all that there are."""
    n, more = sizes.sum(), sizes.mean()
    ones, sizes = np.append(ones, [more, 0.0]), np.append(sizes, [more, more])
    share = ones.sum() / sizes.sum()
    variance = np.square(ones - sizes * share).sum() / sizes.sum() ** 2
    return float(min(n, share * (1 - share) / variance * n / sizes.sum()))


def paired_difference(a: ArrayLike, b: ArrayLike, clusters: Sequence[object]) -> Difference:
    """Mean of b − a over n pairs, with clustered standard error, 95 % interval and p-value.

    Where every cluster has the same mean difference, no spread was seen: the standard error is
    None, and the p-value that of the sign test over clusters, 2 / 2^G, or 1 for no difference. The
    interval is then, for values of 0 and 1, Bonett and Price's (2012, Statistics in Medicine 31)
    with clusters for cases: that of the pairs and two more clusters of the average size, one with
    all pairs changed for the better, one for the worse. For other values it is None.

    Raises:
        ValueError: as `clustered_mean`.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"{first.size} values cannot be paired with {second.size}")
    change = second - first
    estimate = clustered_mean(change, clusters)
    interval = estimate.ci95
    p_value: float | None = None
    if estimate.se is not None and estimate.value is not None:
        from scipy.special import stdtr

        p_value = float(2 * stdtr(estimate.n_clusters - 1, -abs(estimate.value) / estimate.se))
    elif estimate.value is not None and estimate.n_clusters > 1:
        p_value = 2.0 ** (1 - estimate.n_clusters) if estimate.value else 1.0
        if np.isin(first, (0.0, 1.0)).all() and np.isin(second, (0.0, 1.0)).all():
            interval = _unanimous_interval(estimate)
    return Difference(
        estimate.value,
        estimate.se,
        interval,
        p_value,
        estimate.n,
        estimate.n_clusters,
        int(np.count_nonzero(change)),
    )


def _unanimous_interval(estimate: Estimate) -> tuple[float, float]:
    """Of G clusters with one mean d: those, and two more with 1 and −1, all of one size."""
    assert estimate.value is not None
    means = np.append(np.full(estimate.n_clusters, estimate.value), [1.0, -1.0])
    spread = float(means.std(ddof=1) / np.sqrt(means.size))
    half = t_quantile(estimate.n_clusters - 1) * spread
    centre = float(means.mean())
    # What was seen belongs to it, at the ends of the scale too.
    value = estimate.value
    return max(-1.0, min(value, centre - half)), min(1.0, max(value, centre + half))


def bootstrap_interval(
    values: ArrayLike,
    clusters: Sequence[object],
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Percentile interval of the mean of n `values` when whole clusters are drawn again.

    Each draw takes G clusters with replacement and averages all values in them (Efron and
    Tibshirani 1993, chapter 13). The percentiles are set out from the mean by sqrt(G / (G - 1)),
    which the plain bootstrap of G draws is too narrow by. None with fewer than two clusters, and
    where all have the same mean, so that no draw can differ. The same seed gives the same interval,
    whatever the order of the clusters' names.

    Raises:
        ValueError: as `clustered_mean`.
    """
    x, codes, count = numbered_clusters(values, clusters)
    if count < 2:
        return None
    if _standard_error(x - x.mean(), codes, count) is None:
        return None
    sums = np.bincount(codes, weights=x, minlength=count)
    sizes = np.bincount(codes, minlength=count).astype(np.float64)
    means = np.concatenate(
        [
            weights @ sums / (weights @ sizes)
            for weights in resampled_weights(count, resamples, seed)
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    mean, wider = float(x.mean()), float(np.sqrt(count / (count - 1)))
    return mean + wider * (float(low) - mean), mean + wider * (float(high) - mean)


def resampled_weights(
    count: int, resamples: int = RESAMPLES, seed: int | np.random.Generator = 0
) -> Iterator[NDArray[np.float64]]:
    """How often each of `count` clusters is drawn: blocks of rows, `resamples` rows in all.

    `seed` may be a generator, from which the draws then go on.
    """
    generator = np.random.default_rng(seed)
    step = max(1, _BLOCK // count)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = generator.integers(count, size=(rows, count), dtype=np.int32)
        drawn += (np.arange(rows, dtype=np.int32) * count)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=rows * count)
        yield weights.reshape(rows, count).astype(np.float64)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for as many questions as were asked (Holm 1979); None stays None.

    The smallest is multiplied by m, the next by m - 1 and so on, none ends below the one before
    it nor above 1. Below 0.05 each then holds with all the others at once.
    """
    known = sorted((p, position) for position, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, position) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p))
        corrected[position] = largest
    return corrected


def minimum_detectable_difference(
    se: float | None, n_clusters: int, *, alpha: float = 0.05, power: float = 0.8
) -> float | None:
    """Return the true difference that a test with this standard error detects with `power`.

    (t(1 - alpha/2) + t(power)) * se with G - 1 degrees of freedom; None where `se` is.
    """
    if se is None:
        return None
    return (t_quantile(n_clusters - 1, 1 - alpha / 2) + t_quantile(n_clusters - 1, power)) * se


def numbered_clusters(
    values: ArrayLike, clusters: Sequence[object], name: str = "cluster"
) -> tuple[NDArray[np.float64], NDArray[np.intp], int]:
    """Return the n `values`, the number of each one's cluster, and how many clusters there are.

    Clusters are numbered from 0 in the order in which they first come; errors call them `name`.

    Raises:
        ValueError: a cluster id is None or empty, a value is not finite, or lengths differ.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size != len(clusters):
        raise ValueError(f"{x.size} values need as many {name} ids, not {len(clusters)}")
    if not np.isfinite(x).all():
        raise ValueError(f"value {int(np.flatnonzero(~np.isfinite(x))[0])} is not finite")
    numbers: dict[object, int] = {}
    for position, cluster in enumerate(clusters):
        if cluster is None or cluster == "":
            raise ValueError(f"value {position} has no {name} id")
        numbers.setdefault(cluster, len(numbers))
    codes = np.fromiter((numbers[c] for c in clusters), dtype=np.intp, count=x.size)
    return x, codes, len(numbers)


def _standard_error(
    residuals: NDArray[np.float64], codes: NDArray[np.intp], count: int
) -> float | None:
    """None with one cluster, or where the residuals of each add up to 0 but for rounding."""
    if count < 2:
        return None
    sums = np.bincount(codes, weights=residuals, minlength=count)
    if np.abs(sums).max() <= 1e-12 * max(1.0, float(np.abs(residuals).sum())):
        return None
    return float(np.sqrt(count / (count - 1) * np.square(sums).sum()) / residuals.size)


def t_quantile(degrees: int, share: float = 0.975) -> float:
    """Return the value that a `share` of Student's distribution lies below."""
    from scipy.special import stdtrit  # what scipy.stats asks, in a third of its time to import

    return float(stdtrit(degrees, share))

"""Means and paired differences with standard errors clustered by video.

Questions about one video share its difficulty, so their scores are not independent; a standard
error that ignores this is too small. Formula (Liang and Zeger 1986, the sandwich of an ordinary
least squares fit on a constant): with n values x_i in G clusters and mean m,

    se² = G / (G − 1) · Σ_g (Σ_{i in g} (x_i − m))² / n²

The factor G / (G − 1) · (n − 1) / (n − k), k = 1, is the small-sample correction of statsmodels'
`get_robustcov_results("cluster")`, whose second part is 1 here. Intervals and p-values are Student
t with G − 1 degrees of freedom. An interval of a mean is not cut at 0 or 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Difference", "Estimate", "clustered_mean", "paired_difference"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean; `se` and `ci95` are None where one cluster (or none) leaves them undefined."""

    value: float | None
    se: float | None
    ci95: tuple[float, float] | None
    n: int
    n_clusters: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A mean of paired differences b − a with its two-sided p-value against zero."""

    delta: float | None
    se: float | None
    ci95: tuple[float, float] | None
    p_value: float | None
    n: int
    n_clusters: int


def clustered_mean(values: ArrayLike, clusters: Sequence[object]) -> Estimate:
    """Mean of `values` (n numbers) with its standard error clustered by `clusters` (n ids).

    No value gives an estimate of None with n = 0.

    Raises:
        ValueError: a cluster id is None or empty, a value is not finite, or lengths differ.
    """
    x, codes, count = _prepare(values, clusters)
    if x.size == 0:
        return Estimate(None, None, None, 0, 0)
    mean = float(x.mean())
    se = _standard_error(x - mean, codes, count)
    if se is None:
        return Estimate(mean, None, None, x.size, count)
    half = _t_quantile(count - 1) * se
    return Estimate(mean, se, (mean - half, mean + half), x.size, count)


def paired_difference(a: ArrayLike, b: ArrayLike, clusters: Sequence[object]) -> Difference:
    """Mean of b − a over n pairs, with clustered standard error, 95 % interval and p-value.

    If every cluster's differences sum to n_g times the mean, the standard error is 0: the p-value
    is then 0, or 1 where the difference itself is 0.

    Raises:
        ValueError: as `clustered_mean`.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"{first.size} values cannot be paired with {second.size}")
    found = clustered_mean(second - first, clusters)
    p_value: float | None = None
    if found.se is not None and found.value is not None:
        if found.se > 0:
            from scipy import stats

            t = abs(found.value) / found.se
            p_value = float(2 * stats.t.sf(t, found.n_clusters - 1))
        else:
            p_value = 0.0 if found.value else 1.0
    return Difference(found.value, found.se, found.ci95, p_value, found.n, found.n_clusters)


def _prepare(
    values: ArrayLike, clusters: Sequence[object]
) -> tuple[NDArray[np.float64], NDArray[np.intp], int]:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size != len(clusters):
        raise ValueError(f"{x.size} values need as many cluster ids, not {len(clusters)}")
    if not np.isfinite(x).all():
        raise ValueError(f"value {int(np.flatnonzero(~np.isfinite(x))[0])} is not finite")
    numbers: dict[object, int] = {}
    for position, cluster in enumerate(clusters):
        if cluster is None or cluster == "":
            raise ValueError(f"value {position} has no cluster id")
        numbers.setdefault(cluster, len(numbers))
    codes = np.fromiter((numbers[c] for c in clusters), dtype=np.intp, count=x.size)
    return x, codes, len(numbers)


def _standard_error(
    residuals: NDArray[np.float64], codes: NDArray[np.intp], count: int
) -> float | None:
    if count < 2:
        return None
    sums = np.bincount(codes, weights=residuals, minlength=count)
    return float(np.sqrt(count / (count - 1) * np.square(sums).sum()) / residuals.size)


def _t_quantile(degrees: int) -> float:
    from scipy import stats

    return float(stats.t.ppf(0.975, degrees))

"""Clustered means and paired differences: by hand, against statsmodels, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sharegptvideo.eval.statistics import clustered_mean, paired_difference


def test_mean_by_hand() -> None:
    """x = 1, 0 | 1 | 1 in three clusters: m = 3/4; residual sums −1/2, 1/4, 1/4.

    Their squares add to 3/8; se² = 3/2 · 3/8 / 16 = 9/256, se = 3/16. t(0.975, 2) = 4.302653.
    """
    found = clustered_mean([1, 0, 1, 1], ["a", "a", "b", "c"])
    assert found.value == pytest.approx(0.75)
    assert found.se == pytest.approx(3 / 16)
    assert found.ci95 == pytest.approx((0.75 - 4.3026527 * 3 / 16, 0.75 + 4.3026527 * 3 / 16))
    assert (found.n, found.n_clusters) == (4, 3)


def test_clusters_of_one_give_the_ordinary_standard_error() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    found = clustered_mean(values, range(5))
    assert found.se == pytest.approx(np.std(values, ddof=1) / math.sqrt(5))


def test_doubling_every_row_within_its_cluster_changes_nothing() -> None:
    once = clustered_mean([1, 0, 0, 1, 1], list("abcde"))
    twice = clustered_mean([1, 0, 0, 1, 1] * 2, list("abcde") * 2)
    assert twice.se == pytest.approx(once.se)
    assert twice.ci95 == pytest.approx(once.ci95)


def test_one_cluster_leaves_the_error_undefined() -> None:
    found = clustered_mean([1, 0, 1], ["a"] * 3)
    assert found.value == pytest.approx(2 / 3)
    assert (found.se, found.ci95, found.n_clusters) == (None, None, 1)
    difference = paired_difference([1, 0], [1, 1], ["a", "a"])
    assert (difference.delta, difference.se, difference.p_value) == (0.5, None, None)


def test_no_value_gives_none() -> None:
    found = clustered_mean([], [])
    assert (found.value, found.se, found.n, found.n_clusters) == (None, None, 0, 0)
    assert paired_difference([], [], []).p_value is None


def test_all_equal_values_have_no_spread() -> None:
    found = clustered_mean([1, 1, 1], list("abc"))
    assert (found.value, found.se, found.ci95) == (1.0, 0.0, (1.0, 1.0))
    assert paired_difference([0, 0], [1, 1], list("ab")).p_value == 0.0
    assert paired_difference([1, 0], [1, 0], list("ab")).p_value == 1.0


@pytest.mark.parametrize(
    ("values", "clusters", "message"),
    [
        ([1, 0], ["a", None], "value 1 has no cluster id"),
        ([1, 0], ["", "b"], "value 0 has no cluster id"),
        ([1, float("nan")], ["a", "b"], "value 1 is not finite"),
        ([1, 0, 1], ["a", "b"], "need as many cluster ids"),
    ],
)
def test_bad_input_is_an_error(values: list[float], clusters: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        clustered_mean(values, clusters)


def test_pairs_must_match() -> None:
    with pytest.raises(ValueError, match="2 values cannot be paired with 3"):
        paired_difference([1, 0], [1, 0, 1], list("abc"))


@pytest.mark.parametrize("seed", range(4))
def test_equals_statsmodels(seed: int) -> None:
    import statsmodels.api as sm

    rng = np.random.default_rng(seed)
    n, count = int(rng.integers(20, 400)), int(rng.integers(3, 40))
    clusters = rng.integers(0, count, n)
    a = (rng.random(n) < 0.5).astype(float)
    b = rng.normal(size=n) + clusters / count
    fit = sm.OLS(b - a, np.ones(n)).fit(
        cov_type="cluster", cov_kwds={"groups": clusters, "df_correction": True}, use_t=True
    )
    found = paired_difference(a, b, list(clusters))
    assert found.delta == pytest.approx(fit.params[0])
    assert found.se == pytest.approx(fit.bse[0])
    assert found.p_value == pytest.approx(fit.pvalues[0])
    assert found.ci95 == pytest.approx(tuple(fit.conf_int()[0]))


def test_delta_is_second_minus_first() -> None:
    found = paired_difference([0, 0, 1, 1], [1, 1, 1, 0], list("abcd"))
    assert found.delta == pytest.approx(0.25)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """30 videos of 1 to 6 questions that share a difficulty: 95 % intervals hold the mean.

    Of 400 intervals 380 ± 4.4 should; the bounds lie more than three deviations out. Taking the
    questions as independent covers far less, which is what clustering is for.
    """
    rng = np.random.default_rng(7)
    clustered = independent = 0
    for _ in range(400):
        sizes = rng.integers(1, 7, 30)
        clusters = np.repeat(np.arange(30), sizes)
        values = np.repeat(rng.normal(size=30), sizes) + 0.3 * rng.normal(size=sizes.sum())
        for by, name in ((list(clusters), "clustered"), (range(len(values)), "independent")):
            interval = clustered_mean(values, by).ci95
            assert interval is not None
            holds = interval[0] <= 0 <= interval[1]
            if name == "clustered":
                clustered += holds
            else:
                independent += holds
    assert 360 <= clustered <= 395
    assert independent < 340

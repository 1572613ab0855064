"""Clustered means and paired differences: by hand, against statsmodels, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sharegptvideo.eval.statistics import (
    bootstrap_interval,
    clustered_mean,
    clustered_share,
    holm,
    minimum_detectable_difference,
    paired_difference,
    resampled_weights,
)


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


@pytest.mark.parametrize("values", [[1, 1, 1, 1], [0.1, 0.7, 0.7, 0.1]])
def test_clusters_with_one_mean_tell_nothing_of_the_error(values: list[float]) -> None:
    found = clustered_mean(values, list("aabb"))
    assert found.value == pytest.approx(sum(values) / 4)
    assert (found.se, found.ci95) == (None, None)
    assert bootstrap_interval(values, list("aabb")) is None


def test_none_right_of_six_by_hand() -> None:
    """On three videos of two: with two more, one all right, 2 of 10 are, p' = 1/5.

    Residual sums −2/5 four times and 8/5, squares 3.2, over 10² 0.032; 4/25 / 0.032 = 5, of which
    6/10 are 3: the videos. For p = 0 Wilson's ends are 0 and t² / (t² + n*); t(0.975, 2) is
    4.302653. On six videos n* = 6 and t(0.975, 5) = 2.570582.
    """
    found = clustered_share([0] * 6, list("aabbcc"))
    assert (found.value, found.se, found.n, found.n_clusters) == (0.0, None, 6, 3)
    assert found.ci95 == pytest.approx((0.0, 18.51282 / 21.51282))
    apart = clustered_share([0] * 6, list("abcdef")).ci95
    assert apart == pytest.approx((0.0, 6.607892 / 12.607892))
    turned = clustered_share([1] * 6, list("abcdef")).ci95
    assert turned == pytest.approx((1 - 6.607892 / 12.607892, 1.0))


def test_a_share_of_unequal_clusters_by_hand() -> None:
    """1 1 1 | 0 with two clusters of 2 more: 5 of 8 right, p' = 5/8.

    Residual sums 3 − 15/8 = 9/8, −5/8, 6/8, −10/8, squares 242/64, over 8² 0.0590820;
    15/64 / 0.0590820 = 3.966942, of which half are 1.983471. p = 3/4, t(0.975, 1) = 12.706205,
    t² / n* = 81.39567: centre (0.75 + 40.69784) / 82.39567 = 0.5030342.
    """
    found = clustered_share([1, 1, 1, 0], list("aaab"))
    size = 15 / 64 / (242 / 64 / 64) / 2
    t = 12.7062047
    half = t * math.sqrt(0.1875 / size + t * t / (4 * size * size)) / (1 + t * t / size)
    assert found.ci95 == pytest.approx((0.5030342 - half, 0.5030342 + half), abs=1e-6)
    assert (found.value, found.n_clusters) == (0.75, 2)


def test_share_is_of_zeros_and_ones_on_more_than_one_cluster() -> None:
    with pytest.raises(ValueError, match="zeros and ones"):
        clustered_share([0.5, 1], ["a", "b"])
    assert clustered_share([1, 0], ["a", "a"]).ci95 is None
    assert clustered_share([], []).value is None


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.95])
@pytest.mark.parametrize("count", [3, 6, 20, 80])
def test_intervals_of_a_share_cover_it(count: int, share: float) -> None:
    """1 to 8 questions on each video, whose difficulty is beta distributed (correlation 0.3).

    95 % of 300 are 285 ± 3.8; the bound is 274, three deviations below. Means of such data are
    covered far less often near 0 and 1 (by `clustered_mean`: 18 % of the time at worst).
    """
    generator = np.random.default_rng(count)
    clusters, held = np.arange(count), 0
    for _ in range(300):
        sizes = generator.integers(1, 9, count)
        difficulty = generator.beta(share * 7 / 3, (1 - share) * 7 / 3, count)
        right = generator.binomial(sizes, difficulty)
        values = np.concatenate(
            [[1] * k + [0] * (n - k) for n, k in zip(sizes, right, strict=True)]
        )
        ends = clustered_share(values, np.repeat(clusters, sizes).tolist()).ci95
        assert ends is not None
        assert 0 <= ends[0] <= values.mean() <= ends[1] <= 1
        held += ends[0] <= share <= ends[1]
    assert held >= 274


def test_with_many_clusters_a_share_has_the_interval_of_a_mean() -> None:
    """400 videos of 10 questions, correlation 0.3: ends within 2 % of the width."""
    generator = np.random.default_rng(1)
    clusters = np.repeat(np.arange(400), 10).tolist()
    values = generator.random(4000) < generator.beta(1.2, 1.2, 400).repeat(10)
    mean, share = clustered_mean(values, clusters), clustered_share(values, clusters)
    assert mean.ci95 is not None
    assert share.ci95 == pytest.approx(mean.ci95, abs=0.02 * (mean.ci95[1] - mean.ci95[0]))
    assert share.se == mean.se


def test_pairs_that_all_agree_by_hand() -> None:
    """Six videos with 0, and 1 and −1: mean 0, variance 2/7, over 8 its root is 0.188982.

    t(0.975, 5) = 2.570582. All changed: mean 6/8, squares 7 · (1/4)² + (7/4)² = 3.5, over 7 and 8
    the root is 1/4. The sign test of six: 2 / 2⁶.
    """
    same = paired_difference([1, 0] * 6, [1, 0] * 6, list("aabbccddeeff"))
    assert (same.delta, same.se, same.p_value, same.n_changed) == (0.0, None, 1.0, 0)
    assert same.ci95 == pytest.approx((-2.570582 * 0.188982, 2.570582 * 0.188982), abs=1e-6)
    changed = paired_difference([0] * 6, [1] * 6, list("abcdef"))
    assert (changed.delta, changed.p_value, changed.n_changed) == (1.0, 1 / 32, 6)
    assert changed.ci95 == pytest.approx((0.75 - 2.570582 / 4, 1.0))
    scores = paired_difference([3, 4], [4, 5], ["a", "b"])
    assert (scores.delta, scores.ci95, scores.p_value) == (1.0, None, 0.5)


def test_rare_changes_are_covered() -> None:
    """2 % of the answers on 30 videos become right: over half of the samples show no change."""
    generator = np.random.default_rng(2)
    held = 0
    for _ in range(300):
        after = (generator.random(30) < 0.02).astype(float)
        ends = paired_difference(np.zeros(30), after, range(30)).ci95
        assert ends is not None
        held += ends[0] <= 0.02 <= ends[1]
    assert held >= 274


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


def test_bootstrap_draws_whole_clusters_and_is_seeded() -> None:
    weights = np.concatenate(list(resampled_weights(7, 500, seed=3)))
    assert weights.shape == (500, 7)
    assert (weights.sum(axis=1) == 7).all()
    # Each cluster is drawn once on average; the variance of a binomial (7, 1/7) is 6/7.
    assert weights.mean(axis=0) == pytest.approx(np.ones(7), abs=0.15)
    assert weights.var() == pytest.approx(6 / 7, abs=0.1)
    again = np.concatenate(list(resampled_weights(7, 500, seed=3)))
    other = np.concatenate(list(resampled_weights(7, 500, seed=4)))
    assert (weights == again).all()
    assert (weights != other).any()


@pytest.mark.parametrize("seed", range(4))
def test_bootstrap_and_formula_agree_on_many_clusters(seed: int) -> None:
    """200 videos of 1 to 9 questions with a video's own difficulty: widths within 10 %."""
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, 10, size=200)
    clusters = np.repeat(np.arange(200), sizes)
    difficulty = generator.beta(2, 2, size=200)[clusters]
    values = (generator.random(len(clusters)) < difficulty).astype(float)
    found = clustered_mean(values, clusters.tolist())
    drawn = bootstrap_interval(values, clusters.tolist(), seed=seed)
    assert found.ci95 is not None
    assert drawn is not None
    width = found.ci95[1] - found.ci95[0]
    assert drawn[1] - drawn[0] == pytest.approx(width, rel=0.1)
    assert drawn == pytest.approx(found.ci95, abs=0.1 * width)


def test_bootstrap_of_two_clusters_by_hand() -> None:
    """A quarter of the draws has the mean 0, a quarter 1: the ends of the middle 95 %.

    Set out from 1/2 by sqrt(2 / 1) they are 1/2 - sqrt(2)/2 and 1/2 + sqrt(2)/2.
    """
    drawn = bootstrap_interval([0.0, 1.0], ["a", "b"])
    assert drawn == pytest.approx((0.5 - math.sqrt(2) / 2, 0.5 + math.sqrt(2) / 2))
    assert bootstrap_interval([0.0, 1.0], ["a", "a"]) is None


def test_holm_by_hand_and_against_statsmodels() -> None:
    """Sorted 0.01, 0.02, 0.04 times 3, 2, 1: 0.03, 0.04, and 0.04 again, since none may fall."""
    assert holm([0.02, None, 0.01, 0.04]) == pytest.approx([0.04, None, 0.03, 0.04])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p_values = np.random.default_rng(0).random(12) ** 3
    expected = multitest.multipletests(p_values, method="holm")[1]
    assert holm(p_values.tolist()) == pytest.approx(expected)


def test_detectable_difference_is_found_in_80_percent_of_cases() -> None:
    """A true difference of that size, 60 clusters with normal errors: about 800 of 1,000 tests."""
    generator = np.random.default_rng(5)
    clusters, hits = list(range(60)), 0
    se = 0.1 / math.sqrt(60)
    size = minimum_detectable_difference(se, 60)
    assert size is not None
    for _ in range(1000):
        errors = generator.normal(0.0, 0.1, size=60)
        p_value = paired_difference(np.zeros(60), errors + size, clusters).p_value
        hits += p_value is not None and p_value < 0.05
    assert 760 <= hits <= 840
    assert minimum_detectable_difference(None, 1) is None

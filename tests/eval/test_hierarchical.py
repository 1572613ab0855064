"""Means and differences over seeds: by hand, against scipy and statsmodels, and by simulation."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from sharegptvideo.eval.hierarchical import (
    MOST_SEEDS,
    SeededEstimate,
    SeededScores,
    conclusion,
    equivalence,
    hierarchical_interval,
    seeded_difference,
    seeded_mean,
    seeds_to_detect,
    seeds_to_show_equivalence,
)

ROOT_3 = math.sqrt(3)


def scores(*seeds: Sequence[Sequence[float]]) -> SeededScores:
    """For each seed its clips, for each clip the values of its questions."""
    rows = [
        (value, seed, clip, f"{clip}.{number}")
        for seed, clips in enumerate(seeds)
        for clip, values in enumerate(clips)
        for number, value in enumerate(values)
    ]
    return SeededScores(*map(list, zip(*rows, strict=True)))


def one_each(*means: float) -> SeededScores:
    """Seeds of one clip with one question."""
    return scores(*[[[mean]] for mean in means])


def test_mean_by_hand() -> None:
    """Three seeds of 1, 4 and 4 questions with the means 1, 1/4 and 1/4: their mean is 1/2.

    (That of the nine questions is 1/3.) Deviations 1/2, −1/4, −1/4; their squares add to 3/8, so
    seed_sd² = 3/16, se = sqrt(3)/4 / sqrt(3) = 1/4. t(0.975, 2) = 4.302653.
    """
    found = seeded_mean(scores([[1]], [[1, 0], [0, 0]], [[0, 0, 1], [0]]))
    assert found.value == pytest.approx(1 / 2)
    assert found.seed_sd == pytest.approx(ROOT_3 / 4)
    assert found.se == pytest.approx(1 / 4)
    assert found.ci95 == pytest.approx((0.5 - 4.3026527 / 4, 0.5 + 4.3026527 / 4))
    assert (found.n_seeds, found.n_clusters, found.n) == (3, 5, 9)
    assert found.ci95_bootstrap == hierarchical_interval(
        scores([[1]], [[1, 0], [0, 0]], [[0, 0, 1], [0]])
    )


def test_order_of_rows_changes_no_estimate() -> None:
    generator = np.random.default_rng(0)
    rows = [(s, c, q) for s in "xyz" for c in range(4) for q in (f"{c}a", f"{c}b")]
    values = generator.random(len(rows))
    turned = generator.permutation(len(rows))
    there = SeededScores(values, *map(list, zip(*rows, strict=True)))
    back = SeededScores(values[turned], *map(list, zip(*[rows[i] for i in turned], strict=True)))
    expected = seeded_mean(there)
    found = seeded_mean(back)
    assert found.value == pytest.approx(expected.value)
    assert found.se == pytest.approx(expected.se)
    assert (found.n_seeds, found.n_clusters, found.n) == (3, 12, 24)
    none = seeded_difference(there, back)
    assert (none.value, none.se, none.p_value) == (0.0, None, 1.0), "paired by id, not by place"


def test_bootstrap_of_two_seeds_by_hand() -> None:
    """A quarter of the draws has the mean 0, a quarter 1: the ends of the middle 95 %.

    Set out from 1/2 by sqrt(2 / 1) they are 1/2 − sqrt(2)/2 and 1/2 + sqrt(2)/2.
    """
    ends = (0.5 - math.sqrt(2) / 2, 0.5 + math.sqrt(2) / 2)
    assert hierarchical_interval(one_each(0, 1)) == pytest.approx(ends)


def test_bootstrap_draws_clips_anew_for_each_seed_drawn() -> None:
    """Two seeds with one mean and clips 0 and 1: a draw is four coins' share of heads.

    None is heads in 1/16 of the draws, at most one in 5/16; so the ends of the middle 80 % are 1/4
    and 3/4, set out 1/2 ± sqrt(2)/4. Were clips not drawn, all draws would be 1/2. Were a seed's
    clips drawn once for both of its places, none would be heads in 1/2 · 1/4 + 1/2 · 1/16 = 16 %,
    and the lower end that of 0.
    """
    found = hierarchical_interval(scores([[0], [1]], [[0], [1]]), level=0.8)
    assert found == pytest.approx((0.5 - math.sqrt(2) / 4, 0.5 + math.sqrt(2) / 4))


def test_bootstrap_keeps_the_questions_of_a_clip_together() -> None:
    """Both questions of each clip agree: nothing within clips is drawn, so as with one question."""
    once = hierarchical_interval(scores([[0], [1], [1]], [[0], [0], [1]]))
    twice = hierarchical_interval(scores([[0, 0], [1, 1], [1, 1]], [[0, 0], [0, 0], [1, 1]]))
    assert once == pytest.approx(twice)
    mixed = hierarchical_interval(scores([[0, 1], [1, 0]], [[1, 0], [0, 1]]))
    assert mixed is None, "every clip has the mean 1/2"


def test_bootstrap_is_seeded_and_takes_clips_of_two_seeds_for_different_ones() -> None:
    sample = scores(*np.random.default_rng(0).random((3, 3, 1)).tolist())
    clips = [f"{seed}/{clip}" for seed, clip in zip(sample.seeds, sample.clips, strict=True)]
    renamed = replace(sample, clips=clips)
    assert hierarchical_interval(sample, seed=3) == hierarchical_interval(renamed, seed=3)
    assert hierarchical_interval(sample, seed=3) != hierarchical_interval(sample, seed=4)
    assert seeded_mean(sample).n_clusters == seeded_mean(renamed).n_clusters == 9


def test_one_seed_leaves_everything_but_the_mean_undefined() -> None:
    found = seeded_mean(scores([[1, 0], [1]]))
    assert found.value == pytest.approx(2 / 3)
    assert (found.se, found.ci95, found.ci95_bootstrap, found.seed_sd) == (None,) * 4
    assert (found.n_seeds, found.n_clusters, found.n) == (1, 2, 3)
    one = scores([[1, 0], [1]])
    assert seeded_difference(one, one).p_value is None
    shown = equivalence(found)
    assert (shown.p_lower, shown.p_upper, shown.p_value, shown.ci90) == (None,) * 4
    assert shown.within is False


def test_no_value_gives_none() -> None:
    none = SeededScores([], [], [], [])
    assert seeded_mean(none) == SeededEstimate(None, None, None, None, 0, 0, 0, None)
    assert seeded_difference(none, none).p_value is None


def test_difference_by_hand() -> None:
    """Seed differences 0, 1/4 and 1/2: mean 1/4, sd 1/4, se = 1/4 / sqrt(3), t = sqrt(3).

    With 2 degrees of freedom P(|T| > t) = 1 − t / sqrt(2 + t²) = 1 − sqrt(3/5) = 0.2254.
    """
    a = scores([[0, 1], [1, 0]], [[0, 0], [1, 0]], [[0, 0], [0, 0]])
    b = scores([[1, 0], [0, 1]], [[0, 1], [1, 0]], [[1, 1], [0, 0]])
    found = seeded_difference(a, b)
    assert found.value == pytest.approx(1 / 4)
    assert found.seed_sd == pytest.approx(1 / 4)
    assert found.se == pytest.approx(1 / 4 / ROOT_3)
    assert found.p_value == pytest.approx(1 - math.sqrt(3 / 5))
    assert (found.n_seeds, found.n_clusters, found.n) == (3, 6, 12)
    back = seeded_difference(b, a)
    assert back.value == pytest.approx(-1 / 4)
    assert back.p_value == pytest.approx(found.p_value)


def test_difference_against_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(1)
    a, b = generator.random(8), generator.random(8) + 0.2
    expected = stats.ttest_rel(b, a)
    found = seeded_difference(one_each(*a), one_each(*b))
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.ci95 == pytest.approx(tuple(expected.confidence_interval()))


@pytest.mark.parametrize(("change", "p_value"), [(0.1, 2 / 2**5), (-0.1, 2 / 2**5), (0.0, 1.0)])
def test_equal_seed_differences_are_left_to_the_sign_test(change: float, p_value: float) -> None:
    """All of five differ by the same amount: no spread, 2 / 2^5; the tests of ±3 points 1 / 2^5."""
    a = [0.1, 0.25, 0.3, 0.4, 0.55]
    found = seeded_difference(one_each(*a), one_each(*[value + change for value in a]))
    assert found.value == pytest.approx(change)
    assert (found.se, found.ci95, found.seed_sd) == (None, None, None)
    assert found.p_value == p_value
    shown = equivalence(found)
    assert shown.p_lower == (1.0 if change < 0 else 1 / 32)
    assert shown.p_upper == (1.0 if change > 0 else 1 / 32)
    assert shown.within is (change == 0)
    assert shown.ci90 is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seeds": [0, 0, 2, 2]}, "seed 1 is in a only"),
        ({"questions": ["p", "q", "p", "r"]}, "question 'q' of seed 1 is in a only"),
        ({"clips": [1, 2, 1, 5]}, "question 'q' of seed 1 is of clip 2 in a and of 5 in b"),
        ({"questions": ["p", "p", "p", "q"]}, "question 'p' of seed 0 is in b twice"),
        ({"questions": ["p", None, "p", "q"]}, "value 1 has no question id"),
        ({"seeds": ["", 0, 1, 1]}, "value 0 has no seed id"),
        ({"clips": [1, 2, 1]}, "4 values need as many clip ids, not 3"),
        ({"values": [0.0, 1.0, math.nan, 1.0]}, "value 2 is not finite"),
    ],
)
def test_arms_that_do_not_pair_are_named(changed: dict[str, list[object]], message: str) -> None:
    a = SeededScores([0.0, 1.0, 1.0, 1.0], [0, 0, 1, 1], [1, 2, 1, 2], ["p", "q", "p", "q"])
    b = replace(a, **changed)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        seeded_difference(a, b)


def test_a_question_of_the_second_arm_only_is_named() -> None:
    a = SeededScores([0.0], [0], [1], ["p"])
    b = SeededScores([0.0, 1.0], [0, 0], [1, 1], ["p", "q"])
    with pytest.raises(ValueError, match=r"^question 'q' of seed 0 is in b only$"):
        seeded_difference(a, b)


def test_equivalence_by_hand() -> None:
    """Seed differences 0, 0.01 and 0.02: mean 0.01, se = 0.01 / sqrt(3); margin 0.03.

    t against −0.03 is 4 sqrt(3), against 0.03 −2 sqrt(3). With 2 degrees of freedom
    P(T > t) = (1 − t / sqrt(2 + t²)) / 2: (1 − sqrt(48/50)) / 2 = 0.0101 and
    (1 − sqrt(12/14)) / 2 = 0.0371. t(0.95, 2) = 2.919986.
    """
    found = equivalence(seeded_mean(one_each(0, 0.01, 0.02)))
    assert found.p_lower == pytest.approx((1 - math.sqrt(48 / 50)) / 2)
    assert found.p_upper == pytest.approx((1 - math.sqrt(12 / 14)) / 2)
    assert found.p_value == found.p_upper
    half = 2.9199856 * 0.01 / ROOT_3
    assert found.ci90 == pytest.approx((0.01 - half, 0.01 + half))
    assert found.margin == 0.03
    assert found.within is True
    tight = equivalence(seeded_mean(one_each(0, 0.01, 0.02)), margin=0.026)
    assert tight.within is False, "the 90 % interval ends at 0.0269"
    with pytest.raises(ValueError, match="margin must be above 0, not 0"):
        equivalence(seeded_mean(one_each(0, 0.01, 0.02)), margin=0)


def test_equivalence_against_statsmodels() -> None:
    weightstats = pytest.importorskip("statsmodels.stats.weightstats")
    generator = np.random.default_rng(2)
    a = generator.normal(0.5, 0.02, size=7)
    b = a + generator.normal(0.01, 0.02, size=7)
    expected = weightstats.ttost_paired(b, a, -0.03, 0.03)
    found = equivalence(seeded_difference(one_each(*a), one_each(*b)), 0.03)
    assert found.p_value == pytest.approx(expected[0])
    assert (found.p_lower, found.p_upper) == pytest.approx((expected[1][1], expected[2][1]))


@pytest.mark.parametrize(
    ("p_difference", "p_equivalence", "expected"),
    [
        (0.01, 0.9, "difference"),
        (0.01, 0.01, "difference but within the margin"),
        (0.5, 0.01, "no effect"),
        (0.5, 0.06, "open"),
        (0.05, 0.05, "open"),
        (None, None, "open"),
    ],
)
def test_conclusion(p_difference: float | None, p_equivalence: float | None, expected: str) -> None:
    assert conclusion(p_difference, p_equivalence) == expected


def test_seeds_needed_by_hand() -> None:
    """sd 20 differences: (z(0.975) + z(0.8))² · (sd / difference)² = 7.8489 · 400 = 3139.6.

    The estimated sd costs about z(0.975)² / 2 = 1.9 more (Guenther 1981): 3141.5, so 3,142. For
    equivalence each side may fail in 0.1: (z(0.95) + z(0.9))² · 400 = 8.5638 · 400 = 3425.5, and
    z(0.95)² / 2 = 1.4 more, 3426.9: 3,427.
    """
    assert seeds_to_detect(1, 0.05) == 3142
    assert seeds_to_show_equivalence(1, 0.05) == 3427
    assert seeds_to_detect(1, 0.05) == seeds_to_detect(20, 1)


def test_seeds_needed_at_the_ends() -> None:
    assert seeds_to_detect(1e-9, 1) == seeds_to_show_equivalence(1e-9, 1) == 2
    assert seeds_to_detect(1, 0.02) is seeds_to_show_equivalence(1, 0.02) is None
    assert seeds_to_detect(None, 0.05) is seeds_to_show_equivalence(None) is None
    assert (seeds_to_detect(1, 0.02802) or 0) <= MOST_SEEDS
    for needed in (seeds_to_detect, seeds_to_show_equivalence):
        with pytest.raises(ValueError, match="must be above 0, not 0"):
            needed(0.1, 0)
        with pytest.raises(ValueError, match="must be above 0, not 0"):
            needed(0, 0.1)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [(0.1, 0.8), (0.25, 0.9), (0.5, 0.8), (0.8, 0.8), (1.0, 0.95), (2.0, 0.8), (0.05, 0.06)],
)
def test_seeds_to_detect_against_statsmodels(size: float, wanted: float) -> None:
    """At the number the power is as wanted or more, at one less it is below."""
    power = pytest.importorskip("statsmodels.stats.power").TTestPower()
    needed = seeds_to_detect(1, size, power=wanted)
    assert needed is not None
    assert power.power(size, needed, 0.05) >= wanted
    assert needed == 2 or power.power(size, needed - 1, 0.05) < wanted


@pytest.mark.parametrize("sd", [0.015, 0.03, 0.05])
def test_equivalence_is_shown_in_80_percent_of_cases(sd: float) -> None:
    """Of 20,000 studies, standard error 0.003: 0.8 or more, at two seeds less below 0.8."""
    needed = seeds_to_show_equivalence(sd, 0.03)
    assert needed is not None

    def share(count: int) -> float:
        draws = np.random.default_rng(count).normal(0, sd, size=(20_000, count))
        half = _t_95(count) * draws.std(axis=1, ddof=1) / math.sqrt(count)
        return float((np.abs(draws.mean(axis=1)) + half < 0.03).mean())

    assert share(needed) > 0.79
    assert share(needed - 2) < 0.79


def _t_95(count: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.95, count - 1))


def _study(
    generator: np.random.Generator, n_seeds: int, between: float, within: float
) -> SeededScores:
    """Scores around 0: `between` is the sd of seeds, `within` that which 8 clips give a seed."""
    seeds = np.repeat(np.arange(n_seeds), 16)
    clips = np.tile(np.repeat(np.arange(8), 2), n_seeds)
    of_clips = np.repeat(generator.normal(0, within * math.sqrt(8), size=n_seeds * 8), 2)
    values = generator.normal(0, between, size=n_seeds)[seeds] + of_clips
    questions = list(range(len(values)))
    return SeededScores(values, seeds.tolist(), clips.tolist(), questions)


@pytest.mark.parametrize(
    ("n_seeds", "between", "within", "of_bootstrap"),
    [(5, 1.0, 1.0, 0.969), (20, 1.0, 0.3, 0.946), (5, 1.0, 0.1, 0.882), (5, 0.0, 1.0, 0.991)],
)
def test_intervals_hold_in_as_many_studies_as_they_should(
    n_seeds: int, between: float, within: float, of_bootstrap: float
) -> None:
    """Of 400 studies t in 95 %, and the bootstrap in as many as its docstring's variances give.

    With v = τ² + ω², and 7/8 of ω² from drawing 8 clips, the ends of the bootstrap are 1.96 times
    the root of (seed_sd² + S / (S − 1) · 7/8 ω²) / S out. seed_sd² is v χ² / (S − 1), so the truth
    is within with the probability P(Z² < 1.96² (χ² / (S − 1) + S / (S − 1) · 7/8 · ω² / v)) of Z
    normal and χ² of S − 1 degrees of freedom: the numbers above. Shares of 400 have standard errors
    of 0.005 to 0.016; all are within three.
    """
    generator, t, drawn = np.random.default_rng(7), 0, 0
    for number in range(400):
        study = _study(generator, n_seeds, between, within)
        found = seeded_mean(study, resamples=400, seed=number)
        assert found.ci95 is not None
        assert found.ci95_bootstrap is not None
        t += found.ci95[0] < 0 < found.ci95[1]
        drawn += found.ci95_bootstrap[0] < 0 < found.ci95_bootstrap[1]
    assert t / 400 == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / 400))
    error = math.sqrt(of_bootstrap * (1 - of_bootstrap) / 400)
    assert drawn / 400 == pytest.approx(of_bootstrap, abs=3 * error)

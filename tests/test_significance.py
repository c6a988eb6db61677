"""Tests of differences against scipy, by hand, and by how often they are wrong where nothing differs."""

import math

import numpy as np
import pytest
from scipy import stats

from stage_bench.leaderboard import significance


def test_corrected_t_by_hand() -> None:
    differences = np.array([0.02, 0.01, 0.03, -0.01])
    mean, variance = 0.0125, sum((d - 0.0125) ** 2 for d in (0.02, 0.01, 0.03, -0.01)) / 3
    t = mean / math.sqrt(variance * (1 / 4 + 1 / 3))
    expected = 2 * stats.t.sf(t, 3)
    assert significance.corrected_t(differences[None], 1 / 3)[0] == pytest.approx(expected)


def test_without_the_correction_it_is_the_paired_t_test() -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(0.8, 0.02, (5, 10)), random.normal(0.79, 0.02, (5, 10))
    expected = [stats.ttest_rel(one, other).pvalue for one, other in zip(a, b, strict=True)]
    assert significance.corrected_t(a - b, 0.0) == pytest.approx(expected)
    corrected = significance.corrected_t(a - b, 1 / 3)
    assert (corrected > expected).all(), "overlapping training sets make a difference less certain"


def test_constant_differences() -> None:
    rows = np.array([[0.0] * 4, [0.1] * 4, [-0.1] * 4])
    assert significance.corrected_t(rows, 1 / 3).tolist() == [1.0, 0.0, 0.0]
    # Differences of equal accuracies that only rounding made.
    noise = np.array([[1e-17, -1e-17, 0.0, 1e-16]])
    assert significance.corrected_t(noise, 1 / 3)[0] == 1.0


def test_summary_t_is_welch() -> None:
    expected = stats.ttest_ind_from_stats(0.90, 0.012, 10, 0.88, 0.03, 4, equal_var=False).pvalue
    assert significance.summary_t(0.02, 0.012, 10, 0.03, 4) == pytest.approx(expected)
    assert significance.summary_t(0.02, 0.012, 10, 0.03, 4, ratio=1 / 3) > expected
    assert significance.summary_t(0.0, 0.0, 3, 0.0, 3) == 1.0
    assert significance.summary_t(0.1, 0.0, 3, 0.0, 3) == 0.0


def test_intervals_alone_are_a_z_test() -> None:
    error = 0.01 * math.sqrt(2)
    a, b = ((mean - 1.959964 * 0.01, mean + 1.959964 * 0.01) for mean in (0.80, 0.83))
    assert significance.interval_p(a, b, 0.03) == pytest.approx(2 * stats.norm.sf(0.03 / error), rel=1e-4)
    assert significance.interval_p((0.8, 0.8), (0.8, 0.8), 0.0) == 1.0
    assert significance.interval_p((0.8, 0.8), (0.9, 0.9), 0.1) == 0.0


def test_mcnemar_is_the_binomial_test() -> None:
    a = np.array([1] * 9 + [0] * 2 + [1] * 50 + [0] * 5, dtype=bool)
    b = np.array([0] * 9 + [1] * 2 + [1] * 50 + [0] * 5, dtype=bool)
    assert significance.mcnemar(a, b) == pytest.approx(2 * sum(math.comb(11, k) for k in range(3)) / 2**11)
    assert significance.mcnemar(a, b) == significance.mcnemar(b, a)
    assert significance.mcnemar(a, a) == 1.0


def test_holm_by_hand() -> None:
    assert significance.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert significance.holm([0.9, 0.8]) == [1.0, 1.0]
    assert significance.holm([]) == []


def test_effects_by_hand() -> None:
    varied, alike = significance.paired_effects(np.array([[0.1, 0.2, 0.3], [0.1, 0.1, 0.1]]))
    assert varied == pytest.approx(0.2 / 0.1)
    assert alike is None
    a, b = np.array([0.9, 0.8, 0.85]), np.array([0.7, 0.75])
    pooled = math.sqrt((2 * a.var(ddof=1) + 1 * b.var(ddof=1)) / 3)
    first, short = significance.effects([a, a[:1]], b)
    assert first == pytest.approx((0.85 - 0.725) / pooled)
    assert short is None
    assert significance.effects([a, b], b[:1]) == [None, None]


def test_the_seed_bootstrap_agrees_with_a_t_test_where_that_is_right() -> None:
    random = np.random.default_rng(1)
    other = random.normal(0.80, 0.01, 30)
    rows = [random.normal(0.80 + shift, 0.01, 30) for shift in (0.0, 0.003, 0.005, 0.02)]
    expected = np.array([stats.ttest_ind(row, other, equal_var=False).pvalue for row in rows])
    found = significance.seed_bootstrap(rows, other)
    assert found == pytest.approx(expected, abs=0.02)
    assert found.min() > 0, "the difference seen counts as one of the resamples"
    assert significance.seed_bootstrap(rows, other).tolist() == found.tolist()


def test_a_row_keeps_its_p_whatever_stands_beside_it() -> None:
    random = np.random.default_rng(2)
    other, rows = random.normal(0.8, 0.01, 5), [random.normal(0.81, 0.01, size) for size in (5, 4, 5)]
    together = significance.seed_bootstrap(rows, other)
    alone = [significance.seed_bootstrap([row], other)[0] for row in rows]
    assert together.tolist() == alone


def test_the_node_bootstrap_agrees_with_scipys() -> None:
    random = np.random.default_rng(3)
    a = random.binomial(4, 0.8, 500) / 4
    b = np.where(random.random(500) < 0.15, random.binomial(4, 0.7, 500) / 4, a)
    difference = a - b
    spread = stats.bootstrap((difference,), np.mean, n_resamples=20_000, rng=1).standard_error
    expected = 2 * stats.norm.sf(abs(difference.mean()) / spread)
    assert significance.node_bootstrap(a, b) == pytest.approx(expected, abs=0.01)
    assert significance.node_bootstrap(a, a) == 1.0


@pytest.mark.parametrize("size", [4, 10])
def test_seldom_wrong_where_nothing_differs(size: int) -> None:
    """Splits share most of their training nodes; then the uncorrected test finds differences far too often."""
    random = np.random.default_rng(size)
    # What Nadeau and Bengio's correction assumes: correlation n_test / (n_test + n_train) between splits.
    correlation = 0.25
    shared, own = math.sqrt(correlation), math.sqrt(1 - correlation)
    noise = shared * random.normal(size=(2000, 1)) + own * random.normal(size=(2000, size))
    wrong = (significance.corrected_t(noise, 1 / 3) < 0.05).mean()
    assert wrong == pytest.approx(0.05, abs=0.02)
    assert (significance.corrected_t(noise, 0.0) < 0.05).mean() > 2 * wrong


def test_many_tests_get_resamples_enough_to_pass_holm() -> None:
    assert significance.resamples_for(10) == 10_000
    tests = 2000
    smallest = 1 / (1 + significance.resamples_for(tests))
    assert smallest * tests < significance.LEVEL

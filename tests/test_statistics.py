"""Statistics of a row against scipy and by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from boards import by_backbone, run, several
from stage_bench.leaderboard import statistics


def test_mean_and_std_by_hand() -> None:
    values = [0.8, 0.9, 0.85]
    assert statistics.mean(values) == pytest.approx(0.85)
    assert statistics.std(values) == pytest.approx(math.sqrt((0.05**2 + 0.05**2) / 2))
    assert statistics.std(values) == pytest.approx(stats.sem(values) * math.sqrt(3))
    assert statistics.mean([0.1] * 7) == statistics.mean([0.1] * 3) == 0.1


def test_one_value_has_neither_deviation_nor_interval() -> None:
    assert (statistics.std([0.5]), statistics.interval([0.5]), statistics.mean([])) == (None, None, None)


@pytest.mark.parametrize("size", [4, 10, 30])
def test_interval_agrees_with_scipy(size: int) -> None:
    values = np.random.default_rng(size).normal(0.85, 0.02, size)
    expected = stats.bootstrap((values,), np.mean, n_resamples=50_000, method="percentile", rng=1).confidence_interval
    width = expected.high - expected.low
    low, high = statistics.interval(values.tolist()) or (0.0, 0.0)
    assert low == pytest.approx(expected.low, abs=0.05 * width)
    assert high == pytest.approx(expected.high, abs=0.05 * width)


def test_interval_depends_only_on_the_values() -> None:
    several_at_once = statistics.intervals([[0.1, 0.2, 0.3], [0.5], [0.4, 0.6], [0.3, 0.2, 0.9]])
    assert several_at_once[0] == statistics.interval([0.1, 0.2, 0.3])
    assert several_at_once[1] is None
    assert several_at_once[3] == statistics.interval([0.3, 0.2, 0.9])


def test_ties_share_the_better_rank() -> None:
    assert statistics.ranks([0.8, 0.9, 0.8, 0.7]) == [2, 1, 2, 4]


def test_seeds_are_drawn_together_where_rows_share_them() -> None:
    hard_and_easy_splits = [0.70, 0.80, 0.90, 0.60, 0.75]
    samples = [hard_and_easy_splits, [value - 0.001 for value in hard_and_easy_splits]]
    seeds = [(float(seed), 0.0) for seed in range(5)]
    together = statistics.rank_intervals(samples, [seeds, seeds], ["a", "b"])
    assert together == [(1, 1), (2, 2)], "on every split the first is better"
    others = [(float(seed), 1.0) for seed in range(5)]
    apart = statistics.rank_intervals(samples, [seeds, others], ["a", "b"])
    assert apart == [(1, 2), (1, 2)]
    shuffled = statistics.rank_intervals([samples[0], samples[1][::-1]], [seeds, seeds[::-1]], ["a", "b"])
    assert shuffled == together, "runs are paired by seed, not by place"


def test_rows_that_share_no_seeds_are_resampled_each_for_itself() -> None:
    generator = np.random.default_rng(0)
    samples = [generator.normal(0.8, 0.01, size).tolist() for size in (10, 10, 4, 1)]
    seeds = [[(math.inf, float(seed)) for seed in range(len(values))] for values in samples]
    names = ["a", "b", "c", "d"]
    means = statistics.resampled_means(samples, seeds, names)(0, statistics.RESAMPLES)
    assert means.shape == (statistics.RESAMPLES, 4)
    for column, values in enumerate(samples):
        # What drawing the values themselves gives: their mean, and their variance (ddof 0) over their number.
        error = math.sqrt(np.var(values) / len(values))
        assert means[:, column].mean() == pytest.approx(np.mean(values), abs=4 * error / 100 + 1e-12)
        assert means[:, column].std() == pytest.approx(error, rel=0.03, abs=1e-12)
    assert np.abs(np.corrcoef(means[:, :3].T) - np.eye(3)).max() < 0.05
    one_more = statistics.resampled_means([samples[2], *samples], [seeds[2], *seeds], ["new", *names])
    # Not bit by bit: BLAS may sum otherwise where there are more rows.
    assert np.abs(one_more(0, 500)[:, 1:] - means[:500]).max() < 1e-12, "the draws of a row depend on no other row"


def test_deviations_of_many_are_those_of_each() -> None:
    generator = np.random.default_rng(1)
    samples = [generator.normal(0.8, 0.01, size).tolist() for size in (3, 1, 10, 10, 12, 0, 3)]
    expected = [np.std(values, ddof=1) if len(values) > 1 else None for values in samples]
    assert statistics.stds(samples) == expected
    assert [statistics.std(values) for values in samples] == expected


def test_unrecorded_or_repeated_seeds_are_not_shared() -> None:
    assert statistics.share_seeds([[(0.0, 0.0), (1.0, 0.0)], [(1.0, 0.0), (0.0, 0.0)]])
    assert not statistics.share_seeds([[(math.inf, 0.0)], [(math.inf, 0.0)]])
    assert not statistics.share_seeds([[(0.0, 0.0), (0.0, 0.0)]] * 2)
    assert not statistics.share_seeds([[(0.0, 0.0)], [(0.0, 0.0), (1.0, 0.0)]])


def test_a_row_of_one_run_has_a_rank_without_interval() -> None:
    result = by_backbone(run("a", backbone="a", test_accuracy=0.85), *several("b", [0.8, 0.9, 0.88]))
    alone = result["a"]
    assert (alone["rank"], alone["rank_low"], alone["ci_low"], alone["test_std"]) == (2, None, None, None)
    assert (result["b"]["rank"], result["b"]["rank_low"], result["b"]["rank_high"]) == (1, 1, 2)

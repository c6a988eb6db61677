"""Tests of a difference in accuracy between two models, each for the protocol that it is right for.

Where the seed draws the split, runs of one seed share training and test nodes: pair them, and correct the variance for
training sets that overlap (Nadeau and Bengio 2003). Where the split is fixed, nothing pairs the seeds of two models:
bootstrap them; and the test nodes are a sample too: test node by node on what was predicted (McNemar 1947 for one run
each, else a paired bootstrap of nodes). All draws come from generators with fixed seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import special  # not scipy.stats, which takes a second to import

from stage_bench.leaderboard.statistics import RESAMPLES, each

LEVEL = 0.05
"""A difference counts where p, corrected by Holm, is below this."""

_SEED = 1947
_BLOCK = 1 << 18  # numbers held at a time, which fit a core's own memory

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def corrected_t(differences: Array, ratio: float | Array) -> Array:
    """Two-sided p of the corrected resampled t-test, [rows].

    differences: [rows, k], a pair's difference in accuracy in each of k >= 2 splits. ratio: test nodes to training
    nodes, a number or [rows]. t = mean / sqrt(var x (1 / k + ratio)) with k - 1 degrees of freedom, var with ddof 1
    (Nadeau and Bengio, Inference for the Generalization Error, Machine Learning 52, 2003). Without any difference p
    is 1; where all differences are the same and not zero it is 0.
    """
    k = differences.shape[1]
    mean = differences.mean(axis=1)
    error = np.sqrt(differences.var(axis=1, ddof=1) * (1 / k + ratio))
    return _two_sided(mean, error, np.full(len(mean), k - 1.0))


def summary_t(difference: float, std_a: float, n_a: int, std_b: float, n_b: int, ratio: float = 0.0) -> float:
    """Two-sided p of a difference of means from what a paper prints: Welch's t-test on std (ddof 1) and n of each.

    ratio: test nodes to training nodes where the seed draws the split: each variance is then var x (1 / n + ratio),
    as in `corrected_t`; 0 where the split is fixed, which is Welch's own test.
    """
    var_a, var_b = std_a**2 * (1 / n_a + ratio), std_b**2 * (1 / n_b + ratio)
    if var_a + var_b == 0:
        return 1.0 if difference == 0 else 0.0
    share = var_a / (var_a + var_b)  # in shares, since the square of a small variance is 0
    freedom = 1 / (share**2 / (n_a - 1) + (1 - share) ** 2 / (n_b - 1))
    p = _two_sided(np.array([difference]), np.sqrt([var_a + var_b]), np.array([freedom]))
    return float(p[0])


def interval_p(a: tuple[float, float], b: tuple[float, float], difference: float) -> float:
    """Two-sided p of a difference of means from their 95 % intervals alone, taken for 1.96 standard errors each way."""
    errors = [(high - low) / (2 * special.ndtri(0.975)) for low, high in (a, b)]
    error = math.hypot(*errors)
    return float(2 * special.ndtr(-abs(difference) / error)) if error > 0 else float(difference == 0)


def seed_bootstrap(samples: Sequence[Array], other: Array, resamples: int = RESAMPLES) -> Array:
    """Two-sided p, [rows], that a row's mean accuracy is `other`'s: the seeds of both are drawn anew, each for itself.

    samples: accuracies of two or more seeds a row; other: of two or more. Both are shifted to one mean, which is what
    no difference looks like, and stretched by sqrt(n / (n - 1)), because resamples of n values vary too little. p is
    the share of resampled differences at least as large as the one seen, with the seen one counted in, so never zero.
    """
    drawn_other = _counts((_SEED, len(other)), len(other), resamples)
    noise_other = _stretched(other) @ drawn_other  # [resamples]
    largest_other = float(np.abs(_stretched(other)).max())
    result = np.empty(len(samples))
    by_size: dict[int, list[int]] = {}
    for row, sample in enumerate(samples):
        by_size.setdefault(len(sample), []).append(row)
    for size, rows in sorted(by_size.items()):
        drawn = _counts((_SEED, size, 1), size, resamples)
        values = np.stack([samples[row] for row in rows])
        noise = np.stack([_stretched(sample) for sample in values])
        seen = np.abs(values.mean(axis=1) - other.mean())
        beyond = np.zeros(len(rows), dtype=np.int64)
        # No resampled mean lies beyond its outermost value, so rows further away than that need no draws.
        near = seen - 1e-12 <= np.abs(noise).max(axis=1) + largest_other
        if near.any():
            beyond[near] = _beyond(noise[near], drawn, noise_other, seen[near, None] - 1e-12)
        result[rows] = (1 + beyond) / (1 + resamples)
    return result


def mcnemar(a: Flags, b: Flags) -> float:
    """Two-sided p of McNemar's exact test on two runs: bool [nodes], whether each was right about a test node.

    Of the nodes on which just one of them was right, half should be the one's if neither is better (binomial test).
    """
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    if only_a + only_b == 0:
        return 1.0
    # With one half for both the distribution is symmetric, so that both tails are alike.
    return min(1.0, 2 * float(special.bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def node_bootstrap(a: Array, b: Array, resamples: int = RESAMPLES) -> float:
    """Two-sided p of the mean difference over test nodes: float [nodes], the share of runs that were right about each.

    Nodes are drawn anew, both models on the same. p is the share of resampled differences that lie as far from the
    one seen as that lies from zero, with the seen one counted in.
    """
    # A node matters only by its difference: drawing how often each distinct one occurs is drawing the nodes.
    values, counts = np.unique(np.round(a - b, 12), return_counts=True)
    nodes = int(counts.sum())
    seen = float(values @ counts) / nodes
    if seen == 0:
        return 1.0
    drawn = np.random.default_rng([_SEED, 2]).multinomial(nodes, counts / nodes, size=resamples)
    beyond = int((np.abs(drawn @ values / nodes - seen) >= abs(seen) - 1e-12).sum())
    return (1 + beyond) / (1 + resamples)


def holm(ps: Sequence[float]) -> list[float]:
    """The p values corrected for their number by Holm's step-down procedure (1979), in the same order."""
    order = np.argsort(ps, kind="stable")
    steps = np.asarray(ps, dtype=float)[order] * np.arange(len(ps), 0, -1)
    corrected = np.empty(len(ps))
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(ps) else steps
    return [float(p) for p in corrected]


def paired_effects(differences: Array) -> list[float | None]:
    """Cohen's d_z of differences [rows, k >= 2]: mean over standard deviation (ddof 1); None where they do not vary."""
    means, spreads = differences.mean(axis=1).tolist(), differences.std(axis=1, ddof=1).tolist()
    return [mean / spread if spread > 1e-12 else None for mean, spread in zip(means, spreads, strict=True)]


def effects(samples: Sequence[Array], other: Array) -> list[float | None]:
    """Cohen's d of each sample against another: difference of means over the pooled standard deviation (ddof 1).

    None where there is none: fewer than two values, or all alike.
    """
    if len(other) < 2:
        return [None] * len(samples)
    mean, squares = other.mean(), (len(other) - 1) * other.var(ddof=1)

    def effect(sample: Array) -> float | None:
        if len(sample) < 2:
            return None
        pooled = ((len(sample) - 1) * sample.var(ddof=1) + squares) / (len(sample) + len(other) - 2)
        return float(sample.mean() - mean) / math.sqrt(pooled) if pooled > 1e-24 else None

    return [effect(sample) for sample in samples]


def resamples_for(tests: int) -> int:
    """How many resamples let a bootstrap's p survive Holm over so many tests: 10,000 for up to 250 of them."""
    return max(RESAMPLES, 40 * tests)


def _beyond(noise: Array, drawn: Array, other: Array, least: Array) -> npt.NDArray[np.int64]:
    """In how many resamples each row is at least so far from the other: [rows].

    noise: [rows, size]; drawn: [size, resamples]; other: [resamples]; least: [rows, 1].
    """
    block = max(1, _BLOCK // len(noise))

    def count(start: int) -> npt.NDArray[np.int64]:
        apart = noise @ drawn[:, start : start + block]
        apart -= other[start : start + block]
        np.abs(apart, out=apart)
        return np.count_nonzero(apart >= least, axis=1)

    return np.sum(each(count, range(0, len(other), block)), axis=0)


def _two_sided(mean: Array, error: Array, freedom: Array) -> Array:
    # Differences of equal accuracies are zero but for rounding; below that nothing is a difference.
    none, constant = np.abs(mean) < 1e-12, error < 1e-12
    t = np.divide(mean, error, out=np.zeros_like(mean), where=~constant)
    p: Array = 2 * special.stdtr(freedom, -np.abs(t))
    return np.where(none, 1.0, np.where(constant, 0.0, p))


def _stretched(sample: Array) -> Array:
    size = len(sample)
    return (sample - sample.mean()) * math.sqrt(size / (size - 1))


@lru_cache(8)
def _counts(seed: tuple[int, ...], size: int, resamples: int) -> Array:
    """How often each of `size` values is drawn in each resample, divided by `size`: [size, resamples]."""
    drawn = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), size=resamples)
    return np.ascontiguousarray(drawn.T / size)

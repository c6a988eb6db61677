"""Statistics over the runs of a row: mean, deviation, bootstrap intervals of the mean and of the rank.

All draws come from NumPy generators with fixed seeds, so the same accuracies always give the same intervals.
"""

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

RESAMPLES = 10_000
LEVEL = 0.95
_SEED = 2407_12860
_TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
_BLOCK = 500  # rows, or resamples, held in memory at a time

Array = npt.NDArray[np.float64]
Seeds = Sequence[tuple[float, float]]
"""The (split_seed, init_seed) of each run of a row; an infinite one stands for a seed that was not recorded."""


def mean(values: Sequence[float]) -> float | None:
    """The mean; None without values. Rounded at 1e-12, so that equal means compare as equal."""
    return round(float(np.mean(values)), 12) if len(values) else None


def std(values: Sequence[float]) -> float | None:
    """The standard deviation with ddof 1; None below two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % percentile bootstrap interval of the mean; None below two values."""
    return intervals([values])[0]


def intervals(samples: Sequence[Sequence[float]]) -> list[tuple[float, float] | None]:
    """`interval` of each sample. Samples of one size share their resamples, which is what makes it fast."""
    result: list[tuple[float, float] | None] = [None] * len(samples)
    by_size: dict[int, list[int]] = {}
    for position, values in enumerate(samples):
        if len(values) > 1:
            by_size.setdefault(len(values), []).append(position)
    for size, positions in by_size.items():
        weights = _weights(size)
        for start in range(0, len(positions), _BLOCK):
            block = positions[start : start + _BLOCK]
            means = np.array([samples[position] for position in block]) @ weights
            low, high = np.quantile(means, _TAILS, axis=1)
            for position, bounds in zip(block, zip(low.tolist(), high.tolist(), strict=True), strict=True):
                result[position] = bounds
    return result


def ranks(means: Sequence[float]) -> list[int]:
    """Rank 1 for the highest mean; ties share the better rank."""
    return [int(rank) for rank in rankdata(-np.asarray(means, dtype=float), method="min")] if len(means) else []


def rank_intervals(
    samples: Sequence[Sequence[float]], seeds: Sequence[Seeds], names: Sequence[str]
) -> list[tuple[int, int] | None]:
    """95 % interval of each row's rank under a bootstrap of the seeds.

    Where all rows share the same seeds, a resample draws the same seeds for every row (a hard split is hard for
    all of them); else every row is resampled for itself, by a generator seeded with its name, so that one more
    row leaves the draws of the others as they are. A row of one run has no interval of its own and stands with
    its one accuracy in the resamples of the others.
    """
    many = [position for position, values in enumerate(samples) if len(values) > 1]
    result: list[tuple[int, int] | None] = [None] * len(samples)
    if not many:
        return result
    means = _joint(samples, seeds) if share_seeds(seeds) else _independent(samples, names)
    drawn = np.empty(means.shape, dtype=np.int32)
    for start in range(0, RESAMPLES, _BLOCK):
        part = -np.round(means[start : start + _BLOCK], 12)
        drawn[start : start + _BLOCK] = rankdata(part, method="min", axis=1)
    # A rank is a whole number: take the drawn rank at or beyond the tail instead of a value between two.
    low = np.quantile(drawn, _TAILS[0], axis=0, method="lower")
    high = np.quantile(drawn, _TAILS[1], axis=0, method="higher")
    for position in many:
        result[position] = int(low[position]), int(high[position])
    return result


def share_seeds(seeds: Sequence[Seeds]) -> bool:
    """Whether every row ran with the same distinct, recorded (split_seed, init_seed) pairs."""
    first = sorted(seeds[0])
    recorded = all(np.isfinite(pair).all() for pair in first)
    return recorded and len(set(first)) == len(first) and all(sorted(row) == first for row in seeds)


def _weights(size: int) -> Array:
    """Bootstrap weights [size, RESAMPLES]: how often each value is drawn, divided by `size`."""
    drawn = np.random.default_rng([_SEED, size]).integers(0, size, size=(RESAMPLES, size))
    counts = np.stack([(drawn == value).sum(axis=1) for value in range(size)])
    return counts.astype(np.float64) / size


def _joint(samples: Sequence[Sequence[float]], seeds: Sequence[Seeds]) -> Array:
    """Resampled means [RESAMPLES, rows]; every row's runs in the order of their seeds."""
    paired = [
        [value for _, value in sorted(zip(row, values, strict=True))]
        for row, values in zip(seeds, samples, strict=True)
    ]
    means: Array = (np.array(paired, dtype=float) @ _weights(len(paired[0]))).T
    return means


def _independent(samples: Sequence[Sequence[float]], names: Sequence[str]) -> Array:
    """Resampled means [RESAMPLES, rows]; every row drawn for itself."""
    means = np.empty((RESAMPLES, len(samples)))
    for column, (values, name) in enumerate(zip(samples, names, strict=True)):
        generator = np.random.default_rng([_SEED, zlib.crc32(name.encode("utf-8", "replace"))])
        drawn = generator.integers(0, len(values), size=(RESAMPLES, len(values)))
        means[:, column] = np.asarray(values, dtype=float)[drawn].mean(axis=1)
    return means

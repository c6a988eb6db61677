"""Statistics over the runs of a row: mean, deviation, bootstrap intervals of the mean and of the rank.

All draws come from NumPy generators with fixed seeds, so the same accuracies always give the same intervals.
"""

import itertools
import math
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
LEVEL = 0.95
_SEED = 2407_12860
TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
BLOCK = 500
"""Rows, or resamples, held in memory at a time."""

Array = npt.NDArray[np.float64]
T = TypeVar("T")
Seeds = Sequence[tuple[float, float]]
"""The (split_seed, init_seed) of each run of a row; an infinite one stands for a seed that was not recorded."""


def mean(values: Sequence[float]) -> float | None:
    """The mean; None without values. Rounded at 1e-12, so that equal means compare as equal."""
    return round(math.fsum(values) / len(values), 12) if len(values) else None


def std(values: Sequence[float]) -> float | None:
    """The standard deviation with ddof 1; None below two values."""
    return stds([values])[0]


def stds(samples: Sequence[Sequence[float]]) -> list[float | None]:
    """`std` of each sample."""
    result: list[float | None] = [None] * len(samples)
    for size, positions in _by_size(samples).items():
        if size > 1:
            found = np.std([samples[position] for position in positions], axis=1, ddof=1).tolist()
            for position, deviation in zip(positions, found, strict=True):
                result[position] = deviation
    return result


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % percentile bootstrap interval of the mean; None below two values."""
    return intervals([values])[0]


def intervals(samples: Sequence[Sequence[float]]) -> list[tuple[float, float] | None]:
    """`interval` of each sample. Samples of one size share their resamples, which is what makes it fast."""
    result: list[tuple[float, float] | None] = [None] * len(samples)
    for size, positions in _by_size(samples).items():
        if size > 1:
            rows = np.array([samples[position] for position in positions], dtype=np.float64)
            found = each(partial(_bounds, rows, _weights(size)), range(0, len(rows), BLOCK))
            for position, pair in zip(positions, itertools.chain.from_iterable(found), strict=True):
                result[position] = pair
    return result


def each(function: Callable[[int], T], places: Iterable[int]) -> list[T]:
    """What a function gives for each place, in their order. On all cores: NumPy lets go of Python's lock."""
    places = list(places)
    if len(places) < 2:
        return [function(place) for place in places]
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(function, places))


def ranks(means: Sequence[float]) -> list[int]:
    """Rank 1 for the highest mean; ties share the better rank."""
    values = -np.asarray(means, dtype=float)
    return [int(better) + 1 for better in np.searchsorted(np.sort(values), values)]


def rank_intervals(
    samples: Sequence[Sequence[float]], seeds: Sequence[Seeds], names: Sequence[str]
) -> list[tuple[int, int] | None]:
    """95 % interval of each row's rank under a bootstrap of the seeds (`resampled_means`).

    A row of one run has no interval of its own and stands with its one accuracy in the resamples of the others.
    """
    many = [position for position, values in enumerate(samples) if len(values) > 1]
    result: list[tuple[int, int] | None] = [None] * len(samples)
    if not many:
        return result
    means, resamples = resampled_means(samples, seeds, names), rank_resamples(len(samples))
    drawn = np.empty((len(samples), resamples), dtype=np.int32)

    def draw(start: int) -> None:
        drawn[:, start : start + BLOCK] = drawn_ranks(means(start, start + BLOCK)).T

    each(draw, range(0, resamples, BLOCK))
    drawn.sort(axis=1)
    # A rank is a whole number: take the drawn rank at or beyond the tail instead of a value between two.
    low = drawn[:, math.floor(TAILS[0] * (resamples - 1))]
    high = drawn[:, math.ceil(TAILS[1] * (resamples - 1))]
    for position in many:
        result[position] = int(low[position]), int(high[position])
    return result


def rank_resamples(rows: int) -> int:
    """Resamples for ranks among so many rows: RESAMPLES up to 200 rows, a fifth of them from 1,000 on.

    Ranks are sorted anew in each, and where there are thousands a rank need not be known to the last place.
    """
    return BLOCK * max(RESAMPLES // BLOCK // 5, min(RESAMPLES // BLOCK, RESAMPLES // BLOCK * 200 // max(rows, 1)))


Means = Callable[[int, int], Array]
"""From a first and a last resample (not included) to the resampled means, [resamples, rows]."""


def resampled_means(samples: Sequence[Sequence[float]], seeds: Sequence[Seeds], names: Sequence[str]) -> Means:
    """Means of the rows of one table under a bootstrap of the seeds, rank_resamples of them, a stretch at a time.

    Where all rows share the same seeds, a resample draws the same seeds for every row (a hard split is hard for
    all of them); else every row is resampled for itself: a generator seeded with its name draws from the RESAMPLES
    means that its interval is of, so that one more row leaves those of the others as they are, but for rounding.
    """
    if not share_seeds(seeds):
        apart = _independent(samples, names, rank_resamples(len(samples)))
        return lambda start, stop: apart[start:stop]
    paired = np.array(
        [
            [value for _, value in sorted(zip(row, values, strict=True))]
            for row, values in zip(seeds, samples, strict=True)
        ]
    )
    weights = _weights(paired.shape[1])
    return lambda start, stop: (paired @ weights[:, start:stop]).T


def drawn_ranks(means: Array) -> npt.NDArray[np.int32]:
    """Ranks within each resample, [resamples, rows], 1 for the highest mean; ties share the better rank.

    means: fractions. What scipy's rankdata gives: a mean and its column are made one whole number, since these are
    sorted faster than an order of means is found.
    """
    rows, columns = means.shape
    bits = max(1, columns - 1).bit_length()
    # Rounded, so that the last bits of a mean do not part what is equal: at 1e-12 where that leaves bits enough.
    steps = min(10.0**12, 2.0 ** (62 - bits))
    keys = np.rint((1 - means) * steps).astype(np.int64)
    keys <<= bits
    keys |= np.arange(columns)
    keys.sort(axis=1)
    order = keys & ((1 << bits) - 1)
    keys >>= bits
    places = np.broadcast_to(np.arange(1, columns + 1, dtype=np.int32), means.shape).copy()
    places[:, 1:][keys[:, 1:] == keys[:, :-1]] = 0
    np.maximum.accumulate(places, axis=1, out=places)
    result = np.empty(means.shape, dtype=np.int32)
    order += columns * np.arange(rows)[:, None]
    result.reshape(-1)[order] = places
    return result


def share_seeds(seeds: Sequence[Seeds]) -> bool:
    """Whether every row ran with the same distinct, recorded (split_seed, init_seed) pairs."""
    first = sorted(seeds[0])
    recorded = all(np.isfinite(pair).all() for pair in first)
    return recorded and len(set(first)) == len(first) and all(sorted(row) == first for row in seeds)


def _between(ordered: Array, share: float) -> Array:
    """The quantile of each row of ordered values, interpolated as numpy does by default."""
    place = share * (ordered.shape[1] - 1)
    below = math.floor(place)
    result: Array = ordered[:, below] + (place - below) * (ordered[:, below + 1] - ordered[:, below])
    return result


@lru_cache(8)
def _weights(size: int) -> Array:
    """Bootstrap weights [size, RESAMPLES]: how often each value is drawn, divided by `size`."""
    drawn = np.random.default_rng([_SEED, size]).integers(0, size, size=(RESAMPLES, size))
    places = drawn + size * np.arange(RESAMPLES)[:, None]
    counts = np.bincount(places.ravel(), minlength=size * RESAMPLES).reshape(RESAMPLES, size)
    return np.ascontiguousarray(counts.T.astype(np.float64)) / size


def _by_size(samples: Sequence[Sequence[float]]) -> dict[int, list[int]]:
    """Sizes to the positions of the samples that have it."""
    found: dict[int, list[int]] = {}
    for position, values in enumerate(samples):
        found.setdefault(len(values), []).append(position)
    return found


def _bounds(rows: Array, weights: Array, start: int) -> list[tuple[float, float]]:
    """The intervals of BLOCK rows from one on. rows: [rows, size]; weights: [size, RESAMPLES]."""
    means = rows[start : start + BLOCK] @ weights
    # What numpy's quantile gives; it sorts partly, which takes three times as long as sorting.
    means.sort(axis=1)
    low, high = (_between(means, tail).tolist() for tail in TAILS)
    return list(zip(low, high, strict=True))


def _independent(samples: Sequence[Sequence[float]], names: Sequence[str], resamples: int) -> Array:
    """Resampled means [resamples, rows]; every row drawn for itself."""
    means = np.empty((len(samples), resamples))
    for size, positions in _by_size(samples).items():
        for start in range(0, len(positions), BLOCK):
            block = positions[start : start + BLOCK]
            every = np.array([samples[position] for position in block], dtype=np.float64) @ _weights(size)
            for position, found in zip(block, every, strict=True):
                generator = np.random.default_rng([_SEED, zlib.crc32(names[position].encode("utf-8", "replace"))])
                means[position] = found[generator.integers(0, RESAMPLES, size=resamples)]
    return means.T

"""Random masks from a counter instead of a stream: entry i of a mask is a function of its key and i.

So a mask needs no memory, any part of it can be made by any thread, and the backward pass can make it again. The
function is SplitMix64 (Steele, Lea and Flood 2014), of which the upper 32 bits are compared with the probability.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from stage_bench.kernels import row_blocks
from stage_bench.kernels.compiling import njit


def draw_key() -> int:
    """A key from torch's generator, which the run's seed governs."""
    return int(torch.randint(0, 2**63 - 1, ()))


def threshold(probability: float) -> np.uint64:
    """Hashes below it drop an entry."""
    return np.uint64(round(probability * 2**32))


@njit(inline="always")
def hashed(key: Any, index: Any) -> Any:
    """32 random bits, as uint64."""
    z = key + np.uint64(index + 1) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))) >> np.uint64(32)


def keep_mask(size: int, drop: float, key: int) -> Tensor:
    """bool [size]: each False with probability `drop`."""
    mask = np.empty(size, dtype=np.bool_)
    row_blocks.run(_fill, size, np.uint64(key), threshold(drop), mask)
    return torch.from_numpy(mask)


@njit(nogil=True, cache=True)
def _fill(block: int, begin: int, end: int, key: Any, least: Any, mask: np.ndarray) -> None:
    for i in range(begin, end):
        mask[i] = hashed(key, i) >= least

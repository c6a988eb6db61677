"""Which training texts go together: batches of similar length, drawn anew in every epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

_POOL = 8  # steps that are sorted by length together: little padding, and still other batches in every epoch


class Batches:
    """Positions of the texts of each batch, as a batch sampler of torch's DataLoader.

    The order of an epoch follows from the seed and the epoch alone, so that training goes on after an interruption as
    if there had been none. The texts of a step do not depend on how many batches it is made of. What is left over for
    a last, smaller step is drawn at random, not the longest or shortest.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, accumulate: int, seed: int) -> None:
        """lengths: of each text, in tokens: int64 [num_texts]."""
        self.lengths = lengths
        self.batch_size = batch_size
        self.step_size = batch_size * accumulate
        self.seed = seed
        self.epoch = 0

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return math.ceil(len(self.lengths) / self.step_size)

    def __len__(self) -> int:
        whole, rest = divmod(len(self.lengths), self.step_size)
        return whole * (self.step_size // self.batch_size) + math.ceil(rest / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng([self.seed, self.epoch])
        order = random.permutation(len(self.lengths))
        whole = len(order) // self.step_size * self.step_size
        steps: list[np.ndarray] = []
        for start in range(0, whole, _POOL * self.step_size):
            pool = self._sorted(order[start : min(start + _POOL * self.step_size, whole)])
            steps += np.split(pool, len(pool) // self.step_size)
        steps = [steps[number] for number in random.permutation(len(steps))]
        for step in [*steps, self._sorted(order[whole:])]:
            for start in range(0, len(step), self.batch_size):
                yield step[start : start + self.batch_size].tolist()

    def _sorted(self, positions: np.ndarray) -> np.ndarray:
        return positions[np.argsort(-self.lengths[positions], kind="stable")]

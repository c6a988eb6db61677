"""Columns of a matrix of any length: mean and deviation, truncated SVD, read in parts of a fixed number of rows.

Fixed, because then the numbers do not depend on how much memory there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stage_bench.diffusion import rows
from stage_bench.errors import JobError

_ROWS = 4096


@dataclass(frozen=True, eq=False)
class Moments:
    """Of every column: mean and deviation (ddof 0) over all nodes, float32 [columns].

    A constant column's deviation is infinite: standardised it is then zero.
    """

    mean: Tensor
    deviation: Tensor

    def standardized(self, x: Tensor) -> Tensor:
        """float32 [rows, columns], as x."""
        return (x - self.mean) / self.deviation


def moments(parts: Iterator[Tensor]) -> Moments:
    """Of a matrix that comes in parts, float32 [rows, columns] each.

    Parts are put together in float64 (Chan, Golub and LeVeque 1983).
    """
    count = 0
    mean = squares = torch.zeros(())
    for part in parts:
        own = part.mean(dim=0)
        own_squares = (part - own).square_().sum(dim=0).double()
        both = count + len(part)
        shift = own.double() - mean
        squares = squares + own_squares + shift.square() * (count * len(part) / both)
        mean = mean + shift * (len(part) / both)
        count = both
    deviation = (squares / max(count, 1)).sqrt()
    # rounding leaves a constant column a deviation of some 1e-7 of its value, which must not be blown up to 1
    deviation = torch.where(deviation > 1e-6 * mean.abs(), deviation, torch.inf)
    return Moments(mean.float(), deviation.float())


def parts_of(matrix: Tensor | np.ndarray) -> Iterator[Tensor]:
    """A matrix a few thousand rows at a time, float32."""
    for start, stop in ranges(matrix.shape[0], _ROWS):
        yield rows.read(matrix, start, stop)


def ranges(num_rows: int, step: int) -> Iterator[tuple[int, int]]:
    """0 to step, step to 2 step, ..., to num_rows."""
    for start in range(0, num_rows, step):
        yield start, min(start + step, num_rows)


def stored(x: Tensor, dtype: torch.dtype) -> Tensor:
    """`x` in the dtype of the result.

    Raises:
        JobError: a number that float16 has no room for.
    """
    if dtype == torch.float32:
        return x
    half = x.to(dtype)
    if not bool(torch.equal(half.isfinite(), x.isfinite())):
        raise JobError(
            f"diffused features reach {float(x.abs().nan_to_num(0).max()):.3g}, beyond the 65504 of float16: "
            "choose storage: float32, or standardize: true"
        )
    return half


class Features:
    """The features that are diffused: float32 [num_nodes, dim], read in parts; after truncated SVD on request.

    With V the leading right singular vectors of X, standardised on request, the features are X V. V is taken from
    X^T X, whose size does not grow with the graph; its columns' signs are fixed, so that the result is the same
    everywhere.
    """

    def __init__(self, matrix: Tensor | np.ndarray, svd: int | None = None, standardize: bool = False) -> None:
        self.matrix = matrix
        self.num_nodes, self.dim = int(matrix.shape[0]), int(matrix.shape[1])
        self._moments: Moments | None = None
        self._vectors: Tensor | None = None  # float32 [columns of matrix, dim]
        if svd is not None:
            if standardize:
                self._moments = moments(parts_of(matrix))
            self._vectors = _leading_vectors((self._standardized(part) for part in parts_of(matrix)), self.dim, svd)
            self.dim = int(self._vectors.shape[1])

    def read(self, start: int, stop: int, first: int = 0, last: int | None = None) -> Tensor:
        """Rows `start` to `stop` of the columns `first` to `last`: float32."""
        part = rows.read(self.matrix, start, stop)
        if self._vectors is None:
            return part[:, first:last]
        return self._standardized(part) @ self._vectors[:, first:last]

    def fill(self, panel: Tensor, first: int) -> None:
        """Write the columns from `first` on into `panel`, float32 [num_nodes, columns]."""
        for start, stop in ranges(self.num_nodes, _ROWS):
            panel[start:stop] = self.read(start, stop, first, first + panel.shape[1])

    def moments(self) -> Moments:
        return moments(self.read(start, stop) for start, stop in ranges(self.num_nodes, _ROWS))

    def _standardized(self, part: Tensor) -> Tensor:
        return part if self._moments is None else self._moments.standardized(part)


def _leading_vectors(parts: Iterator[Tensor], dim: int, rank: int) -> Tensor:
    """float32 [dim, at most rank]"""
    gram: Tensor | None = None
    for part in parts:
        product = (part.T @ part).double()
        gram = product if gram is None else gram.add_(product)
    if gram is None:
        return torch.zeros(dim, min(rank, dim))
    _, vectors = torch.linalg.eigh(gram)  # eigenvalues ascend
    leading = vectors.flip(1)[:, :rank]
    largest = leading.gather(0, leading.abs().argmax(dim=0, keepdim=True))
    return (leading * largest.sign()).float()


Progress = Callable[[int, int, str], None]
"""Told (done, total, what) as work goes on."""


def silent(done: int, total: int, what: str) -> None:
    """Tells nobody."""

"""Rows of arrays that may be larger than memory: read a part at a time, so that nothing else becomes resident."""

from __future__ import annotations

import mmap

import numpy as np
import torch
from torch import Tensor


class MappedRows:
    """The rows of a memory-mapped array. What was read is not kept, as a map's touched pages would be."""

    def __init__(self, array: np.memmap) -> None:
        self.array = array
        self.shape = array.shape
        # of a part of a map numpy does not know the place in the file
        self._whole = isinstance(array.base, mmap.mmap) and array.flags.c_contiguous and array.filename is not None

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop`, in memory."""
        if not self._whole:
            return np.array(self.array[start:stop])
        shape = (stop - start, *self.shape[1:])
        row_bytes = self.array.dtype.itemsize * int(np.prod(self.shape[1:]))
        flat = np.fromfile(
            str(self.array.filename),
            self.array.dtype,
            count=int(np.prod(shape)),
            offset=self.array.offset + start * row_bytes,
        )
        return flat.reshape(shape)


def read(matrix: Tensor | np.ndarray, start: int, stop: int) -> Tensor:
    """Rows `start` to `stop` of a matrix, float32."""
    if isinstance(matrix, Tensor):
        return matrix[start:stop].to(torch.float32)
    rows = MappedRows(matrix).read(start, stop) if isinstance(matrix, np.memmap) else matrix[start:stop]
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    return torch.from_numpy(rows if rows.flags.writeable else rows.copy())

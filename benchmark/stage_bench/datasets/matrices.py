"""Feature matrices that come with a dataset: files with one row a node.

`.npy`, or numbers alone, row by row and little-endian: `.f16` (float16, as TAPE releases its embeddings) and `.f32`.
The dimension of the latter is that which the file's size gives.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from stage_bench.errors import StageBenchError

_ROWS = 100_000  # at a time
_RAW = {".f16": "<f2", ".f32": "<f4"}
ENDINGS = (".npy", *_RAW)


def find(folder: Path) -> dict[str, Path]:
    """The matrices in a dataset's folder, by file name; none of them is opened."""
    return {path.name: path for path in sorted(folder.iterdir()) if path.suffix in ENDINGS and path.is_file()}


def open_matrix(path: Path, num_nodes: int) -> np.ndarray:
    """The matrix [num_nodes, dimension] as it lies on disk, mapped into memory, never unpickled.

    Raises:
        StageBenchError: it is no array of numbers with one row a node.
    """
    if path.suffix in _RAW:
        return _raw(path, np.dtype(_RAW[path.suffix]), num_nodes)
    try:
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy parses the header as Python text, and raises what that gives
        raise StageBenchError(f"{path}: not a NumPy array: {' '.join(str(error).split())}") from None
    if not isinstance(matrix, np.ndarray):  # an archive of several under this name
        raise StageBenchError(f"{path}: not a NumPy array: it is an archive")
    if matrix.dtype.kind not in "fiub":
        raise StageBenchError(f"{path}: holds {matrix.dtype}, not numbers")
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise StageBenchError(f"{path}: has the shape {list(matrix.shape)}, not [nodes, dimension]")
    if matrix.shape[0] != num_nodes:
        raise StageBenchError(f"{path}: has {matrix.shape[0]} rows, but there are {num_nodes} nodes")
    return matrix


def _raw(path: Path, dtype: np.dtype, num_nodes: int) -> np.ndarray:
    size = path.stat().st_size
    if size == 0 or size % (num_nodes * dtype.itemsize):
        raise StageBenchError(
            f"{path}: its {size:,} bytes are not rows of {dtype.name} of equal length for {num_nodes:,} nodes"
        )
    return np.memmap(path, dtype=dtype, mode="r", shape=(num_nodes, size // (num_nodes * dtype.itemsize)))


def is_finite(matrix: np.ndarray) -> bool:
    """Whether no value is infinite or NaN; read in blocks of rows."""
    blocks = (matrix[start : start + _ROWS] for start in range(0, len(matrix), _ROWS))
    return all(bool(np.isfinite(block).all()) for block in blocks)

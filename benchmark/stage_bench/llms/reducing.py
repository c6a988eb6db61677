"""Fewer dimensions from an embedding that is there: cut off, PCA or SVD. Fitted without labels, on all nodes."""

from __future__ import annotations

import numpy as np

from stage_bench.errors import JobError
from stage_bench.llms.spec import Reduction

_ROWS = 4096  # summed at a time


def reduce(vectors: np.ndarray, reduction: Reduction, normalize: bool) -> np.ndarray:
    """float32 [num_nodes, dimension] -> float32 [num_nodes, reduction.dimensions].

    `truncate` keeps the first dimensions (Matryoshka embeddings, arXiv 2205.13147); `pca` projects on the directions of
    most variance; `svd` does so without subtracting the mean (STAGE's step before SIGN). normalize: a cut vector is
    scaled to length 1 again; projections keep their lengths. In double precision and one thread: the same bytes
    whatever the number of cores.

    Raises:
        JobError: there are fewer dimensions, or nodes, than asked for.
    """
    kind, dimensions = reduction.kind, reduction.dimensions
    most = vectors.shape[1] if kind == "truncate" else min(vectors.shape)
    if dimensions > most:
        raise JobError(f"{kind}: {dimensions} of an embedding of shape {vectors.shape}: {most} is the most")
    if kind == "truncate":
        cut = np.array(vectors[:, :dimensions])
        return cut / np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), 1e-12) if normalize else cut
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        blocks = [slice(start, start + _ROWS) for start in range(0, len(vectors), _ROWS)]
        mean = np.zeros(vectors.shape[1])
        if kind == "pca":
            mean = sum((vectors[block].sum(axis=0, dtype=np.float64) for block in blocks), mean) / len(vectors)
        products = np.zeros((vectors.shape[1], vectors.shape[1]))
        for block in blocks:
            rows = vectors[block].astype(np.float64) - mean
            products += rows.T @ rows
        _, directions = np.linalg.eigh(products)  # in rising order of what they explain
        directions = directions[:, : -dimensions - 1 : -1]
        # Of a direction and its opposite the one whose largest part is positive: else the library would decide.
        largest = directions[np.abs(directions).argmax(axis=0), np.arange(dimensions)]
        directions = directions * np.where(largest < 0, -1.0, 1.0)
        made = [((vectors[block].astype(np.float64) - mean) @ directions).astype(np.float32) for block in blocks]
    return np.concatenate(made)

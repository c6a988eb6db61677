"""Fewer dimensions from an embedding that is there: cut off, PCA or SVD. Fitted without labels, on all nodes."""

from __future__ import annotations

import numpy as np

from stage_bench.errors import JobError
from stage_bench.llms.spec import Reduction


def reduce(vectors: np.ndarray, reduction: Reduction, normalize: bool) -> np.ndarray:
    """float32 [num_nodes, dimension] -> float32 [num_nodes, reduction.dimensions].

    `truncate` keeps the first dimensions (Matryoshka embeddings, arXiv 2205.13147); `pca` projects on the directions of
    most variance; `svd` does so without subtracting the mean (STAGE's step before SIGN). normalize: a cut vector is
    scaled to length 1 again; projections keep their lengths.

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
    from sklearn.decomposition import PCA, TruncatedSVD

    if kind == "pca":
        return np.asarray(PCA(dimensions, svd_solver="covariance_eigh").fit_transform(vectors), dtype=np.float32)
    model = TruncatedSVD(dimensions, random_state=0)
    return np.asarray(model.fit_transform(vectors), dtype=np.float32)

"""Features that come with a dataset as a `.npy` file: `matrix` any by its name, `ogb-features` ogb_features.npy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stage_bench import files
from stage_bench.errors import JobError, StageBenchError
from stage_bench.features.options import MatrixOptions, StoredOptions

if TYPE_CHECKING:
    from stage_bench.datasets.textgraph import TextGraph

_OGB = "ogb_features.npy"
_ROWS = 100_000  # at a time


def build(graph: TextGraph, options: MatrixOptions) -> np.ndarray:
    """float32 [num_nodes, dimension]: the file's matrix, its columns standardised if asked for.

    Raises:
        StageBenchError: there is no such file, or it is no matrix with a row a node.
        JobError: it holds what is not finite.
    """
    return _build(graph, _named(graph, options), options.standardize)


def build_ogb(graph: TextGraph, options: StoredOptions) -> np.ndarray:
    """The same of ogb_features.npy."""
    return _build(graph, _OGB, options.standardize)


def reads(graph: TextGraph, options: MatrixOptions) -> str:
    """sha256 of the file."""
    return _content(graph, _named(graph, options))


def reads_ogb(graph: TextGraph, options: StoredOptions) -> str:
    """sha256 of ogb_features.npy."""
    return _content(graph, _OGB)


def _named(graph: TextGraph, options: MatrixOptions) -> str:
    if not options.file:
        there = ", ".join(graph.matrix_paths) or "none in its folder"
        raise StageBenchError(f"'matrix' needs `file`, one of the .npy files of dataset '{graph.name}' ({there})")
    return options.file


def _content(graph: TextGraph, name: str) -> str:
    graph.matrix(name)  # is it one?
    return files.sha256(graph.matrix_paths[name])


def _build(graph: TextGraph, name: str, standardize: bool) -> np.ndarray:
    stored = graph.matrix(name)
    features = np.empty(stored.shape, dtype=np.float32)
    total, squares = np.zeros(stored.shape[1]), np.zeros(stored.shape[1])
    for start in range(0, len(stored), _ROWS):
        rows = stored[start : start + _ROWS].astype(np.float64)
        with np.errstate(over="ignore"):
            features[start : start + _ROWS] = rows
        if not np.isfinite(features[start : start + _ROWS]).all():
            raise JobError(f"{graph.matrix_paths[name].name} of dataset '{graph.name}' holds what is not finite")
        total += rows.sum(axis=0)
    if standardize:
        mean = total / len(stored)
        for start in range(0, len(stored), _ROWS):
            squares += ((stored[start : start + _ROWS] - mean) ** 2).sum(axis=0)
        deviation = np.sqrt(squares / len(stored))
        deviation[deviation <= 1e-12 * np.abs(mean)] = np.inf  # a constant column becomes zero
        for start in range(0, len(stored), _ROWS):
            features[start : start + _ROWS] = (stored[start : start + _ROWS] - mean) / deviation
    return features

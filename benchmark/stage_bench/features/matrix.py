"""Features that come with a dataset as a file (datasets/matrices.py): `matrix` by its name, `ogb-features` OGB's.

A file's name may hold `{seed}`: then each split seed has a file of its own, as TAPE's released embeddings have. They
come from a language model that was trained on the labels of that split, TAPE's random 60/20/20, and know the test
labels of every other.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import numpy as np

from stage_bench import files
from stage_bench.datasets.splits import DEFAULT_RULE
from stage_bench.errors import JobError, StageBenchError
from stage_bench.features.options import MatrixOptions, StoredOptions
from stage_bench.features.spec import Built, Setting

if TYPE_CHECKING:
    from stage_bench.datasets.splits import Split
    from stage_bench.datasets.textgraph import TextGraph

_OGB = "ogb_features.npy"
_SEED = "{seed}"
_ROWS = 100_000  # at a time


def run(setting: Setting, options: MatrixOptions) -> Built:
    """`build` with the split's seed."""
    begin = time.perf_counter()
    matrix = build(setting.graph, options, setting.split_seed)
    return Built(matrix, spent={"seconds": time.perf_counter() - begin}, elsewhere=True)


def build(graph: TextGraph, options: MatrixOptions, split_seed: int = 0) -> np.ndarray:
    """float32 [num_nodes, dimension]: the file's matrix, its columns standardised if asked for.

    Raises:
        StageBenchError: there is no such file, or it is no matrix with a row a node.
        JobError: it holds what is not finite.
    """
    return _build(graph, _named(graph, options, split_seed), options.standardize)


def run_ogb(setting: Setting, options: StoredOptions) -> Built:
    """The same of ogb_features.npy."""
    return Built(_build(setting.graph, _OGB, options.standardize), elsewhere=True)


def per_split(options: MatrixOptions) -> bool:
    """Whether each split seed has a file of its own."""
    return _SEED in options.file


def reads(graph: TextGraph, options: MatrixOptions, split: Split | None = None) -> str:
    """sha256 of the file.

    Raises:
        StageBenchError: it is absent or no matrix; or it is one of a split seed, and the split is not TAPE's.
    """
    if split is None or not per_split(options):
        return _content(graph, _named(graph, options, 0))
    if split.protocol != DEFAULT_RULE or split.seed is None:
        raise StageBenchError(
            f"'{options.file}' holds features that were learnt on a {DEFAULT_RULE} split; on '{split.protocol}' they "
            f"would know test labels: take the split {DEFAULT_RULE}, or other features"
        )
    return _content(graph, _named(graph, options, split.seed))


def reads_ogb(graph: TextGraph, options: StoredOptions) -> str:
    """sha256 of ogb_features.npy."""
    return _content(graph, _OGB)


def _named(graph: TextGraph, options: MatrixOptions, split_seed: int) -> str:
    if not options.file:
        there = ", ".join(graph.matrix_paths) or "none in its folder"
        raise StageBenchError(f"'matrix' needs `file`, one of the matrices of dataset '{graph.name}' ({there})")
    name = options.file.replace(_SEED, str(split_seed))
    if name not in graph.matrix_paths and per_split(options):
        first, *others = map(re.escape, options.file.split(_SEED))
        pattern = re.compile(first + "(0|[1-9][0-9]*)" + r"\1".join(others))
        seeds = sorted(int(found[1]) for path in graph.matrix_paths if (found := pattern.fullmatch(path)))
        there = f"these features exist for seeds {', '.join(map(str, seeds))}" if seeds else "nor of any other seed"
        raise StageBenchError(f"dataset '{graph.name}' has no {name}: {there}")
    return name


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

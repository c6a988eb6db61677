"""Accuracy from saved predictions. The only place where test labels are used."""

from __future__ import annotations

import numpy as np

from stage_bench.datasets.splits import PARTS, Split
from stage_bench.errors import StageBenchError


def accuracies(
    probabilities: np.ndarray, labels: np.ndarray, split: Split, nodes: np.ndarray | None = None
) -> dict[str, float]:
    """Fractions of right answers on each part of the split.

    probabilities: [num_nodes, num_classes], or [len(nodes), num_classes] of `nodes` (int64, sorted) where predictions
    have them.

    Raises:
        StageBenchError: a node of the split is not among `nodes`.
    """
    said = probabilities.argmax(axis=1)
    found = {}
    for part in PARTS:
        ids = getattr(split, part)
        rows = ids if nodes is None else _rows(nodes, ids)
        found[f"{part}_accuracy"] = float((said[rows] == labels[ids]).mean())
    return found


def hits(probabilities: np.ndarray, labels: np.ndarray, split: Split, nodes: np.ndarray | None = None) -> np.ndarray:
    """bool [test nodes]: whether the answer about each test node is right. Arguments and errors as of `accuracies`."""
    rows = split.test if nodes is None else _rows(nodes, split.test)
    right: np.ndarray = probabilities[rows].argmax(axis=1) == labels[split.test]
    return right


def _rows(nodes: np.ndarray, ids: np.ndarray) -> np.ndarray:
    rows = np.searchsorted(nodes, ids)
    missing = (rows == len(nodes)) | (nodes[np.minimum(rows, len(nodes) - 1)] != ids)
    if missing.any():
        raise StageBenchError(
            f"the predictions hold no node {ids[missing][0]}; they are of another graph or its labels"
        )
    return rows

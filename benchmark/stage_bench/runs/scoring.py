"""Accuracy from saved predictions. The only place where test labels are used."""

from __future__ import annotations

import numpy as np

from stage_bench.datasets.splits import Split


def accuracies(probabilities: np.ndarray, labels: np.ndarray, split: Split) -> dict[str, float]:
    """Fractions of right answers on each part of the split; probabilities: [num_nodes, num_classes]."""
    right = probabilities.argmax(axis=1) == labels
    return {f"{part}_accuracy": float(right[getattr(split, part)].mean()) for part in ("train", "val", "test")}

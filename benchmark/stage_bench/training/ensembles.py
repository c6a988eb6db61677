"""Ensembles over saved predictions; they cost no training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stage_bench.errors import JobError


def combine(members: Sequence[dict[str, np.ndarray]], how: str) -> dict[str, np.ndarray]:
    """Mean of the members' probabilities (STAGE's paper) or of their logits (STAGE's code).

    members: each with `probabilities` and `logits` [num_nodes, num_classes] and `split_fingerprint`.
    Returns the same keys, float16 as stored.

    Raises:
        JobError: the members were trained on other splits than each other, or differ in shape.
    """
    fingerprints = {str(member["split_fingerprint"]) for member in members}
    if len(fingerprints) > 1:
        raise JobError(f"the members were trained on different splits ({', '.join(sorted(fingerprints))})")
    key = {"mean-probability": "probabilities", "mean-logit": "logits"}[how]
    shapes = {member[key].shape for member in members}
    if len(shapes) > 1:
        raise JobError(f"the members' predictions have different shapes: {sorted(shapes)}")
    mean = np.mean([member[key].astype(np.float64) for member in members], axis=0)
    logits = mean if how == "mean-logit" else np.log(np.clip(mean, 1e-12, None))
    return stored(logits, fingerprints.pop())


def stored(logits: np.ndarray, split_fingerprint: str) -> dict[str, np.ndarray]:
    """What `predictions.npz` holds, from logits [num_nodes, num_classes]."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    return {
        "probabilities": (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float16),
        # Shifted so that the best class is 0: float16 then holds them whatever their scale, and softmax is the same.
        "logits": np.clip(shifted, -60_000, 0).astype(np.float16),
        "split_fingerprint": np.array(split_fingerprint),
    }

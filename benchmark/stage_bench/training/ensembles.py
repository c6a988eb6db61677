"""Ensembles over saved predictions; they cost no training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stage_bench.errors import JobError

# Nodes of a graph above which predictions of unlabelled ones, which no score looks at, are not kept.
LARGE = 1_000_000


def combine(members: Sequence[dict[str, np.ndarray]], how: str) -> dict[str, np.ndarray]:
    """Mean of the members' probabilities (STAGE's paper) or of their logits (STAGE's code).

    members: each as `stored` returns it. Returns the same keys, float16 as stored.

    Raises:
        JobError: the members were trained on other splits than each other, or differ in shape or nodes.
    """
    fingerprints = {str(member["split_fingerprint"]) for member in members}
    if len(fingerprints) > 1:
        raise JobError(f"the members were trained on different splits ({', '.join(sorted(fingerprints))})")
    key = {"mean-probability": "probabilities", "mean-logit": "logits"}[how]
    shapes = {member[key].shape for member in members}
    if len(shapes) > 1:
        raise JobError(f"the members' predictions have different shapes: {sorted(shapes)}")
    nodes = members[0].get("nodes")
    if any(not _same(member.get("nodes"), nodes) for member in members):
        raise JobError("the members' predictions are of different nodes; remove their folders and run them again")
    mean = np.mean([member[key].astype(np.float64) for member in members], axis=0)
    logits = mean if how == "mean-logit" else np.log(np.clip(mean, 1e-12, None))
    return _packed(logits, fingerprints.pop(), nodes)


def stored(logits: np.ndarray, split_fingerprint: str, labels: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """What `predictions.npz` holds, from logits [num_nodes, num_classes].

    `probabilities` and `logits`, float16 [num_nodes, num_classes], and `split_fingerprint`. Of a graph with more than
    `LARGE` nodes, some of them unlabelled (-1 in `labels`, int64 [num_nodes]), the labelled nodes alone: the two are
    then [nodes, num_classes], and `nodes` is there, int64 and sorted.
    """
    if labels is None or len(labels) <= LARGE or (labels >= 0).all():
        return _packed(logits, split_fingerprint, None)
    nodes = np.flatnonzero(labels >= 0)
    return _packed(logits[nodes], split_fingerprint, nodes)


def _packed(logits: np.ndarray, split_fingerprint: str, nodes: np.ndarray | None) -> dict[str, np.ndarray]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    packed = {
        "probabilities": (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float16),
        # Shifted so that the best class is 0: float16 then holds them whatever their scale, and softmax is the same.
        "logits": np.clip(shifted, -60_000, 0).astype(np.float16),
        "split_fingerprint": np.array(split_fingerprint),
    }
    return packed if nodes is None else {**packed, "nodes": nodes.astype(np.int64)}


def _same(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    return one is other if one is None or other is None else np.array_equal(one, other)

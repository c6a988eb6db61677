"""Ensembles over saved predictions; they cost no training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stage_bench.errors import JobError
from stage_bench.training import weighting

# Nodes of a graph above which predictions of unlabelled ones, which no score looks at, are not kept.
LARGE = 1_000_000


@dataclass(frozen=True, eq=False)
class Combined:
    """predictions: as `stored` returns them; weights: of the members in their order, adding up to 1."""

    predictions: dict[str, np.ndarray]
    weights: tuple[float, ...]


def combine(
    members: Sequence[dict[str, np.ndarray]],
    how: str,
    weights: Sequence[float] | None = None,
    val: np.ndarray | None = None,
    labels: np.ndarray | None = None,
) -> Combined:
    """One prediction of several.

    members: each as `stored` returns it.
    how: the mean of their probabilities, `mean-probability` (STAGE's paper), or of their logits, `mean-logit` (STAGE's
        code); a mean of their probabilities with weights that are given, `weighted` (SimTeG, arXiv 2308.02565:
        2:2:1:1:1), or found on validation nodes, `fitted` and `greedy` (training/weighting.py).
    weights: one a member, for `weighted` alone; they need not add up to 1.
    val, labels: int64 [nodes], validation nodes and their labels, for `fitted` and `greedy` alone: no others have a
        way in.

    Raises:
        JobError: the members were trained on other splits than each other, or differ in shape or nodes; weights or
            validation nodes that do not fit them.
    """
    fingerprint, nodes = _checked(members)
    if how == "mean-logit":
        mean = np.mean([member["logits"].astype(np.float64) for member in members], axis=0)
        return Combined(_packed(mean, fingerprint, nodes), _shares(np.ones(len(members))))
    said = [member["probabilities"] for member in members]
    if how == "mean-probability":
        mean, found = np.mean([each.astype(np.float64) for each in said], axis=0), np.ones(len(members))
    elif how in ("weighted", "fitted", "greedy"):
        found = _given(weights, len(members)) if how == "weighted" else _found(said, how, nodes, val, labels)
        mean = np.zeros(said[0].shape)
        for weight, each in zip(found / found.sum(), said, strict=True):
            mean += weight * each
    else:
        raise JobError(f"an ensemble cannot be combined by '{how}'")
    return Combined(_packed(np.log(np.clip(mean, 1e-12, None)), fingerprint, nodes), _shares(found))


def _checked(members: Sequence[dict[str, np.ndarray]]) -> tuple[str, np.ndarray | None]:
    """The split and the nodes that all members have."""
    fingerprints = {str(member["split_fingerprint"]) for member in members}
    if len(fingerprints) > 1:
        raise JobError(f"the members were trained on different splits ({', '.join(sorted(fingerprints))})")
    shapes = {member["probabilities"].shape for member in members}
    if len(shapes) > 1:
        raise JobError(f"the members' predictions have different shapes: {sorted(shapes)}")
    nodes = members[0].get("nodes")
    if any(not _same(member.get("nodes"), nodes) for member in members):
        raise JobError("the members' predictions are of different nodes; remove their folders and run them again")
    return fingerprints.pop(), nodes


def _given(weights: Sequence[float] | None, count: int) -> np.ndarray:
    if weights is None or len(weights) != count:
        raise JobError(f"there are {0 if weights is None else len(weights)} weights for {count} members")
    given = np.asarray(weights, dtype=np.float64)
    if not np.isfinite(given).all() or (given < 0).any() or given.sum() <= 0:
        raise JobError(
            f"the weights {', '.join(f'{weight:g}' for weight in given)} are not of a mean: none may be "
            "below 0, and not all of them 0"
        )
    return given


def _found(
    said: Sequence[np.ndarray],
    how: str,
    nodes: np.ndarray | None,
    val: np.ndarray | None,
    labels: np.ndarray | None,
) -> np.ndarray:
    """The weights that validation nodes choose."""
    if val is None or labels is None or len(val) == 0 or len(val) != len(labels):
        raise JobError(f"'{how}' needs validation nodes, each with its label")
    classes = said[0].shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise JobError(f"'{how}': a validation node has no label among the {classes} classes")
    rows = val if nodes is None else np.searchsorted(nodes, val)
    if nodes is not None and not _same(nodes[np.minimum(rows, len(nodes) - 1)], val):
        raise JobError("the members' predictions do not hold every validation node; they are of another graph")
    shown = np.stack([each[rows].astype(np.float64) for each in said])
    return weighting.fitted(shown, labels) if how == "fitted" else weighting.greedy(shown, labels)


def _shares(weights: np.ndarray) -> tuple[float, ...]:
    return tuple(float(share) for share in weights / weights.sum())


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

"""Weights of an ensemble's members, from validation nodes alone.

Both take the members' probabilities, float64 [members, nodes, num_classes], and the nodes' labels, int64 [nodes], and
return weights, float64 [members], that are not negative and add up to 1. They draw nothing at random.
"""

from __future__ import annotations

import numpy as np

_LEAST = 1e-12  # probability: what a stored 0 stands for, as in a mean of probabilities (training/ensembles.py)
_STEPS = 10_000
_GAP = 1e-7  # nats
_ROUNDS = 50


def fitted(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Those whose mean of probabilities has the least cross-entropy.

    It is convex in the weights, and expectation maximisation (Dempster et al. 1977) for the proportions of a mixture
    goes down to the least: each weight is multiplied by the mean, over nodes, of its member's probability of the right
    class over the mixture's. The largest of these factors less 1 bounds how far the cross-entropy still is from its
    least, in nats: the end is within 1e-7 of it or, after 10,000 steps, within log(members) / 10,000.
    """
    right = np.maximum(probabilities[:, np.arange(len(labels)), labels], _LEAST)
    weights = np.full(len(right), 1 / len(right))
    for _ in range(_STEPS):
        factors = (right / (weights @ right)).mean(axis=1)
        if factors.max() - 1 <= _GAP:
            break
        weights *= factors
        weights /= weights.sum()
    return weights


def greedy(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Ensemble selection (Caruana et al. 2004, "Ensemble Selection from Libraries of Models").

    From none on, each of 50 rounds adds the member, which may be there already, with which the mean of probabilities
    is right most often; among equals with the least cross-entropy, then the first. The best round counts, by the same
    order, and of equal rounds the earliest.
    """
    best: tuple[int, float] | None = None
    weights = np.zeros(len(probabilities))
    counts = np.zeros(len(probabilities))
    total = np.zeros(probabilities.shape[1:])
    for size in range(1, _ROUNDS + 1):
        scores = [_score((total + each) / size, labels) for each in probabilities]
        member = min(range(len(scores)), key=scores.__getitem__)  # the first of equals
        counts[member] += 1
        total += probabilities[member]
        if best is None or scores[member] < best:
            best, weights = scores[member], counts / size
    return weights


def _score(mixed: np.ndarray, labels: np.ndarray) -> tuple[int, float]:
    """How many nodes it is wrong about, and its mean cross-entropy: the less the better."""
    wrong = int((mixed.argmax(axis=1) != labels).sum())
    right = mixed[np.arange(len(labels)), labels]
    return wrong, float(-np.log(np.maximum(right, _LEAST)).mean())

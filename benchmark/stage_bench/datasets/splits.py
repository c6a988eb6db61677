"""Splits: which labelled nodes train, which validate, which test."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from stage_bench import fingerprint
from stage_bench.errors import StageBenchError

DEFAULT_RULE = "random-60-20-20"
PARTS = ("train", "val", "test")
_RANDOM = re.compile(r"random-([0-9]{1,9})-([0-9]{1,9})-([0-9]{1,9})")


@dataclass(frozen=True)
class Split:
    """Node ids, int64 and sorted, of the three parts.

    They are disjoint, and every node in them has a label, unless no node of the graph has one.
    """

    protocol: str
    seed: int | None  # None where the split is fixed
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint.of_arrays(self.train, self.val, self.test)

    @property
    def sizes(self) -> tuple[int, int, int]:
        return len(self.train), len(self.val), len(self.test)


def random_shares(protocol: str) -> tuple[int, int, int] | None:
    """(60, 20, 20) of `random-60-20-20`; None where the protocol is not a random one.

    Raises:
        StageBenchError: the shares do not add up to 100, or one is zero.
    """
    match = _RANDOM.fullmatch(protocol)
    if match is None:
        return None
    train, val, test = (int(share) for share in match.groups())
    if train + val + test != 100 or 0 in (train, val, test):
        raise StageBenchError(f"split '{protocol}': the three shares are percentages above 0 and add up to 100")
    return train, val, test


def random_split(labels: np.ndarray, protocol: str, seed: int) -> Split:
    """TAPE's rule (arXiv 2305.19523, its code): shuffle the nodes with NumPy's legacy generator, cut at the shares.

    Nodes without a label (-1) belong to no part; where every node has one this is TAPE's split to the node.

    Raises:
        StageBenchError: there are too few labelled nodes for every part to have one.
    """
    shares = random_shares(protocol)
    if shares is None:
        raise StageBenchError(f"'{protocol}' is not a random split")
    nodes = np.flatnonzero(labels >= 0)
    np.random.RandomState(seed).shuffle(nodes)
    first = len(nodes) * shares[0] // 100
    second = len(nodes) * (shares[0] + shares[1]) // 100
    parts = [np.sort(part).astype(np.int64) for part in (nodes[:first], nodes[first:second], nodes[second:])]
    for part, ids in zip(PARTS, parts, strict=True):
        if len(ids) == 0:
            raise StageBenchError(f"split '{protocol}' of {len(nodes)} labelled nodes leaves the {part} part empty")
    return Split(protocol, seed, *parts)


def fixed_split(labels: np.ndarray, protocol: str, parts: dict[str, np.ndarray], where: str) -> Split:
    """A split that the data prescribes, checked.

    Raises:
        StageBenchError: a part is empty, names a node that does not exist or has no label, or shares a node with
            another part.
    """
    no_labels = not (labels >= 0).any()  # then nothing can be trained, and the split is only there to be shown
    owner = np.full(len(labels), -1, dtype=np.int8)
    for number, (part, nodes) in enumerate(parts.items()):
        if len(nodes) == 0:
            raise StageBenchError(f"{where}: the {part} part is empty")
        outside = nodes[(nodes < 0) | (nodes >= len(labels))]
        if len(outside):
            raise StageBenchError(
                f"{where}: the {part} part names node {outside[0]}, but the nodes are 0 to {len(labels) - 1}"
            )
        unlabelled = nodes[labels[nodes] < 0]
        if len(unlabelled) and not no_labels:
            raise StageBenchError(
                f"{where}: node {unlabelled[0]} belongs to the {part} part but has no label ({len(unlabelled)} such)"
            )
        ids, counts = np.unique(nodes, return_counts=True)
        if (counts > 1).any():
            raise StageBenchError(f"{where}: the {part} part names node {ids[counts > 1][0]} twice")
        taken = ids[owner[ids] >= 0]
        if len(taken):
            raise StageBenchError(f"{where}: node {taken[0]} belongs to both {list(parts)[owner[taken[0]]]} and {part}")
        owner[ids] = number
    sorted_parts = [np.sort(parts[part]).astype(np.int64) for part in PARTS]
    return Split(protocol, None, *sorted_parts)

"""A generated graph of ogbn-arxiv's size, with features that say something of the classes, and graphs on disk.

Degrees follow a power law, most edges stay inside a class, and a node's features are its class's centre under much
noise. So a model can learn from features and more from neighbours, and two ways of training it can be compared in
accuracy. Nothing else about the graph is meant to be real: no communities inside a class, no time, no text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_BLOCK = 16_384  # rows of features drawn at a time


@dataclass(frozen=True)
class Size:
    """nodes; pairs: undirected edges, each of which counts twice as a directed one; dim: columns of the features."""

    nodes: int
    pairs: int
    dim: int
    classes: int


ARXIV = Size(nodes=169_343, pairs=1_157_799, dim=1024, classes=40)


def edges(size: Size, labels: np.ndarray, random: np.random.Generator, inside: float = 0.65) -> np.ndarray:
    """int64 [2, 2 * pairs]: both directions of `pairs` different pairs without self loops.

    Both ends are drawn in proportion to weights with a power-law tail (exponent 2.5, at most 1,000 times the least);
    with probability `inside` the second end is of the first one's class.
    """
    weights = np.minimum((1 - random.random(size.nodes)) ** (-1 / 1.5), 1_000.0)
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(weights[order])
    bounds = np.searchsorted(labels[order], np.arange(size.classes + 1))
    starts = np.concatenate([[0.0], ends])[bounds]
    keys = np.empty(0, dtype=np.int64)
    while len(keys) < size.pairs:
        number = int((size.pairs - len(keys)) * 1.3) + 1_000
        first = order[_draw(ends, random.random(number) * ends[-1])]
        low, high = starts[labels[first]], starts[labels[first] + 1]
        share = random.random(number)
        within = random.random(number) < inside
        second = order[_draw(ends, np.where(within, low + share * (high - low), share * ends[-1]))]
        different = first != second
        pair = np.minimum(first, second) * size.nodes + np.maximum(first, second)
        keys = np.unique(np.concatenate([keys, pair[different]]))
    keys = random.permutation(keys)[: size.pairs]
    one, other = keys // size.nodes, keys % size.nodes
    both = np.stack([np.concatenate([one, other]), np.concatenate([other, one])])
    return both[:, np.lexsort(both[::-1])]


def _draw(ends: np.ndarray, places: np.ndarray) -> np.ndarray:
    return np.minimum(np.searchsorted(ends, places, side="right"), len(ends) - 1)


def write(folder: Path, size: Size, name: str, seed: int = 0, signal: float = 0.1) -> Path:
    """A dataset as `save` writes it, with one split of 54, 18 and 28 % (ogbn-arxiv's shares, here at random).

    signal: standard deviation of the class centres; the noise around them has 1, and rows are scaled to length 1.
    """
    random = np.random.default_rng(seed)
    shares = 1 / np.arange(2, size.classes + 2) ** 0.8  # large and small classes
    labels = random.choice(size.classes, size.nodes, p=shares / shares.sum()).astype(np.int64)
    folder.mkdir(parents=True, exist_ok=True)
    features = np.lib.format.open_memmap(folder / "features.npy", "w+", np.float32, (size.nodes, size.dim))
    centres = random.standard_normal((size.classes, size.dim), dtype=np.float32) * np.float32(signal)
    for begin in range(0, size.nodes, _BLOCK):
        own = labels[begin : begin + _BLOCK]
        rows = centres[own] + random.standard_normal((len(own), size.dim), dtype=np.float32)
        features[begin : begin + _BLOCK] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    features.flush()
    shuffled = random.permutation(size.nodes)
    train, val, test = np.split(shuffled, [size.nodes * 54 // 100, size.nodes * 72 // 100])
    joined = edges(size, labels, random)
    save(folder, name, None, joined, labels, size.classes, [(np.sort(train), np.sort(val), np.sort(test))])
    return folder


def save(
    folder: Path,
    name: str,
    features: np.ndarray | None,
    joined: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    splits: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> None:
    """What both sides of a measurement read: features (None: they are there), edges, labels and splits by number.

    The small file that `stored` looks for comes last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if features is not None:
        np.save(folder / "features.npy", np.asarray(features, dtype=np.float32))
    np.save(folder / "edges.npy", joined)
    np.save(folder / "labels.npy", labels)
    for number, (train, val, test) in enumerate(splits):
        np.savez(folder / f"split-{number}.npz", train=train, val=val, test=test)
    facts = {"name": name, "num_classes": num_classes, "splits": len(splits)}
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")


def stored(folder: Path) -> bool:
    """Whether a dataset lies there whole."""
    return (folder / "facts.json").is_file()

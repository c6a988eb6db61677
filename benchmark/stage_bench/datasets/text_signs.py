"""Do texts, labels and edges speak of the same nodes? Signs that a file was joined in the wrong order.

Everything is sampled and fitted with fixed seeds, so the same data gives the same numbers, in seconds on any size.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from stage_bench.datasets.textgraph import TextGraph

_NODES = 10_000  # labelled nodes that a classifier is tried on
_EDGES = 10_000  # edges whose texts are compared
_SHIFT_EDGES = 1_000  # the same, several times over
_MANY = 1_000_000  # edges that both are taken from
_FEWEST = 50  # nodes or edges; with fewer nothing can be said
_ENOUGH = 500  # labelled nodes; with fewer a classifier may fail on sound texts (with 300 of wordnet's it does)
_SURE, _LIKELY = 4.0, 2.0  # standard errors
_SHIFTS = (-2, -1, 1, 2)
_STARTS = (0.0, 0.5, 0.8)
Strength = Literal["clear", "weak", "none"]
HOW = "TF-IDF (20,000 words, sublinear) and logistic regression (C=10)"


@dataclass(frozen=True)
class LabelSign:
    """How well texts tell labels: accuracies on `nodes` test nodes of a classifier that saw 60 % of the sample.

    majority: of naming the most frequent class; permuted: of the classifier with the texts dealt out anew.
    strength: of Cohen's kappa, the accuracy beyond what the classes' frequencies give, above that of the permuted
        texts. Weak is what few nodes cannot make sure of; none is what shuffled texts look like.
    enough: whether there are nodes enough for none to mean that.
    """

    accuracy: float
    majority: float
    permuted: float
    nodes: int
    strength: Strength
    enough: bool


@dataclass(frozen=True)
class EdgeSign:
    """How alike the texts of neighbours are: mean cosines of TF-IDF vectors, over `edges` edges.

    random: the same over pairs with the same ends, dealt out anew. strength: of the difference.
    """

    neighbours: float
    random: float
    edges: int
    strength: Strength


def of_labels(graph: TextGraph, speaking: np.ndarray) -> LabelSign | None:
    """None where there are too few labelled nodes, or fewer than two classes.

    speaking: bool [num_nodes], the nodes whose text says anything; the others are left out, here and below.
    """
    from sklearn.linear_model import LogisticRegression

    random = np.random.RandomState(0)
    nodes = np.flatnonzero((graph.labels >= 0) & speaking)
    random.shuffle(nodes)
    nodes = nodes[:_NODES]
    first = len(nodes) * 6 // 10
    labels = graph.labels[nodes]
    if len(nodes) < _FEWEST or len(set(labels[:first])) < 2:
        return None
    vectors = _vectors(graph, nodes)
    if vectors is None:
        return None
    answers = []
    for rows in (np.arange(len(nodes)), random.permutation(len(nodes))):
        with warnings.catch_warnings():  # of classes with few nodes, and of the last digits
            warnings.simplefilter("ignore")
            model = LogisticRegression(C=10, max_iter=200, tol=1e-3).fit(vectors[rows[:first]], labels[:first])
        answers.append(model.predict(vectors[rows[first:]]))
    right = labels[first:]
    accuracy, kappa, error = agreement(answers[0], right)
    permuted, permuted_kappa, _ = agreement(answers[1], right)
    beyond = kappa - max(permuted_kappa, 0.0)
    return LabelSign(
        accuracy=accuracy,
        majority=float(np.bincount(right).max() / len(right)),
        permuted=permuted,
        nodes=len(right),
        strength="clear" if beyond > max(0.05, _SURE * error) else "weak" if beyond > 0.15 else "none",
        enough=len(nodes) >= _ENOUGH,
    )


def agreement(answers: np.ndarray, right: np.ndarray) -> tuple[float, float, float]:
    """Accuracy, Cohen's kappa, and kappa's standard error where the answers have nothing to do with the labels."""
    classes = max(answers.max(), right.max()) + 1
    shares = [np.bincount(values, minlength=classes) / len(right) for values in (answers, right)]
    chance = float(shares[0] @ shares[1])
    accuracy = float((answers == right).mean())
    if chance == 1:
        return accuracy, 0.0, 0.0
    return accuracy, (accuracy - chance) / (1 - chance), float(np.sqrt(chance / (1 - chance) / len(right)))


def of_edges(graph: TextGraph, speaking: np.ndarray) -> EdgeSign | None:
    """None where there are too few edges between nodes."""
    random = np.random.RandomState(0)
    edges = _pairs(_between(graph, speaking, random), _EDGES, random)
    if edges.shape[1] < _FEWEST:
        return None
    nodes, flat = np.unique(edges, return_inverse=True)
    src, dst = flat.reshape(2, -1)
    vectors = _vectors(graph, nodes)
    if vectors is None:
        return None
    near, far = _cosines(vectors, src, dst), _cosines(vectors, src, random.permutation(dst))
    strength: Strength = "clear" if _more(near, far, _SURE) else "weak" if _more(near, far, _LIKELY) else "none"
    return EdgeSign(float(near.mean()), float(far.mean()), len(near), strength)


def shift(graph: TextGraph, speaking: np.ndarray) -> tuple[int, int] | None:
    """(node, shift): among the nodes from that one on, edges fit the texts `shift` rows further better than their own.

    What a join without a count check does: one missing row moves every later text. None: no sign of that.
    """
    random = np.random.RandomState(0)
    between = _between(graph, speaking, random)
    most = max(_SHIFTS)
    for start in _STARTS:
        low, high = int(start * graph.num_nodes) + most, graph.num_nodes - most
        inside = (between.min(axis=0) >= low) & (between.max(axis=0) < high)  # both ends, so both have moved
        edges = _pairs(between[:, inside], _SHIFT_EDGES, random)
        if edges.shape[1] < _FEWEST:
            continue
        moved = np.stack([edges + by for by in (0, *_SHIFTS)])
        nodes, flat = np.unique(moved, return_inverse=True)
        vectors = _vectors(graph, nodes)
        if vectors is None:
            continue
        own, *others = (_cosines(vectors, *pair) for pair in flat.reshape(moved.shape))
        better = max(others, key=lambda cosines: float(cosines.mean()))
        if _more(better, own, _SURE):
            place = next(number for number, cosines in enumerate(others) if cosines is better)
            return int(start * graph.num_nodes), _SHIFTS[place]
    return None


def _between(graph: TextGraph, speaking: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """int64 [2, edges] between nodes that say something; of a large graph only some, to spare memory."""
    edges = graph.edges
    if edges.shape[1] > _MANY:
        edges = edges[:, random.randint(0, edges.shape[1], _MANY)]
    return edges[:, speaking[edges].all(axis=0)]


def _pairs(edges: np.ndarray, most: int, random: np.random.RandomState) -> np.ndarray:
    """int64 [2, pairs]: at most so many of the pairs that edges join, each once, whatever their direction."""
    if edges.shape[1] > 2 * most:  # of which no more than half are the others' reverse
        edges = edges[:, random.choice(edges.shape[1], 2 * most, replace=False)]
    pairs: np.ndarray = np.unique(np.sort(edges, axis=0), axis=1)
    return pairs if pairs.shape[1] <= most else pairs[:, random.permutation(pairs.shape[1])[:most]]


def _vectors(graph: TextGraph, nodes: Sequence[int] | np.ndarray) -> Any:
    """TF-IDF vectors of length 1 of the nodes' texts; None where these hold no words."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    assert graph.texts is not None
    texts = graph.texts
    try:
        return TfidfVectorizer(max_features=20_000, sublinear_tf=True).fit_transform([texts[node] for node in nodes])
    except ValueError:  # an empty vocabulary
        return None


def _cosines(vectors: Any, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.asarray(vectors[first].multiply(vectors[second]).sum(axis=1)).ravel()


def _more(near: np.ndarray, far: np.ndarray, errors: float) -> bool:
    """Whether the mean is greater, by so many standard errors and by a tenth."""
    error = np.sqrt(near.var() / len(near) + far.var() / len(far))
    difference = near.mean() - far.mean()
    return bool(difference > errors * error and difference > 0.1 * far.mean())

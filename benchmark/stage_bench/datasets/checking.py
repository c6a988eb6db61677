"""`check dataset`: is what a folder or a registered dataset holds sound?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from stage_bench.checks import Line
from stage_bench.datasets.textgraph import TextGraph


def check(graph: TextGraph) -> Iterator[Line]:
    yield Line(f"read: {graph.num_nodes} nodes, {graph.num_edges} directed edges, {graph.num_classes} classes")
    split = graph.split(graph.default_split, 0)
    yield Line(f"split {graph.default_split}: {' / '.join(str(size) for size in split.sizes)}")
    absent = {graph.label_names[label] for label in set(graph.labels[split.test]) - set(graph.labels[split.train])}
    what = f"the test part has classes that the training part lacks: {', '.join(sorted(absent))}"
    yield Line(what if absent else "every class of the test part is in the training part")
    if graph.num_edges == 0:
        yield Line("there are no edges", False)
    if graph.texts is None:
        yield Line("no texts: only features that need none can be used")
        return
    accuracy, chance = _text_signal(graph.texts, graph.labels, split)
    what = (
        f"TF-IDF and logistic regression: {accuracy:.3f} of {len(split.test)} test nodes (their most frequent class: "
        f"{chance:.3f})"
    )
    yield Line(
        what if accuracy > chance + 0.05 else f"{what}; are the texts shuffled over the nodes?",
        accuracy > chance + 0.05,
    )


def _text_signal(texts: Any, labels: np.ndarray, split: Any) -> tuple[float, float]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words = TfidfVectorizer(max_features=20_000).fit_transform(texts)
    train, test = split.train[:20_000], split.test[:20_000]
    model = LogisticRegression(max_iter=300).fit(words[train], labels[train])
    chance = np.bincount(labels[test]).max() / len(test)
    return float(model.score(words[test], labels[test])), float(chance)

"""A dataset's card: what there is to know about it before a model sees it."""

from __future__ import annotations

from typing import Any

import numpy as np

from stage_bench.datasets.textgraph import TextGraph

_QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)


def card(graph: TextGraph) -> dict[str, Any]:
    """Facts as plain Python values; texts are measured in characters, edges count each direction."""
    labelled = graph.labels >= 0
    src, dst = graph.edges
    both = labelled[src] & labelled[dst]
    same = graph.labels[src[both]] == graph.labels[dst[both]]
    counts = np.bincount(graph.labels[labelled], minlength=graph.num_classes)
    facts: dict[str, Any] = {
        "name": graph.name,
        "nodes": graph.num_nodes,
        "labelled nodes": int(labelled.sum()),
        "edges": graph.num_edges,
        "classes": {str(name): int(count) for name, count in zip(graph.label_names, counts, strict=True)},
        "edge homophily": round(float(same.mean()), 4) if both.any() else None,
        "isolated nodes": int((np.bincount(graph.edges.ravel(), minlength=graph.num_nodes) == 0).sum()),
        "in-degree": _quantiles(np.bincount(dst, minlength=graph.num_nodes)),
    }
    if graph.texts is not None:
        facts["text length"] = _quantiles(np.array([len(text) for text in graph.texts]))
        facts["empty texts"] = sum(not text.strip() for text in graph.texts)
        facts["distinct texts"] = len(set(graph.texts))
    else:
        facts["texts"] = "none"
    facts["default split"] = graph.default_split
    for protocol in dict.fromkeys([graph.default_split, *graph.fixed_splits]):
        sizes = graph.split(protocol, 0).sizes
        facts[f"split {protocol}"] = dict(zip(("train", "val", "test"), sizes, strict=True))
    return {
        **facts,
        **{key.replace("_", " "): value for key, value in graph.facts.items()},
        "fingerprint": graph.fingerprint,
    }


def _quantiles(values: np.ndarray) -> dict[str, float]:
    return {
        f"{share:.0%}": float(value) for share, value in zip(_QUANTILES, np.quantile(values, _QUANTILES), strict=True)
    }

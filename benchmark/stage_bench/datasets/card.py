"""A dataset's card: what there is to know about it before a model sees it."""

from __future__ import annotations

from typing import Any

import numpy as np

from stage_bench.datasets import measures
from stage_bench.datasets.measures import printable
from stage_bench.datasets.splits import PARTS, Split
from stage_bench.datasets.textgraph import TextGraph
from stage_bench.errors import StageBenchError

_QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)
_EDGE_FACTS = ("edge_policy", "edges_in_file", "self_loops_dropped", "duplicates_dropped", "reciprocal_pairs")
_TEXT_FACTS = ("empty_values", "rows_without_column")
_SPLIT_FACTS = ("default_split_because",)


def card(graph: TextGraph) -> dict[str, Any]:
    """Facts as plain Python values; texts are measured in characters, edges count each direction."""
    facts: dict[str, Any] = {"name": graph.name, "nodes": graph.num_nodes, **_labels(graph), **_structure(graph)}
    if graph.texts is None:
        facts["texts"] = "none"
    else:
        facts |= _texts(graph)
    facts |= _splits(graph)
    facts |= _predictions(graph)
    if graph.matrix_paths:
        facts["matrices"] = {name: _matrix(graph, name) for name in graph.matrix_paths}
    placed = {*_EDGE_FACTS, *_TEXT_FACTS, *_SPLIT_FACTS}
    facts |= _stated(graph, tuple(key for key in graph.facts if key not in placed))
    facts["fingerprint"] = graph.fingerprint
    cleaned: dict[str, Any] = _clean(facts)
    return cleaned


def sizes(split: Split) -> dict[str, int]:
    return dict(zip(PARTS, split.sizes, strict=True))


def _stated(graph: TextGraph, keys: tuple[str, ...]) -> dict[str, Any]:
    """What the loader says of these."""
    return {key.replace("_", " "): graph.facts[key] for key in keys if key in graph.facts}


def _labels(graph: TextGraph) -> dict[str, Any]:
    labelled = graph.labels >= 0
    counts = np.bincount(graph.labels[labelled], minlength=graph.num_classes)
    facts: dict[str, Any] = {"labelled nodes": int(labelled.sum())}
    if not graph.has_labels:
        facts["labels"] = "none: nothing can be trained on it"
    facts["number of classes"] = graph.num_classes
    if graph.num_classes:
        facts["classes"] = {str(name): int(count) for name, count in zip(graph.label_names, counts, strict=True)}
    return facts


def _structure(graph: TextGraph) -> dict[str, Any]:
    facts: dict[str, Any] = {"edges": graph.num_edges, **_stated(graph, _EDGE_FACTS)}
    if not graph.num_edges:
        return facts
    found = measures.homophily(graph)
    if found is not None:
        facts["edge homophily"], facts["adjusted homophily"] = (
            round(value, 4) if np.isfinite(value) else None for value in found
        )
    components = measures.component_sizes(graph)
    facts["isolated nodes"] = int(measures.is_isolated(graph).sum())
    facts["connected components"] = len(components)
    facts["largest component"] = int(components[0])
    if measures.is_undirected(graph):
        facts["degree"] = _quantiles(measures.degrees(graph))
    else:
        facts["in-degree"] = _quantiles(measures.degrees(graph))
        facts["out-degree"] = _quantiles(np.bincount(graph.edges[0], minlength=graph.num_nodes))
    return facts


def _texts(graph: TextGraph) -> dict[str, Any]:
    assert graph.texts is not None
    blank = measures.is_blank(graph)
    return {
        "text length in characters": _quantiles(np.fromiter((len(text) for text in graph.texts), dtype=np.int64)),
        "empty texts": int(blank.sum()),
        "distinct texts": len(set(graph.texts)),
        "nodes that share their text": measures.shared_texts(graph, blank),
        **measures.odd_characters(graph),
        **_stated(graph, _TEXT_FACTS),
    }


def _splits(graph: TextGraph) -> dict[str, Any]:
    facts: dict[str, Any] = {"default split": graph.default_split, **_stated(graph, _SPLIT_FACTS)}
    for protocol in dict.fromkeys([graph.default_split, *graph.fixed_splits]):
        try:
            split = graph.fixed_splits.get(protocol) or graph.split(protocol, 0)
            facts[f"split {protocol}"] = sizes(split)
        except StageBenchError as error:
            facts[f"split {protocol}"] = str(error)
    return facts


def _predictions(graph: TextGraph) -> dict[str, Any]:
    try:
        ranked = graph.ranked_predictions
    except StageBenchError as error:
        return {"GPT predictions": f"not usable: {error}"}
    if ranked is None:
        return {}
    labelled = graph.labels >= 0
    first = ranked.classes[:, 0]
    facts: dict[str, Any] = {
        "nodes with an answer": ranked.answers,
        "nodes with a class": int((first >= 0).sum()),
        "most classes for a node": int((ranked.classes >= 0).sum(axis=1).max()),
        "ids that are no class": ranked.unknown,
    }
    if labelled.any():
        facts["first is right"] = round(float((first[labelled] == graph.labels[labelled]).mean()), 4)
    return {"GPT predictions": facts}


def _matrix(graph: TextGraph, name: str) -> str:
    try:
        matrix = graph.matrix(name)
    except StageBenchError as error:
        return f"not usable: {error}"
    return f"{matrix.dtype} {list(matrix.shape)}"


def _quantiles(values: np.ndarray) -> dict[str, float]:
    found = np.quantile(values, _QUANTILES).round(2)
    return {f"{share:.0%}": float(value) for share, value in zip(_QUANTILES, found, strict=True)}


def _clean(value: Any) -> Any:
    """Label names and free keys may hold what no terminal can print."""
    if isinstance(value, dict):
        return {printable(str(key)): _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return printable(value) if isinstance(value, str) else value

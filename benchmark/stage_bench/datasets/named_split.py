"""Registered datasets whose fixed split has a name of its own, the one that published numbers stand under."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from stage_bench.datasets import folder
from stage_bench.datasets.spec import DatasetSpec
from stage_bench.datasets.textgraph import TextGraph


def load(spec: DatasetSpec, data: Path, *, undirected: bool = True) -> TextGraph:
    """From `<data folder>/<name>`; the split of its `split.json` is called `spec.split`."""
    graph = folder.load_named(spec, data, undirected=undirected)
    if graph.default_split != "file":
        return graph
    splits = dict(graph.fixed_splits)
    named = replace(splits.pop("file"), protocol=spec.split)
    return replace(graph, fixed_splits={spec.split: named, **splits}, default_split=spec.split)

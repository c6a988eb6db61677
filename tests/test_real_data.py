"""The real datasets load, with the counts that are known of them."""

import json
from pathlib import Path

import pytest

from stage_bench.datasets import folder
from stage_bench.errors import StageBenchError

# nodes, edges with both directions, classes, default split, fixed splits with their sizes, has text
REAL = {
    "cora": (2708, 10556, 7, "random-60-20-20", {"public": (140, 500, 1000)}, True),
    "wordnet": (117659, 367578, 45, "random-60-20-20", {}, True),
    "arxiv-titles-2023": (33868, 606758, 39, "column", {"column": (19461, 4682, 668)}, True),
    "products-sample": (969, 1822, 25, "column", {"column": (271, 23, 675)}, True),
    "pubmed-no-text": (19717, 88648, 3, "random-60-20-20", {"public": (60, 500, 1000)}, False),
    "tape-arxiv23-no-text": (46198, 77726, 38, "random-60-20-20", {}, False),
}


@pytest.mark.parametrize("name", REAL)
def test_the_real_sets(real_data: Path, name: str):
    nodes, edges, classes, default, fixed, has_text = REAL[name]
    graph = folder.load(real_data / name)
    assert (graph.num_nodes, graph.num_edges, graph.num_classes) == (nodes, edges, classes)
    assert graph.default_split == default
    assert {protocol: split.sizes for protocol, split in graph.fixed_splits.items()} == fixed
    assert (graph.texts is not None) == has_text
    if graph.texts is not None:
        assert len(graph.texts) == nodes
    assert graph.labels.min() >= 0


def test_texts_belong_to_their_nodes(real_data: Path):
    graph = folder.load(real_data / "cora")
    with (real_data / "cora" / "nodes.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    assert len(rows) == graph.num_nodes
    for node, row in enumerate(rows):
        assert graph.texts[node] == f"Title: {row['title']}\nAbstract: {row['abstract']}"
        assert graph.label_names[graph.labels[node]] == row["label"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ogbn-arxiv-no-graph", "holds no edges.csv or edges.parquet"),
        ("ogbn-products-subset-no-graph", "holds no nodes.jsonl or nodes.csv or nodes.parquet"),
    ],
)
def test_the_incomplete_sets(real_data: Path, name: str, message: str):
    with pytest.raises(StageBenchError) as caught:
        folder.load(real_data / name)
    assert str(caught.value) == f"{real_data / name}: {message}"

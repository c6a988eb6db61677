"""The real datasets load, with the counts that are known of them."""

import json
from pathlib import Path

import numpy as np
import pytest

from stage_bench.datasets import folder
from stage_bench.datasets.card import card
from stage_bench.execution import describing

# nodes, edges with both directions, classes, default split, fixed splits with their sizes, has text
REAL = {
    "cora": (2708, 10556, 7, "random-60-20-20", {"public": (140, 500, 1000)}, True),
    "wordnet": (117659, 367578, 45, "random-60-20-20", {}, True),
    "arxiv-titles-2023": (33868, 606758, 39, "column", {"column": (19461, 4682, 668)}, True),
    "products-sample": (969, 1822, 25, "column", {"column": (271, 23, 675)}, True),
    "pubmed-no-text": (19717, 88648, 3, "random-60-20-20", {"public": (60, 500, 1000)}, False),
    "tape-arxiv23-no-text": (46198, 77726, 40, "random-60-20-20", {}, False),
    "ogbn-arxiv-no-graph": (169343, 0, 40, "column", {"column": (90941, 29799, 48603)}, False),
    "ogbn-products-subset-no-graph": (54025, 0, 0, "file", {"file": (14708, 1572, 37745)}, False),
}
WITHOUT_LABELS = "ogbn-products-subset-no-graph"


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
    assert (graph.labels >= 0).all() == graph.has_labels == (name != WITHOUT_LABELS)
    assert graph.labels.max() < max(classes, 1)


@pytest.mark.parametrize("name", REAL)
def test_their_cards(real_data: Path, name: str):
    nodes, edges, classes, default, fixed, has_text = REAL[name]
    facts = card(folder.load(real_data / name))
    json.dumps(facts, allow_nan=False)
    assert (facts["nodes"], facts["edges"], facts["number of classes"]) == (nodes, edges, classes)
    assert facts["default split"] == default
    for protocol, (train, val, test) in fixed.items():
        assert facts[f"split {protocol}"] == {"train": train, "val": val, "test": test}
    assert ("texts" in facts) == (not has_text)
    assert ("labels" in facts) == (name == WITHOUT_LABELS)
    assert ("connected components" in facts) == (edges > 0)
    assert facts["origin"]
    shown = describing.text(facts).splitlines()
    assert len(shown) < 60
    assert max(len(line) for line in shown if not line.startswith("origin")) < 200


def test_texts_belong_to_their_nodes(real_data: Path):
    graph = folder.load(real_data / "cora")
    with (real_data / "cora" / "nodes.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    assert len(rows) == graph.num_nodes
    for node, row in enumerate(rows):
        assert graph.texts[node] == f"Title: {row['title']}\nAbstract: {row['abstract']}"
        assert graph.label_names[graph.labels[node]] == row["label"]


@pytest.mark.parametrize(
    ("name", "accuracy", "most"),
    [
        ("cora", 0.6769, 7),
        ("pubmed-no-text", 0.9342, 3),
        ("ogbn-arxiv-no-graph", 0.7350, 5),
        ("tape-arxiv23-no-text", 0.7356, 5),
    ],
)
def test_gpt_predictions_have_the_known_accuracy(real_data: Path, name: str, accuracy: float, most: int):
    graph = folder.load(real_data / name)
    ranked = graph.predictions
    assert ranked is not None
    assert ranked.shape == (graph.num_nodes, most)
    assert ranked.dtype == np.int64
    assert round(float((ranked[:, 0] == graph.labels).mean()), 4) == accuracy
    assert card(graph)["GPT predictions"]["first is right"] == accuracy
    named = np.sort(np.where(ranked < 0, -np.arange(1, most + 1), ranked), axis=1)
    assert (named[:, 1:] != named[:, :-1]).all(), "a class stands there twice"
    assert ((ranked[:, 1:] < 0) | (ranked[:, :-1] >= 0)).all(), "a class stands behind a gap"


def test_gpt_predictions_without_classes(real_data: Path):
    graph = folder.load(real_data / WITHOUT_LABELS)
    assert (graph.predictions == -1).all()
    facts = card(graph)["GPT predictions"]
    assert (facts["nodes with an answer"], facts["nodes with a class"]) == (54025, 0)
    assert facts["ids that are no class"] == 359033


def test_label_names_and_numbers(real_data: Path):
    arxiv = folder.load(real_data / "tape-arxiv23-no-text")
    assert arxiv.label_names[:2] == ["arxiv cs na", "arxiv cs mm"]
    assert arxiv.label_ids.tolist() == list(range(40))
    # Two of the names have no node; a model has an output for each all the same.
    assert len(set(arxiv.labels.tolist())) == 38
    products = folder.load(real_data / "products-sample")
    assert products.label_ids.tolist() == [*range(14), 15, 16, 17, 18, 19, 20, 21, 23, 24, 40, 42]
    assert products.label_names == [str(id_) for id_ in products.label_ids]


def test_what_is_known_of_the_values_and_the_matrix(real_data: Path):
    products = folder.load(real_data / "products-sample")
    facts = card(products)
    assert facts["empty values"] == {"title": 68, "content": 78}  # what its origin says
    assert facts["matrices"] == {"ogb_features.npy": "float32 [969, 100]"}
    matrix = products.matrix("ogb_features.npy")
    assert isinstance(matrix, np.memmap)
    assert np.array_equal(matrix, np.load(real_data / "products-sample" / "ogb_features.npy"))


@pytest.mark.parametrize(("name", "edge", "adjusted"), [("cora", 0.81, 0.77), ("pubmed-no-text", 0.80, 0.69)])
def test_homophily_is_the_published_one(real_data: Path, name: str, edge: float, adjusted: float):
    """Platonov et al., arXiv 2209.06177, table 1."""
    facts = card(folder.load(real_data / name))
    assert round(facts["edge homophily"], 2) == edge
    assert round(facts["adjusted homophily"], 2) == adjusted

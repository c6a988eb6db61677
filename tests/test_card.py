"""The card: its numbers against networkx and by hand, and how it is shown."""

import json
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest

import tiny
from stage_bench.datasets import folder, measures
from stage_bench.datasets.card import card
from stage_bench.datasets.textgraph import TextGraph, clean_edges
from stage_bench.execution import describing


def graph_of(pairs: Any, labels: list[int], directed: bool = False, **fields: Any) -> TextGraph:
    edges, facts = clean_edges(np.array(pairs).T, len(labels), directed)
    names = [str(label) for label in range(max(labels) + 1)]
    return TextGraph("made", fields.pop("texts", None), edges, np.array(labels), names, facts=facts, **fields)


def random_graph(directed: bool, seed: int = 0) -> tuple[TextGraph, nx.DiGraph]:
    random = np.random.RandomState(seed)
    labels = random.randint(0, 4, 40)
    pairs = [pair for pair in random.randint(0, 37, (150, 2)) if labels[pair[0]] == labels[pair[1]] or pair[0] < 9]
    graph = graph_of(pairs, labels.tolist(), directed)
    made = nx.DiGraph()
    made.add_nodes_from((node, {"label": int(label)}) for node, label in enumerate(labels))
    made.add_edges_from(graph.edges.T.tolist())
    return graph, made


@pytest.mark.parametrize("directed", [False, True])
def test_the_structure_against_networkx(directed: bool):
    graph, made = random_graph(directed)
    found = measures.homophily(graph)
    assert found is not None
    same = np.mean([made.nodes[src]["label"] == made.nodes[dst]["label"] for src, dst in made.edges])
    assert found == pytest.approx((same, nx.attribute_assortativity_coefficient(made, "label")))
    components = sorted((len(part) for part in nx.weakly_connected_components(made)), reverse=True)
    assert measures.component_sizes(graph).tolist() == components
    assert measures.degrees(graph).tolist() == [made.in_degree(node) for node in range(40)]
    assert np.flatnonzero(measures.is_isolated(graph)).tolist() == sorted(nx.isolates(made))
    assert measures.is_undirected(graph) == (not directed)
    facts = card(graph)
    assert (facts["connected components"], facts["largest component"]) == (len(components), components[0])
    assert facts["isolated nodes"] == nx.number_of_isolates(made) > 0
    assert ("degree" in facts, "in-degree" in facts, "out-degree" in facts) == (not directed, directed, directed)
    expected = max(degree for _, degree in made.out_degree)
    assert facts["out-degree" if directed else "degree"]["100%"] == expected


def test_homophily_by_hand():
    # A path 0-1-2-3 with the labels 0 0 1 1: two of its three edges are inside a class. Three of the six ends are in
    # each class, so that (3/6)^2 + (3/6)^2 = 1/2 is expected, and (2/3 - 1/2) / (1 - 1/2) = 1/3 is left.
    path = [(0, 1), (1, 2), (2, 3)]
    assert measures.homophily(graph_of(path, [0, 0, 1, 1])) == pytest.approx((2 / 3, 1 / 3))
    assert measures.homophily(graph_of(path, [0, 1, 0, 1])) == pytest.approx((0, -1))


def test_homophily_counts_edges_between_labelled_nodes_only():
    path = [(0, 1), (1, 2), (2, 3), (3, 4)]
    graph = graph_of(path, [0, 0, 1, 1, -1])
    assert measures.homophily(graph) == pytest.approx((2 / 3, 1 / 3))
    assert measures.homophily(graph_of([(0, 1)], [0, -1])) is None
    edge, adjusted = measures.homophily(graph_of([(0, 1)], [0, 0, 1])) or (0, 0)
    assert edge == 1
    assert np.isnan(adjusted)
    facts = card(graph_of([(0, 1)], [0, 0, 1]))
    assert (facts["edge homophily"], facts["adjusted homophily"]) == (1.0, None)


def test_the_texts():
    texts = ["a b", "a b", "  ", "", "", "c", "Title:  Abstract:\n", "Title: x Abstract:"]
    graph = graph_of([(0, 1)], [0, 1] * 4, texts=texts, blank_text="Title: \nAbstract: ")
    facts = card(graph)
    assert facts["empty texts"] == 4
    assert facts["distinct texts"] == 6
    assert facts["nodes that share their text"] == 2  # that several say nothing is no sharing
    assert list(facts["text length in characters"].values()) == [0, 0.75, 2.5, 6.75, 18, 18]


def test_how_the_edges_were_treated(raw_folder):
    facts = card(folder.load(raw_folder(edges="src,dst\n0,1\n1,0\n0,1\n2,2\n2,3\n")))
    keys = ("edges", "edges in file", "self loops dropped", "duplicates dropped", "reciprocal pairs", "edge policy")
    assert [facts[key] for key in keys] == [4, 5, 1, 1, 1, "undirected, coalesced, no self-loops"]


def test_what_is_not_usable_is_said(raw_folder):
    path = raw_folder()
    (path / "gpt_preds.csv").write_text("0\n")
    np.save(path / "x.npy", np.zeros((2, 2)))
    facts = card(folder.load(path))
    assert facts["GPT predictions"].startswith("not usable: ")
    assert facts["GPT predictions"].endswith("gpt_preds.csv: holds 1 lines, one a node, but there are 6 nodes")
    assert facts["matrices"]["x.npy"].endswith("x.npy: has 2 rows, but there are 6 nodes")


def test_predictions_count_for_all_labelled_nodes(raw_folder):
    rows = [{"t": "x", "label": label} for label in ("a", "b", "a", "b", "")]
    path = raw_folder(rows)
    (path / "gpt_preds.csv").write_text("0\n0,1\n\n1\n1\n")
    facts = card(folder.load(path))["GPT predictions"]
    assert facts["first is right"] == 0.5  # of four: one is wrong, one has no answer
    assert (facts["nodes with a class"], facts["most classes for a node"]) == (4, 2)


def test_a_split_that_cannot_be_drawn_is_said(raw_folder):
    facts = card(folder.load(raw_folder([{"t": "x", "label": "a"}, {"t": "y", "label": "b"}], edges=None)))
    assert facts["split random-60-20-20"].endswith("leaves the val part empty")


def test_many_classes_stay_readable(stage_bench, tmp_path: Path):
    path = tiny.write_folder(tmp_path / "many")
    rows = [{"text": f"x {node}", "label": f"class number {node % 60}"} for node in range(120)]
    (path / "nodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    notes = ["The first sentence, of two.", "The second."]
    (path / "dataset.yaml").write_text(json.dumps({"text": "{text}", "notes": notes}))
    code, out, err = stage_bench("show", "dataset", path, "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert facts["classes"] == {f"class number {number}": 2 for number in range(60)}
    assert facts["notes"] == notes
    code, out, err = stage_bench("show", "dataset", path)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert max(map(len, lines)) <= 140
    assert out.count("class number") == 60
    (first,) = [number for number, line in enumerate(lines) if line.startswith("notes ")]
    assert [line.strip() for line in lines[first : first + 2]] == [f"notes{lines[first][5:].rstrip()}", notes[1]]
    begins = lines[first].index("The first")
    assert lines[first + 1] == " " * begins + notes[1]


def test_short_values_stay_on_one_line():
    facts = {"a": {"x": 1, "y": 2}, "longer": ["p", "q"], "b": 2.0, "text": "one\ntwo", "c": {"x": {"y": [1, 2]}}}
    assert describing.text(facts).splitlines() == [
        "a       x: 1, y: 2",
        "longer  p, q",
        "b       2",
        "text    one\\ntwo",
        "c       x: y: 1, 2",
    ]

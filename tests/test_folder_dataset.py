"""The folder format: the same graph whatever the files it lies in."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas
import pytest

from stage_bench.datasets import folder
from stage_bench.datasets.spec import DatasetSpec
from stage_bench.datasets.textgraph import TextGraph, clean_edges

TEXT = "text: '{t}'\n"
NUM_NODES = 40  # of the fixture tiny_folder

Folder = Callable[..., Path]

TABLE = [
    {"title": 'Ünïcode, "quoted"\nand two lines', "year": 2001, "label": "b", "split": "train"},
    {"title": "", "year": None, "label": "a", "split": "val"},
    {"title": "nan", "year": 2003, "label": "b", "split": "test"},
    {"title": "plain", "year": 2004, "label": None, "split": None},
]
TABLE_CARD = "text: '{title} ({year})'\nsplits: {protocol: column}\n"


def write_format(path: Path, ending: str, table: list[dict[str, Any]], pairs: list[tuple[int, int]]) -> Path:
    path.mkdir()
    (path / "dataset.yaml").write_text(TABLE_CARD)
    if ending == "parquet":
        pytest.importorskip("pyarrow")
        # As people save them: a whole number beside a missing one, an index left over from a filter.
        frame = pandas.DataFrame(table).astype({"year": "Int64"})
        frame.index = frame.index**2
        frame.to_parquet(path / "nodes.parquet")
        edges = pandas.DataFrame(pairs, columns=["src", "dst"])
        edges.index = edges.index**2
        edges.to_parquet(path / "edges.parquet")
        return path
    if ending == "jsonl":
        (path / "nodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    else:
        with (path / "nodes.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, table[0])
            writer.writeheader()
            writer.writerows(table)
    (path / "edges.csv").write_text("src,dst\n" + "".join(f"{src},{dst}\n" for src, dst in pairs))
    return path


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_every_format_gives_the_same_graph(tmp_path: Path, ending: str):
    graph = folder.load(write_format(tmp_path / ending, ending, TABLE, [(0, 1), (2, 1), (0, 3)]))
    assert graph.texts == ['Ünïcode, "quoted"\nand two lines (2001)', " ()", "nan (2003)", "plain (2004)"]
    assert graph.edges.tolist() == [[0, 0, 1, 1, 2, 3], [1, 3, 0, 2, 1, 0]]
    assert graph.labels.tolist() == [1, 0, 1, -1]
    assert graph.label_names == ["a", "b"]
    split = graph.split("column", 0)
    assert [split.train.tolist(), split.val.tolist(), split.test.tolist()] == [[0], [1], [2]]
    reference = folder.load(write_format(tmp_path / "reference", "jsonl", TABLE, [(0, 1), (2, 1), (0, 3)]))
    assert graph.fingerprint == reference.fingerprint


def test_the_fingerprint_is_of_texts_edges_and_labels(tiny_folder: Folder):
    def fingerprint(name: str, **changes: Any) -> str:
        return folder.load(tiny_folder(name, **changes)).fingerprint

    first = fingerprint("first")
    assert fingerprint("same", origin="elsewhere", licence="MIT", instructions={}) == first
    others = {
        folder.load(tiny_folder("directed"), undirected=False).fingerprint,
        fingerprint("other-text", text="{text}"),
        fingerprint("other-order", label_names=["dogs", "cars", "birds"]),
        # A class without nodes: a model has an output more.
        fingerprint("more-classes", label_names=["birds", "cars", "dogs", "fish"]),
    }
    assert len(others | {first}) == 5


def test_csv_with_a_byte_order_mark_and_a_long_text(raw_folder: Folder):
    graph = folder.load(raw_folder("\ufefft,label\n" + "x" * 200_000 + ",a\ny,b\n", ending="csv"))
    assert [len(text) for text in graph.texts] == [200_000, 1]


@pytest.mark.parametrize(
    ("labels", "card", "expected", "names"),
    [
        (["b", "a", "c"], "", [1, 0, 2], ["a", "b", "c"]),
        ([10, 2, 9], "", [2, 0, 1], ["2", "9", "10"]),
        (["10", "2", "9"], "", [2, 0, 1], ["2", "9", "10"]),
        ([7.0, 3, "3"], "", [1, 0, 0], ["3", "7"]),
        ([None, "b", "a"], "", [-1, 1, 0], ["a", "b"]),
        (["", 1, 0], "", [-1, 1, 0], ["0", "1"]),
        (["b", "a", ""], "label_names: [b, x, a]\n", [0, 2, -1], ["b", "x", "a"]),
        ([2, 0, 2], "label_names: [x, y, z]\n", [2, 0, 2], ["x", "y", "z"]),
        ([2, 1, 2], "label_names: [2, 1]\n", [0, 1, 0], ["2", "1"]),
    ],
)
def test_labels(raw_folder: Folder, labels: list[Any], card: str, expected: list[int], names: list[str]):
    graph = folder.load(raw_folder([{"t": "x", "label": label} for label in labels], card=TEXT + card))
    assert graph.labels.tolist() == expected
    assert graph.labels.dtype == np.int64
    assert graph.label_names == names
    assert graph.num_classes == len(names)


@pytest.mark.parametrize(
    ("template", "rows", "texts"),
    [
        (
            "'Title: {t}\\nAbstract: {a}'",
            [{"t": "x", "a": "y"}, {"t": "z"}],
            ["Title: x\\nAbstract: y", "Title: z\\nAbstract: "],
        ),
        (
            '"Title:\\n{t}\\nContent:\\n {a}"',
            [{"t": None, "a": "y"}, {"t": "", "a": ""}],
            ["Title:\n\nContent:\n y", "Title:\n\nContent:\n "],
        ),
        ("'{t}{t}'", [{"t": 3}, {"t": 2.5}], ["33", "2.52.5"]),
        ("'{t} {{t}} }}{{'", [{"t": "{t}"}, {"t": "nan"}], ["{t} {t} }{", "nan {t} }{"]),
        ("'{a title}{ t }'", [{"a title": "x", "t": "{{"}, {"a title": " ", "t": "y"}], ["x{{", " y"]),
    ],
)
def test_text_templates(raw_folder: Folder, template: str, rows: list[dict[str, Any]], texts: list[str]):
    labelled = [{**row, "label": number} for number, row in enumerate(rows)]
    assert folder.load(raw_folder(labelled, card=f"text: {template}\n")).texts == texts


def test_a_folder_without_a_template_has_no_texts(raw_folder: Folder):
    graph = folder.load(raw_folder(card="name: bare\n"))
    assert (graph.texts, graph.name, graph.text_fingerprint) == (None, "bare", "")


def messy() -> tuple[np.ndarray, nx.DiGraph]:
    """Random pairs with self-loops and duplicates, and what networkx makes of them."""
    pairs = np.random.RandomState(0).randint(0, 12, (2, 120))
    graph = nx.DiGraph()
    graph.add_nodes_from(range(14))
    graph.add_edges_from(pairs.T.tolist())
    graph.remove_edges_from(list(nx.selfloop_edges(graph)))
    return pairs, graph


@pytest.mark.parametrize("directed", [True, False])
def test_clean_edges_against_networkx(directed: bool):
    pairs, graph = messy()
    edges, done = clean_edges(pairs, 14, directed)
    expected = graph if directed else graph.to_undirected().to_directed()
    assert list(map(tuple, edges.T.tolist())) == sorted(expected.edges)
    assert edges.dtype == np.int64
    loops = int((pairs[0] == pairs[1]).sum())
    assert loops > 0
    both_ways = sum(graph.has_edge(dst, src) for src, dst in graph.edges) // 2
    assert both_ways > 0
    assert done == {
        **({} if directed else {"reciprocal_pairs": both_ways}),
        "edges_in_file": 120,
        "self_loops_dropped": loops,
        "duplicates_dropped": 120 - loops - graph.number_of_edges(),
    }


@pytest.mark.parametrize(
    ("card", "undirected", "expected"),
    [
        ("", True, [(0, 1), (1, 0), (1, 2), (2, 1)]),
        ("", False, [(1, 0), (1, 2)]),
        ("directed: true\n", True, [(0, 1), (1, 0), (1, 2), (2, 1)]),
        ("directed: true\n", False, [(1, 0), (1, 2)]),
        # An undirected edge stands in the file once, so one direction alone would be the file's accident.
        ("directed: false\n", False, [(0, 1), (1, 0), (1, 2), (2, 1)]),
    ],
)
def test_direction(raw_folder: Folder, card: str, undirected: bool, expected: list[tuple[int, int]]):
    path = raw_folder(edges="src,dst\n1,2\n1,0\n1,2\n3,3\n", card=TEXT + card)
    graph = folder.load(path, undirected=undirected)
    assert list(map(tuple, graph.edges.T.tolist())) == expected
    says = "undirected" if len(expected) == 4 else "directed"
    assert graph.facts["edge_policy"] == f"{says}, coalesced, no self-loops"


def test_the_dgl_graph(tiny_folder):
    graph: TextGraph = folder.load(tiny_folder())
    made = graph.graph
    src, dst = (ends.tolist() for ends in made.edges())
    assert [src, dst] == graph.edges.tolist()
    assert made.num_nodes() == graph.num_nodes == 40
    assert str(made.idtype) == "torch.int32"
    assert sorted(zip(src, dst, strict=True)) == sorted(zip(dst, src, strict=True))


def test_isolated_nodes_stay_in_the_dgl_graph(raw_folder: Folder):
    assert folder.load(raw_folder(edges="src,dst\n")).graph.num_nodes() == 6


def test_a_registered_dataset_says_what_the_registry_knows(tiny_folder, tmp_path: Path):
    tiny_folder("known")
    spec = DatasetSpec(name="known", nodes=NUM_NODES, classes=5, licence="CC0")
    facts = folder.load_named(spec, tmp_path).facts
    assert facts["licence"] == "CC0"
    assert facts["not as published"] == "the published known has 5 classes, not 3"
    tiny_folder("said", licence="CC-BY")
    facts = folder.load_named(DatasetSpec(name="said", classes=3, licence="CC0"), tmp_path).facts
    assert facts["licence"] == "CC-BY", "the folder's own word counts"
    assert "not as published" not in facts

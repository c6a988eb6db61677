"""Folders that lack a file or hold more than the usual: no edges, no nodes, no labels; label names, predictions."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stage_bench.datasets import folder
from stage_bench.datasets.card import card
from stage_bench.datasets.textgraph import TextGraph
from stage_bench.errors import StageBenchError

Folder = Callable[..., Path]
SPLIT = json.dumps({"train": [0, 1], "val": [2], "test": [3, 4]})


def rows(labels: list[Any], **columns: list[Any]) -> list[dict[str, Any]]:
    return [
        {"t": f"text {node}", "label": label, **{name: values[node] for name, values in columns.items()}}
        for node, label in enumerate(labels)
    ]


def test_without_edges(raw_folder: Folder):
    graph = folder.load(raw_folder(edges=None))
    assert graph.edges.shape == (2, 0)
    assert graph.edges.dtype == np.int64
    facts = card(graph)
    assert facts["edges"] == 0
    assert facts["edge policy"] == "there is no edges file: the graph has no edges"
    assert not {"edges in file", "edge homophily", "degree"} & set(facts)
    assert graph.graph.num_nodes() == 6


def test_an_edges_file_without_rows_is_another_thing(raw_folder: Folder):
    facts = card(folder.load(raw_folder(edges="src,dst\n")))
    assert (facts["edges"], facts["edges in file"]) == (0, 0)
    assert facts["edge policy"] == "undirected, coalesced, no self-loops"


@pytest.mark.parametrize(
    ("card_text", "predictions"),
    [("name: data\n", "0\n1\n\n0\n1\n"), ("num_nodes: 5\n", None), ("num_nodes: 5\n", "0\r\n" * 5)],
)
def test_without_nodes(raw_folder: Folder, card_text: str, predictions: str | None):
    path = raw_folder(card=card_text, split=SPLIT)
    (path / "nodes.jsonl").unlink()
    if predictions:
        (path / "gpt_preds.csv").write_text(predictions)
    graph = folder.load(path)
    assert (graph.num_nodes, graph.num_edges, graph.num_classes, graph.texts) == (5, 2, 0, None)
    assert (graph.labels == -1).all()
    assert (graph.default_split, graph.fixed_splits["file"].sizes) == ("file", (2, 1, 2))
    assert card(graph)["split file"] == {"train": 2, "val": 1, "test": 2}
    for protocol in ("file", "random-60-20-20"):
        with pytest.raises(StageBenchError, match=r"^dataset 'data' has no labels: nothing can be trained on it$"):
            graph.split(protocol, 0)


def test_without_nodes_the_numbers_must_agree(raw_folder: Folder):
    path = raw_folder(card="num_nodes: 4\n")
    (path / "nodes.jsonl").unlink()
    (path / "gpt_preds.csv").write_text("0\n" * 5)
    with pytest.raises(StageBenchError, match=r"1:12: num_nodes is 4, but gpt_preds\.csv holds 5 nodes$"):
        folder.load(path)


@pytest.mark.parametrize("labels", [[None, ""], ["", ""]])
def test_without_labels(raw_folder: Folder, labels: list[Any]):
    graph = folder.load(raw_folder(rows(labels)))
    assert not graph.has_labels
    assert (graph.num_classes, graph.labels.tolist()) == (0, [-1, -1])
    assert card(graph)["labels"] == "none: nothing can be trained on it"


def test_without_a_label_column_but_with_names(raw_folder: Folder):
    path = raw_folder([{"t": "x"}, {"t": "y"}], card="text: '{t}'\nlabel_names: [a, b, c]\n")
    graph = folder.load(path)
    assert (graph.label_names, graph.labels.tolist()) == (["a", "b", "c"], [-1, -1])
    assert card(graph)["classes"] == {"a": 0, "b": 0, "c": 0}


@pytest.mark.parametrize(
    ("labels", "names", "expected", "label_names", "ids"),
    [
        # Numbers keep their meaning, whether or not all of them occur, and in whatever order the file has them.
        ([2, 0, None], "i,name\n2,c\n0,a\n1,b\n", [2, 0, -1], ["a", "b", "c"], [0, 1, 2]),
        (["2", "7", "2"], "i,name\n7,seven\n2,two\n9,nine\n", [0, 1, 0], ["two", "seven", "nine"], [2, 7, 9]),
        (["b", "a", ""], 'i,name\n0,a\n1,"b"\n', [1, 0, -1], ["a", "b"], [0, 1]),
        ([0, 1, 0], "i,name\n0,\n1,b\n", [0, 1, 0], ["0", "b"], [0, 1]),
        # Without names gaps are closed, and the numbers are kept.
        ([40, 7, 9], None, [2, 0, 1], ["7", "9", "40"], [7, 9, 40]),
        ([3, 7, 9], None, [0, 1, 2], ["3", "7", "9"], [3, 7, 9]),
        (["x", "b", "x"], None, [1, 0, 1], ["b", "x"], [0, 1]),
        (["99999999999999999999", "1", "1"], None, [1, 0, 0], ["1", "99999999999999999999"], [0, 1]),
    ],
)
def test_label_names_csv(
    raw_folder: Folder,
    labels: list[Any],
    names: str | None,
    expected: list[int],
    label_names: list[str],
    ids: list[int],
):
    path = raw_folder(rows(labels))
    if names is not None:
        (path / "label_names.csv").write_text("\ufeff" + names)
    graph = folder.load(path)
    assert graph.labels.tolist() == expected
    assert graph.label_names == label_names
    assert graph.label_ids.tolist() == ids
    assert graph.label_ids.dtype == np.int64


def test_the_names_in_dataset_yaml_win(raw_folder: Folder):
    path = raw_folder(card="text: '{t}'\nlabel_names: [b, a]\n")
    (path / "label_names.csv").write_text("i,name\n0,x\n")
    graph = folder.load(path)
    assert (graph.label_names, graph.label_ids.tolist()) == (["b", "a"], [0, 1])


def test_names_that_are_numbers(raw_folder: Folder):
    """Then they are the numbers that predictions speak of."""
    graph = folder.load(raw_folder(rows([2, 1, 2]), card="label_names: [2, 1]\n"))
    assert (graph.labels.tolist(), graph.label_ids.tolist()) == ([0, 1, 0], [2, 1])


def test_a_graph_made_by_code_has_its_indices_for_ids():
    graph = TextGraph("x", None, np.empty((2, 0), dtype=np.int64), np.array([0, 1]), ["a", "b"])
    assert graph.label_ids.tolist() == [0, 1]
    assert (graph.predictions, dict(graph.matrix_paths)) == (None, {})


@pytest.mark.parametrize(
    ("parts", "split_json", "expected", "why"),
    [
        (
            ["train", "valid", "test", "", ""],
            None,
            "column",
            "the nodes have a `split` column with train, val and test",
        ),
        (["train", "val", "", "", ""], None, "random-60-20-20", None),
        (None, SPLIT, "file", "there is a split.json"),
        (["train", "val", "", "", ""], SPLIT, "file", "there is a split.json"),
        (None, None, "random-60-20-20", None),
    ],
)
def test_the_default_split_where_dataset_yaml_names_none(
    raw_folder: Folder, parts: list[str] | None, split_json: str | None, expected: str, why: str | None
):
    columns = {} if parts is None else {"split": parts}
    more = {} if split_json is None else {"split": split_json}
    graph = folder.load(raw_folder(rows(list("ababa"), **columns), **more))
    assert graph.default_split == expected
    assert set(graph.fixed_splits) == ({expected} if why else set())
    facts = card(graph)
    assert facts.get("default split because") == (f"dataset.yaml names no protocol, and {why}" if why else None)
    assert sum(facts[f"split {expected}"].values()) == {"column": 3}.get(expected, 5)


def test_a_protocol_that_is_named_needs_no_reason(raw_folder: Folder):
    path = raw_folder(
        rows(list("aba"), split=["train", "val", "test"]), card="text: '{t}'\nsplits: {protocol: random-40-30-30}\n"
    )
    graph = folder.load(path)
    assert graph.default_split == "random-40-30-30"
    assert "default split because" not in card(graph)


@pytest.mark.parametrize(
    ("labels", "names", "lines", "expected", "answers", "unknown"),
    [
        ("aab", "", "0\n1,0\n\n", [[0, -1], [1, 0], [-1, -1]], 2, 0),
        ("aab", "", "1,1\r\n0,1,0\r\n0\r\n", [[1, -1], [0, 1], [0, -1]], 3, 0),  # duplicates: the first stays
        ("aab", "", "5,1\n7\n 0 , 1 \n", [[1, -1], [-1, -1], [0, 1]], 3, 2),  # no class of this graph
        ([7, 40, 7], "", "40,7\n7\n0,40\n", [[1, 0], [0, -1], [1, -1]], 3, 1),  # by the original numbers
        ("aab", "label_names: [b, c, a]\n", "2,0\n1\n0", [[2, 0], [1, -1], [0, -1]], 3, 0),
        ([None] * 3, "", "2,0\n1\n\n", [[-1], [-1], [-1]], 2, 3),  # no classes at all
    ],
)
def test_predictions(
    raw_folder: Folder,
    labels: list[Any],
    names: str,
    lines: str,
    expected: list[list[int]],
    answers: int,
    unknown: int,
):
    path = raw_folder(rows(list(labels)), card="text: '{t}'\n" + names)
    (path / "gpt_preds.csv").write_bytes(lines.encode())
    graph = folder.load(path)
    assert graph.predictions is not None
    assert graph.predictions.tolist() == expected
    assert graph.predictions.dtype == np.int64
    facts = card(graph)["GPT predictions"]
    assert (facts["nodes with an answer"], facts["ids that are no class"]) == (answers, unknown)


def test_predictions_and_matrices_are_not_part_of_the_fingerprint(raw_folder: Folder):
    path = raw_folder()
    before = folder.load(path).fingerprint
    (path / "gpt_preds.csv").write_text("0\n" * 6)
    np.save(path / "x.npy", np.zeros((6, 2)))
    assert folder.load(path).fingerprint == before


def test_odd_characters_are_loaded_as_they_are(raw_folder: Folder):
    lines = '{"t": "a\\u0000b", "label": "x"}\n{"t": "\\ud800", "label": "\\udfff"}\n{"t": " \\n", "label": "x"}\n'
    graph = folder.load(raw_folder(lines + '{"t": "\ufffd\\u0000", "label": "x"}\n', edges="src,dst\n0,1\n"))
    assert graph.texts == ["a\0b", "\ud800", " \n", "\ufffd\0"]
    facts = card(graph)
    assert (facts["texts with NUL"], facts["texts with lone surrogates"], facts["empty texts"]) == (2, 1, 1)
    assert facts["texts with replacement characters (U+FFFD)"] == 1
    assert facts["classes"] == {"x": 3, "\\udfff": 1}
    assert len(graph.fingerprint) == 16


def test_odd_characters_on_the_terminal(raw_folder: Folder, stage_bench):
    pair = '{"t": "a\\u0000%d", "label": "\\ud800"}\n{"t": "\\udfff%d", "label": "y"}\n'
    path = raw_folder("".join(pair % (number, number) for number in range(3)))
    for args in (["show", "dataset", path], ["show", "dataset", path, "--json"], ["check", "dataset", path]):
        code, out, err = stage_bench(*args)
        assert (code, err) == (int(args[0] == "check"), "")  # such texts cannot be embedded
        assert "lone surrogates" in out


@pytest.mark.parametrize(
    ("template", "row", "blank"),
    [
        ("Title: {t}\\nAbstract: {a}", {"t": "", "a": " \n"}, True),
        ("Title: {t}\\nAbstract: {a}", {"t": None}, True),
        ("Title: {t}\\nAbstract: {a}", {"t": "", "a": "x"}, False),
        ("{t}{a}", {"t": "", "a": "\t"}, True),
        ("{t} {a}", {"t": "a b c d", "a": ""}, False),
    ],
)
def test_a_text_is_empty_whatever_the_template_writes_around_nothing(
    raw_folder: Folder, template: str, row: dict[str, Any], blank: bool
):
    made = raw_folder(
        [{**row, "label": "a"}, {"t": "x", "a": "y", "label": "b"}], card=f'text: "{template}"\n', edges=None
    )
    assert card(folder.load(made))["empty texts"] == int(blank)


def test_columns_that_some_rows_lack(raw_folder: Folder):
    nodes = [{"t": "x", "a": "y", "label": "a"}, {"t": "", "label": "b"}, {"a": None, "label": "b"}]
    facts = card(folder.load(raw_folder(nodes, card="text: '{t} {a}'\n", edges=None)))
    assert facts["empty values"] == {"t": 2, "a": 2}
    assert facts["rows without column"] == {
        "t": {"rows": 1, "first": "nodes.jsonl:3"},
        "a": {"rows": 1, "first": "nodes.jsonl:2"},
    }


def test_notes_and_sources_stand_in_the_card(raw_folder: Folder):
    graph = folder.load(raw_folder(card="text: '{t}'\nnotes: [One., Two.]\nsources: {graph: here}\nlicence: MIT\n"))
    facts = card(graph)
    assert (facts["notes"], facts["sources"], facts["licence"]) == (["One.", "Two."], {"graph": "here"}, "MIT")


@pytest.mark.parametrize("third", ["2,3,1", "2.0,3,1", '"2",3,', " 2,3.0,x"])
def test_ways_to_write_an_edge(raw_folder: Folder, third: str):
    graph = folder.load(raw_folder(edges=f"src,dst,weight\n0,1,0.5\n\n{third}\n"))
    assert graph.edges.tolist() == [[0, 1, 2, 3], [1, 0, 3, 2]]
    assert graph.edges.dtype == np.int64
    assert graph.facts["edges_in_file"] == 2

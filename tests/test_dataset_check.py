"""`check dataset`: what is wrong fails, what is worth knowing is a note, and what is sound is neither."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from stage_bench.datasets import checking, folder, text_signs
from stage_bench.datasets.splits import fixed_split
from stage_bench.datasets.textgraph import TextGraph, clean_edges

Folder = Callable[..., Path]
TEXT_SETS = ("cora", "products-sample", "arxiv-titles-2023", "wordnet")


def failures(graph: TextGraph) -> list[str]:
    return [line.what for line in checking.check(graph) if not line.passed]


def notes(graph: TextGraph) -> list[str]:
    return [line.what for line in checking.check(graph) if line.what.startswith("note: ")]


def permuted(graph: TextGraph, seed: int) -> TextGraph:
    assert graph.texts is not None
    order = np.random.RandomState(seed).permutation(graph.num_nodes)
    return dataclasses.replace(graph, texts=[graph.texts[node] for node in order])


def moved(graph: TextGraph, first: int, by: int) -> TextGraph:
    """As when the text of node `first` was lost, or stands there twice."""
    texts = list(graph.texts or ())
    texts[first:] = [*texts[first + 1 :], ""] if by > 0 else [texts[first], *texts[first:-1]]
    return dataclasses.replace(graph, texts=texts)


def without(graph: TextGraph, what: str) -> TextGraph:
    gone: dict[str, Any] = {
        "texts": {"texts": None},
        "edges": {"edges": graph.edges[:, :0]},
        "labels": {"labels": np.full(graph.num_nodes, -1)},
    }
    return dataclasses.replace(graph, **gone[what])


@pytest.fixture(scope="module")
def cora(real_data: Path) -> TextGraph:
    return folder.load(real_data / "cora")


@pytest.mark.parametrize(
    "name",
    [
        TEXT_SETS[0],
        *(pytest.param(name, marks=pytest.mark.slow) for name in TEXT_SETS[1:]),
        *("pubmed-no-text", "tape-arxiv23-no-text", "ogbn-arxiv-no-graph", "ogbn-products-subset-no-graph"),
    ],
)
def test_the_real_sets_are_sound(real_data: Path, name: str):
    graph = folder.load(real_data / name)
    assert failures(graph) == []
    if name in TEXT_SETS[:2]:
        for what in ("edges", "labels"):  # each of the two signs alone
            assert [line.what for line in checking.check(without(graph, what)) if not line.passed] == []


def test_coras_text_signal(cora: TextGraph):
    everyone = np.ones(cora.num_nodes, dtype=bool)
    sign = text_signs.of_labels(cora, everyone)
    assert sign is not None
    assert 0.80 < sign.accuracy < 0.86
    assert 0.15 < sign.permuted < sign.majority < 0.35
    assert sign == text_signs.of_labels(cora, everyone)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_shuffled_texts(cora: TextGraph, seed: int):
    graph = permuted(cora, seed)
    said = [line for line in failures(graph) if line.endswith("are the texts shuffled over the nodes?")]
    assert len(said) == 1
    assert said[0].startswith("TF-IDF (20,000 words, sublinear) and logistic regression (C=10) on the texts: 0.2")
    (said_without_edges,) = failures(without(graph, "edges"))
    assert said_without_edges == said[0]
    (said_without_labels,) = failures(without(graph, "labels"))
    assert said_without_labels.startswith("texts of neighbours (TF-IDF cosine over 52")
    assert "edges): 0.04" in said_without_labels
    assert said_without_labels.endswith("are the texts shuffled over the nodes?")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["arxiv-titles-2023", "products-sample"])
def test_shuffled_texts_of_the_others(real_data: Path, name: str):
    graph = permuted(folder.load(real_data / name), 1)
    assert len(failures(graph)) == 1
    assert len(failures(without(graph, "labels"))) == 1


def test_shuffled_labels(cora: TextGraph):
    order = np.random.RandomState(0).permutation(cora.num_nodes)
    graph = dataclasses.replace(cora, labels=cora.labels[order], predictions_path=None)
    (said,) = failures(graph)
    assert said.endswith("texts fit the edges, labels fit neither: are the labels shuffled?")
    (said,) = failures(dataclasses.replace(graph, predictions_path=cora.predictions_path, texts=None))
    assert said.startswith("gpt_preds.csv: the first choice is right for 0.1")
    assert said.endswith("which is chance: do its ids and its order fit the labels?")


@pytest.mark.parametrize(
    ("first", "by", "start"), [(0, 1, 0), (1000, 1, 0), (1354, -1, 1354), (2100, 1, 2166), (2100, -1, 2166)]
)
def test_a_row_missing_or_double(cora: TextGraph, first: int, by: int, start: int):
    (said,) = [line for line in failures(moved(cora, first, by)) if line.startswith("among the nodes from ")]
    assert said == (
        f"among the nodes from {start} on, the text of node i fits the edges of node i{by:+d} better than its own: "
        "is a row missing or double?"
    )


def test_labels_that_texts_tell_little_of_but_edges_do():
    """Sound data, if hard: half of the edges join like texts, the other half equal labels."""
    random = np.random.RandomState(0)
    labels = random.randint(0, 2, 2000)
    texts = [f"number {node} of a kind{node // 2} and sort{node // 2}" for node in range(2000)]
    alike = np.arange(2000).reshape(-1, 2).T
    equal = np.concatenate([random.permutation(np.flatnonzero(labels == label)) for label in (0, 1)])
    edges, _ = clean_edges(np.concatenate([alike, np.stack([equal[:-1], equal[1:]])], axis=1), 2000, directed=False)
    graph = tiny.text_graph(2000, texts=texts, labels=labels, label_names=["a", "b"], edges=edges)
    assert failures(graph) == []
    assert any("texts and labels both fit the edges, but texts tell little of labels" in line for line in notes(graph))


def test_few_nodes_cannot_tell():
    graph = tiny.text_graph(90)
    assert failures(graph) == []
    texts = [f"the same words for all, and {node}" for node in range(90)]
    unsure = dataclasses.replace(without(graph, "edges"), texts=texts)
    assert failures(unsure) == []
    assert any("so few nodes cannot tell" in line for line in notes(unsure))


@pytest.mark.parametrize("what", ["texts", "edges", "labels"])
def test_what_is_absent_is_a_note(what: str):
    graph = without(tiny.text_graph(), what)
    assert failures(graph) == []
    assert any(what.removesuffix("s") in line for line in notes(graph))
    nothing = without(without(without(graph, "texts"), "edges"), "labels")
    assert failures(nothing) == []
    assert len(notes(nothing)) == 3


def split_graph(texts: list[str], labels: list[int], train: list[int], val: list[int], test: list[int]) -> TextGraph:
    made = np.array(labels)
    parts = {part: np.array(ids) for part, ids in (("train", train), ("val", val), ("test", test))}
    return tiny.text_graph(
        len(texts),
        texts=texts,
        labels=made,
        label_names=["first class", "second class", "third class", "fourth class"],
        default_split="file",
        fixed_splits={"file": fixed_split(made, "file", parts, "split.json")},
    )


def test_classes_and_splits():
    texts = [f"some words {node}" for node in range(12)]
    graph = split_graph(texts, [0, 0, 1, 2, 0, 1, 0, 0, -1, -1, 1, 0], [0, 1], [2, 4], [3, 5, 6])
    said = [line.what for line in checking.check(graph)]
    for expected in (
        "note: 2 nodes without a label (16.7%)",
        "note: 1 class without a node: fourth class",
        "note: 1 class with one node, which cannot be in every part of a split: third class",
        "split file: 2 / 2 / 3",
        "note: split file: 5 nodes in no part (41.7%)",
        "note: split file: 2 classes that the training part lacks, so that no model can name: second class, third "
        "class; in the test part alone: third class",
        "split file: no text of the test part is in the training part",
    ):
        assert expected in said
    assert failures(graph) == []


@pytest.mark.parametrize(
    ("copies", "blank", "failed", "said"),
    [
        (0, "", False, "split file: no text of the test part is in the training part"),
        (1, "", False, "note: split file: 1 text of the test part (2.5%) stand word for word in the training part"),
        (4, "", True, "split file: 4 texts of the test part (10.0%) stand word for word in the training part"),
        (4, "copied", False, "split file: no text of the test part is in the training part"),
    ],
)
def test_texts_of_the_training_part_in_the_test_part(copies: int, blank: str, failed: bool, said: str):
    texts = [f"some words {node}" for node in range(100)]
    for node in (0, *range(60, 60 + copies)):
        texts[node] = "copied"
    graph = split_graph(texts, [0, 1] * 50, list(range(30)), list(range(30, 60)), list(range(60, 100)))
    graph = dataclasses.replace(graph, blank_text=blank)
    assert (said in failures(graph)) == failed
    assert said in [line.what for line in checking.check(graph)]


def test_what_texts_hold(raw_folder: Folder):
    rows = [{"t": f"word{node} of dogs", "a": "", "label": ["Dogs", "Cats_etc"][node % 2]} for node in range(20)]
    rows[3]["t"] = "x" * 10_001
    rows[4]["t"] = "a\0b"
    rows[5]["t"] = "\ud800 \ufffd"
    rows[6]["t"] = " "
    rows[7]["t"] = "\tcats etc"
    del rows[8]["a"]
    graph = folder.load(raw_folder(rows, card="text: '{t}{a}'\n", edges="src,dst\n0,1\n"))
    said = [line.what for line in checking.check(graph)]
    for expected in (
        "note: 18 nodes without an edge (90.0%)",
        "columns of the text template, with how many values are empty: t 1, a 20",
        "note: 1 row without the column 'a', the first nodes.jsonl:9",
        "note: 1 empty text",
        "note: texts with NUL: 1",
        "texts with lone surrogates: 1; no model can embed them",
        "note: texts with replacement characters (U+FFFD): 1",
        "note: 1 text longer than 10,000 characters, which LLMs read only the start of",
    ):
        assert expected in said
    assert failures(graph) == ["texts with lone surrogates: 1; no model can embed them"]


@pytest.mark.parametrize(("leaks", "note"), [(True, True), (False, False)])
def test_labels_in_their_own_texts(leaks: bool, note: bool):
    names = ["Neural_Networks", "Theory", "Rule_Learning"]
    labels = np.arange(90) % 3
    spoken = labels if leaks else (labels + np.arange(90) // 3) % 3
    texts = [f"{node} about {names[label].replace('_', ' ').lower()}" for node, label in enumerate(spoken)]
    graph = tiny.text_graph(90, texts=texts, labels=labels, label_names=names)
    (said,) = [line.what for line in checking.check(graph) if "their own label's name" in line.what]
    assert said.startswith("note: ") == note
    assert said.removeprefix("note: ").startswith("100.0% of" if leaks else "33.3% of")


def test_every_text_is_empty():
    graph = tiny.text_graph(60, texts=["Title: "] * 60, blank_text="Title: ")
    assert failures(graph) == ["every text is empty"]


def test_the_files_beside_it(raw_folder: Folder):
    path = raw_folder()
    np.save(path / "good.npy", np.zeros((6, 3), dtype=np.float32))
    np.save(path / "hole.npy", np.full((6, 1), np.nan))
    np.save(path / "short.npy", np.zeros((5, 3)))
    (path / "gpt_preds.csv").write_text("0\n" * 5)
    graph = folder.load(path)
    said = [line.what for line in checking.check(graph)]
    assert "matrix good.npy: float32 [6, 3]" in said
    assert failures(graph) == [
        f"{path / 'gpt_preds.csv'}: holds 5 lines, one a node, but there are 6 nodes",
        "matrix hole.npy: float64 [6, 1]; not all of it is finite",
        f"{path / 'short.npy'}: has 5 rows, but there are 6 nodes",
    ]
    (path / "gpt_preds.csv").write_text("9,0\n" * 6)
    assert "note: gpt_preds.csv: 6 ids left out, being no class of this graph" in notes(folder.load(path))


def test_the_command_says_all_that_is_wrong(stage_bench, tiny_folder, tmp_path: Path):
    path = tiny_folder("mine")
    code, out, err = stage_bench("check", "dataset", path)
    assert (code, err) == (0, "")
    assert {line[:6] for line in out.splitlines()} == {"ok    "}
    (path / "edges.csv").write_text("src,dst\n0,40\n")
    rows = [json.loads(line) for line in (path / "nodes.jsonl").read_text().splitlines()]
    rows[2]["label"] = True
    (path / "split_public.json").write_text("{")
    code, out, err = stage_bench("check", "dataset", path)
    assert (code, err) == (1, "")
    assert [line.removeprefix(f"FAIL  {path}/").split(" ")[0] for line in out.splitlines()] == [
        "edges.csv:2:",
        "split_public.json:",
    ]

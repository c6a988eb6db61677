"""Batches with sampled neighbours: the full batch's numbers with a fan-out of everything, else unbiased ones."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stage_bench import registry
from stage_bench.backbones.base import Backbone, MessagePassing
from stage_bench.backbones.catalog import SPECS
from stage_bench.backbones.options import BackboneOptions
from stage_bench.dgl_library import dgl
from stage_bench.errors import JobError
from stage_bench.runs.clock import Clock
from stage_bench.training import loop, neighbors
from stage_bench.training.blocks import Blocks
from stage_bench.training.options import TrainingOptions
from stage_bench.training.passes import FullPasses, Passes, choose

NODES, DIM, CLASSES = 60, 7, 3
TRAIN, VAL = np.arange(0, NODES, 2), np.arange(1, NODES, 6)

MODELS = {
    "gcn": ("gcn", {"num_layers": 3}),
    "gcn, one layer": ("gcn", {"num_layers": 1}),
    "gcn, input dropout": ("gcn", {"num_layers": 2, "input_dropout": 0.3}),
    "sage": ("sage", {"num_layers": 3}),
    "sage, wide": ("sage", {"num_layers": 2, "hidden": 20, "input_dropout": 0.3}),
    "sage, pool": ("sage", {"num_layers": 2, "aggregator": "pool"}),
    "gat": ("gat", {"num_layers": 2, "heads": 2}),
    "revgat": ("revgat", {"num_layers": 4, "groups": 2, "heads": 2, "symmetric_norm": True}),
    "revgat, groups": ("revgat", {"num_layers": 3, "groups": 4, "heads": 1, "use_attn_dst": True}),
    "appnp": ("appnp", {"num_layers": 2, "k": 3}),
}
QUIET = {"dropout": 0.0, "input_dropout": 0.0, "edge_dropout": 0.0}


def adjacency(directed: bool = False, seed: int = 0) -> np.ndarray:
    """A_ij = 1 for an edge j -> i; node 0 has more neighbours than others, the last node has none."""
    random = np.random.RandomState(seed)
    a = random.rand(NODES, NODES) < 0.1
    a[0, 5:40] = True
    a = a if directed else a | a.T
    np.fill_diagonal(a, False)
    a[-1] = a[:, -1] = False
    return a


def to_dgl(a: np.ndarray, dtype: torch.dtype = torch.int64) -> dgl.DGLGraph:
    receiving, sending = a.nonzero()
    edges = torch.from_numpy(sending).to(dtype), torch.from_numpy(receiving).to(dtype)
    return dgl.graph(edges, num_nodes=len(a))


def labels() -> np.ndarray:
    return np.arange(NODES) % CLASSES


def features() -> Tensor:
    random = np.random.RandomState(1)
    return torch.tensor(random.randn(CLASSES, DIM)[labels()] + random.randn(NODES, DIM), dtype=torch.float32)


def build(which: str, graph: dgl.DGLGraph | None = None, **more: Any) -> tuple[MessagePassing[Any], loop.Task]:
    """A model with random weights and statistics, and the task of its prepared graph."""
    name, values = MODELS[which]
    spec = next(spec for spec in SPECS if spec.name == name)
    backbone, options = registry.resolve(spec.module), registry.resolve(spec.options)
    values = {"hidden": 4, "batch_norm": False, **QUIET, **values, **more}
    made = options(**{key: value for key, value in values.items() if key in options.model_fields})
    graph, inputs = backbone.prepare(to_dgl(adjacency()) if graph is None else graph, features(), made)
    torch.manual_seed(0)
    model = backbone(inputs.shape[1], CLASSES, made)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2.0)
    return model, loop.task(graph, inputs, labels(), TRAIN, VAL, CLASSES)


def passes(task: loop.Task, **values: Any) -> neighbors.NeighborPasses:
    return neighbors.NeighborPasses(task, TrainingOptions(batching="neighbor", **{"fanout": -1, **values}))


def step(model: MessagePassing[Any], made: Passes, task: loop.Task) -> tuple[Tensor, list[Tensor]]:
    """Logits of one step by training node, and the gradients of its loss."""
    ((logits, nodes, asked),) = list(made.train(model))
    nodes, logits = (nodes, logits) if asked is None else (asked, logits[asked])
    loss = F.cross_entropy(logits, task.labels[nodes])
    return logits[nodes.argsort()], list(torch.autograd.grad(loss, list(model.parameters())))


def close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


# --- all neighbours ---


@pytest.mark.parametrize("directed", [False, True], ids=["undirected", "directed"])
@pytest.mark.parametrize("batch_norm", [False, True], ids=["", "batch norm"])
@pytest.mark.parametrize("which", MODELS)
def test_one_batch_with_all_neighbours_is_the_full_batch(which, batch_norm, directed):
    """In evaluation mode where batch norm would take a batch's statistics, or inputs would be dropped."""
    model, task = build(which, to_dgl(adjacency(directed)), batch_norm=batch_norm)
    model.train(not batch_norm and model.options.input_dropout == 0)
    logits, gradients = step(model, passes(task), task)
    expected, full = step(model, FullPasses(task), task)
    close(logits, expected)
    assert any(gradient.abs().max() > 0 for gradient in full)
    for one, other in zip(gradients, full, strict=True):
        close(one, other)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("which", MODELS)
def test_smaller_batches_with_all_neighbours_give_the_same_logits(which, dtype):
    model, task = build(which, to_dgl(adjacency(), dtype))
    model.train(model.options.input_dropout == 0)
    assert task.graph.idtype == dtype
    expected = FullPasses(task).predict(model)
    for logits, nodes, asked in passes(task, batch_size=7).train(model):
        assert asked is None
        assert len(nodes) <= 7
        close(logits, expected[nodes])


@pytest.fixture(params=["at once", "in parts", "edge by edge"])
def limits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sizes that inference is cut into."""
    if request.param != "at once":
        values, edges = {"in parts": (150, 40), "edge by edge": (1, 1)}[request.param]
        monkeypatch.setattr(neighbors, "_VALUES", values)
        monkeypatch.setattr(neighbors, "_EDGES", edges)
        monkeypatch.setattr(neighbors, "_ROWS", 8)


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize("directed", [False, True], ids=["undirected", "directed"])
@pytest.mark.parametrize("which", MODELS)
def test_inference_is_the_full_forward_pass(which, directed):
    """Dropout is on in the options: evaluation mode must switch it off."""
    model, task = build(which, to_dgl(adjacency(directed)), batch_norm=True, dropout=0.4, edge_dropout=0.4)
    model.eval()
    with torch.no_grad():
        expected = model(task.graph, task.inputs)
        made = passes(task, fanout=2)
        close(made.predict(model), expected)
        for nodes in (task.val, torch.tensor([59]), torch.tensor([31, 4, 4, 59, 0]), torch.arange(NODES - 1)):
            close(made.predict(model, nodes), expected[nodes])
        close(made.predict(model, task.val), expected[task.val])  # asked again, as in every epoch


def test_inference_looks_only_at_what_the_nodes_hear_of():
    """On a path, three hops from one end: four nodes of sixty, whose rows alone are read."""
    path = to_dgl(nx.to_numpy_array(nx.path_graph(NODES)) > 0)
    model, task = build("gcn", path, num_layers=3, input_dropout=0.5)
    expected = FullPasses(task).predict(model.eval(), task.val[:0])
    assert expected.shape == (0, CLASSES)
    torn = task.inputs.clone()
    torn[4:] = torch.nan
    made = passes(loop.Task(task.graph, torn, task.labels, task.train, task.val, CLASSES))
    first = torch.tensor([0])
    with torch.no_grad():
        close(made.predict(model, first), FullPasses(task).predict(model, first))
        assert made.predict(model, torch.tensor([1])).isnan().all()


@pytest.mark.parametrize("which", ["gcn", "sage, wide", "gat"])
def test_inputs_of_half_precision_in_a_file(which, tmp_path):
    model, task = build(which)
    model.eval()
    stored = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float16, task.inputs.shape)
    stored[:] = task.inputs.numpy()
    mapped = loop.task(task.graph, torch.from_numpy(stored), labels(), TRAIN, VAL, CLASSES)
    rounded = loop.task(task.graph, task.inputs.half().float(), labels(), TRAIN, VAL, CLASSES)
    close(step(model, passes(mapped), mapped)[0], step(model, FullPasses(rounded), rounded)[0])
    close(passes(mapped).predict(model), FullPasses(rounded).predict(model))


# --- some neighbours ---


@pytest.mark.parametrize("fanout", [1, 3, 20])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("loops", [False, True], ids=["", "self loops"])
def test_a_block_is_a_part_of_the_graph(loops, dtype, fanout):
    a = adjacency(directed=True)
    with_loops = a | (np.eye(NODES, dtype=bool) & loops)
    blocks = Blocks(to_dgl(with_loops, dtype))
    nodes = torch.tensor([17, 0, 59, 3, 42])
    block, senders = blocks.make(nodes, fanout, key=5)
    assert block.idtype == dtype
    assert senders.dtype == torch.int64
    assert torch.equal(senders[:5], nodes), "receiving nodes come first"
    assert len(set(senders.tolist())) == len(senders) == block.num_src_nodes()
    sent, received = (ends.long() for ends in block.edges())
    edges = list(zip(senders[sent].tolist(), nodes[received].tolist(), strict=True))
    assert len(set(edges)) == len(edges), "without replacement"
    assert all(with_loops[i, j] for j, i in edges)
    assert {j for j, _ in edges} | set(nodes.tolist()) == set(senders.tolist())
    for node in nodes.tolist():
        others = [j for j, i in edges if i == node and j != node]
        assert len(others) == min(fanout, a[node].sum())
        assert ((node, node) in edges) == loops


def test_every_neighbour_is_equally_likely_and_draws_are_independent():
    """Node 0 has 37 neighbours or so: how often each one and each pair is drawn, by the chi-squared test."""
    a = adjacency()
    blocks = Blocks(to_dgl(a))
    others = np.flatnonzero(a[0])
    degree, fanout, draws = len(others), 5, 20_000
    drawn = np.zeros((draws, NODES), dtype=bool)
    for key in range(draws):
        _, senders = blocks.make(torch.tensor([0]), fanout, key * 7_919)
        drawn[key, senders[1:].numpy()] = True
    assert (drawn.sum(axis=1) == fanout).all()
    counts = drawn[:, others].sum(axis=0)
    expected = draws * fanout / degree
    # without replacement it is (degree - fanout) / (degree - 1) times chi-squared with degree - 1
    statistic = ((counts - expected) ** 2 / expected).sum() / (1 - (fanout - 1) / (degree - 1))
    assert abs(statistic - (degree - 1)) < 5 * np.sqrt(2 * (degree - 1))
    pairs = drawn[:, others].T.astype(int) @ drawn[:, others]
    chance = fanout * (fanout - 1) / degree / (degree - 1)
    off = pairs[~np.eye(degree, dtype=bool)]
    assert np.abs(off - draws * chance).max() < 6 * np.sqrt(draws * chance)


@pytest.mark.parametrize("directed", [False, True], ids=["undirected", "directed"])
@pytest.mark.parametrize("which", ["gcn", "sage", "appnp"])
def test_sampled_sums_are_unbiased(which, directed):
    """One hop that is linear in what is received: its mean over draws against the hop over all in-edges.

    The tolerance is six standard errors of that mean, estimated from the draws.
    """
    options = {"num_layers": 1, "input_dropout": 0.5} if which != "appnp" else {"num_layers": 1, "k": 1}
    model, task = build(which, to_dgl(adjacency(directed)), **options)
    model.eval()
    expected = FullPasses(task).predict(model).detach()
    every = torch.arange(NODES)
    blocks, draws = Blocks(task.graph), 2_000
    with torch.no_grad():
        made = torch.stack(
            [
                model.forward_blocks([block], task.inputs[senders])
                for block, senders in (blocks.make(every, 2, key) for key in range(draws))
            ]
        ).double()
    error = made.std(dim=0) / draws**0.5
    assert error.max() > 1e-3, "something is random"
    assert ((made.mean(dim=0) - expected).abs() <= 6 * error + 1e-5).all()
    assert error[-1].max() < 1e-6, "a node without neighbours has nothing to draw"
    # without the degrees' share the sum would be too small by far
    block, senders = blocks.make(every, 2, 0)
    del block.dstdata["share"]
    if which != "sage":
        assert (made.mean(dim=0)[0] - model.forward_blocks([block], task.inputs[senders])[0]).abs().max() > 6 * error[
            0
        ].max()


# --- training ---


def digest(which: str, seed: int, **values: Any) -> str:
    model, task = build(which, batch_norm=True, dropout=0.3, edge_dropout=0.2)
    options = TrainingOptions(**{"batching": "neighbor", "fanout": 2, "batch_size": 8, "epochs": 4, **values})
    fitted = loop.fit(lambda: type(model)(task.inputs.shape[1], CLASSES, model.options), task, options, seed, Clock())
    return hashlib.sha256(fitted.logits.tobytes()).hexdigest()


@pytest.mark.parametrize("which", ["gcn", "sage, pool", "gat", "revgat"])
def test_the_same_seed_gives_the_same_bytes(which):
    one = digest(which, 0)
    assert digest(which, 0) == one, "in the same process, again"
    with ThreadPoolExecutor(1) as other:
        assert other.submit(digest, which, 0).result() == one
    assert digest(which, 1) != one
    assert digest(which, 0, fanout=1) != one
    assert digest(which, 0, batch_size=15) != one


def test_what_is_sampled_does_not_depend_on_threads():
    """Sums may, by their order, on how many there are; DGL's sampler does, on which one and on how many."""
    _, task = build("gat")
    blocks = Blocks(task.graph)

    def drawn(threads: int) -> list[Tensor]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        block, senders = blocks.make(task.train, 2, key=3)
        torch.set_num_threads(before)
        return [senders, *block.edges()]

    one = drawn(1)
    with ThreadPoolExecutor(1) as other:
        for again in (drawn(2), other.submit(drawn, 1).result()):
            assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))


def test_an_epoch_covers_every_training_node_once():
    model, task = build("gcn")
    torch.manual_seed(0)
    made = passes(task, fanout=2, batch_size=8)
    orders = []
    for _ in range(2):
        batches = [nodes for _, nodes, _ in made.train(model)]
        assert [len(nodes) for nodes in batches] == [8, 8, 7, 7]
        orders.append(torch.cat(batches))
        assert torch.equal(orders[-1].sort().values, task.train)
    assert not torch.equal(*orders)


@pytest.mark.parametrize("which", MODELS)
def test_it_learns(which):
    """Features alone say the class of some nodes; a graph of three communities says it of nearly all."""
    random = np.random.RandomState(0)
    said = np.arange(240) % CLASSES
    a = np.triu(random.rand(240, 240) < np.where(said[:, None] == said[None, :], 0.15, 0.01), 1)
    name, values = MODELS[which]
    spec = next(spec for spec in SPECS if spec.name == name)
    backbone, model_options = registry.resolve(spec.module), registry.resolve(spec.options)
    options = model_options(**{**values, "hidden": 16})
    x = torch.tensor(random.randn(CLASSES, DIM)[said] + 1.5 * random.randn(240, DIM), dtype=torch.float32)
    graph, inputs = backbone.prepare(to_dgl(a | a.T), x, options)
    task = loop.task(graph, inputs, said, np.arange(0, 240, 2), np.arange(1, 240, 4), CLASSES)
    training = TrainingOptions(batching="neighbor", fanout=3, batch_size=40, epochs=30)
    fitted = loop.fit(lambda: backbone(inputs.shape[1], CLASSES, options), task, training, 0, Clock())
    test = np.arange(3, 240, 4)
    assert (fitted.logits[test].argmax(axis=1) == said[test]).mean() > 0.9
    assert fitted.logits.shape == (240, CLASSES)


class Whole(Backbone[BackboneOptions]):
    """A plug-in that sees nothing but whole graphs."""


def test_a_backbone_without_blocks_is_refused():
    _, task = build("gcn")
    options = TrainingOptions(batching="neighbor")
    with pytest.raises(JobError, match=r"^batching: neighbor needs a backbone with forward_blocks.*leave it out$"):
        choose(task, options, Whole(DIM, CLASSES, BackboneOptions()))
    for which in MODELS:
        model, task = build(which)
        assert isinstance(choose(task, options, model), neighbors.NeighborPasses)


def test_what_is_impossible_is_refused():
    model, task = build("revgat", reversible=True)
    with pytest.raises(JobError, match="reversible: false"):
        list(passes(task).train(model))


def test_hops_and_batches_draw_anew():
    """A key that is used again would sample the same neighbours in every hop, batch and epoch."""
    keys: list[int] = []
    model, task = build("sage")
    made = passes(task, fanout=2, batch_size=8)
    make = made.blocks.make
    made.blocks.make = lambda nodes, fanout=-1, key=0: keys.append(key) or make(nodes, fanout, key)
    for _ in range(2):
        list(made.train(model))
    assert len(keys) > 4
    assert len(set(keys)) == len(keys)

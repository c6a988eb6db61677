"""APPNP against a dense formula, DGL's layer, networkx and finite differences."""

import networkx as nx
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stage_bench.backbones.appnp import APPNP
from stage_bench.backbones.options import APPNPOptions
from stage_bench.dgl_library import dgl

NODES, DIM, CLASSES = 24, 8, 3
# nothing random and nothing that remembers: the model is then a formula
PLAIN = {"num_layers": 2, "hidden": 5, "dropout": 0.0, "batch_norm": False}


def dense_graph(seed: int = 0, directed: bool = False) -> np.ndarray:
    """A_ij = 1 for an edge j -> i; the last node has no edge at all."""
    rng = np.random.default_rng(seed)
    a = rng.random((NODES, NODES)) < 0.17
    a = a if directed else np.triu(a, 1) | np.triu(a, 1).T
    a[-1] = a[:, -1] = False
    np.fill_diagonal(a, False)
    return a.astype(np.float64)


def to_dgl(a: np.ndarray) -> dgl.DGLGraph:
    target, source = a.nonzero()
    return dgl.graph((torch.from_numpy(source), torch.from_numpy(target)), num_nodes=NODES)


def features() -> Tensor:
    return torch.randn(NODES, DIM, generator=torch.Generator().manual_seed(0))


def build(a: np.ndarray, **values) -> tuple[APPNP, dgl.DGLGraph, Tensor]:
    options = APPNPOptions(**{**PLAIN, **values})
    graph, x = APPNP.prepare(to_dgl(a), features(), options)
    torch.manual_seed(0)
    return APPNP(x.shape[1], CLASSES, options), graph, x


def perceptron(model: APPNP, x: np.ndarray) -> np.ndarray:
    first, last = ([weight.detach().double().numpy() for weight in layer.parameters()] for layer in model.layers)
    return np.maximum(x @ first[0].T + first[1], 0) @ last[0].T + last[1]


def normalised(a: np.ndarray) -> np.ndarray:
    """In-degrees on the left, out-degrees on the right."""
    a = a + np.eye(len(a))
    return a / np.sqrt(a.sum(1)[:, None] * a.sum(0)[None, :])


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize(("alpha", "k"), [(0.1, 10), (0.3, 2), (0.1, 0), (1.0, 4)])
def test_it_is_the_dense_formula(alpha, k, directed):
    a = dense_graph(directed=directed)
    model, graph, x = build(a, alpha=alpha, k=k)
    h = z = perceptron(model, x.double().numpy())
    for _ in range(k):
        z = (1 - alpha) * normalised(a) @ z + alpha * h
    np.testing.assert_allclose(model.eval()(graph, x).detach().numpy(), z, atol=1e-5)
    np.testing.assert_allclose(model.train()(graph, x).detach().numpy(), z, atol=1e-5)


def test_many_iterations_are_the_inverse():
    a = dense_graph()
    model, graph, x = build(a, alpha=0.2, k=120)
    expected = 0.2 * np.linalg.inv(np.eye(NODES) - 0.8 * normalised(a)) @ perceptron(model, x.double().numpy())
    np.testing.assert_allclose(model(graph, x).detach().numpy(), expected, atol=1e-5)


def test_it_is_dgls_layer():
    a = dense_graph()
    model, graph, x = build(a, alpha=0.15, k=7)
    h = torch.from_numpy(perceptron(model, x.double().numpy())).float()
    expected = dgl.nn.APPNPConv(k=7, alpha=0.15)(to_dgl(a + np.eye(NODES)), h)
    torch.testing.assert_close(model(graph, x), expected, atol=1e-5, rtol=1e-5)


def test_many_iterations_are_networkx_pagerank():
    """D^1/2 S D^-1/2 is a random walk, so S propagates the indicator of a node as PageRank walks from it."""
    a = dense_graph()
    model, graph, _ = build(a, alpha=0.15, k=200)
    degrees = (a + np.eye(NODES)).sum(0)
    start = 4
    rank = nx.pagerank(
        nx.from_numpy_array(a + np.eye(NODES)), alpha=0.85, personalization={start: 1}, max_iter=999, tol=1e-12
    )
    indicator = torch.zeros(NODES, CLASSES)
    indicator[start] = 1
    model.layers = torch.nn.ModuleList([torch.nn.Identity()])
    walked = model(graph, indicator)[:, 0].detach().numpy() * np.sqrt(degrees / degrees[start])
    np.testing.assert_allclose(walked, [rank[node] for node in range(NODES)], atol=1e-6)


@pytest.mark.parametrize("edge_dropout", [0.0, 0.4])
def test_gradients_are_finite_differences(edge_dropout):
    model, graph, x = build(dense_graph(), k=3, edge_dropout=edge_dropout)
    wanted = torch.arange(NODES) % CLASSES
    names = [name for name, _ in model.named_parameters()]

    def loss(values: list[Tensor]) -> Tensor:
        torch.manual_seed(3)  # the same edges each time
        said = torch.func.functional_call(model, dict(zip(names, values, strict=True)), (graph, x))
        return F.cross_entropy(said, wanted)

    values = [parameter.detach().clone().requires_grad_() for parameter in model.parameters()]
    loss(values).backward()
    step = 1e-2
    for i, value in enumerate(values):
        direction = torch.randn(value.shape, generator=torch.Generator().manual_seed(i))
        direction /= direction.norm()
        ends = [
            float(loss([v + sign * step * direction if j == i else v for j, v in enumerate(values)]).detach())
            for sign in (1, -1)
        ]
        assert float((value.grad * direction).sum()) == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=2e-3)


def test_a_dropped_entry_carries_nothing_and_the_others_more(monkeypatch):
    """Edges of the graph and self loops alike, drawn anew in each iteration."""
    a = dense_graph()
    model, graph, x = build(a, alpha=0.1, k=2, edge_dropout=0.5)
    masks = []
    real = F.dropout

    def recorded(values: Tensor, p: float = 0.5, *rest) -> Tensor:
        masks.append(real(values, p, *rest))
        return masks[-1]

    monkeypatch.setattr(F, "dropout", recorded)
    said = model.train()(graph, x).detach().numpy()
    assert [len(mask) for mask in masks] == [graph.num_edges(), NODES] * 2
    assert not torch.equal(masks[0], masks[2])
    h = z = perceptron(model, x.double().numpy())
    source, target = (ends.numpy() for ends in graph.edges())
    for edges, loops in (masks[:2], masks[2:]):
        assert set(edges.unique().tolist()) == {0.0, 2.0}
        kept = np.diag(loops[:, 0].double().numpy())
        kept[target, source] = edges[:, 0].numpy()
        z = 0.9 * (kept * normalised(a)) @ z + 0.1 * h
    np.testing.assert_allclose(said, z, atol=1e-5)


def test_edge_dropout_is_right_on_average_and_off_after_training():
    model, graph, x = build(dense_graph(), k=1, edge_dropout=0.3)
    expected = model.eval()(graph, x)
    assert torch.equal(model(graph, x), expected)
    torch.manual_seed(0)
    with torch.no_grad():
        mean = torch.stack([model.train()(graph, x) for _ in range(4000)]).mean(0)
    torch.testing.assert_close(mean, expected, atol=0.02, rtol=0.02)


def test_without_edge_dropout_nothing_is_put_on_edges(monkeypatch):
    """A normalisation is row scalings around an unweighted sum; weights on edges cost several times the time."""
    model, graph, x = build(dense_graph(), k=3)

    def weighted(*_):
        raise AssertionError("a weighted sum")

    monkeypatch.setattr(dgl.ops, "u_mul_e_sum", weighted)
    model.train()(graph, x).sum().backward()
    assert not graph.edata


def test_prepare_leaves_the_features_as_they_are():
    x = features()
    graph, prepared = APPNP.prepare(to_dgl(dense_graph()), x, APPNPOptions())
    assert prepared is x
    assert not graph.edata

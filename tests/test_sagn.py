"""SAGN against a dense formula and finite differences."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from scipy.special import softmax
from torch import Tensor

from stage_bench.backbones.options import SAGNOptions
from stage_bench.backbones.sagn import SAGN
from stage_bench.dgl_library import dgl

NODES, DIM, CLASSES = 24, 6, 3


def adjacency(directed: bool = False) -> np.ndarray:
    """A_ij = 1 for an edge j -> i; the last node has no edge at all."""
    a = np.random.default_rng(0).random((NODES, NODES)) < 0.17
    a = a if directed else np.triu(a, 1) | np.triu(a, 1).T
    a[-1] = a[:, -1] = False
    np.fill_diagonal(a, False)
    return a.astype(np.float64)


def graph_of(a: np.ndarray) -> dgl.DGLGraph:
    target, source = a.nonzero()
    return dgl.graph((torch.from_numpy(source), torch.from_numpy(target)), num_nodes=NODES)


def features() -> Tensor:
    return torch.randn(NODES, DIM, generator=torch.Generator().manual_seed(0))


def build(directed: bool = False, **values) -> tuple[SAGN, dgl.DGLGraph, Tensor]:
    options = SAGNOptions(**{"hidden": 5, **values})
    graph, x = SAGN.prepare(graph_of(adjacency(directed)), features(), options)
    torch.manual_seed(0)
    return SAGN(x.shape[1], CLASSES, options), graph, x


def standardized(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(0)) / x.std(0)


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("values", [{}, {"self_loops": False, "standardize": False}, {"normalization": "row", "k": 2}])
def test_prepare_puts_the_hops_side_by_side(values, directed):
    options = SAGNOptions(**values)
    a = adjacency(directed) + np.eye(NODES) * options.self_loops
    inverse = [np.divide(1, d, out=np.zeros(NODES), where=d > 0) for d in (a.sum(1), a.sum(0))]
    left, right = (inverse[0], np.ones(NODES)) if options.normalization == "row" else map(np.sqrt, inverse)
    s = left[:, None] * a * right[None, :]
    hops = [np.linalg.matrix_power(s, j) @ features().double().numpy() for j in range(options.k + 1)]
    expected = np.hstack([standardized(hop) if options.standardize else hop for hop in hops])
    graph, prepared = SAGN.prepare(graph_of(adjacency(directed)), features(), options)
    np.testing.assert_allclose(prepared.numpy(), expected, atol=2e-5)
    assert not graph.ndata
    assert not graph.edata


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("num_layers", [2, 3])
def test_it_is_the_dense_formula(heads, num_layers):
    model, graph, x = build(heads=heads, num_layers=num_layers)
    generator = torch.Generator().manual_seed(1)
    for tensor in [*model.parameters(), *model.buffers()]:  # so that no bias or statistic is trivially 0 or 1
        if tensor.dim() > 0:
            tensor.data += 0.2 * torch.rand(tensor.shape, generator=generator)
    model.double().eval()
    weights = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    hops = np.split(x.double().numpy(), 4, axis=1)
    out = np.zeros((NODES, 5))
    for head in range(heads):
        rows = slice(5 * head, 5 * head + 5)
        h = [hop @ weights[f"encoders.{j}.weight"][rows].T + weights[f"encoders.{j}.bias"][rows]
             for j, hop in enumerate(hops)]  # fmt: skip
        scores = [h[0] @ weights["attention_self"][0, head] + hop @ weights["attention_hop"][0, head] for hop in h]
        scores = np.stack(scores, axis=1)
        attention = softmax(np.where(scores > 0, scores, 0.2 * scores), axis=1)
        out += sum(attention[:, j, None] * h[j] for j in range(4)) + hops[0] @ weights["residual.weight"][rows].T
    out /= heads
    for i in range(num_layers - 1):
        norm = {key: weights[f"norms.{i}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")}
        out = (out - norm["running_mean"]) / np.sqrt(norm["running_var"] + 1e-5) * norm["weight"] + norm["bias"]
        out = np.maximum(out, 0) @ weights[f"head.{i}.weight"].T + weights[f"head.{i}.bias"]
    np.testing.assert_allclose(model(graph, x.double()).detach().numpy(), out, atol=1e-9)


def test_a_node_can_choose_its_hops():
    """Attention that shuts every hop but one out leaves that hop's encoding."""
    model, *_ = build(k=2)
    hops = torch.randn(NODES, 3, 1, 5)
    attention = model.attention(hops)
    torch.testing.assert_close(attention.sum(1), torch.ones(NODES, 1))
    with torch.no_grad():
        model.attention_self.zero_()
        model.attention_hop.fill_(100.0)
    chosen = hops.sum(-1).argmax(1)
    assert torch.equal(model.attention(hops).argmax(1), chosen)
    assert len(chosen.unique()) == 3, "else there is nothing to see here"


def test_gradients_are_finite_differences():
    model, graph, x = build(heads=2, dropout=0.0)
    model.double()
    wanted = torch.arange(NODES) % CLASSES
    names = [name for name, _ in model.named_parameters()]
    buffers = {name: value.clone() for name, value in model.named_buffers()}

    def loss(*values: Tensor) -> Tensor:
        state = {**buffers, **dict(zip(names, values, strict=True))}
        return F.cross_entropy(torch.func.functional_call(model.eval(), state, (graph, x.double())), wanted)

    values = [parameter.detach().clone().requires_grad_() for parameter in model.parameters()]
    assert torch.autograd.gradcheck(loss, values, atol=1e-6)


def test_dropped_hops_weigh_nothing():
    model, graph, x = build(attention_dropout=0.5, dropout=0.0, batch_norm=False)
    model.train()
    torch.manual_seed(1)
    first, second = model(graph, x), model(graph, x)
    assert not torch.equal(first, second)
    model.eval()
    assert torch.equal(model(graph, x), model(graph, x))


def test_hops_of_unequal_width_are_refused():
    with pytest.raises(ValueError, match="in_dim is 10: not 4 hops of equal width"):
        SAGN(10, CLASSES, SAGNOptions(k=3))
    with pytest.raises(ValidationError, match="k"):
        SAGNOptions(k=0)

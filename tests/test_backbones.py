"""Backbones against dense formulas and finite differences; options reach what they configure."""

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from pydantic import ValidationError
from torch import Tensor

from stage_bench.backbones import options as option_models
from stage_bench.backbones.base import Backbone, with_self_loops
from stage_bench.backbones.catalog import SPECS
from stage_bench.backbones.gat import GATConv, edge_softmax
from stage_bench.backbones.gcn import GCN
from stage_bench.backbones.mlp import MLP
from stage_bench.backbones.options import BackboneOptions, RevGATOptions, SIGNOptions, SimpleGCNOptions
from stage_bench.backbones.propagation import with_degree_roots
from stage_bench.backbones.reversible import Branch, couple
from stage_bench.backbones.revgat import RevGAT, RevGATBlock
from stage_bench.backbones.sage import SAGE
from stage_bench.backbones.sign import SIGN
from stage_bench.backbones.simplegcn import SimpleGCN
from stage_bench.dgl_library import dgl
from stage_bench.training.task import Task, task

NUM_NODES, DIM, CLASSES = 24, 8, 3
READY = {spec.name: spec for spec in SPECS if not spec.needs and spec.family != "direct"}  # those: test_controls.py
BASELINES = Path(__file__).parents[1] / "baselines"
TRAINING = {"lr", "weight_decay", "optimizer", "epochs", "patience", "warmup_epochs", "label_smoothing"}


def resolve(reference: str) -> type:
    module, attribute = reference.split(":")
    return getattr(importlib.import_module(module), attribute)


def backbone(name: str) -> type[Backbone]:
    return resolve(READY[name].module)


def options(name: str, **values) -> BackboneOptions:
    return resolve(READY[name].options)(**values)


def random_graph(seed: int = 0, directed: bool = False) -> dgl.DGLGraph:
    """About 4 in-edges a node; the last node has no edge at all."""
    rng = np.random.default_rng(seed)
    a = np.triu(rng.random((NUM_NODES, NUM_NODES)) < 0.17, 1)
    a = rng.random((NUM_NODES, NUM_NODES)) < 0.17 if directed else a | a.T
    a[-1] = a[:, -1] = False
    np.fill_diagonal(a, False)
    target, source = a.nonzero()
    return dgl.graph((torch.from_numpy(source), torch.from_numpy(target)), num_nodes=NUM_NODES)


def features(seed: int = 0) -> Tensor:
    return torch.randn(NUM_NODES, DIM, generator=torch.Generator().manual_seed(seed))


def dense(graph: dgl.DGLGraph, weights: Tensor | None = None) -> Tensor:
    """A_ij for an edge j -> i."""
    a = torch.zeros(graph.num_nodes(), graph.num_nodes())
    source, target = graph.edges()
    a[target, source] = 1.0 if weights is None else weights
    return a


def build(name: str, seed: int = 0, **values) -> tuple[Backbone, dgl.DGLGraph, Tensor]:
    chosen = options(name, **values)
    graph, prepared = backbone(name).prepare(random_graph(), features(), chosen)
    torch.manual_seed(seed)
    return backbone(name)(prepared.shape[1], CLASSES, chosen), graph, prepared.float()


def randomize(model: torch.nn.Module, seed: int = 1) -> torch.nn.Module:
    """Random biases, batch-norm weights and running statistics, so that none of them is trivially 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.dim() > 0 and tensor.is_floating_point():
            tensor.data += 0.2 * torch.rand(tensor.shape, generator=generator)
    return model.eval()


def batch_norm(norm: torch.nn.BatchNorm1d, x: Tensor) -> Tensor:
    return (x - norm.running_mean) / torch.sqrt(norm.running_var + norm.eps) * norm.weight + norm.bias


def close(a: Tensor, b: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(a, b, atol=atol, rtol=1e-5)


def test_mlp():
    model, graph, x = build("mlp", num_layers=3, hidden=5)
    randomize(model)
    expected = x
    for layer, norm in zip(model.layers, model.norms, strict=False):
        expected = batch_norm(norm, expected @ layer.weight.T + layer.bias).clamp(min=0)
    expected = expected @ model.layers[-1].weight.T + model.layers[-1].bias
    close(model(graph, x), expected)
    close(model(random_graph(1), x), expected)  # the graph does not matter


@pytest.mark.parametrize("input_dropout", [0.0, 0.3])  # without, S X is computed beforehand
@pytest.mark.parametrize("hidden", [5, 12])  # narrower and wider than the input: the order of the products
def test_gcn(hidden, input_dropout):
    model, graph, x = build("gcn", num_layers=3, hidden=hidden, input_dropout=input_dropout)
    randomize(model)
    a = dense(random_graph()) + torch.eye(NUM_NODES)
    s = a / torch.sqrt(a.sum(1, keepdim=True) * a.sum(0, keepdim=True))
    expected = features()
    for layer, norm in zip(model.layers, model.norms, strict=False):
        expected = batch_norm(norm, s @ expected @ layer.weight.T + layer.bias).clamp(min=0)
    close(model(graph, x), s @ expected @ model.layers[-1].weight.T + model.layers[-1].bias)


@pytest.mark.parametrize("input_dropout", [0.0, 0.3])
@pytest.mark.parametrize("hidden", [5, 12])
def test_sage_mean(hidden, input_dropout):
    model, graph, x = build("sage", num_layers=2, hidden=hidden, input_dropout=input_dropout)
    randomize(model)
    a = dense(graph)
    mean = a / a.sum(1, keepdim=True).clamp(min=1)

    def layer(conv: torch.nn.Module, h: Tensor) -> Tensor:
        return conv.fc_self(h) + mean @ h @ conv.fc_neigh.weight.T

    expected = batch_norm(model.norms[0], layer(model.layers[0], features())).clamp(min=0)
    close(model(graph, x), layer(model.layers[1], expected))


def test_sage_pool():
    model, graph, x = build("sage", num_layers=2, hidden=5, aggregator="pool")
    randomize(model)
    a = dense(graph)

    def layer(conv: torch.nn.Module, h: Tensor) -> Tensor:
        pooled = (h @ conv.fc_pool.weight.T + conv.fc_pool.bias).clamp(min=0)
        largest = torch.where(a[:, :, None] > 0, pooled[None], 0.0).amax(dim=1)  # what is pooled is not below 0
        return h @ conv.fc_self.weight.T + conv.fc_self.bias + largest @ conv.fc_neigh.weight.T

    expected = batch_norm(model.norms[0], layer(model.layers[0], x)).clamp(min=0)
    close(model(graph, x), layer(model.layers[1], expected))


@pytest.mark.parametrize("name", ["gcn", "sage"])
def test_layers_are_dgls(name):
    """The same weights in DGL's own layers give the same logits."""
    model, graph, x = build(name, num_layers=2, hidden=5)
    randomize(model)
    looped, h = with_self_loops(random_graph()), features()
    for i, layer in enumerate(model.layers):
        if name == "gcn":
            theirs = dgl.nn.GraphConv(h.shape[1], len(layer.weight), norm="both")
            theirs.load_state_dict({"weight": layer.weight.T, "bias": layer.bias})
            h = theirs(looped, h)
        else:
            theirs = dgl.nn.SAGEConv(h.shape[1], len(layer.fc_self.weight), "mean")
            theirs.load_state_dict(layer.state_dict())
            h = theirs(random_graph(), h)
        h = batch_norm(model.norms[i], h).clamp(min=0) if i == 0 else h
    close(model(graph, x), h)


def dense_attention(conv: GATConv, graph: dgl.DGLGraph, x: Tensor, edge_mask: Tensor | None = None) -> Tensor:
    """The attention layer with [num_nodes, num_nodes] matrices."""
    a = dense(graph)
    kept = a if edge_mask is None else dense(graph, edge_mask.float())
    out = []
    for head in range(conv.heads):
        width = conv.attn_src.shape[2]
        rows = slice(head * width, (head + 1) * width)
        h = x @ conv.project.weight[rows].T
        if conv.symmetric_norm:
            h = h / a.sum(0).clamp(min=1).sqrt()[:, None]
        scores = (h @ conv.attn_src[0, head])[None, :]
        if conv.attn_dst is not None:
            scores = scores + (h @ conv.attn_dst[0, head])[:, None]
        scores = torch.where(scores > 0, scores, 0.2 * scores).expand(len(x), len(x))
        # a row with no edge left is NaN here, and hears nothing
        y = torch.softmax(scores.masked_fill(kept == 0, -torch.inf), dim=1).nan_to_num(0) @ h
        if conv.symmetric_norm:
            y = y * a.sum(1).clamp(min=1).sqrt()[:, None]
        if conv.residual is not None:
            y = y + x @ conv.residual.weight[rows].T
        if conv.bias is not None:
            y = y + conv.bias[0, head]
        out.append(y)
    return torch.stack(out, dim=1)


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "choices",
    [{}, {"use_attn_dst": False}, {"symmetric_norm": True}, {"residual": True}, {"bias": False}],
    ids=lambda choices: ",".join(choices) or "plain",
)
def test_attention_layer(choices, masked, directed):
    torch.manual_seed(0)
    graph = with_self_loops(random_graph(directed=directed)) if not masked else random_graph(directed=directed)
    graph = with_degree_roots(graph)
    conv = randomize(GATConv(DIM, 4, 3, **choices))
    edge_mask = torch.rand(graph.num_edges()) < 0.4 if masked else None
    close(conv(graph, features(), edge_mask), dense_attention(conv, graph, features(), edge_mask))


def test_a_node_whose_in_edges_are_all_dropped_hears_nothing():
    graph = with_self_loops(random_graph())
    target = graph.edges()[1]
    edge_mask = target != 3
    scores = torch.randn(graph.num_edges(), 2, 1, requires_grad=True)
    attention = edge_softmax(graph, scores, edge_mask)
    sums = torch.zeros(NUM_NODES, 2).index_add(0, target, attention[:, :, 0])
    expected = torch.ones(NUM_NODES, 2)
    expected[3] = 0
    close(sums, expected)
    (attention**2).sum().backward()
    assert scores.grad.isfinite().all()
    assert not scores.grad[~edge_mask].any()


def test_gat():
    model, graph, x = build("gat", num_layers=3, hidden=4, heads=2)
    randomize(model)
    expected = x
    for layer, norm in zip(model.layers, model.norms, strict=False):
        expected = batch_norm(norm, dense_attention(layer, graph, expected).flatten(1)).clamp(min=0)
    close(model(graph, x), dense_attention(model.layers[-1], graph, expected).mean(1))


@pytest.mark.parametrize("groups", [2, 3])
@pytest.mark.parametrize("reversible", [False, True])
def test_revgat(reversible, groups):
    model, graph, x = build("revgat", num_layers=4, hidden=6, heads=2, groups=groups, reversible=reversible)
    randomize(model.double())
    x = x.double()
    parts = list(dense_attention(model.first, graph, x).flatten(1).chunk(groups, 1))
    for layer in model.middle:
        argument = sum(parts[1:])
        for i, block in enumerate(layer):
            inner = batch_norm(block.norm, argument).clamp(min=0)
            argument = parts[i] = parts[i] + dense_attention(block.conv, graph, inner).flatten(1)
    h = batch_norm(model.norm, torch.cat(parts, 1))
    h = h * torch.tanh(torch.logaddexp(h, torch.zeros_like(h)))  # mish
    close(model(graph, x), dense_attention(model.last, graph, h)[:, 0])


def standardized(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(0)) / x.std(0)


def symmetric(a: np.ndarray) -> np.ndarray:
    roots = np.sqrt(np.maximum(a.sum(1), 1e-30))
    return a / roots[:, None] / roots[None, :]


def test_simplegcn():
    chosen = SimpleGCNOptions(k=3)
    graph, prepared = SimpleGCN.prepare(random_graph(), features(), chosen)
    s = symmetric(dense(random_graph()).double().numpy() + np.eye(NUM_NODES))
    expected = standardized(s @ s @ s @ features().double().numpy())
    np.testing.assert_allclose(prepared.numpy(), expected, atol=1e-5)
    model = SimpleGCN(DIM, CLASSES, chosen)
    close(model(graph, prepared), prepared @ model.linear.weight.T + model.linear.bias)
    _, unchanged = SimpleGCN.prepare(random_graph(), features(), SimpleGCNOptions(k=0, standardize=False))
    assert torch.equal(unchanged, features())


def test_sign():
    chosen = SIGNOptions(s=2, p=2, t=1, hidden=5, iterations=200, num_layers=3)
    graph, prepared = SIGN.prepare(random_graph(), features(), chosen)
    a, x = dense(random_graph()).double().numpy(), features().double().numpy()
    s = symmetric(a + np.eye(NUM_NODES))
    pagerank = 0.15 * np.linalg.inv(np.eye(NUM_NODES) - 0.85 * s)
    blocks = [x, s @ x, s @ s @ x, pagerank @ x, pagerank @ pagerank @ x, symmetric(a * (a @ a)) @ x]
    np.testing.assert_allclose(prepared.numpy(), np.hstack([standardized(block) for block in blocks]), atol=1e-4)

    model = randomize(SIGN(prepared.shape[1], CLASSES, chosen))
    hidden = torch.cat([b(part) for b, part in zip(model.branches, prepared.split(DIM, 1), strict=True)], 1)
    hidden = model.head[0](batch_norm(model.norms[0], hidden).clamp(min=0))
    close(model(graph, prepared), model.head[1](batch_norm(model.norms[1], hidden).clamp(min=0)))


def test_sign_needs_blocks_of_equal_width():
    with pytest.raises(ValueError, match="blocks of equal width"):
        SIGN(10, CLASSES, SIGNOptions())


def test_sign_truncated_svd():
    chosen = SIGNOptions(s=0, p=0, t=0, svd=3, standardize=False)
    _, prepared = SIGN.prepare(random_graph(), features(), chosen)
    u, values, v = np.linalg.svd(features().numpy())
    best = u[:, :3] * values[:3] @ v[:3]
    # the projection is the best approximation of rank 3 once turned back
    back = prepared.numpy() @ np.linalg.lstsq(prepared.numpy(), best, rcond=None)[0]
    np.testing.assert_allclose(back, best, atol=1e-4)
    np.testing.assert_allclose(prepared.norm(dim=0).numpy(), values[:3], rtol=1e-4)
    _, whole = SIGN.prepare(random_graph(), features(), SIGNOptions(s=0, p=0, svd=100))
    assert whole.shape == (NUM_NODES, DIM)


def chain(dtype: torch.dtype, layers: int = 2, groups: int = 2) -> tuple[list[list[Branch]], list[Tensor], Tensor]:
    """RevGAT blocks with dropout and edge masks bound to them, all their parameters, and an input."""
    torch.manual_seed(0)
    graph = with_self_loops(random_graph())
    chosen = RevGATOptions(hidden=2 * groups, heads=1, groups=groups)
    x = torch.randn(NUM_NODES, 2 * groups, dtype=dtype, requires_grad=True)
    found, parameters = [], []
    for _ in range(layers):
        branches = []
        for _ in range(groups):
            block = RevGATBlock(2, chosen).to(dtype)
            masks = {
                "key": len(parameters),
                "edge_mask": torch.rand(graph.num_edges()) > 0.3,
            }

            def function(h, update, block=block, masks=masks):
                return block(h, update, graph=graph, training=True, **masks)

            branches.append(Branch(function, tuple(block.parameters())))
            parameters += block.parameters()
        found.append(branches)
    return found, parameters, x


@pytest.mark.parametrize("groups", [2, 3])
@pytest.mark.parametrize("reversible", [False, True])
def test_gradients_are_finite_differences(reversible, groups):
    layers, parameters, x = chain(torch.float64, groups=groups)
    weights = torch.randn(x.shape, dtype=x.dtype)

    def loss(*_: Tensor) -> Tensor:  # gradcheck moves the tensors it is given in place
        return (couple(x, layers, reversible) * weights).sum()

    assert torch.autograd.gradcheck(loss, (x, *parameters), atol=1e-6)


def test_gradients_of_frozen_and_unused_parameters():
    layers, parameters, x = chain(torch.float32)
    parameters[0].requires_grad_(False)
    unused = torch.ones(2, requires_grad=True)
    layers[0][0] = Branch(layers[0][0].function, (*layers[0][0].parameters, unused))
    couple(x, layers, True).square().sum().backward()
    assert parameters[0].grad is None
    assert unused.grad is None
    assert all(parameter.grad is not None for parameter in parameters[1:])


def three_steps(dtype: torch.dtype, training: bool, **values) -> list[list[Tensor]]:
    """Outputs, gradients of the last step, buffers, the input's gradient, and outputs after training."""
    model, graph, x = build("revgat", num_layers=5, hidden=6, heads=2, **values)
    model.to(dtype).train(training)
    x = x.to(dtype).requires_grad_()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    torch.manual_seed(5)
    outputs = []
    for _ in range(3):
        optimizer.zero_grad()
        outputs.append(model(graph, x))
        F.cross_entropy(outputs[-1], torch.arange(NUM_NODES) % CLASSES).backward()
        optimizer.step()
    gradients = [parameter.grad for parameter in model.parameters()]
    return [outputs, gradients, list(model.buffers()), [x.grad], [model.eval()(graph, x)]]


@pytest.mark.parametrize(
    ("dtype", "training", "values"),
    [
        (torch.float32, True, {}),
        (torch.float64, True, {}),
        (torch.float64, False, {}),
        (torch.float64, True, {"groups": 3}),
        # without batch norm activations grow a hundredfold here: rebuilding them in float32 costs digits
        (torch.float64, True, {"batch_norm": False}),
        (torch.float64, True, {"use_attn_dst": True, "symmetric_norm": True}),
    ],
    ids=str,
)
def test_reversible_is_plain(dtype, training, values):
    """Same outputs, gradients and running statistics with all dropout on, over several steps."""
    plain = three_steps(dtype, training, **values)
    rebuilt = three_steps(dtype, training, **values, reversible=True)
    assert torch.equal(plain[0][0], rebuilt[0][0])  # the first forward pass is the same arithmetic
    atol = 2e-5 if dtype == torch.float32 else 1e-7
    for expected, found in zip(plain, rebuilt, strict=True):
        assert len(expected) == len(found)
        for a, b in zip(expected, found, strict=True):
            torch.testing.assert_close(a, b, atol=atol, rtol=atol)


def test_running_statistics_move_once_a_step():
    model, graph, x = build("revgat", hidden=6, reversible=True)
    norm = model.middle[0][0].norm
    model.train()
    model(graph, x).sum().backward()
    arguments = []
    model.middle[0][0].register_forward_pre_hook(lambda _, inputs: arguments.append(inputs[0].detach()))
    torch.manual_seed(0)
    before = norm.running_mean.clone()
    model(graph, x).sum().backward()
    assert len(arguments) == 2  # forward, and one evaluation in the backward pass
    close(arguments[0], arguments[1])
    close(norm.running_mean, 0.9 * before + 0.1 * arguments[0].mean(0))


def saved_bytes(model: Backbone, graph: dgl.DGLGraph, x: Tensor) -> int:
    """Bytes that autograd keeps between a training forward pass and its backward pass."""
    total = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal total
        total += tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.train()(graph, x)
    return total


def test_reversible_memory_does_not_grow_with_depth():
    used = {
        (reversible, layers): saved_bytes(*build("revgat", num_layers=layers, hidden=8, reversible=reversible))
        for reversible in (False, True)
        for layers in (4, 32)
    }
    assert used[False, 32] > 5 * used[False, 4]
    assert used[True, 32] == used[True, 4] < used[False, 4]


# a small model, and for every option of it another value
SMALL = {"hidden": 6}
OTHER = {
    "mlp": {"num_layers": 3, "hidden": 8, "dropout": 0.1, "input_dropout": 0.4, "batch_norm": False},
    "gcn": {"num_layers": 3, "hidden": 8, "dropout": 0.1, "input_dropout": 0.4, "batch_norm": False},
    "sage": {
        "num_layers": 3,
        "hidden": 8,
        "dropout": 0.1,
        "input_dropout": 0.4,
        "batch_norm": False,
        "aggregator": "pool",
    },
    "gat": {
        "num_layers": 3,
        "hidden": 8,
        "dropout": 0.1,
        "input_dropout": 0.4,
        "batch_norm": False,
        "heads": 2,
        "edge_dropout": 0.5,
    },
    "revgat": {
        "num_layers": 5,
        "hidden": 12,
        "dropout": 0.1,
        "input_dropout": 0.4,
        "batch_norm": False,
        "heads": 2,
        "groups": 3,
        "edge_dropout": 0.0,
        "use_attn_dst": True,
        "symmetric_norm": True,
        "activation": "relu",
        "reversible": True,
    },
    "simplegcn": {
        "k": 3,
        "self_loops": False,
        "normalization": "row",
        "standardize": False,
        "storage": "float16",
    },
    "sign": {
        "s": 1,
        "p": 1,
        "t": 1,
        "identity": False,
        "alpha": 0.5,
        "iterations": 2,
        "svd": 4,
        "num_layers": 3,
        "hidden": 8,
        "dropout": 0.1,
        "input_dropout": 0.4,
        "batch_norm": False,
        "activation": "prelu",
        "self_loops": False,
        "normalization": "row",
        "standardize": False,
        "storage": "float16",
    },
    "appnp": {
        "num_layers": 3,
        "hidden": 8,
        "dropout": 0.1,
        "input_dropout": 0.4,
        "batch_norm": False,
        "alpha": 0.4,
        "k": 3,
        "edge_dropout": 0.5,
    },
    "sagn": {
        "k": 2,
        "heads": 2,
        "num_layers": 3,
        "hidden": 8,
        "dropout": 0.1,
        "input_dropout": 0.4,
        "attention_dropout": 0.5,
        "batch_norm": False,
        "self_loops": False,
        "normalization": "row",
        "standardize": False,
        "storage": "float16",
    },
    "correct-and-smooth": {
        "num_layers": 3,
        "hidden": 8,
        "dropout": 0.1,
        "input_dropout": 0.4,
        "batch_norm": False,
        "correction_alpha": 0.5,
        "correction_iterations": 2,
        "autoscale": False,
        "scale": 2.0,
        "smoothing_alpha": 0.5,
        "smoothing_iterations": 2,
    },
}
NEEDS = {"scale": {"autoscale": False}}  # options that are read with another one only


def test_every_option_is_tried():
    assert {name: set(values) for name, values in OTHER.items()} == {
        name: set(type(options(name)).model_fields) for name in READY
    }


def labelled(graph: dgl.DGLGraph, x: Tensor) -> Task:
    nodes = np.arange(NUM_NODES)
    return task(graph, x, nodes % CLASSES, nodes[:10], nodes[10:15], CLASSES)


def small(name: str) -> dict[str, int]:
    return SMALL if "hidden" in type(options(name)).model_fields else {}


def traces(name: str, **values) -> tuple[list[list[int]], list[Tensor], int]:
    """All that an option can change: features, edges, parameters, outputs in training and afterwards, memory."""
    model, graph, x = build(name, **{**small(name), **values})
    tensors = [x, *graph.edges(), *(parameter.detach().clone() for parameter in model.parameters())]
    used = saved_bytes(model, graph, x)
    torch.manual_seed(3)
    with torch.no_grad():
        tensors += [model.train()(graph, x), model.eval()(graph, x)]
        tensors.append(model.refine(tensors[-1], labelled(graph, x)))
    return [list(tensor.shape) for tensor in tensors], tensors, used


@pytest.mark.parametrize(("name", "field"), [(name, field) for name, values in OTHER.items() for field in values])
def test_every_option_reaches_what_it_configures(name, field):
    others = NEEDS.get(field, {})
    shapes, tensors, used = traces(name, **others)
    again = traces(name, **others)
    assert shapes == again[0]
    assert all(map(torch.equal, tensors, again[1]))
    other_shapes, other_tensors, other_used = traces(name, **others, **{field: OTHER[name][field]})
    if field == "reversible":  # by design it changes nothing but memory
        assert shapes == other_shapes
        assert all(map(torch.equal, tensors, other_tensors))
        assert other_used < used
    else:
        assert shapes != other_shapes or not all(map(torch.equal, tensors, other_tensors))


@pytest.mark.parametrize("name", READY)
def test_prepare_options_are_those_that_prepare_reads(name):
    """Runs that agree in them share prepared features, so one that is missing would hand out the wrong ones."""

    def prepared(**values) -> list[Tensor]:
        chosen = options(name, **{**small(name), **values})
        graph, x = backbone(name).prepare(random_graph(), features(), chosen)
        return [x, *graph.edges()]

    def same(a: list[Tensor], b: list[Tensor]) -> bool:
        return all(x.shape == y.shape and torch.equal(x, y) for x, y in zip(a, b, strict=True))

    read = {field for field, value in OTHER[name].items() if not same(prepared(), prepared(**{field: value}))}
    assert set(backbone(name).prepare_options) == read


@pytest.mark.parametrize("name", READY)
def test_dropout_is_off_after_training_and_seeded_in_it(name):
    model, graph, x = build(name, **small(name))
    model.eval()
    assert torch.equal(model(graph, x), model(graph, x))
    model.train()
    torch.manual_seed(1)
    first, second = model(graph, x), model(graph, x)
    torch.manual_seed(1)
    assert torch.equal(model(graph, x), first)
    assert torch.equal(first, second) == (name == "simplegcn")  # the only one without dropout
    assert first.shape == (NUM_NODES, CLASSES)


@pytest.mark.parametrize("name", READY)
def test_gradients_reach_every_parameter(name):
    model, graph, x = build(name, **small(name))
    F.cross_entropy(model.train()(graph, x), torch.arange(NUM_NODES) % CLASSES).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("name", READY)
def test_prepare_leaves_its_arguments_alone(name, directed):
    graph, x = random_graph(directed=directed), features()
    edges = graph.num_edges()
    _, prepared = backbone(name).prepare(graph, x, options(name))
    assert prepared.dtype == torch.float32
    assert prepared.isfinite().all()
    assert graph.num_edges() == edges
    assert not graph.edata
    assert not graph.ndata
    assert torch.equal(x, features())


def test_options_refuse_what_they_do_not_know():
    with pytest.raises(ValidationError, match="droput"):
        options("gcn", droput=0.5)
    for wrong in ({"dropout": 1.0}, {"dropout": "0.5"}, {"hidden": 0}, {"num_layers": 2.5}, {"batch_norm": 1}):
        with pytest.raises(ValidationError):
            options("gcn", **wrong)
    with pytest.raises(ValidationError, match="num_layers is 2: RevGAT needs at least 3"):
        options("revgat", num_layers=2)
    with pytest.raises(ValidationError, match="divisible by groups"):
        options("revgat", hidden=5)
    with pytest.raises(ValidationError, match="nothing is left"):
        options("sign", s=0, p=0, t=0, identity=False)


def test_options_are_described():
    for name in READY:
        for field, known in type(options(name)).model_fields.items():
            assert known.description, f"{name}.{field}"
    bounds = option_models.RevGATOptions.model_json_schema()["properties"]["num_layers"]
    assert bounds["minimum"] == 3


def test_catalog():
    assert [spec.name for spec in SPECS] == [
        "mlp",
        "gcn",
        "sage",
        "gat",
        "revgat",
        "simplegcn",
        "sign",
        "appnp",
        "sagn",
        "correct-and-smooth",
        "logistic-regression",
        "label-propagation",
        "none",
    ]
    for name in READY:
        assert issubclass(backbone(name), Backbone)
        assert issubclass(resolve(READY[name].options), BackboneOptions)
    assert {backbone(name) for name in READY} >= {GCN, MLP, SAGE, RevGAT, SIGN, SimpleGCN}


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [("stage_bench.backbones.catalog", "torch, dgl, pydantic"), ("stage_bench.backbones.options", "torch, dgl")],
)
def test_imports_stay_light(module, forbidden):
    code = f"import sys, {module}; print([name for name in '{forbidden}'.split(', ') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_default_recipe_and_option_defaults_agree():
    recipe = yaml.safe_load((BASELINES / "default.yaml").read_text())
    assert set(recipe) - {"spaces"} == {"name", "description", "source", "backbones"}
    specs = {spec.name: spec for spec in SPECS}
    assert set(recipe["backbones"]) == {name for name in specs if not specs[name].needs}
    for name, values in recipe["backbones"].items():
        of_model = {key: value for key, value in values.items() if key not in TRAINING}
        assert of_model == resolve(specs[name].options)().model_dump(), name
        assert set(values) - set(of_model) == (set() if specs[name].family == "direct" else TRAINING), name


def test_stage_recipe_is_valid():
    recipe = yaml.safe_load((BASELINES / "stage.yaml").read_text())
    assert recipe["name"] == "stage"
    for name, values in recipe["backbones"].items():
        options(name, **{key: value for key, value in values.items() if key not in TRAINING})
        assert set(values) >= TRAINING, name
        assert all(isinstance(values[key], (int, float)) for key in TRAINING - {"optimizer", "loss"}), name

"""SIGN's original form, PReLU with a slope that is learnt; and what the public code's norm costs."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression

from stage_bench.backbones.options import SIGNOptions, SimpleGCNOptions
from stage_bench.backbones.sign import SIGN
from stage_bench.backbones.simplegcn import SimpleGCN
from stage_bench.datasets import folder
from stage_bench.dgl_library import dgl
from stage_bench.features import shallow
from stage_bench.features.options import ShallowOptions

NODES, DIM, CLASSES = 20, 4, 3
GRAPH = dgl.graph((torch.arange(NODES), (torch.arange(NODES) + 1) % NODES))  # SIGN's forward pass does not read it


def build(**values) -> tuple[SIGN, torch.Tensor]:
    options = SIGNOptions(**{"s": 2, "p": 0, "hidden": 5, "batch_norm": False, "dropout": 0.0, **values})
    torch.manual_seed(0)
    model = SIGN(options.num_blocks * DIM, CLASSES, options)
    return model, torch.randn(NODES, options.num_blocks * DIM)


@pytest.mark.parametrize("num_layers", [2, 3])
def test_prelu_is_the_dense_formula(num_layers):
    """Y = W_n prelu(... prelu([X W_0, S X W_1, S^2 X W_2])), eq. 4 of the paper, a slope a layer."""
    model, x = build(activation="prelu", num_layers=num_layers)
    slopes = [0.1, 0.6][: num_layers - 1]
    with torch.no_grad():
        for activation, slope in zip(model.slopes, slopes, strict=True):
            activation.weight.fill_(slope)
    weights = {name: value.detach().double().numpy() for name, value in model.state_dict().items()}
    blocks = np.split(x.double().numpy(), 3, axis=1)
    out = np.hstack(
        [b @ weights[f"branches.{i}.weight"].T + weights[f"branches.{i}.bias"] for i, b in enumerate(blocks)]
    )
    for i, slope in enumerate(slopes):
        out = np.where(out > 0, out, slope * out) @ weights[f"head.{i}.weight"].T + weights[f"head.{i}.bias"]
    np.testing.assert_allclose(model(GRAPH, x).detach().numpy(), out, atol=1e-5)


def test_prelu_with_slope_zero_is_relu():
    (relu, x), (prelu, _) = build(), build(activation="prelu")
    with torch.no_grad():
        prelu.slopes[0].weight.zero_()
    torch.testing.assert_close(prelu(GRAPH, x), relu(GRAPH, x))
    assert len(list(prelu.parameters())) == len(list(relu.parameters())) + 1


def test_the_slope_is_learnt():
    model, x = build(activation="prelu", batch_norm=True)
    model.double()
    loss = F.cross_entropy(model(GRAPH, x.double()), torch.arange(NODES) % CLASSES)
    loss.backward()
    weight = model.slopes[0].weight
    gradient, step = float(weight.grad), 1e-6
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            weight += sign * step
            ends.append(float(F.cross_entropy(model(GRAPH, x.double()), torch.arange(NODES) % CLASSES)))
            weight -= sign * step
    assert gradient != 0
    assert gradient == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5)


@pytest.mark.slow
def test_the_inverted_norm_is_what_costs(real_data):
    """docs/diffusion.md: on Cora, D^1/2 A D^1/2 without self loops is worse than no graph at all."""
    graph = folder.load(real_data / "cora")
    x = shallow.build(graph, ShallowOptions()).astype(np.float64)
    target, source = graph.edges[1], graph.edges[0]
    a = sp.csr_array((np.ones(len(source)), (target, source)), shape=(graph.num_nodes, graph.num_nodes))
    root = sp.diags_array(np.sqrt(a.sum(axis=1)))
    s = root @ a @ root
    inverted = s @ (s @ x)
    _, right = SimpleGCN.prepare(graph.graph, torch.from_numpy(x).float(), SimpleGCNOptions(k=2, standardize=False))
    split = graph.split("random-60-20-20", 0)

    def accuracy(features: np.ndarray) -> float:
        scaled = features / features.std()
        model = LogisticRegression(max_iter=300).fit(scaled[split.train], graph.labels[split.train])
        return model.score(scaled[split.val], graph.labels[split.val])

    assert accuracy(right.numpy()) > accuracy(x) + 0.02, "the right operator gains on no graph at all"
    assert accuracy(inverted) < accuracy(x) - 0.02, "the inverted one loses"

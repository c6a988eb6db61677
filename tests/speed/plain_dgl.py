"""The loop that stage-bench is measured against: one model, one seed, full batch, nothing but torch and DGL.

It works as TAPE's trainer does (arXiv 2305.19523): a step on the training nodes, then one forward pass in evaluation
mode that gives the accuracies of all three parts, early stopping on the validation part with the best weights kept,
and a last forward pass. Layers are those of `dgl.nn`; RevGAT's attention, which `dgl.nn` does not have without the
receiving node's score, is written in DGL's message passing, inside `dgl.nn.GroupRevRes`. What TAPE does and a careful
user would not is left out: accuracies in NumPy, a checkpoint on disk, edge permutations drawn in evaluation too.

Parameters are named as the program's are (GroupRevRes adds `gnn_modules`), so that weights can be copied over.
"""

from __future__ import annotations

import copy
import itertools
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dgl  # isort: skip  (after torch: the other order loads two OpenMP runtimes)
import dgl.function as fn

warnings.filterwarnings("ignore", message="TypedStorage is deprecated")  # GroupRevRes, at every step

# Values of options for which this loop does the same work; with another one there is nothing to compare.
_ONLY: dict[str, Any] = {
    "aggregator": "mean",
    "use_attn_dst": False,
    "symmetric_norm": False,
    "input_norm": False,
    "loss": "cross-entropy",
    "label_inputs": False,
    "distillation": 0.0,
    "batching": "full",
}
# Options of those that are off, and those by which the program changes how, not what, it computes.
_NO_MATTER = {
    "batch_size", "distillation_temperature", "fanout", "kernels", "label_input_share", "label_iterations", "products",
    "reversible", "reverses",
}  # fmt: skip
_LAYERED = {"num_layers", "hidden", "dropout", "input_dropout", "batch_norm"}
_ATTENTION = {"heads", "groups", "edge_dropout", "activation"}
_TRAINING = {"lr", "weight_decay", "optimizer", "epochs", "patience", "warmup_epochs", "label_smoothing"}


def check(values: dict[str, Any]) -> None:
    """Refuse what this loop does not do, so that the two sides cannot drift apart unnoticed.

    Raises:
        ValueError: an option is unknown here, or has a value that this loop does not follow.
    """
    for key, value in values.items():
        if key in _ONLY and value != _ONLY[key]:
            raise ValueError(f"the plain loop works with {key} = {_ONLY[key]} only, not with {value}")
        if key not in _ONLY.keys() | _NO_MATTER | _LAYERED | _ATTENTION | _TRAINING:
            raise ValueError(f"the plain loop does not know the option '{key}': teach it, or say that it is no matter")


@dataclass(frozen=True)
class Data:
    """graph: without self loops. features: float32 [num_nodes, dim]. train, val, test: int64 node ids."""

    graph: dgl.DGLGraph
    features: Tensor
    labels: Tensor
    num_classes: int

    @classmethod
    def load(cls, folder: Path) -> Data:
        """What `generated.save` wrote, read into memory."""
        labels = torch.from_numpy(np.load(folder / "labels.npy"))
        source, target = torch.from_numpy(np.load(folder / "edges.npy"))
        features = torch.from_numpy(np.load(folder / "features.npy"))
        classes = json.loads((folder / "facts.json").read_text())["num_classes"]
        return cls(dgl.graph((source, target), num_nodes=len(labels)), features, labels, classes)


@dataclass(frozen=True)
class Split:
    train: Tensor
    val: Tensor
    test: Tensor

    @classmethod
    def load(cls, path: Path) -> Split:
        with np.load(path) as parts:
            return cls(*(torch.from_numpy(parts[part]) for part in ("train", "val", "test")))


def _norm(width: int, values: dict[str, Any]) -> nn.Module:
    return nn.BatchNorm1d(width) if values["batch_norm"] else nn.Identity()


class Stack(nn.Module):
    """MLP, GCN and GraphSAGE: layers with batch norm, ReLU and dropout between them."""

    def __init__(self, kind: str, in_dim: int, num_classes: int, values: dict[str, Any]) -> None:
        super().__init__()
        self.needs_graph = kind != "mlp"
        self.input_dropout, self.dropout = values["input_dropout"], values["dropout"]
        widths = [in_dim, *[values["hidden"]] * (values["num_layers"] - 1), num_classes]
        make: dict[str, Callable[[int, int], nn.Module]] = {
            "mlp": nn.Linear,
            "gcn": lambda before, after: dgl.nn.GraphConv(before, after, norm="both"),
            "sage": lambda before, after: dgl.nn.SAGEConv(before, after, "mean"),
        }
        pairs = itertools.pairwise(widths)
        self.layers = nn.ModuleList(make[kind](before, after) for before, after in pairs)
        self.norms = nn.ModuleList(_norm(width, values) for width in widths[1:-1])

    def forward(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        if self.input_dropout > 0:
            x = F.dropout(x, self.input_dropout, self.training)
        for i, layer in enumerate(self.layers):
            x = layer(graph, x) if self.needs_graph else layer(x)
            if i < len(self.norms):
                x = F.dropout(F.relu(self.norms[i](x)), self.dropout, self.training)
        return x


class Attention(nn.Module):
    """A GAT layer with a linear residual whose scores depend on the sending node only, as TAPE's RevGAT has it."""

    def __init__(self, in_dim: int, out_dim: int, heads: int, edge_dropout: float, bias: bool = False) -> None:
        super().__init__()
        self.heads, self.edge_dropout = heads, edge_dropout
        self.project = nn.Linear(in_dim, heads * out_dim, bias=False)
        self.attn_src = nn.Parameter(torch.empty(1, heads, out_dim))
        self.residual = nn.Linear(in_dim, heads * out_dim, bias=False)
        self.bias = nn.Parameter(torch.zeros(1, heads, out_dim)) if bias else None
        for weight in (self.project.weight, self.attn_src, self.residual.weight):
            nn.init.xavier_normal_(weight, gain=nn.init.calculate_gain("relu"))

    def forward(self, graph: dgl.DGLGraph, x: Tensor, order: Tensor | None = None) -> Tensor:
        """[num_nodes, in_dim] -> [num_nodes, heads, out_dim]; the first edges of `order` are left out."""
        with graph.local_scope():
            hidden = self.project(x).view(len(x), self.heads, -1)
            graph.srcdata["hidden"] = hidden
            graph.srcdata["score"] = (hidden * self.attn_src).sum(dim=-1, keepdim=True)
            graph.apply_edges(fn.copy_u("score", "score"))
            scores = F.leaky_relu(graph.edata.pop("score"), 0.2)
            if order is None:
                graph.edata["weight"] = dgl.nn.functional.edge_softmax(graph, scores)
            else:
                kept = order[int(graph.num_edges() * self.edge_dropout) :]
                weights = torch.zeros_like(scores)
                weights[kept] = dgl.nn.functional.edge_softmax(graph, scores[kept], eids=kept)
                graph.edata["weight"] = weights
            graph.update_all(fn.u_mul_e("hidden", "weight", "message"), fn.sum("message", "out"))
            out: Tensor = graph.dstdata["out"] + self.residual(x).view(len(x), self.heads, -1)
            return out if self.bias is None else out + self.bias


class Block(nn.Module):
    """What GroupRevRes repeats for each group of columns."""

    def __init__(self, width: int, values: dict[str, Any]) -> None:
        super().__init__()
        self.norm = _norm(width, values)
        self.conv = Attention(width, width // values["heads"], values["heads"], values["edge_dropout"])

    def forward(
        self, graph: dgl.DGLGraph, x: Tensor, mask: Tensor | None = None, order: Tensor | None = None
    ) -> Tensor:
        x = F.relu(self.norm(x))
        if mask is not None:
            x = x * mask
        out: Tensor = self.conv(graph, x, None if order is None else order.squeeze(1))
        return out.flatten(1)


class RevGAT(nn.Module):
    """First and last layer plain attention, those between reversible; one dropout mask is shared by these.

    GroupRevRes saves no random state and splits further arguments by their last dimension: masks and the order of
    edges are drawn outside and handed in, the order once a group. `values["reverses"]` false: the same coupling with
    ordinary autograd, which takes memory instead of time.
    """

    def __init__(self, in_dim: int, num_classes: int, values: dict[str, Any]) -> None:
        super().__init__()
        self.input_dropout, self.dropout = values["input_dropout"], values["dropout"]
        self.edge_dropout, self.groups = values["edge_dropout"], values["groups"]
        self.activation = {"mish": F.mish, "relu": F.relu}[values["activation"]]
        self.reverses = values.get("reverses", True)
        heads, width = values["heads"], values["hidden"] * values["heads"]
        self.first = Attention(in_dim, values["hidden"], heads, self.edge_dropout)
        self.middle = nn.ModuleList(
            dgl.nn.GroupRevRes(Block(width // self.groups, values), self.groups)
            for _ in range(values["num_layers"] - 2)
        )
        self.norm = _norm(width, values)
        self.last = Attention(width, num_classes, 1, self.edge_dropout, bias=True)

    def forward(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        x = F.dropout(x, self.input_dropout, self.training)
        x = self.first(graph, x, self._order(graph)).flatten(1)
        mask = torch.empty_like(x).bernoulli_(1 - self.dropout).div_(1 - self.dropout) if self.training else None
        for module in self.middle:
            layer: Any = module if self.reverses else module._forward
            order = self._order(graph)
            if mask is None:
                x = layer(graph, x)
            elif order is None:
                x = layer(graph, x, mask)
            else:
                x = layer(graph, x, mask, torch.stack([order] * self.groups, dim=1))
        x = F.dropout(self.activation(self.norm(x)), self.dropout, self.training)
        out: Tensor = self.last(graph, x, self._order(graph))
        return out.mean(dim=1)

    def _order(self, graph: dgl.DGLGraph) -> Tensor | None:
        return torch.randperm(graph.num_edges()) if self.training and self.edge_dropout > 0 else None


def build(kind: str, in_dim: int, num_classes: int, values: dict[str, Any]) -> nn.Module:
    """An initialised model of a kind: mlp, gcn, sage or revgat."""
    check(values)
    if kind == "revgat":
        return RevGAT(in_dim, num_classes, values)
    return Stack(kind, in_dim, num_classes, values)


def graph_for(kind: str, graph: dgl.DGLGraph) -> dgl.DGLGraph:
    """With self loops where the model wants them."""
    return dgl.add_self_loop(graph) if kind in ("gcn", "revgat") else graph


@dataclass(frozen=True)
class Trained:
    """logits: float32 [num_nodes, num_classes] of the best validation epoch, which counts from 1."""

    logits: Tensor
    val_accuracy: float
    test_accuracy: float
    best_epoch: int
    epochs: int


def train(
    kind: str,
    values: dict[str, Any],
    data: Data,
    split: Split,
    seed: int,
    on_epoch: Callable[[int, nn.Module], None] = lambda epoch, model: None,
    model: nn.Module | None = None,
) -> Trained:
    """Train one model. `model`: instead of a new one. `on_epoch`: called after every epoch with its number."""
    torch.manual_seed(seed)
    graph = graph_for(kind, data.graph)
    model = model or build(kind, data.features.shape[1], data.num_classes, values)
    optimizer = _optimizer(model.parameters(), values)
    best, best_epoch, best_state, epoch = -1.0, 0, None, 0
    for epoch in range(1, values["epochs"] + 1):
        if values["warmup_epochs"]:
            for group in optimizer.param_groups:
                group["lr"] = values["lr"] * min(1.0, epoch / values["warmup_epochs"])
        model.train()
        optimizer.zero_grad()
        logits = model(graph, data.features)
        loss = F.cross_entropy(logits[split.train], data.labels[split.train], label_smoothing=values["label_smoothing"])
        accuracy(logits, data.labels, split.train)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss.item()
        val, _ = evaluate(model, graph, data, split)[:2]
        if val > best:
            best, best_epoch, best_state = val, epoch, copy.deepcopy(model.state_dict())
        on_epoch(epoch, model)
        if epoch - best_epoch >= values["patience"]:
            break
    assert best_state is not None
    model.load_state_dict(best_state)
    val, test, logits = evaluate(model, graph, data, split)
    return Trained(logits, val, test, best_epoch, epoch)


@torch.no_grad()
def evaluate(model: nn.Module, graph: dgl.DGLGraph, data: Data, split: Split) -> tuple[float, float, Tensor]:
    """Validation and test accuracy from one forward pass, and its logits."""
    model.eval()
    logits: Tensor = model(graph, data.features)
    return accuracy(logits, data.labels, split.val), accuracy(logits, data.labels, split.test), logits


def accuracy(logits: Tensor, labels: Tensor, nodes: Tensor) -> float:
    return float((logits[nodes].argmax(dim=1) == labels[nodes]).float().mean())


def _optimizer(parameters: Iterator[nn.Parameter], values: dict[str, Any]) -> torch.optim.Optimizer:
    kinds: dict[str, Any] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop}
    made: torch.optim.Optimizer = kinds[values["optimizer"]](
        parameters, lr=values["lr"], weight_decay=values["weight_decay"]
    )
    return made

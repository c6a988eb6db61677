"""GraphSAGE (Hamilton et al. 2017, arXiv 1706.02216)."""

import torch
from torch import Tensor, nn

from stage_bench.backbones.base import LayeredBackbone
from stage_bench.backbones.options import SAGEOptions
from stage_bench.backbones.propagation import propagate, with_scales
from stage_bench.dgl_library import dgl
from stage_bench.diffusion.recipe import IDENTITY, Recipe, powers_of
from stage_bench.kernels.products import FixedInput, Linear, linear


class MeanConv(nn.Module):
    """W_self h_i + b + W_neigh mean_j h_j; a node without in-edges gets zero from its neighbours.

    With `diffused` inputs, h and the neighbours' mean come in side by side.
    """

    def __init__(self, in_dim: int, out_dim: int, diffused: bool) -> None:
        super().__init__()
        self.fc_self = nn.Linear(in_dim, out_dim)
        self.fc_neigh = nn.Linear(in_dim, out_dim, bias=False)
        _initialise(self.fc_self, self.fc_neigh)
        self.fixed = FixedInput() if diffused else None

    def forward(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        """[num_src, in_dim] -> [num_dst, out_dim]."""
        own, others, bias = self.fc_self.weight, self.fc_neigh.weight, self.fc_self.bias
        if self.fixed is not None:
            both = torch.cat([own, others], dim=1)
            return self.fixed.linear(x, both, bias)
        receiving = x[: graph.num_dst_nodes()]
        if own.shape[1] > own.shape[0]:
            return linear(receiving, own, bias).add_(propagate(graph, linear(x, others)))
        return linear(receiving, own, bias).add_(linear(propagate(graph, x), others))


class PoolConv(nn.Module):
    """W_self h_i + b + W_neigh max_j relu(W_pool h_j + b_pool), the maximum taken in each column."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.fc_pool = Linear(in_dim, in_dim)
        self.fc_self = Linear(in_dim, out_dim)
        self.fc_neigh = Linear(in_dim, out_dim, bias=False)
        _initialise(self.fc_pool, self.fc_self, self.fc_neigh)

    def forward(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        """[num_src, in_dim] -> [num_dst, out_dim]."""
        # DGL's maximum of nothing is -inf, and what is pooled is not below zero
        largest = dgl.ops.copy_u_max(graph, torch.relu(self.fc_pool(x))).clamp(min=0)
        out: Tensor = self.fc_self(x[: graph.num_dst_nodes()]) + self.fc_neigh(largest)
        return out


def _initialise(*layers: nn.Linear) -> None:
    """As DGL's SAGEConv does."""
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight, gain=nn.init.calculate_gain("relu"))


class SAGE(LayeredBackbone[SAGEOptions]):
    """SAGE layers. For the mean aggregator without input dropout the means of X are computed once, in `prepare`."""

    prepare_options = ("input_dropout", "aggregator")

    @property
    def first_hop(self) -> int:  # type: ignore[override]
        return int(self.options.input_dropout == 0 and self.options.aggregator == "mean")

    @classmethod
    def recipe(cls, options: SAGEOptions) -> Recipe | None:
        """X and the means of X side by side, for the mean aggregator without input dropout."""
        if options.input_dropout or options.aggregator == "pool":
            return None
        return Recipe((IDENTITY, *powers_of("adjacency", 1)), "row", self_loops=False)

    @classmethod
    def prepare_graph(cls, graph: dgl.DGLGraph, options: SAGEOptions) -> dgl.DGLGraph:
        """The mean's scales at the nodes."""
        return graph if options.aggregator == "pool" else with_scales(graph, "row", self_loops=False)

    def build_layer(self, i: int, in_dim: int, out_dim: int) -> tuple[nn.Module, int]:
        if self.options.aggregator == "pool":
            return PoolConv(in_dim, out_dim), out_dim
        diffused = i < self.first_hop
        return MeanConv(in_dim // 2 if diffused else in_dim, out_dim, diffused), out_dim

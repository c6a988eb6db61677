"""GCN (Kipf and Welling 2017, arXiv 1609.02907)."""

import torch
from torch import Tensor, nn

from stage_bench.backbones.base import LayeredBackbone
from stage_bench.backbones.options import GCNOptions
from stage_bench.backbones.propagation import propagate, with_scales
from stage_bench.dgl_library import dgl
from stage_bench.diffusion.recipe import Recipe, powers_of
from stage_bench.kernels.products import FixedInput, linear


class GCNConv(nn.Module):
    """S H W^T + b with S = D^-1/2 (A + I) D^-1/2 (eq. 2 of the paper).

    weight: [out_dim, in_dim]. The narrower side of W is the one that the sparse product sees. With `diffused`
    inputs, S H is what comes in.
    """

    def __init__(self, in_dim: int, out_dim: int, diffused: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_dim, in_dim))
        self.bias = nn.Parameter(torch.zeros(out_dim))
        nn.init.xavier_uniform_(self.weight)  # as DGL's GraphConv
        self.fixed = FixedInput() if diffused else None

    def forward(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        """[num_src, in_dim] -> [num_dst, out_dim]."""
        if self.fixed is not None:
            return self.fixed.linear(x, self.weight, self.bias)
        out_dim, in_dim = self.weight.shape
        if in_dim > out_dim:
            return propagate(graph, linear(x, self.weight)) + self.bias
        return linear(propagate(graph, x), self.weight, self.bias)


class GCN(LayeredBackbone[GCNOptions]):
    """GCN layers. Without input dropout S X is always the same, so it is computed once, in `prepare`."""

    prepare_options = ("input_dropout",)

    @property
    def first_hop(self) -> int:  # type: ignore[override]
        return int(self.options.input_dropout == 0)

    @classmethod
    def recipe(cls, options: GCNOptions) -> Recipe | None:
        """S X, where there is no input dropout."""
        return None if options.input_dropout else Recipe(powers_of("adjacency", 1), "symmetric", self_loops=True)

    @classmethod
    def prepare_graph(cls, graph: dgl.DGLGraph, options: GCNOptions) -> dgl.DGLGraph:
        """The scales of S at the nodes."""
        return with_scales(graph, "symmetric", self_loops=True)

    def build_layer(self, i: int, in_dim: int, out_dim: int) -> tuple[nn.Module, int]:
        return GCNConv(in_dim, out_dim, diffused=i < self.first_hop), out_dim

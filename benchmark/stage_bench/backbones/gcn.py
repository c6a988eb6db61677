"""GCN (Kipf and Welling 2017, arXiv 1609.02907)."""

from torch import Tensor, nn

from stage_bench.backbones.base import LayeredBackbone, with_self_loops
from stage_bench.backbones.options import GCNOptions
from stage_bench.dgl_library import dgl


class GCN(LayeredBackbone[GCNOptions]):
    """Layers D^-1/2 (A + I) D^-1/2 H W + b (eq. 2 of the paper)."""

    @classmethod
    def prepare(cls, graph: dgl.DGLGraph, features: Tensor, options: GCNOptions) -> tuple[dgl.DGLGraph, Tensor]:
        """Adds self loops; the features stay as they are."""
        return with_self_loops(graph), features

    def build_layer(self, in_dim: int, out_dim: int, last: bool) -> tuple[nn.Module, int]:
        # every node has a self loop, so DGL need not look for nodes without in-edges in every forward pass
        return dgl.nn.GraphConv(in_dim, out_dim, norm="both", allow_zero_in_degree=True), out_dim

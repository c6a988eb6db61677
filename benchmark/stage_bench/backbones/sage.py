"""GraphSAGE (Hamilton et al. 2017, arXiv 1706.02216), full batch."""

from torch import nn

from stage_bench.backbones.base import LayeredBackbone
from stage_bench.backbones.options import SAGEOptions
from stage_bench.dgl_library import dgl


class SAGE(LayeredBackbone[SAGEOptions]):
    """Layers W_self h_i + W_neighbours aggregate(h_j) + b; a node without in-edges gets zero from its neighbours."""

    def build_layer(self, in_dim: int, out_dim: int, last: bool) -> tuple[nn.Module, int]:
        return dgl.nn.SAGEConv(in_dim, out_dim, self.options.aggregator), out_dim

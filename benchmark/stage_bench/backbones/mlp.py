"""A multilayer perceptron: what the text says without the graph."""

from torch import Tensor, nn

from stage_bench.backbones.base import LayeredBackbone
from stage_bench.backbones.options import MLPOptions
from stage_bench.dgl_library import dgl


class MLP(LayeredBackbone[MLPOptions]):
    """Linear layers; the graph is ignored."""

    def build_layer(self, in_dim: int, out_dim: int, last: bool) -> tuple[nn.Module, int]:
        return nn.Linear(in_dim, out_dim), out_dim

    def apply_layer(self, layer: nn.Module, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        out: Tensor = layer(x)
        return out

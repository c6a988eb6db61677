"""A multilayer perceptron: what the text says without the graph."""

from torch import Tensor, nn

from stage_bench.backbones.base import LayeredBackbone
from stage_bench.backbones.options import MLPOptions
from stage_bench.dgl_library import dgl
from stage_bench.kernels.products import Linear


class MLP(LayeredBackbone[MLPOptions]):
    """Linear layers; the graph is ignored."""

    rowwise = True

    @property
    def first_hop(self) -> int:  # type: ignore[override]
        return len(self.layers)

    def build_layer(self, i: int, in_dim: int, out_dim: int) -> tuple[nn.Module, int]:
        return Linear(in_dim, out_dim), out_dim

    def apply_layer(self, i: int, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        out: Tensor = self.layers[i](x)
        return out

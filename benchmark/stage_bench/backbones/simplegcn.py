"""SimpleGCN, also SGC (Wu et al. 2019, arXiv 1902.07153): all message passing before training."""

from torch import Tensor, nn

from stage_bench.backbones.base import Backbone
from stage_bench.backbones.options import SimpleGCNOptions
from stage_bench.dgl_library import dgl
from stage_bench.diffusion.operators import adjacency, powers, standardize


class SimpleGCN(Backbone[SimpleGCNOptions]):
    """softmax(S^k X W + b) (eq. 8 of the paper, with a bias); S^k X is computed once."""

    prepare_options = ("k", "normalization", "self_loops", "standardize")

    def __init__(self, in_dim: int, num_classes: int, options: SimpleGCNOptions) -> None:
        super().__init__(in_dim, num_classes, options)
        self.linear = nn.Linear(in_dim, num_classes)

    @classmethod
    def prepare(cls, graph: dgl.DGLGraph, features: Tensor, options: SimpleGCNOptions) -> tuple[dgl.DGLGraph, Tensor]:
        """S^k X, standardised on request: float32 [num_nodes, dim]."""
        operator = adjacency(graph, options.normalization, options.self_loops)
        diffused = ([features, *powers(operator, features, options.k)])[-1]
        return graph, standardize(diffused) if options.standardize else diffused

    def forward(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x)
        return out

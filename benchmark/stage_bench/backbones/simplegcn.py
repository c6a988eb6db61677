"""SimpleGCN, also SGC (Wu et al. 2019, arXiv 1902.07153): all message passing before training."""

from torch import Tensor

from stage_bench.backbones.base import Backbone
from stage_bench.backbones.options import SimpleGCNOptions
from stage_bench.dgl_library import dgl
from stage_bench.diffusion.recipe import Block, Recipe
from stage_bench.kernels.products import Linear


class SimpleGCN(Backbone[SimpleGCNOptions]):
    """softmax(S^k X W + b) (eq. 8 of the paper, with a bias); S^k X is computed once."""

    rowwise = True
    prepare_options = ("k", "normalization", "self_loops", "standardize", "storage")

    def __init__(self, in_dim: int, num_classes: int, options: SimpleGCNOptions) -> None:
        super().__init__(in_dim, num_classes, options)
        self.linear = Linear(in_dim, num_classes)

    @classmethod
    def recipe(cls, options: SimpleGCNOptions) -> Recipe:
        """S^k, and none of the powers before it."""
        return Recipe(
            (Block("adjacency", options.k),),
            normalization=options.normalization,
            self_loops=options.self_loops,
            standardize=options.standardize,
            storage=options.storage,
        )

    def forward(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x)
        return out

"""SIGN (Frasca et al. 2020, arXiv 2004.11198): diffused copies of the features, then a network without the graph."""

import torch
from torch import Tensor, nn

from stage_bench.backbones.base import Backbone
from stage_bench.backbones.options import SIGNOptions
from stage_bench.dgl_library import dgl
from stage_bench.diffusion.recipe import IDENTITY, Recipe, powers_of
from stage_bench.kernels.activation import dropout, norm_relu_dropout
from stage_bench.kernels.products import Linear


class SIGN(Backbone[SIGNOptions]):
    """A linear branch for each block, concatenated; norm, activation, dropout; a linear head (eq. 4 of the paper).

    Blocks, in this order: X, s powers of the adjacency, p of personalised PageRank, t of the triangle operator.
    """

    rowwise = True
    prepare_options = (
        *("s", "p", "t", "identity", "alpha", "iterations"),
        *("normalization", "self_loops", "standardize", "svd", "storage"),
    )

    def __init__(self, in_dim: int, num_classes: int, options: SIGNOptions) -> None:
        super().__init__(in_dim, num_classes, options)
        self.dim, rest = divmod(in_dim, options.num_blocks)
        if rest:
            raise ValueError(f"in_dim is {in_dim}: not {options.num_blocks} blocks of equal width")
        self.branches = nn.ModuleList(Linear(self.dim, options.hidden) for _ in range(options.num_blocks))
        widths = [options.num_blocks * options.hidden] + [options.hidden] * (options.num_layers - 2)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) if options.batch_norm else nn.Identity() for width in widths)
        self.slopes = nn.ModuleList(nn.PReLU() for _ in widths) if options.activation == "prelu" else None
        ends = [*widths[1:], num_classes]
        self.head = nn.ModuleList(Linear(width, end) for width, end in zip(widths, ends, strict=True))

    @classmethod
    def recipe(cls, options: SIGNOptions) -> Recipe:
        """The blocks, in the order of the class."""
        return Recipe(
            (
                *((IDENTITY,) if options.identity else ()),
                *powers_of("adjacency", options.s),
                *powers_of("pagerank", options.p),
                *powers_of("triangles", options.t),
            ),
            normalization=options.normalization,
            self_loops=options.self_loops,
            alpha=options.alpha,
            iterations=options.iterations,
            standardize=options.standardize,
            svd=options.svd,
            storage=options.storage,
        )

    def forward(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        options = self.options
        x = dropout(x, options.input_dropout, self.training)
        blocks = [block.contiguous() for block in x.split(self.dim, 1)]  # oneDNN is slow on columns of a wider matrix
        x = torch.cat([branch(block) for branch, block in zip(self.branches, blocks, strict=True)], dim=1)
        for i, (norm, layer) in enumerate(zip(self.norms, self.head, strict=True)):
            if self.slopes is not None:
                x = dropout(self.slopes[i](norm(x)), options.dropout, self.training)
            else:
                known = norm if isinstance(norm, nn.BatchNorm1d) else None
                x = norm_relu_dropout(x, known, options.dropout, self.training)
            x = layer(x)
        return x

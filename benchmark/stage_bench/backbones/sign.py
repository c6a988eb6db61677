"""SIGN (Frasca et al. 2020, arXiv 2004.11198): diffused copies of the features, then a network without the graph."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stage_bench.backbones.base import Backbone
from stage_bench.backbones.options import SIGNOptions
from stage_bench.dgl_library import dgl
from stage_bench.diffusion.operators import adjacency, personalized_pagerank, powers, standardize, triangles


class SIGN(Backbone[SIGNOptions]):
    """A linear branch for each block, concatenated; norm, ReLU, dropout; a linear head (eq. 4 of the paper).

    Blocks, in this order: X, s powers of the adjacency, p of personalised PageRank, t of the triangle operator.
    """

    prepare_options = (
        *("s", "p", "t", "identity", "alpha", "iterations", "normalization", "self_loops", "standardize", "svd"),
    )

    def __init__(self, in_dim: int, num_classes: int, options: SIGNOptions) -> None:
        super().__init__(in_dim, num_classes, options)
        self.dim, rest = divmod(in_dim, options.num_blocks)
        if rest:
            raise ValueError(f"in_dim is {in_dim}: not {options.num_blocks} blocks of equal width")
        self.branches = nn.ModuleList(nn.Linear(self.dim, options.hidden) for _ in range(options.num_blocks))
        widths = [options.num_blocks * options.hidden] + [options.hidden] * (options.num_layers - 2)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) if options.batch_norm else nn.Identity() for width in widths)
        ends = [*widths[1:], num_classes]
        self.head = nn.ModuleList(nn.Linear(width, end) for width, end in zip(widths, ends, strict=True))

    @classmethod
    def prepare(cls, graph: dgl.DGLGraph, features: Tensor, options: SIGNOptions) -> tuple[dgl.DGLGraph, Tensor]:
        """All blocks side by side, each standardised on request: float32 [num_nodes, num_blocks * dim]."""
        if options.svd is not None:
            features = _truncated_svd(standardize(features) if options.standardize else features, options.svd)
        num_nodes, dim = features.shape
        prepared = features.new_empty(num_nodes, options.num_blocks * dim)
        for i, block in enumerate(cls._blocks(graph, features, options)):
            prepared[:, i * dim : (i + 1) * dim] = standardize(block) if options.standardize else block
        return graph, prepared

    @staticmethod
    def _blocks(graph: dgl.DGLGraph, features: Tensor, options: SIGNOptions) -> Iterator[Tensor]:
        operator = adjacency(graph, options.normalization, options.self_loops)

        def pagerank(x: Tensor) -> Tensor:
            return personalized_pagerank(operator, x, options.alpha, options.iterations)

        if options.identity:
            yield features
        yield from powers(operator, features, options.s)
        yield from powers(pagerank, features, options.p)
        if options.t > 0:  # counting triangles is not free
            yield from powers(triangles(graph), features, options.t)

    def forward(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        options = self.options
        x = F.dropout(x, options.input_dropout, self.training)
        x = torch.cat([branch(block) for branch, block in zip(self.branches, x.split(self.dim, 1), strict=True)], dim=1)
        for norm, layer in zip(self.norms, self.head, strict=True):
            x = layer(F.dropout(F.relu(norm(x)), options.dropout, self.training))
        return x


def _truncated_svd(x: Tensor, rank: int) -> Tensor:
    """X V [num_nodes, rank] for the leading right singular vectors V, at most as many as X has columns.

    V is taken from X^T X, whose size does not grow with the graph; its columns' signs are fixed, so that the result
    is the same everywhere.
    """
    _, vectors = torch.linalg.eigh((x.T @ x).double())  # eigenvalues ascend
    leading = vectors.flip(1)[:, :rank]
    largest = leading.gather(0, leading.abs().argmax(dim=0, keepdim=True))
    return x @ (leading * largest.sign()).to(x.dtype)

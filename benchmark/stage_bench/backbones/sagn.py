"""SAGN (Sun and Wu 2021, arXiv 2104.09376): attention over hops of diffused features."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stage_bench.backbones.base import Backbone
from stage_bench.backbones.options import SAGNOptions
from stage_bench.dgl_library import dgl
from stage_bench.diffusion.recipe import IDENTITY, Recipe, powers_of
from stage_bench.kernels.activation import dropout, norm_relu_dropout
from stage_bench.kernels.products import Linear

_NEGATIVE_SLOPE = 0.2  # of the leaky ReLU on attention scores, as in the authors' code


class SAGN(Backbone[SAGNOptions]):
    """Each node weighs its own hops: H_j = S^j X W_j + b_j for j = 0 ... k, then (section 3 of the paper)

        a_j = softmax_j leaky_relu(H_0 . a_l + H_j . a_r)        Z = sum_j a_j H_j + X W_residual,

    averaged over heads; norm, ReLU, dropout; a linear head. The encoders are one linear layer each, as SIGN's are; the
    authors' code has two. Label propagation and self-training, which the paper adds, are not here.
    """

    prepare_options = ("k", "normalization", "self_loops", "standardize", "storage")
    rowwise = True

    def __init__(self, in_dim: int, num_classes: int, options: SAGNOptions) -> None:
        super().__init__(in_dim, num_classes, options)
        self.dim, rest = divmod(in_dim, options.k + 1)
        if rest:
            raise ValueError(f"in_dim is {in_dim}: not {options.k + 1} hops of equal width")
        width = options.heads * options.hidden
        self.encoders = nn.ModuleList(Linear(self.dim, width) for _ in range(options.k + 1))
        self.residual = Linear(self.dim, width, bias=False)
        self.attention_self = nn.Parameter(torch.empty(1, options.heads, options.hidden))
        self.attention_hop = nn.Parameter(torch.empty(1, options.heads, options.hidden))
        for weight in (self.attention_self, self.attention_hop):
            nn.init.xavier_normal_(weight, gain=nn.init.calculate_gain("relu"))
        widths = [options.hidden] * (options.num_layers - 1)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) if options.batch_norm else nn.Identity() for width in widths)
        ends = [*widths[1:], num_classes]
        self.head = nn.ModuleList(Linear(width, end) for width, end in zip(widths, ends, strict=True))

    @classmethod
    def recipe(cls, options: SAGNOptions) -> Recipe:
        """X, S X, ..., S^k X."""
        return Recipe(
            (IDENTITY, *powers_of("adjacency", options.k)),
            normalization=options.normalization,
            self_loops=options.self_loops,
            standardize=options.standardize,
            storage=options.storage,
        )

    def attention(self, hops: Tensor) -> Tensor:
        """Weights [num_nodes, k + 1, heads] that sum to 1 over hops, of `hops` [num_nodes, k + 1, heads, hidden]."""
        own = (hops[:, :1] * self.attention_self).sum(dim=-1)
        scores = F.leaky_relu(own + (hops * self.attention_hop).sum(dim=-1), _NEGATIVE_SLOPE)
        return scores.softmax(dim=1)

    def forward(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        options = self.options
        x = dropout(x, options.input_dropout, self.training)
        blocks = [block.contiguous() for block in x.split(self.dim, 1)]  # oneDNN is slow on columns of a wider matrix
        encoded = [encoder(block) for encoder, block in zip(self.encoders, blocks, strict=True)]
        hops = torch.stack(encoded, dim=1).unflatten(2, (options.heads, options.hidden))
        weights = F.dropout(self.attention(hops), options.attention_dropout, self.training)
        mixed = torch.einsum("njhd,njh->nhd", hops, weights) + self.residual(blocks[0]).view_as(hops[:, 0])
        out = mixed.mean(dim=1)
        for norm, layer in zip(self.norms, self.head, strict=True):
            known = norm if isinstance(norm, nn.BatchNorm1d) else None
            out = layer(norm_relu_dropout(out, known, options.dropout, self.training))
        return out

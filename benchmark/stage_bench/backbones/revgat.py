"""RevGAT (Li et al. 2021, arXiv 2106.07476), in TAPE's and STAGE's form and in that of OGB's leaderboard."""

from collections.abc import Sequence
from functools import partial, reduce
from operator import add

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stage_bench.backbones.base import Hop, MessagePassing, with_self_loops
from stage_bench.backbones.gat import GATConv, draw_edge_mask
from stage_bench.backbones.options import RevGATOptions
from stage_bench.backbones.propagation import with_degree_roots
from stage_bench.backbones.reversible import Branch, couple
from stage_bench.dgl_library import dgl
from stage_bench.errors import JobError
from stage_bench.kernels.activation import dropout, norm_relu_dropout
from stage_bench.kernels.masks import draw_key

_ACTIVATIONS = {"mish": F.mish, "relu": F.relu}


class RevGATBlock(nn.Module):
    """One f_i of the coupling: batch norm, ReLU, dropout by a given key, attention with a linear residual."""

    def __init__(self, width: int, options: RevGATOptions) -> None:
        super().__init__()
        self.dropout = options.dropout
        self.norm = nn.BatchNorm1d(width) if options.batch_norm else None
        self.conv = GATConv(
            width,
            width // options.heads,
            options.heads,
            use_attn_dst=options.use_attn_dst,
            symmetric_norm=options.symmetric_norm,
            residual=True,
            bias=False,
        )

    def forward(
        self,
        x: Tensor,
        update_statistics: bool,
        *,
        graph: dgl.DGLGraph,
        training: bool,
        key: int,
        edge_mask: Tensor | None,
    ) -> Tensor:
        """[num_src, width] -> [num_dst, width]; a function of its arguments alone, as the reversible chain demands."""
        x = norm_relu_dropout(x, self.norm, self.dropout, training, key, update_statistics)
        out: Tensor = self.conv(graph, x, edge_mask)
        return out.flatten(1)


class RevGAT(MessagePassing[RevGATOptions]):
    """An attention layer, reversible attention layers, then norm, activation, dropout and an attention layer.

    The first and last layer have a linear residual; the last has one head, as in TAPE's model. Every layer and group
    draws its own edge mask; the reversible layers share one dropout mask.
    """

    def __init__(self, in_dim: int, num_classes: int, options: RevGATOptions) -> None:
        super().__init__(in_dim, num_classes, options)
        width = options.hidden * options.heads
        self.first = self._conv(in_dim, options.hidden, options.heads, bias=False)
        self.middle = nn.ModuleList(
            nn.ModuleList(RevGATBlock(width // options.groups, options) for _ in range(options.groups))
            for _ in range(options.num_layers - 2)
        )
        self.norm = nn.BatchNorm1d(width) if options.batch_norm else nn.Identity()
        self.last = self._conv(width, num_classes, 1, bias=True)

    def _conv(self, in_dim: int, out_dim: int, heads: int, bias: bool) -> GATConv:
        options = self.options
        return GATConv(
            in_dim,
            out_dim,
            heads,
            use_attn_dst=options.use_attn_dst,
            symmetric_norm=options.symmetric_norm,
            residual=True,
            bias=bias,
        )

    @classmethod
    def prepare_graph(cls, graph: dgl.DGLGraph, options: RevGATOptions) -> dgl.DGLGraph:
        """Adds self loops, and the roots of the degrees at the nodes."""
        return with_degree_roots(with_self_loops(graph))

    def start(self, x: Tensor) -> Tensor:
        return dropout(x, self.options.input_dropout, self.training)

    def forward(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        x = self._first_hop(graph, self.start(x))
        keys = self._keys()
        layers = [
            [
                Branch(
                    partial(block, graph=graph, training=self.training, key=key, edge_mask=self._edge_mask(graph)),
                    tuple(block.parameters()),
                )
                for block, key in zip(layer, keys, strict=True)  # type: ignore[call-overload]
            ]
            for layer in self.middle
        ]
        return self._last_hop(graph, couple(x, layers, self.options.reversible))

    def forward_blocks(self, blocks: Sequence[dgl.DGLGraph], x: Tensor) -> Tensor:
        """As in the base class.

        Raises:
            JobError: the option `reversible` is on: a block's hops have other nodes before them than after them.
        """
        if self.options.reversible:
            raise JobError("revgat: reversible needs whole graphs; with batching: neighbor set reversible: false")
        return super().forward_blocks(blocks, x)

    def hops(self) -> list[Hop]:
        """One for each group of each reversible layer: what a group adds comes from the neighbours' changed groups."""
        keys = self._keys()
        middle = [
            partial(self._middle_hop, layer[i], i, keys[i])  # type: ignore[index]
            for layer in self.middle
            for i in range(self.options.groups)
        ]
        return [self._first_hop, *middle, self._last_hop]

    def _first_hop(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        out: Tensor = self.first(graph, x, self._edge_mask(graph))
        return out.flatten(1)

    def _middle_hop(self, block: nn.Module, i: int, key: int, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        parts = list(x.chunk(self.options.groups, dim=1))
        argument = parts[i - 1] if i > 0 else reduce(add, parts[1:])
        received = block(argument, True, graph=graph, training=self.training, key=key, edge_mask=self._edge_mask(graph))
        parts = [part[: graph.num_dst_nodes()] for part in parts]
        parts[i] = parts[i] + received
        return torch.cat(parts, dim=1)

    def _last_hop(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        x = _ACTIVATIONS[self.options.activation](self.norm(x))
        x = dropout(x, self.options.dropout, self.training)
        out: Tensor = self.last(graph, x, self._edge_mask(graph))
        return out.mean(dim=1)

    def _keys(self) -> list[int]:
        """Of this forward pass's dropout masks, one a group."""
        drops = self.training and self.options.dropout > 0
        return [draw_key() if drops else 0 for _ in range(self.options.groups)]

    def _edge_mask(self, graph: dgl.DGLGraph) -> Tensor | None:
        return draw_edge_mask(graph, self.options.edge_dropout, self.training)

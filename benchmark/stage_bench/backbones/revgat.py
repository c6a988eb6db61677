"""RevGAT (Li et al. 2021, arXiv 2106.07476) in the form TAPE and STAGE use: no label reuse."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stage_bench.backbones.base import Backbone, with_self_loops
from stage_bench.backbones.gat import GATConv, draw_edge_mask
from stage_bench.backbones.options import RevGATOptions
from stage_bench.backbones.reversible import Branch, couple
from stage_bench.dgl_library import dgl

_MOMENTUM = 0.1  # of the running statistics, torch's default
_ACTIVATIONS = {"mish": F.mish, "relu": F.relu}


class RevGATBlock(nn.Module):
    """One f_i of the coupling: batch norm, ReLU, a given dropout mask, attention with a linear residual."""

    def __init__(self, width: int, options: RevGATOptions) -> None:
        super().__init__()
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
        dropout_mask: Tensor | None,
        edge_mask: Tensor | None,
    ) -> Tensor:
        """[num_nodes, width] -> the same; a function of its arguments alone, as the reversible chain demands."""
        if self.norm is not None:
            x = _batch_norm(self.norm, x, training, update_statistics)
        x = F.relu(x)
        if dropout_mask is not None:
            x = x * dropout_mask
        out: Tensor = self.conv(graph, x, edge_mask)
        return out.flatten(1)


def _batch_norm(norm: nn.BatchNorm1d, x: Tensor, training: bool, update_statistics: bool) -> Tensor:
    # the recomputation must see the statistics of its batch, as the first pass did, but not count the batch again
    if training and not update_statistics:
        return F.batch_norm(x, None, None, norm.weight, norm.bias, True, 0.0, norm.eps)
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, training, _MOMENTUM, norm.eps)


class RevGAT(Backbone[RevGATOptions]):
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
    def prepare(cls, graph: dgl.DGLGraph, features: Tensor, options: RevGATOptions) -> tuple[dgl.DGLGraph, Tensor]:
        """Adds self loops; the features stay as they are."""
        return with_self_loops(graph), features

    def forward(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        options = self.options
        x = F.dropout(x, options.input_dropout, self.training)
        x = self.first(graph, x, self._edge_mask(graph)).flatten(1)
        x = couple(x, self._branches(graph, x), options.reversible)
        x = _ACTIVATIONS[options.activation](self.norm(x))
        x = F.dropout(x, options.dropout, self.training)
        out: Tensor = self.last(graph, x, self._edge_mask(graph))
        return out.mean(dim=1)

    def _branches(self, graph: dgl.DGLGraph, x: Tensor) -> list[list[Branch]]:
        """The reversible layers with this forward pass's masks bound to them; x is [num_nodes, hidden * heads]."""
        masks: list[Tensor | None] = [None] * self.options.groups
        if self.training and self.options.dropout > 0:
            shared = F.dropout(torch.ones_like(x), self.options.dropout)
            masks = list(shared.chunk(self.options.groups, dim=1))
        return [
            [
                Branch(
                    partial(
                        block,
                        graph=graph,
                        training=self.training,
                        dropout_mask=mask,
                        edge_mask=self._edge_mask(graph),
                    ),
                    tuple(block.parameters()),
                )
                for block, mask in zip(layer, masks, strict=True)  # type: ignore[call-overload]
            ]
            for layer in self.middle
        ]

    def _edge_mask(self, graph: dgl.DGLGraph) -> Tensor | None:
        return draw_edge_mask(graph, self.options.edge_dropout, self.training)

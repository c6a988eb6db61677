"""GAT (Velickovic et al. 2018, arXiv 1710.10903), and the attention layer that RevGAT shares."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stage_bench.backbones.base import LayeredBackbone, with_self_loops
from stage_bench.backbones.options import GATOptions
from stage_bench.backbones.propagation import LEFT, RIGHT
from stage_bench.dgl_library import dgl
from stage_bench.kernels import attention, choice
from stage_bench.kernels.masks import draw_key, keep_mask
from stage_bench.kernels.products import Linear

_NEGATIVE_SLOPE = 0.2  # of the leaky ReLU on attention scores, as in the paper


def draw_edge_mask(graph: dgl.DGLGraph, edge_dropout: float, training: bool) -> Tensor | None:
    """Which edges a layer keeps: bool [num_edges], each False with probability `edge_dropout`; None keeps all."""
    if not training or edge_dropout == 0:
        return None
    if choice.current().fused and graph.device.type == "cpu":
        return keep_mask(graph.num_edges(), edge_dropout, draw_key())
    return torch.rand(graph.num_edges(), device=graph.device) >= edge_dropout


def edge_softmax(graph: dgl.DGLGraph, scores: Tensor, edge_mask: Tensor | None = None) -> Tensor:
    """Softmax over the kept in-edges of each node; dropped edges get 0. `scores`: [num_edges, heads, 1]."""
    if edge_mask is None:
        attention: Tensor = dgl.ops.edge_softmax(graph, scores)
        return attention
    kept = edge_mask.view(-1, 1, 1)
    # a finite floor, not -inf: where all in-edges are dropped the softmax is uniform instead of NaN, then made 0
    floor = torch.finfo(scores.dtype).min / 2
    return dgl.ops.edge_softmax(graph, scores.masked_fill(~kept, floor)) * kept


class GATConv(nn.Module):
    """out_i = sum_j a_ij W h_j [+ W_residual h_i] [+ b], where j runs over the in-neighbours of i.

    a_ij = softmax_j leaky_relu(attn_src . W h_j + attn_dst . W h_i): equations 1 to 4 of the paper. Without
    `use_attn_dst` the score depends on the sending node only. With `symmetric_norm` messages are scaled by
    sqrt(in-degree_i / out-degree_j): uniform attention is then GCN's operator (Wang et al. 2021, arXiv 2103.13355).
    The graph carries the two roots (`with_degree_roots`).
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        heads: int,
        *,
        use_attn_dst: bool = True,
        symmetric_norm: bool = False,
        residual: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.symmetric_norm = symmetric_norm
        self.project = Linear(in_dim, heads * out_dim, bias=False)
        self.attn_src = nn.Parameter(torch.empty(1, heads, out_dim))
        self.attn_dst = nn.Parameter(torch.empty(1, heads, out_dim)) if use_attn_dst else None
        self.residual = Linear(in_dim, heads * out_dim, bias=False) if residual else None
        self.bias = nn.Parameter(torch.zeros(1, heads, out_dim)) if bias else None
        for name, weight in self.named_parameters():
            if name != "bias":
                nn.init.xavier_normal_(weight, gain=nn.init.calculate_gain("relu"))

    def forward(self, graph: dgl.DGLGraph, x: Tensor, edge_mask: Tensor | None = None) -> Tensor:
        """[num_src, in_dim] -> [num_dst, heads, out_dim]; `edge_mask` (bool [num_edges]) says which edges count."""
        receiving_x = x[: graph.num_dst_nodes()]
        hidden = self.project(x).unflatten(1, (self.heads, -1))
        if self.symmetric_norm:
            hidden = hidden * graph.srcdata[RIGHT].unsqueeze(2)
        receiving = None
        if self.attn_dst is not None:
            receiving = (hidden[: graph.num_dst_nodes()] * self.attn_dst).sum(dim=-1, keepdim=True)
        if choice.fused(hidden):
            out = attention.attend(graph, hidden, self.attn_src, receiving, edge_mask)
        else:
            scores = dgl.ops.copy_u(graph, (hidden * self.attn_src).sum(dim=-1, keepdim=True))
            if receiving is not None:
                scores = scores + dgl.ops.copy_v(graph, receiving)
            weights = edge_softmax(graph, F.leaky_relu(scores, _NEGATIVE_SLOPE), edge_mask)
            out = dgl.ops.u_mul_e_sum(graph, hidden, weights)
        if self.symmetric_norm:
            out = out * graph.dstdata[LEFT].unsqueeze(2)
        if self.residual is not None:
            out = out + self.residual(receiving_x).view_as(out)
        if self.bias is not None:
            out = out + self.bias
        return out


class GAT(LayeredBackbone[GATOptions]):
    """Attention layers on the graph with self loops; heads are concatenated, in the last layer averaged."""

    @classmethod
    def prepare_graph(cls, graph: dgl.DGLGraph, options: GATOptions) -> dgl.DGLGraph:
        """Adds self loops."""
        return with_self_loops(graph)

    def build_layer(self, i: int, in_dim: int, out_dim: int) -> tuple[nn.Module, int]:
        heads = self.options.heads
        return GATConv(in_dim, out_dim, heads), out_dim if self._is_last(i) else heads * out_dim

    def apply_layer(self, i: int, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        out: Tensor = self.layers[i](graph, x, draw_edge_mask(graph, self.options.edge_dropout, self.training))
        return out.mean(dim=1) if self._is_last(i) else out.flatten(1)

    def _is_last(self, i: int) -> bool:
        return i == self.options.num_layers - 1

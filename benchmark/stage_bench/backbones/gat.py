"""GAT (Velickovic et al. 2018, arXiv 1710.10903), and the attention layer that RevGAT shares."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stage_bench.backbones.base import LayeredBackbone, with_self_loops
from stage_bench.backbones.options import GATOptions
from stage_bench.dgl_library import dgl

_NEGATIVE_SLOPE = 0.2  # of the leaky ReLU on attention scores, as in the paper


def draw_edge_mask(graph: dgl.DGLGraph, edge_dropout: float, training: bool) -> Tensor | None:
    """Which edges a layer keeps: bool [num_edges], each False with probability `edge_dropout`; None keeps all."""
    if not training or edge_dropout == 0:
        return None
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
        self.project = nn.Linear(in_dim, heads * out_dim, bias=False)
        self.attn_src = nn.Parameter(torch.empty(1, heads, out_dim))
        self.attn_dst = nn.Parameter(torch.empty(1, heads, out_dim)) if use_attn_dst else None
        self.residual = nn.Linear(in_dim, heads * out_dim, bias=False) if residual else None
        self.bias = nn.Parameter(torch.zeros(1, heads, out_dim)) if bias else None
        for name, weight in self.named_parameters():
            if name != "bias":
                nn.init.xavier_normal_(weight, gain=nn.init.calculate_gain("relu"))

    def forward(self, graph: dgl.DGLGraph, x: Tensor, edge_mask: Tensor | None = None) -> Tensor:
        """[num_nodes, in_dim] -> [num_nodes, heads, out_dim]; `edge_mask` (bool [num_edges]) says which edges count."""
        hidden = self.project(x).unflatten(1, (self.heads, -1))
        if self.symmetric_norm:
            hidden = hidden * graph.out_degrees().clamp(min=1).to(x.dtype).rsqrt().view(-1, 1, 1)
        source = (hidden * self.attn_src).sum(dim=-1, keepdim=True)
        if self.attn_dst is None:
            scores = dgl.ops.copy_u(graph, source)
        else:
            scores = dgl.ops.u_add_v(graph, source, (hidden * self.attn_dst).sum(dim=-1, keepdim=True))
        attention = edge_softmax(graph, F.leaky_relu(scores, _NEGATIVE_SLOPE), edge_mask)
        out: Tensor = dgl.ops.u_mul_e_sum(graph, hidden, attention)
        if self.symmetric_norm:
            out = out * graph.in_degrees().clamp(min=1).to(x.dtype).sqrt().view(-1, 1, 1)
        if self.residual is not None:
            out = out + self.residual(x).view_as(out)
        if self.bias is not None:
            out = out + self.bias
        return out


class GAT(LayeredBackbone[GATOptions]):
    """Attention layers on the graph with self loops; heads are concatenated, in the last layer averaged."""

    @classmethod
    def prepare(cls, graph: dgl.DGLGraph, features: Tensor, options: GATOptions) -> tuple[dgl.DGLGraph, Tensor]:
        """Adds self loops; the features stay as they are."""
        return with_self_loops(graph), features

    def build_layer(self, in_dim: int, out_dim: int, last: bool) -> tuple[nn.Module, int]:
        heads = self.options.heads
        return GATConv(in_dim, out_dim, heads), out_dim if last else heads * out_dim

    def apply_layer(self, layer: nn.Module, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        out: Tensor = layer(graph, x, draw_edge_mask(graph, self.options.edge_dropout, self.training))
        return out.mean(dim=1) if layer is self.layers[-1] else out.flatten(1)

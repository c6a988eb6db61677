"""APPNP (Klicpera et al. 2019, arXiv 1810.05997): predict first, then propagate the predictions."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stage_bench.backbones.base import Hop, LayeredBackbone
from stage_bench.backbones.options import APPNPOptions
from stage_bench.backbones.propagation import LEFT, RIGHT, estimate, propagate, with_scales
from stage_bench.dgl_library import dgl
from stage_bench.kernels.products import Linear


class APPNP(LayeredBackbone[APPNPOptions]):
    """H = MLP(X); Z_0 = H, then k times Z <- (1 - alpha) S Z + alpha H (eq. 5 of the paper); Z_k are the logits.

    S = D^-1/2 (A + I) D^-1/2. Gradients flow through all k iterations. With `edge_dropout`, each iteration in training
    keeps an entry of S with probability 1 - p and scales what is left by 1 / (1 - p).
    """

    @property
    def first_hop(self) -> int:  # type: ignore[override]
        return len(self.layers)

    @classmethod
    def prepare_graph(cls, graph: dgl.DGLGraph, options: APPNPOptions) -> dgl.DGLGraph:
        """The scales of S at the nodes."""
        return with_scales(graph, "symmetric", self_loops=True)

    def build_layer(self, i: int, in_dim: int, out_dim: int) -> tuple[nn.Module, int]:
        return Linear(in_dim, out_dim), out_dim

    def apply_layer(self, i: int, graph: dgl.DGLGraph | None, x: Tensor) -> Tensor:
        out: Tensor = self.layers[i](x)
        return out

    def hops(self) -> list[Hop]:
        return [partial(self._iteration, i) for i in range(self.options.k)]

    def _iteration(self, i: int, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        """Z and H travel side by side, [num_src, 2 * num_classes] to [num_dst, 2 * num_classes].

        The first iteration takes H alone, and the last returns Z alone.
        """
        z, h = (x, x) if i == 0 else x.chunk(2, dim=1)
        h = h[: graph.num_dst_nodes()]
        z = torch.lerp(self._propagate(graph, z), h, self.options.alpha)
        return z if i == self.options.k - 1 else torch.cat([z, h], dim=1)

    def _propagate(self, graph: dgl.DGLGraph, z: Tensor) -> Tensor:
        """S z, with its entries thinned out in training: [num_src, num_classes] to [num_dst, num_classes]."""
        if not self.training or self.options.edge_dropout == 0:
            return propagate(graph, z)
        scaled = z * graph.srcdata[RIGHT]
        edges, loops = (
            F.dropout(scaled.new_ones(count, 1), self.options.edge_dropout)
            for count in (graph.num_edges(), graph.num_dst_nodes())
        )
        received = estimate(graph, dgl.ops.u_mul_e_sum(graph, scaled, edges))
        out: Tensor = received + scaled[: graph.num_dst_nodes()] * loops
        return out * graph.dstdata[LEFT]

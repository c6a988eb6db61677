"""The fixed sparse products of message passing, on graphs and on sampled blocks of them.

An operator is two scales at the nodes (diffusion/operators.py), which travel with the graph as node data, so that a
block knows the degrees that its nodes have in the whole graph.
"""

import torch
from torch import Tensor

from stage_bench.dgl_library import dgl
from stage_bench.diffusion.operators import Normalization, adjacency

LEFT, RIGHT = "left", "right"  # float32 [num_nodes, 1]: of the receiving and of the sending node
LOOPS = "loops"  # the same, all ones: where every node also receives from itself
SHARE = "share"  # float32 [num_dst, 1], on sampled blocks: in-degree in the whole graph / in-degree in the block


def with_scales(graph: dgl.DGLGraph, normalization: Normalization, self_loops: bool) -> dgl.DGLGraph:
    """A copy of the graph that carries an operator's scales; the original is not changed."""
    operator = adjacency(graph, normalization, self_loops)
    graph = graph.local_var()
    if operator.left is not None:
        graph.ndata[LEFT] = operator.left
    if operator.right is not None:
        graph.ndata[RIGHT] = operator.right
    if self_loops:
        graph.ndata[LOOPS] = torch.ones(graph.num_nodes(), 1, device=graph.device)
    return graph


def propagate(graph: dgl.DGLGraph, x: Tensor) -> Tensor:
    """L (A + I) R x, or without I: [num_src, dim] to [num_dst, dim]; L and R are the graph's scales.

    On a block of sampled in-edges, all equally likely, the result is an unbiased estimate of it.
    """
    scaled = x * graph.srcdata[RIGHT] if RIGHT in graph.srcdata else x
    out: Tensor = estimate(graph, dgl.ops.copy_u_sum(graph, scaled))
    # in place: every copy costs as much as a tenth of the product
    if LOOPS in graph.dstdata:
        out = out.add_(scaled[: graph.num_dst_nodes()])
    return out.mul_(graph.dstdata[LEFT]) if LEFT in graph.dstdata else out


def estimate(graph: dgl.DGLGraph, received: Tensor) -> Tensor:
    """The sum over all in-edges from the one over a block's, [num_dst, dim], which is changed; I is in neither."""
    return received.mul_(graph.dstdata[SHARE]) if SHARE in graph.dstdata else received


def with_degree_roots(graph: dgl.DGLGraph) -> dgl.DGLGraph:
    """A copy of the graph with sqrt(in-degree) of the receiving and 1 / sqrt(out-degree) of the sending node."""
    graph = graph.local_var()
    graph.ndata[LEFT] = graph.in_degrees().clamp(min=1).to(torch.float32).sqrt().unsqueeze(1)
    graph.ndata[RIGHT] = graph.out_degrees().clamp(min=1).to(torch.float32).rsqrt().unsqueeze(1)
    return graph

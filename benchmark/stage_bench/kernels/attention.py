"""Edge softmax and the weighted sum over in-neighbours in one pass over the edges, forward and backward.

out_i = sum_j a_ij h_j,  a_ij = softmax_j leaky_relu(s_j + t_i),  j over the kept in-edges of i (Velickovic et al. 2018,
arXiv 1710.10903, eq. 1 to 4). Nothing is stored for each edge: the backward pass computes a_ij again from each node's
largest score and sum of exponentials.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from stage_bench.dgl_library import dgl
from stage_bench.kernels import row_blocks
from stage_bench.kernels.compiling import njit

_NEGATIVE_SLOPE = np.float32(0.2)  # of the leaky ReLU on attention scores, as in the paper


@dataclass(frozen=True)
class Edges:
    """A graph's (or block's) edges by receiving node and by sending node.

    into, senders, into_ids: node i receives along the edges into[i]:into[i+1] from `senders`, whose numbers are
    `into_ids`. outof, receivers, outof_ids: the same by sending node.
    """

    into: np.ndarray
    senders: np.ndarray
    into_ids: np.ndarray
    outof: np.ndarray
    receivers: np.ndarray
    outof_ids: np.ndarray


_known: WeakKeyDictionary[Any, Edges] = WeakKeyDictionary()


def edges_of(graph: dgl.DGLGraph) -> Edges:
    """Kept as long as the graph."""
    known = _known.get(graph)
    if known is None or len(known.senders) != graph.num_edges():  # edges were added or taken away since
        arrays = [array.numpy() for array in (*graph.adj_tensors("csc"), *graph.adj_tensors("csr"))]
        for place in (2, 5):  # DGL leaves the numbers out where they are 0, 1, 2, ...
            if len(arrays[place]) < len(arrays[place - 1]):
                arrays[place] = np.arange(len(arrays[place - 1]), dtype=arrays[place - 1].dtype)
        _known[graph] = Edges(*arrays)
    return _known[graph]


def attend(
    graph: dgl.DGLGraph, hidden: Tensor, attn_src: Tensor, receiving: Tensor | None, edge_mask: Tensor | None
) -> Tensor:
    """float32 [num_dst, heads, dim].

    hidden: float32 [num_src, heads, dim]; attn_src: [1, heads, dim], so that s = sum(hidden * attn_src); receiving: t,
    [num_dst, heads, 1], or None for 0; edge_mask: bool [num_edges], which edges are kept. A node with none gets 0.
    """
    out: Tensor = _Attend.apply(edges_of(graph), hidden, attn_src, receiving, edge_mask)
    return out


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, edges: Edges, hidden: Tensor, attn_src: Tensor, receiving: Tensor | None, edge_mask: Tensor | None
    ) -> Tensor:
        hidden = hidden.contiguous()
        senders, heads, dim = hidden.shape
        rows = len(edges.into) - 1
        h, attn = hidden.detach().numpy(), attn_src.detach().numpy()[0]
        sending = np.empty((senders, heads), np.float32)
        row_blocks.run(_scores, senders, h, attn, sending)
        taken = np.zeros((rows, heads), np.float32) if receiving is None else receiving.detach().numpy()[:, :, 0]
        mask = _ALL if edge_mask is None else edge_mask.numpy()
        out = torch.empty(rows, heads, dim)
        largest, sums = np.empty((rows, heads), np.float32), np.empty((rows, heads), np.float32)
        row_blocks.run(
            _gather,
            rows,
            edges.into,
            edges.senders,
            edges.into_ids,
            mask,
            h,
            sending,
            taken,
            largest,
            sums,
            out.numpy(),
        )
        ctx.save_for_backward(hidden, attn_src, out)
        ctx.edges, ctx.mask, ctx.sending, ctx.taken = edges, mask, sending, taken
        ctx.largest, ctx.sums = largest, sums
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden, attn_src, out = ctx.saved_tensors
        edges = ctx.edges
        senders, heads, dim = hidden.shape
        grad = grad.contiguous()
        h, attn, g = hidden.detach().numpy(), attn_src.detach().numpy()[0], grad.numpy()
        rows = len(g)
        inner = np.empty((rows, heads), np.float32)
        row_blocks.run(_inner_products, rows, g, out.detach().numpy(), inner)
        needs_receiving = ctx.needs_input_grad[3]
        by_edge = np.zeros((len(edges.senders) if needs_receiving else 0, heads), np.float32)
        grad_hidden = torch.empty_like(hidden)
        grad_attn = np.zeros((row_blocks.count(senders), heads, dim))
        row_blocks.run(
            _scatter,
            senders,
            edges.outof,
            edges.receivers,
            edges.outof_ids,
            ctx.mask,
            h,
            attn,
            g,
            ctx.sending,
            ctx.taken,
            ctx.largest,
            ctx.sums,
            inner,
            by_edge,
            grad_hidden.numpy(),
            grad_attn,
        )
        grad_receiving = None
        if needs_receiving:
            grad_receiving = torch.empty(rows, heads, 1)
            row_blocks.run(_sum_edges, rows, edges.into, edges.into_ids, by_edge, grad_receiving.numpy()[:, :, 0])
        grad_attn_src = torch.from_numpy(grad_attn.sum(axis=0, keepdims=True).astype(np.float32))
        return None, grad_hidden, grad_attn_src, grad_receiving, None


_ALL = np.ones(0, dtype=np.bool_)  # an empty mask keeps every edge
_FAST = {"contract", "reassoc"}  # sums of products may be split; what is no number stays so


@njit(nogil=True, cache=True, fastmath=_FAST)
def _scores(block: int, begin: int, end: int, h: np.ndarray, attn: np.ndarray, out: np.ndarray) -> None:
    _, heads, dim = h.shape
    for i in range(begin, end):
        for head in range(heads):
            total = np.float32(0)
            for d in range(dim):
                total += h[i, head, d] * attn[head, d]
            out[i, head] = total


@njit(nogil=True, cache=True, fastmath=_FAST)
def _inner_products(block: int, begin: int, end: int, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    _, heads, dim = a.shape
    for i in range(begin, end):
        for head in range(heads):
            total = np.float32(0)
            for d in range(dim):
                total += a[i, head, d] * b[i, head, d]
            out[i, head] = total


@njit(inline="always")
def _leaky(score: Any) -> Any:
    return score if score > 0 else score * _NEGATIVE_SLOPE


@njit(nogil=True, cache=True, fastmath=_FAST)
def _gather(
    block: int,
    begin: int,
    end: int,
    into: np.ndarray,
    senders: np.ndarray,
    ids: np.ndarray,
    mask: np.ndarray,
    h: np.ndarray,
    sending: np.ndarray,
    taken: np.ndarray,
    largest: np.ndarray,
    sums: np.ndarray,
    out: np.ndarray,
) -> None:
    _, heads, dim = h.shape
    for i in range(begin, end):
        largest[i, :] = -np.inf
        sums[i, :] = 0
        out[i, :, :] = 0
        for edge in range(into[i], into[i + 1]):
            if len(mask) == 0 or mask[ids[edge]]:
                for head in range(heads):
                    score = _leaky(sending[senders[edge], head] + taken[i, head])
                    if not score <= largest[i, head]:
                        largest[i, head] = score
        for edge in range(into[i], into[i + 1]):
            if len(mask) == 0 or mask[ids[edge]]:
                j = senders[edge]
                for head in range(heads):
                    weight = np.exp(_leaky(sending[j, head] + taken[i, head]) - largest[i, head])
                    sums[i, head] += weight
                    for d in range(dim):
                        out[i, head, d] += weight * h[j, head, d]
        for head in range(heads):
            if sums[i, head] != 0:
                share = np.float32(1) / sums[i, head]
                sums[i, head] = share
                for d in range(dim):
                    out[i, head, d] *= share


@njit(nogil=True, cache=True, fastmath=_FAST)
def _scatter(
    block: int,
    begin: int,
    end: int,
    outof: np.ndarray,
    receivers: np.ndarray,
    ids: np.ndarray,
    mask: np.ndarray,
    h: np.ndarray,
    attn: np.ndarray,
    grad: np.ndarray,
    sending: np.ndarray,
    taken: np.ndarray,
    largest: np.ndarray,
    shares: np.ndarray,
    inner: np.ndarray,
    by_edge: np.ndarray,
    grad_h: np.ndarray,
    grad_attn: np.ndarray,
) -> None:
    """With g the gradient of out: dh_j = sum_i a_ij g_i, and of a score a_ij (g_i . h_j - g_i . out_i)."""
    _, heads, dim = h.shape
    grad_sending = np.empty(heads, np.float32)
    for j in range(begin, end):
        grad_h[j, :, :] = 0
        grad_sending[:] = 0
        for edge in range(outof[j], outof[j + 1]):
            if len(mask) == 0 or mask[ids[edge]]:
                i = receivers[edge]
                for head in range(heads):
                    score = sending[j, head] + taken[i, head]
                    weight = np.exp(_leaky(score) - largest[i, head]) * shares[i, head]
                    product = np.float32(0)
                    for d in range(dim):
                        grad_h[j, head, d] += weight * grad[i, head, d]
                        product += grad[i, head, d] * h[j, head, d]
                    change = weight * (product - inner[i, head])
                    if score <= 0:
                        change *= _NEGATIVE_SLOPE
                    grad_sending[head] += change
                    if len(by_edge) > 0:
                        by_edge[ids[edge], head] = change
        for head in range(heads):
            for d in range(dim):
                grad_attn[block, head, d] += grad_sending[head] * h[j, head, d]
                grad_h[j, head, d] += grad_sending[head] * attn[head, d]


@njit(nogil=True, cache=True)
def _sum_edges(
    block: int, begin: int, end: int, into: np.ndarray, ids: np.ndarray, by_edge: np.ndarray, out: np.ndarray
) -> None:
    for i in range(begin, end):
        out[i, :] = 0
        for edge in range(into[i], into[i + 1]):
            for head in range(by_edge.shape[1]):
                out[i, head] += by_edge[ids[edge], head]

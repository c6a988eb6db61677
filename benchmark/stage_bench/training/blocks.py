"""Blocks: receiving nodes, some or all of their in-edges, and the nodes that send along these.

DGL's sampler has a generator for each thread, seeded by when the thread first asked for one: the same seed draws other
edges with another number of threads, and in the second run of a process. Here an edge is drawn by a counter and a key
from torch's generator, in one thread, so a seed says everything.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from stage_bench.backbones.propagation import SHARE
from stage_bench.dgl_library import dgl
from stage_bench.kernels import masks
from stage_bench.kernels.compiling import njit


class Blocks:
    """Makes blocks of one graph, one call at a time.

    A block carries the graph's node data at both ends, so what depends on degrees depends on those of the whole graph.
    A node's self loop is always part of its block, and no fan-out counts it.
    """

    def __init__(self, graph: dgl.DGLGraph) -> None:
        self.graph = graph
        indptr, indices, _ = (tensor.cpu().numpy() for tensor in graph.adj_tensors("csc"))
        receivers = np.repeat(np.arange(len(indptr) - 1, dtype=indices.dtype), np.diff(indptr))
        loops = indices == receivers
        self._loops = np.zeros(0, dtype=np.bool_)  # empty: no node has one
        if loops.any():
            self._loops = np.zeros(len(indptr) - 1, dtype=np.bool_)
            self._loops[receivers[loops]] = True
            indptr = np.concatenate([[0], np.cumsum(np.bincount(receivers[~loops], minlength=len(indptr) - 1))])
            indices = indices[~loops]
        self.indptr, self.indices = indptr, indices
        self._place = np.full(len(indptr) - 1, -1, dtype=indices.dtype)
        self._taken = np.zeros(int(np.diff(indptr).max(initial=0)), dtype=np.bool_)

    def make(self, nodes: Tensor, fanout: int = -1, key: int = 0) -> tuple[dgl.DGLGraph, Tensor]:
        """The block of receiving `nodes` (int64, each once), and its sending nodes (int64): `nodes`, then the others.

        fanout: in-edges of a node, drawn without replacement and all equally likely; -1: all of them. Where it is not
        -1, the block carries in-degree / sampled in-degree as `SHARE`, float32 [num_dst, 1] (1 for a node without
        in-edges).
        key: from `masks.draw_key`; the same arguments give the same block.
        """
        receiving = nodes.cpu().numpy()
        ends, local, sending = _choose(
            self.indptr, self.indices, self._loops, receiving, fanout, np.uint64(key), self._place, self._taken
        )
        edges = tuple(torch.from_numpy(array) for array in (ends, local, np.arange(len(local), dtype=local.dtype)))
        block = dgl.create_block(("csc", edges), num_src_nodes=len(sending), num_dst_nodes=len(receiving))
        block = block.to(self.graph.device)
        senders = torch.from_numpy(sending).to(self.graph.device)
        for name, column in self.graph.ndata.items():
            block.srcdata[name] = column[senders]
            block.dstdata[name] = block.srcdata[name][: len(nodes)]
        if fanout >= 0:
            degrees = (self.indptr[receiving + 1] - self.indptr[receiving]).astype(np.float32)
            share = degrees / np.clip(degrees, 1, fanout)
            share[degrees == 0] = 1
            block.dstdata[SHARE] = torch.from_numpy(share).unsqueeze(1).to(self.graph.device)
        return block, senders

    def senders(self, nodes: Tensor) -> Tensor:
        """The nodes (int64, sorted) with an edge to one of `nodes`, and `nodes` themselves."""
        reached = np.zeros(len(self.indptr) - 1, dtype=np.bool_)
        _mark(self.indptr, self.indices, nodes.cpu().numpy(), reached)
        return torch.from_numpy(np.flatnonzero(reached)).to(nodes.device)


@njit(nogil=True, cache=True)
def _choose(
    indptr: np.ndarray,
    indices: np.ndarray,
    loops: np.ndarray,
    nodes: np.ndarray,
    fanout: int,
    key: Any,
    place: np.ndarray,
    taken: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Floyd's algorithm at each node (Bentley and Floyd 1987); senders are numbered as they come.

    place: -1 for every node, and taken: False for every in-edge of the largest node, both left so.
    """
    count = len(nodes)
    ends = np.zeros(count + 1, indices.dtype)
    for i in range(count):
        degree = indptr[nodes[i] + 1] - indptr[nodes[i]]
        sampled = degree if fanout < 0 else min(degree, fanout)
        ends[i + 1] = ends[i] + sampled + (1 if len(loops) > 0 and loops[nodes[i]] else 0)
    local = np.empty(ends[count], indices.dtype)
    sending = np.empty(min(count + len(local), len(place)), np.int64)
    for i in range(count):
        place[nodes[i]] = i
        sending[i] = nodes[i]
    known = count
    picks = np.empty(max(fanout, 0), np.int64)
    for i in range(count):
        node = nodes[i]
        begin = indptr[node]
        degree = indptr[node + 1] - begin
        edge = ends[i]
        if len(loops) > 0 and loops[node]:
            local[edge] = i
            edge += 1
        everything = fanout < 0 or degree <= fanout
        for j in range(degree if everything else fanout):
            pick: Any = j
            if not everything:
                last = degree - fanout + j
                # of 2^32 hashes: uneven by at most degree / 2^32
                pick = np.int64((masks.hashed(key, edge) * np.uint64(last + 1)) >> np.uint64(32))
                if taken[pick]:
                    pick = last
                taken[pick] = True
                picks[j] = pick
            sender = indices[begin + pick]
            if place[sender] < 0:
                place[sender] = known
                sending[known] = sender
                known += 1
            local[edge] = place[sender]
            edge += 1
        if not everything:
            for j in range(fanout):
                taken[picks[j]] = False
    for i in range(known):
        place[sending[i]] = -1
    return ends, local, sending[:known]


@njit(nogil=True, cache=True)
def _mark(indptr: np.ndarray, indices: np.ndarray, nodes: np.ndarray, reached: np.ndarray) -> None:
    for node in nodes:
        reached[node] = True
        for edge in range(indptr[node], indptr[node + 1]):
            reached[indices[edge]] = True

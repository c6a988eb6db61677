"""The in-edges of every node, in memory or in files larger than it, and products with them in blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stage_bench.dgl_library import dgl
from stage_bench.diffusion.rows import MappedRows
from stage_bench.errors import StageBenchError

# A block's sums stay in the processor's cache until they are scaled; a block's edges are copied once or twice by DGL.
_FLOATS_OF_A_BLOCK = 1 << 21
_EDGES_OF_A_BLOCK = 1 << 22


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Node i receives from `indices[indptr[i]:indptr[i + 1]]`.

    indptr: int64 [num_nodes + 1]; indices: int32 [num_edges], perhaps in a file; weights: float32 [num_edges] or None.
    """

    indptr: Tensor
    indices: Tensor | MappedRows
    weights: Tensor | None = None

    @property
    def num_nodes(self) -> int:
        return len(self.indptr) - 1

    @property
    def num_edges(self) -> int:
        return int(self.indptr[-1])

    @property
    def in_memory(self) -> bool:
        return isinstance(self.indices, Tensor)

    def sources(self, start: int, stop: int) -> Tensor:
        """Where the edges `start` to `stop` come from: int32 [stop - start]."""
        if isinstance(self.indices, Tensor):
            return self.indices[start:stop]
        return torch.from_numpy(self.indices.read(start, stop).astype(np.int32, copy=False))

    def row_blocks(self, columns: int) -> Iterator[tuple[int, int]]:
        """Ranges of nodes whose products with `columns` columns are made at once."""
        # a device other than the processor has no use for small blocks
        rows = max(1, _FLOATS_OF_A_BLOCK // columns) if self.indptr.device.type == "cpu" else self.num_nodes
        start = 0
        while start < self.num_nodes:
            last = int(torch.searchsorted(self.indptr, self.indptr[start] + _EDGES_OF_A_BLOCK, right=True)) - 1
            stop = min(start + rows, self.num_nodes, max(last, start + 1))
            yield start, stop
            start = stop

    def sums(self, x: Tensor) -> Iterator[tuple[int, int, Tensor]]:
        """(start, stop, W x of these rows), W the matrix of weights (1 where there are none).

        x and the sums: float32 [num_nodes, columns] and [stop - start, columns].
        """
        for start, stop in self.row_blocks(x.shape[1]):
            indptr = self.indptr[start : stop + 1]
            first, last = int(indptr[0]), int(indptr[-1])
            # an edge's number is its place; DGL's weighted kernels do not take that for granted, the others do
            ids = torch.arange(last - first if self.weights is not None else 0, device=indptr.device)
            edges = ((indptr - first).to(torch.int32), self.sources(first, last), ids.to(torch.int32))
            block = dgl.create_block(("csc", edges), num_src_nodes=self.num_nodes, num_dst_nodes=stop - start)
            if self.weights is None:
                yield start, stop, dgl.ops.copy_u_sum(block, x)
            else:
                yield start, stop, dgl.ops.u_mul_e_sum(block, x, self.weights[first:last].unsqueeze(1))

    def in_degrees(self) -> Tensor:
        """int64 [num_nodes]"""
        return self.indptr.diff()

    def out_degrees(self) -> Tensor:
        """int64 [num_nodes]"""
        degrees = torch.zeros_like(self.indptr[1:])
        for start in range(0, self.num_edges, _EDGES_OF_A_BLOCK):
            sources = self.sources(start, min(start + _EDGES_OF_A_BLOCK, self.num_edges))
            degrees.index_add_(0, sources, degrees.new_ones(1).expand(len(sources)))
        return degrees


def of_graph(graph: dgl.DGLGraph) -> Neighbours:
    """Of a homogeneous graph, on its device."""
    indptr, indices, _ = graph.adj_tensors("csc")
    return Neighbours(indptr.to(torch.int64), indices.to(torch.int32))


def of_files(folder: Path) -> Neighbours:
    """Of `indptr.npy`, int64 [num_nodes + 1], and `indices.npy`, int32 or int64 [num_edges], which stays on the disk.

    Raises:
        StageBenchError: the two are not there or do not fit each other.
    """
    arrays: dict[str, Any] = {}
    for name in ("indptr", "indices"):
        try:
            arrays[name] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise StageBenchError(f"{folder / name}.npy cannot be read as an array: {error}") from None
        if arrays[name].ndim != 1 or arrays[name].dtype not in (np.int32, np.int64):
            raise StageBenchError(f"{folder / name}.npy: one dimension of int32 or int64 is needed")
    indptr = torch.from_numpy(np.array(arrays["indptr"], dtype=np.int64))
    if len(indptr) == 0 or indptr[0] != 0 or bool((indptr.diff() < 0).any()):
        raise StageBenchError(f"{folder}/indptr.npy must begin with 0 and never descend")
    if int(indptr[-1]) != len(arrays["indices"]):
        raise StageBenchError(
            f"{folder}: indptr.npy ends with {int(indptr[-1]):,}, but indices.npy holds {len(arrays['indices']):,}"
        )
    mapped = MappedRows(arrays["indices"])
    neighbours = Neighbours(indptr, mapped)
    for start in range(0, neighbours.num_edges, _EDGES_OF_A_BLOCK):
        # as stored: an id beyond 2^31 would change its value in 32 bits
        ids = mapped.read(start, min(start + _EDGES_OF_A_BLOCK, neighbours.num_edges))
        if ids.min() < 0 or ids.max() >= neighbours.num_nodes:
            raise StageBenchError(f"{folder}/indices.npy names nodes outside 0 to {neighbours.num_nodes - 1:,}")
    return neighbours

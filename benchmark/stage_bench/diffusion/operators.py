"""Sparse operators on node features: normalised adjacency, personalised PageRank, triangles.

A normalisation is two vectors that scale rows, never weights on the edges: DGL's unweighted sum is several times
faster than its weighted one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from stage_bench.dgl_library import dgl
from stage_bench.diffusion.columns import moments, parts_of
from stage_bench.diffusion.recipe import Normalization as Normalization

# scipy multiplies A by A in blocks of rows with about this many scalar products each: a few hundred MB at a time
_PRODUCTS_IN_A_BLOCK = 20_000_000


@dataclass(frozen=True, eq=False)
class Operator:
    """A sparse matrix L (W + I) R that multiplies node features; row i gathers over the in-edges of node i.

    W holds `weights` (1 where there are none) at (i, j) for every edge j -> i; I is there with `self_loops`;
    L and R are the diagonals `left` and `right`: float32 [num_nodes, 1], the identity where None.
    """

    graph: dgl.DGLGraph
    left: Tensor | None = None
    right: Tensor | None = None
    self_loops: bool = False
    weights: Tensor | None = None  # float32 [num_edges]

    def __call__(self, x: Tensor) -> Tensor:
        """Multiply `x`, float32 [num_nodes, dim]; the result has the same shape and dtype."""
        scaled = x if self.right is None else x * self.right
        if self.weights is None:
            result: Tensor = dgl.ops.copy_u_sum(self.graph, scaled)
        else:
            result = dgl.ops.u_mul_e_sum(self.graph, scaled, self.weights.unsqueeze(1))
        # in place: on large graphs every copy of the features counts
        if self.self_loops:
            result += scaled
        if self.left is not None:
            result *= self.left
        return result


def adjacency(graph: dgl.DGLGraph, normalization: Normalization = "symmetric", self_loops: bool = True) -> Operator:
    """The adjacency matrix A (A + I with `self_loops`), where A_ij = 1 for every edge j -> i, normalised.

    `graph` is homogeneous, without self loops or parallel edges, and holds both directions of an undirected edge.
    * symmetric: D^-1/2 A D^-1/2 (Kipf and Welling 2017, arXiv 1609.02907, eq. 2). For directed graphs the left D
      holds in-degrees, the right one out-degrees.
    * row: D^-1 A with in-degrees: the mean over the in-neighbours, a random walk; rows sum to 1.
    * column: A D^-1 with out-degrees; columns sum to 1.
    * none: A.
    A node without edges has a row (and column) of zeros.
    """
    left, right = scales(graph.in_degrees, graph.out_degrees, normalization, self_loops)
    return Operator(graph, left, right, self_loops)


def scales(
    in_degrees: Callable[[], Tensor],
    out_degrees: Callable[[], Tensor],
    normalization: Normalization,
    self_loops: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """The diagonals `left` and `right` of an `Operator`, from degrees that do not count self loops."""

    def rows(degrees: Tensor, exponent: float) -> Tensor:
        degrees = (degrees + int(self_loops)).to(torch.float32)
        # whatever stands at degree 0 multiplies nothing; 0 keeps infinities out of the product
        return torch.where(degrees > 0, degrees.clamp(min=1) ** exponent, 0.0).unsqueeze(1)

    if normalization == "symmetric":
        return rows(in_degrees(), -0.5), rows(out_degrees(), -0.5)
    if normalization == "row":
        return rows(in_degrees(), -1.0), None
    if normalization == "column":
        return None, rows(out_degrees(), -1.0)
    if normalization == "none":
        return None, None
    raise ValueError(f"normalization {normalization!r}: expected symmetric, row, column or none")


def triangles(graph: dgl.DGLGraph) -> Operator:
    """W = A * A^2 elementwise: an edge weighs the triangles it is in; then D^-1/2 W D^-1/2 with D the row sums of W.

    The operator of SIGN's third kind (Frasca et al. 2020, arXiv 2004.11198, section 4). Edges count as undirected,
    once, and self loops do not count. Rows of nodes in no triangle are zero.
    """
    indptr, indices, _ = graph.adj_tensors("csc")
    weighted = triangle_matrix(indptr.cpu().numpy(), indices.cpu().numpy())
    rows = torch.from_numpy(weighted.indptr)
    # an edge's number is its place, which DGL's weighted kernels do not take for granted
    edges = (rows, torch.from_numpy(weighted.indices), torch.arange(weighted.nnz, dtype=rows.dtype))
    weighted_graph = dgl.graph(("csc", edges), num_nodes=graph.num_nodes()).to(graph.device)
    return Operator(weighted_graph, weights=torch.from_numpy(weighted.data).to(graph.device))


def triangle_matrix(indptr: np.ndarray, indices: np.ndarray) -> sp.csr_array:
    """The normalised weights of `triangles`, float32, with 32-bit ids where they suffice.

    indptr, indices: the in-edges of every node, as in scipy's CSR.
    """
    shape = (len(indptr) - 1, len(indptr) - 1)
    directed = sp.csr_array((np.ones(len(indices), dtype=np.int32), indices, indptr), shape=shape)
    undirected = sp.csr_array(directed + directed.T)  # not yet changed in place: `indices` is the caller's
    undirected.setdiag(0)
    undirected.eliminate_zeros()
    undirected.data[:] = 1

    degrees = undirected.sum(axis=1).astype(np.int64)
    products = np.cumsum(undirected @ degrees)
    cuts = np.searchsorted(products, np.arange(_PRODUCTS_IN_A_BLOCK, products[-1], _PRODUCTS_IN_A_BLOCK))
    bounds = np.unique([0, *cuts, shape[0]])
    blocks = [undirected[a:b] * (undirected[a:b] @ undirected) for a, b in pairwise(bounds)]
    del directed, undirected
    counts = sp.vstack(blocks, format="csr")
    del blocks

    # here weights are on the edges in any case, so the normalisation may as well be part of them
    weighted_degrees = counts.sum(axis=1)
    rows = np.sqrt(np.repeat(weighted_degrees, np.diff(counts.indptr)))
    weights = counts.data / (rows * np.sqrt(weighted_degrees)[counts.indices])
    return sp.csr_array((weights.astype(np.float32), counts.indices, counts.indptr), shape=shape)


def personalized_pagerank(
    operator: Callable[[Tensor], Tensor],
    x: Tensor,
    alpha: float = 0.15,
    iterations: int = 50,
    tolerance: float | None = None,
) -> Tensor:
    """alpha (I - (1 - alpha) S)^-1 X by the iteration Z <- (1 - alpha) S Z + alpha X, from Z = X.

    Klicpera et al. 2019, arXiv 1810.05997, eq. 5; `alpha` is the probability of teleporting back. `operator` is S,
    with no eigenvalue above 1 in size; `x` and the result are float32 [num_nodes, dim]. With `tolerance` the
    iteration ends as soon as no entry moves by more than it.
    """
    z = x
    for _ in range(iterations):
        moved = torch.lerp(operator(z), x, alpha)
        if tolerance is not None and (moved - z).abs().max() <= tolerance:
            return moved
        z = moved
    return z


def powers(operator: Callable[[Tensor], Tensor], x: Tensor, k: int) -> list[Tensor]:
    """[S x, S^2 x, ..., S^k x], each float32 [num_nodes, dim] as `x`."""
    hops: list[Tensor] = []
    for _ in range(k):
        hops.append(operator(hops[-1] if hops else x))
    return hops


def standardize(x: Tensor) -> Tensor:
    """Zero mean and unit variance (ddof 0) in every column over all nodes; constant columns become zero.

    `x` and the result: float32 [num_nodes, dim].
    """
    return moments(parts_of(x)).standardized(x)

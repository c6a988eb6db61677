"""The operators of `operators.py` on panels of columns, in blocks of rows: the same matrices, less memory, no gradient.

Where the whole graph is in one product and a result of its size is written, scaled and read again, a block of rows is
scaled while it is in the processor's cache, and may come from a graph that is in files.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stage_bench.diffusion import operators
from stage_bench.diffusion.neighbours import Neighbours
from stage_bench.diffusion.recipe import Kind, Recipe


@dataclass(frozen=True, eq=False)
class Product:
    """The matrix L (W + I) R of `operators.Operator`."""

    neighbours: Neighbours
    left: Tensor | None = None
    right: Tensor | None = None
    self_loops: bool = False

    def into(
        self,
        out: Tensor,
        x: Tensor,
        first: bool = True,
        last: bool = True,
        teleport: Tensor | None = None,
        alpha: float = 0.0,
    ) -> None:
        """`out` becomes L (W + I) R x, or with `teleport` (1 - alpha) times that, plus alpha times `teleport`.

        All float32 [num_nodes, columns], no two the same; `x` is of no use afterwards. Between two products what is
        handed on is scaled by R already: one that is not `last` gives R times its result, one that is not `first`
        takes it.
        """
        if first and self.right is not None:
            x *= self.right
        handed_on = None if last else self.right
        for start, stop, rows in self.neighbours.sums(x):
            if self.self_loops:
                rows += x[start:stop]
            place = out[start:stop]
            if self.left is not None:
                torch.mul(rows, self.left[start:stop], out=place)
            else:
                place.copy_(rows)
            if teleport is not None:
                place.lerp_(teleport[start:stop], alpha)
            if handed_on is not None:
                place *= handed_on[start:stop]


@dataclass
class Panels:
    """Carries a panel, some columns of all nodes, through the powers of the operators.

    Two buffers [num_nodes, columns], three with PageRank, are used over and over: pages new to the process are slow.
    """

    recipe: Recipe
    products: dict[Kind, Product]
    num_nodes: int
    buffers: list[Tensor]

    def source(self, columns: int) -> Tensor:
        """Where the panel that `advance` starts from is to be put: float32 [num_nodes, columns]."""
        return self._panel(0, columns)

    def advance(self, kind: Kind, times: int, columns: int) -> Tensor:
        """What `times` products make of the panel that `source` or the last `advance` gave; overwritten by the next."""
        if kind == "pagerank":
            for _ in range(times):
                self._pagerank(columns)
            return self._panel(0, columns)
        for count in range(times):
            first, last = count == 0, count == times - 1
            self.products[kind].into(self._panel(1, columns), self._panel(0, columns), first, last)
            self._swap(0, 1)
        return self._panel(0, columns)

    def _pagerank(self, columns: int) -> None:
        """As `operators.personalized_pagerank`, to a fixed number of iterations, for which columns are independent."""
        start = self._panel(0, columns)
        self._panel(1, columns).copy_(start)
        for count in range(self.recipe.iterations):
            first, last = count == 0, count == self.recipe.iterations - 1
            now, after = self._panel(1, columns), self._panel(2, columns)
            self.products["pagerank"].into(after, now, first, last, start, self.recipe.alpha)
            self._swap(1, 2)
        self._swap(0, 1)

    def _panel(self, number: int, columns: int) -> Tensor:
        """The beginning of a buffer: the last panel may have fewer columns than the others."""
        return self.buffers[number][: self.num_nodes * columns].view(self.num_nodes, columns)

    def _swap(self, a: int, b: int) -> None:
        self.buffers[a], self.buffers[b] = self.buffers[b], self.buffers[a]


def products_of(neighbours: Neighbours, recipe: Recipe) -> dict[Kind, Product]:
    """A product for every operator that the recipe uses."""
    made: dict[Kind, Product] = {}
    if recipe.uses("adjacency") or recipe.uses("pagerank"):
        left, right = operators.scales(
            neighbours.in_degrees, neighbours.out_degrees, recipe.normalization, recipe.self_loops
        )
        made["adjacency"] = made["pagerank"] = Product(neighbours, left, right, recipe.self_loops)
    if recipe.uses("triangles"):
        device = neighbours.indptr.device
        indices = neighbours.sources(0, neighbours.num_edges).cpu().numpy()
        weighted = operators.triangle_matrix(neighbours.indptr.cpu().numpy(), indices)
        made["triangles"] = Product(
            Neighbours(
                torch.from_numpy(weighted.indptr).to(torch.int64).to(device),
                torch.from_numpy(weighted.indices).to(torch.int32).to(device),
                torch.from_numpy(weighted.data).to(device),
            )
        )
    return made

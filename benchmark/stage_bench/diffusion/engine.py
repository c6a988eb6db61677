"""A recipe carried out: every block of it, one panel of columns after another, in memory.

Columns are independent under every operator, so a panel goes through all powers before the next one begins.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stage_bench.dgl_library import dgl
from stage_bench.diffusion import neighbours as in_edges
from stage_bench.diffusion.budget import COLUMNS_IN_MEMORY, panels_held
from stage_bench.diffusion.columns import Features, moments, parts_of, ranges, stored
from stage_bench.diffusion.neighbours import Neighbours
from stage_bench.diffusion.products import Panels, products_of
from stage_bench.diffusion.recipe import Recipe

_ROWS = 4096


@torch.no_grad()
def diffuse(graph: dgl.DGLGraph | Neighbours, features: Tensor | np.ndarray, recipe: Recipe) -> Tensor:
    """The blocks of `recipe` side by side: [num_nodes, recipe.width(dim)], float32 or float16 as it says.

    features: float32 [num_nodes, dim], on the graph's device; not changed.

    Raises:
        JobError: float16 is asked for and has no room for a number.
    """
    edges = graph if isinstance(graph, Neighbours) else in_edges.of_graph(graph)
    device = edges.indptr.device
    source = Features(features, recipe.svd, recipe.standardize)
    width = min(source.dim, COLUMNS_IN_MEMORY)
    panels = panels_of(edges, recipe, width)
    result = torch.empty(
        source.num_nodes, len(recipe.blocks) * source.dim, dtype=getattr(torch, recipe.storage), device=device
    )
    for first, last in ranges(source.dim, width):
        for number, block in enumerate(recipe.blocks):
            origin, times = recipe.origin(number)
            if origin is None:
                source.fill(panels.source(last - first), first)
            panel = panels.advance(block.operator, times, last - first)
            own = moments(parts_of(panel)) if recipe.standardize else None
            place = result[:, number * source.dim + first : number * source.dim + last]
            for start, stop in ranges(source.num_nodes, _ROWS):
                part = panel[start:stop]
                place[start:stop] = stored(part if own is None else own.standardized(part), result.dtype)
    return result


def panels_of(edges: Neighbours, recipe: Recipe, columns: int) -> Panels:
    """What carries panels of at most `columns` columns through the recipe."""
    device = edges.indptr.device
    size = edges.num_nodes * columns
    return Panels(
        recipe,
        products_of(edges, recipe),
        edges.num_nodes,
        [torch.empty(size, dtype=torch.float32, device=device) for _ in range(panels_held(recipe))],
    )

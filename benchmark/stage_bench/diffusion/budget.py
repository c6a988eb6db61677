"""Memory: sizes as people write them, what this process holds, and what a diffusion needs."""

from __future__ import annotations

import re
from pathlib import Path

from stage_bench.diffusion.recipe import Recipe
from stage_bench.errors import brief

_UNITS = {
    "B": 1,
    **{f"{letter}B": 1000**power for power, letter in enumerate("KMGT", start=1)},
    **{f"{letter}iB": 1024**power for power, letter in enumerate("KMGT", start=1)},
}
_BY_LOWER_CASE = {unit.lower(): factor for unit, factor in _UNITS.items()}

COLUMNS_IN_MEMORY = 128  # of a panel where memory is no concern: wider ones are no faster
TRIANGLE_BYTES_PER_EDGE = 150  # while triangles are counted, beside the products of a block
BEFORE_BYTES = 400_000_000  # what Python, torch and DGL hold before anything is read
_FIXED = 400_000_000  # a block of edges in DGL, rows being read and written, the allocator's slack


def bytes_of(size: str) -> int:
    """`8GB` is 8,000,000,000 and `8GiB` is 8 * 2^30; kB, MB and TB likewise; fractions may be written.

    Raises:
        ValueError: not a size above zero with a unit.
    """
    match = re.fullmatch(r"\s*([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([A-Za-z]+)\s*", size)
    factor = _BY_LOWER_CASE.get(match[2].lower()) if match else None
    if match is None or factor is None:
        given = brief(size, 40)
        raise ValueError(f"{given!r} is no size of memory: write a number and one of {', '.join(_UNITS)}, such as 8GB")
    number = int(float(match[1]) * factor)
    if number == 0:
        raise ValueError(f"{size!r} is no memory at all")
    return number


def shown(size: int) -> str:
    """As people read it: three digits and a decimal unit, rounded up, so that it can be asked for as it stands."""
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if size >= factor:
            step = factor // 100 if size < 10 * factor else factor // 10
            return f"{-(-size // step) * step / factor:g}{unit}"
    return f"{-(-size // 1000)}kB"


def resident_bytes() -> int:
    """What this process holds in memory now; 0 where the system cannot tell (not Linux)."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:")), 0)


def needed_bytes(num_nodes: int, num_edges: int, dim: int, recipe: Recipe) -> int:
    """At most what `engine.diffuse` holds at once, in bytes: the features [num_nodes, dim] read, the result, its work.

    num_edges: directed, so both directions of an undirected edge count.
    """
    features, result = num_nodes * dim * 4, num_nodes * recipe.width(dim) * recipe.item_bytes
    columns = min(recipe.dim(dim), COLUMNS_IN_MEMORY)
    # DGL makes the in-edges with 64-bit ids, for which it keeps edge ids as well; the engine copies them to 32 bits
    graph = 20 * num_edges + 16 * num_nodes
    return graph + features + result + work_bytes(num_nodes, num_edges, dim, recipe, columns)


def work_bytes(num_nodes: int, num_edges: int, dim: int, recipe: Recipe, columns: int) -> int:
    """What the products of panels of `columns` columns need beside graph, features and result, in bytes."""
    panels = num_nodes * columns * 4 * panels_held(recipe)
    scales = 24 * num_nodes  # two diagonals, and the 64-bit degrees that they come from
    triangles = TRIANGLE_BYTES_PER_EDGE * num_edges if recipe.uses("triangles") else 0
    svd = 40 * dim * dim if recipe.svd is not None else 0
    return panels + scales + triangles + svd + _FIXED


def panels_held(recipe: Recipe) -> int:
    """Panels [num_nodes, columns] in memory at once: source and result, and what PageRank teleports to."""
    return 3 if recipe.uses("pagerank") else 2

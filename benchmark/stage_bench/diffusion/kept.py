"""Diffusions that are kept: a folder each, with the matrix and the seconds that it took."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stage_bench import files
from stage_bench.diffusion.recipe import Recipe

if TYPE_CHECKING:
    from dgl import DGLGraph


def diffused(
    folder: Path,
    graph: DGLGraph,
    features: np.ndarray,
    recipe: Recipe,
    budget: int,
    progress: Callable[[int, int, str], None],
) -> tuple[np.memmap, float]:
    """`out_of_core.diffuse_to`, and the seconds of the call that finished the matrix, whether this one or an earlier.

    `folder` is named by what determines the matrix.
    """
    from stage_bench.diffusion.out_of_core import diffuse_to

    before = _seconds(folder) if (folder / "manifest.json").is_file() else None
    begin = time.perf_counter()
    matrix = diffuse_to(folder, graph, features, recipe, budget, progress)
    seconds = before if before is not None else round(time.perf_counter() - begin, 4)
    if before is None:
        files.write_json(folder / "cost.json", {"seconds": seconds})
    return matrix, seconds


def _seconds(folder: Path) -> float | None:
    try:
        return float(json.loads((folder / "cost.json").read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, KeyError, TypeError):
        return None

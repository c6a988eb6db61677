"""Random graphs, and what diffusion makes of features on them, by dense formulas in float64."""

from __future__ import annotations

import networkx as nx
import numpy as np
import torch

from stage_bench.dgl_library import dgl
from stage_bench.diffusion.recipe import Recipe

NUM_NODES = 30


def random_nx(directed: bool, seed: int) -> nx.Graph:
    graph = nx.gnp_random_graph(NUM_NODES - 2, 0.15, seed=seed, directed=directed)
    graph.add_nodes_from([NUM_NODES - 2, NUM_NODES - 1])  # isolated
    return graph


def to_dgl(graph: nx.Graph) -> dgl.DGLGraph:
    """Both directions of an undirected edge; a directed edge u -> v stays one."""
    edges = list(graph.to_directed().edges)
    source, target = zip(*edges, strict=True) if edges else ((), ())
    ends = (torch.tensor(source, dtype=torch.int64), torch.tensor(target, dtype=torch.int64))
    return dgl.graph(ends, num_nodes=graph.number_of_nodes())


def matrix(graph: nx.Graph) -> np.ndarray:
    """A_ij = 1 for an edge j -> i, float64."""
    return nx.to_numpy_array(graph, nodelist=range(graph.number_of_nodes())).T


def inverse(degrees: np.ndarray, exponent: float) -> np.ndarray:
    return np.array([d**exponent if d > 0 else 0.0 for d in degrees])


def normalized(a: np.ndarray, normalization: str) -> np.ndarray:
    into, out = a.sum(axis=1), a.sum(axis=0)
    if normalization == "symmetric":
        return np.diag(inverse(into, -0.5)) @ a @ np.diag(inverse(out, -0.5))
    if normalization == "row":
        return np.diag(inverse(into, -1)) @ a
    if normalization == "column":
        return a @ np.diag(inverse(out, -1))
    return a


def diffused(graph: nx.Graph, x: np.ndarray, recipe: Recipe) -> np.ndarray:
    """float64 [num_nodes, width]; without `svd`."""
    num_nodes = graph.number_of_nodes()
    a = matrix(graph)
    s = normalized(a + recipe.self_loops * np.eye(num_nodes), recipe.normalization)
    undirected = np.maximum(a, a.T) * (1 - np.eye(num_nodes))
    spread = np.zeros_like(s)
    term = np.eye(num_nodes)
    for _ in range(recipe.iterations):
        spread += recipe.alpha * term
        term = (1 - recipe.alpha) * s @ term
    operators = {
        "identity": np.eye(num_nodes),
        "adjacency": s,
        "pagerank": spread + term,
        "triangles": normalized(undirected * (undirected @ undirected), "symmetric"),
    }
    blocks = [np.linalg.matrix_power(operators[b.operator], b.power) @ x.astype(np.float64) for b in recipe.blocks]
    if recipe.standardize:
        blocks = [standardized(block) for block in blocks]
    return np.concatenate(blocks, axis=1)


def standardized(x: np.ndarray) -> np.ndarray:
    deviation = x.std(axis=0)
    constant = deviation <= 1e-6 * np.abs(x).max(axis=0)
    return np.where(constant, 0, (x - x.mean(axis=0)) / np.where(constant, 1, deviation))

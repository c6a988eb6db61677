"""Operators against dense formulas, scipy and networkx."""

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import Tensor

from diffused import NUM_NODES, matrix, normalized, random_nx, to_dgl
from stage_bench.dgl_library import dgl
from stage_bench.diffusion import operators
from stage_bench.diffusion.operators import adjacency, personalized_pagerank, powers, standardize, triangles

NORMALIZATIONS = ["symmetric", "row", "column", "none"]


def as_dense(operator: operators.Operator, num_nodes: int = NUM_NODES) -> np.ndarray:
    dense: Tensor = operator(torch.eye(num_nodes))
    assert dense.dtype == torch.float32
    return dense.numpy()


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("self_loops", [False, True])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_adjacency_is_the_dense_formula(normalization, self_loops, directed, seed):
    graph = random_nx(directed, seed)
    expected = normalized(matrix(graph) + self_loops * np.eye(NUM_NODES), normalization)
    operator = adjacency(to_dgl(graph), normalization, self_loops)
    np.testing.assert_allclose(as_dense(operator), expected, atol=1e-6)
    x = np.random.default_rng(seed).normal(size=(NUM_NODES, 5)).astype(np.float32)
    np.testing.assert_allclose(operator(torch.from_numpy(x)).numpy(), sp.csr_array(expected) @ x, atol=1e-5)


def test_symmetric_is_networkx_normalized_laplacian():
    graph = random_nx(False, 2)
    laplacian = nx.normalized_laplacian_matrix(graph, nodelist=range(NUM_NODES)).toarray()
    dense = as_dense(adjacency(to_dgl(graph), "symmetric", self_loops=False))
    np.testing.assert_allclose(dense, np.diag(np.diag(laplacian)) - laplacian, atol=1e-6)


def test_symmetric_divides_by_the_roots_of_the_degrees():
    """The inverted normalisation D^1/2 A D^1/2 of other code gives 1.732 here."""
    dense = as_dense(adjacency(to_dgl(nx.star_graph(3)), "symmetric", self_loops=False), 4)
    expected = np.zeros((4, 4))
    expected[0, 1:] = expected[1:, 0] = 1 / np.sqrt(3)
    np.testing.assert_allclose(dense, expected, atol=1e-6)
    assert dense[0, 1] == pytest.approx(0.577, abs=1e-3)


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("self_loops", [False, True])
def test_sums_are_one_and_isolated_nodes_zero(directed, self_loops):
    graph = random_nx(directed, 3)
    a = matrix(graph) + self_loops * np.eye(NUM_NODES)
    row = as_dense(adjacency(to_dgl(graph), "row", self_loops))
    column = as_dense(adjacency(to_dgl(graph), "column", self_loops))
    np.testing.assert_allclose(row.sum(axis=1), a.sum(axis=1) > 0, atol=1e-6)
    np.testing.assert_allclose(column.sum(axis=0), a.sum(axis=0) > 0, atol=1e-6)
    for normalization in NORMALIZATIONS:
        dense = as_dense(adjacency(to_dgl(graph), normalization, self_loops))
        assert np.isfinite(dense).all()
        np.testing.assert_array_equal(dense[-2:], self_loops * np.eye(NUM_NODES)[-2:])


def test_no_edges_at_all():
    graph = dgl.graph(([], []), num_nodes=3)
    assert not as_dense(adjacency(graph, "symmetric", self_loops=False), 3).any()
    assert not as_dense(triangles(graph), 3).any()


def test_unknown_normalization():
    with pytest.raises(ValueError, match="sym"):
        adjacency(to_dgl(nx.star_graph(3)), "sym")


def test_operator_keeps_the_argument_and_int32_graphs():
    graph = random_nx(True, 0)
    x = torch.randn(NUM_NODES, 3)
    before = x.clone()
    expected = adjacency(to_dgl(graph))(x)
    assert torch.equal(adjacency(to_dgl(graph).int())(x), expected)
    assert torch.equal(triangles(to_dgl(graph).int())(x), triangles(to_dgl(graph))(x))
    assert torch.equal(x, before)


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize(("normalization", "self_loops"), [("symmetric", True), ("row", True), ("column", False)])
@pytest.mark.parametrize("alpha", [0.15, 0.5])
def test_pagerank_solves_the_linear_system(alpha, normalization, self_loops, directed):
    graph = random_nx(directed, 4)
    s = normalized(matrix(graph) + self_loops * np.eye(NUM_NODES), normalization)
    x = np.random.default_rng(0).normal(size=(NUM_NODES, 4))
    expected = alpha * np.linalg.solve(np.eye(NUM_NODES) - (1 - alpha) * s, x)
    operator = adjacency(to_dgl(graph), normalization, self_loops)
    found = personalized_pagerank(operator, torch.from_numpy(x).float(), alpha, iterations=200)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_pagerank_is_networkx_pagerank():
    graph = nx.connected_watts_strogatz_graph(20, 4, 0.3, seed=0)
    one_hot = torch.zeros(20, 1)
    one_hot[7] = 1
    found = personalized_pagerank(adjacency(to_dgl(graph), "column", False), one_hot, 0.15, iterations=200)
    expected = nx.pagerank(graph, alpha=0.85, personalization={7: 1}, tol=1e-12, max_iter=1000)
    np.testing.assert_allclose(found[:, 0].numpy(), [expected[i] for i in range(20)], atol=1e-6)


@pytest.mark.parametrize("iterations", [1, 2, 7])
def test_pagerank_after_some_iterations(iterations):
    graph = random_nx(True, 8)
    s, alpha = normalized(matrix(graph), "row"), 0.3
    x = np.random.default_rng(0).normal(size=(NUM_NODES, 4))
    power = [np.linalg.matrix_power((1 - alpha) * s, k) @ x for k in range(iterations + 1)]
    expected = power[-1] + alpha * sum(power[:-1])
    operator = adjacency(to_dgl(graph), "row", self_loops=False)
    found = personalized_pagerank(operator, torch.from_numpy(x).float(), alpha, iterations)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_pagerank_counts_iterations_and_stops_at_the_tolerance():
    operator = adjacency(to_dgl(random_nx(False, 5)))
    x = torch.randn(NUM_NODES, 2)
    calls = []

    def counted(z):
        calls.append(1)
        return operator(z)

    exact = personalized_pagerank(counted, x, iterations=100)
    assert len(calls) == 100
    calls.clear()
    close = personalized_pagerank(counted, x, iterations=100, tolerance=1e-3)
    assert 3 < len(calls) < 100
    assert (close - exact).abs().max() < 1e-3 / 0.15
    assert torch.equal(personalized_pagerank(counted, x, iterations=0), x)


@pytest.mark.parametrize("block", [20_000_000, 50])
@pytest.mark.parametrize("directed", [False, True])
def test_triangles_weigh_edges(directed, block, monkeypatch):
    monkeypatch.setattr(operators, "_PRODUCTS_IN_A_BLOCK", block)
    graph = random_nx(directed, 6)
    undirected = graph.to_undirected()
    a = matrix(undirected)
    counts = a * (a @ a)
    np.testing.assert_array_equal(counts.sum(axis=1) / 2, [nx.triangles(undirected, i) for i in range(NUM_NODES)])
    dense = as_dense(triangles(to_dgl(graph)))
    np.testing.assert_allclose(dense, normalized(counts, "symmetric"), atol=1e-6)
    without = counts.sum(axis=1) == 0
    assert without.any()
    assert not dense[without].any()


def test_triangles_do_not_count_self_loops():
    graph = to_dgl(random_nx(False, 6))
    np.testing.assert_array_equal(as_dense(triangles(dgl.add_self_loop(graph))), as_dense(triangles(graph)))


def test_triangles_leave_the_graph_alone():
    """Of an int32 graph scipy is handed the very arrays."""
    graph = dgl.add_self_loop(to_dgl(random_nx(True, 6))).int()
    graph = dgl.graph(tuple(end.flip(0) for end in graph.edges()), num_nodes=NUM_NODES)
    before = [array.clone() for array in graph.adj_tensors("csc")]
    triangles(graph)
    assert all(map(torch.equal, graph.adj_tensors("csc"), before))


def test_triangles_of_a_clique_and_a_tail():
    """K4 and an edge: an edge of the clique is in 2 triangles, a node's row sums to 6, the tail has none."""
    graph = nx.complete_graph(4)
    graph.add_edge(3, 4)
    expected = np.zeros((5, 5))
    expected[:4, :4] = (1 - np.eye(4)) * 2 / 6
    np.testing.assert_allclose(as_dense(triangles(to_dgl(graph)), 5), expected, atol=1e-6)


def test_powers():
    operator = adjacency(to_dgl(random_nx(True, 7)), "row")
    dense = as_dense(operator).astype(np.float64)
    x = torch.randn(NUM_NODES, 3)
    hops = powers(operator, x, 4)
    assert len(hops) == 4
    for k, hop in enumerate(hops, start=1):
        np.testing.assert_allclose(hop.numpy(), np.linalg.matrix_power(dense, k) @ x.numpy(), atol=1e-5)
    assert powers(operator, x, 0) == []


def test_standardize():
    x = torch.randn(200, 4) * 3 + 5
    x[:, 1] = 0.1  # constant, but its computed deviation need not be 0
    x[:, 2] = 0
    found = standardize(x).numpy()
    expected = (x[:, [0, 3]].numpy() - x[:, [0, 3]].numpy().mean(axis=0)) / x[:, [0, 3]].numpy().std(axis=0)
    np.testing.assert_allclose(found[:, [0, 3]], expected, atol=1e-5)
    assert np.abs(found[:, [1, 2]]).max() == 0

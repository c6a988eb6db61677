"""The engine in memory, against dense formulas; recipes; graphs in files."""

import numpy as np
import pytest
import torch

from diffused import NUM_NODES, diffused, matrix, normalized, random_nx, standardized, to_dgl
from stage_bench.backbones.options import SAGNOptions, SIGNOptions, SimpleGCNOptions
from stage_bench.backbones.sagn import SAGN
from stage_bench.backbones.sign import SIGN
from stage_bench.backbones.simplegcn import SimpleGCN
from stage_bench.dgl_library import dgl
from stage_bench.diffusion import columns, engine, neighbours
from stage_bench.diffusion.columns import Features
from stage_bench.diffusion.engine import diffuse
from stage_bench.diffusion.recipe import IDENTITY, Block, Recipe, powers_of
from stage_bench.diffusion.rows import MappedRows
from stage_bench.errors import JobError, StageBenchError

EVERYTHING = (IDENTITY, *powers_of("adjacency", 3), *powers_of("pagerank", 2), *powers_of("triangles", 2))
NORMALIZATIONS = ["symmetric", "row", "column", "none"]


def features(dim: int = 7, num_nodes: int = NUM_NODES) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(1, 2, (num_nodes, dim)).astype(np.float32))


def in_files(folder, graph: dgl.DGLGraph) -> neighbours.Neighbours:
    indptr, indices, _ = graph.adj_tensors("csc")
    np.save(folder / "indptr.npy", indptr.numpy())
    np.save(folder / "indices.npy", indices.numpy())
    return neighbours.of_files(folder)


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("self_loops", [False, True])
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("standardize", [False, True])
def test_every_block_is_the_dense_formula(standardize, normalization, self_loops, directed):
    graph, x = random_nx(directed, 0), features()
    # unnormalised, 50 iterations would leave nothing to compare
    iterations = 2 if normalization == "none" else 50
    recipe = Recipe(EVERYTHING, normalization, self_loops, 0.2, iterations, standardize)
    expected = diffused(graph, x.numpy(), recipe)
    found = diffuse(to_dgl(graph), x, recipe)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("width", [1, 3, 7])
@pytest.mark.parametrize(("floats", "edges"), [(1, 1 << 22), (20, 5), (1 << 21, 1)])
def test_panels_and_row_blocks_change_nothing(width, floats, edges, monkeypatch):
    graph, x = random_nx(True, 1), features()
    recipe = Recipe(EVERYTHING, iterations=5, standardize=True)  # more would be the same again, a block at a time
    expected = diffused(graph, x.numpy(), recipe)
    monkeypatch.setattr(engine, "COLUMNS_IN_MEMORY", width)
    monkeypatch.setattr(neighbours, "_FLOATS_OF_A_BLOCK", floats)
    monkeypatch.setattr(neighbours, "_EDGES_OF_A_BLOCK", edges)
    monkeypatch.setattr(engine, "_ROWS", 11)
    monkeypatch.setattr(columns, "_ROWS", 13)
    edges_of = neighbours.of_graph(to_dgl(graph))
    blocks = list(edges_of.row_blocks(width))
    assert len(blocks) > 2
    assert [start for start, _ in blocks] == [0, *(stop for _, stop in blocks[:-1])]
    assert blocks[-1][1] == NUM_NODES
    np.testing.assert_allclose(diffuse(edges_of, x, recipe).numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("ids", [torch.int32, torch.int64])
def test_int32_and_int64_graphs_and_graphs_in_files(ids, tmp_path):
    graph, x = random_nx(True, 2), features()
    recipe = Recipe(EVERYTHING)
    made = to_dgl(graph).astype(ids) if hasattr(dgl.DGLGraph, "astype") else to_dgl(graph)
    made = made.int() if ids == torch.int32 else made.long()
    expected = diffused(graph, x.numpy(), recipe)
    np.testing.assert_allclose(diffuse(made, x, recipe).numpy(), expected, atol=2e-5)
    mapped = in_files(tmp_path, made)
    assert not mapped.in_memory
    np.testing.assert_allclose(diffuse(mapped, x, recipe).numpy(), expected, atol=2e-5)
    a = matrix(graph)
    np.testing.assert_array_equal(mapped.in_degrees().numpy(), a.sum(axis=1))
    np.testing.assert_array_equal(mapped.out_degrees().numpy(), a.sum(axis=0))


def test_features_may_be_an_array_or_a_map_and_are_left_alone(tmp_path):
    graph, x = to_dgl(random_nx(False, 3)), features()
    recipe = Recipe(EVERYTHING, svd=4, standardize=True)
    expected = diffuse(graph, x, recipe)
    np.save(tmp_path / "x.npy", x.numpy())
    for mode in ("r", "c"):
        mapped = np.load(tmp_path / "x.npy", mmap_mode=mode)
        assert torch.equal(diffuse(graph, mapped, recipe), expected)
    assert torch.equal(diffuse(graph, x.numpy(), recipe), expected)
    assert torch.equal(x, features())


def test_a_part_of_a_map_is_read_where_it_lies(tmp_path):
    x = features(5).numpy()
    np.save(tmp_path / "x.npy", x)
    whole = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(MappedRows(whole).read(3, 9), x[3:9])
    np.testing.assert_array_equal(MappedRows(whole[10:]).read(3, 9), x[13:19])
    np.testing.assert_array_equal(MappedRows(whole[:, 1:3]).read(0, 4), x[:4, 1:3])


def test_no_edges_and_one_node():
    x = features(3, 4)
    empty = dgl.graph(([], []), num_nodes=4)
    blocks = (*powers_of("adjacency", 2), Block("triangles", 1), Block("pagerank", 1))
    found = diffuse(empty, x, Recipe(blocks, self_loops=True)).numpy()
    np.testing.assert_allclose(found, np.concatenate([x, x, np.zeros_like(x), x], axis=1), atol=1e-6)
    one = diffuse(dgl.graph(([], []), num_nodes=1), x[:1], Recipe(powers_of("adjacency", 1), self_loops=False))
    np.testing.assert_array_equal(one.numpy(), np.zeros((1, 3)))


def test_float16_is_rounded_float32_and_says_where_it_ends():
    graph, x = to_dgl(random_nx(False, 4)), features()
    recipe = Recipe(EVERYTHING, standardize=True)
    exact = diffuse(graph, x, recipe)
    half = diffuse(graph, x, Recipe(EVERYTHING, standardize=True, storage="float16"))
    assert half.dtype == torch.float16
    assert torch.equal(half, exact.half())
    wide = Recipe((Block("adjacency", 1),), "none", storage="float16")
    with pytest.raises(JobError, match="beyond the 65504 of float16: choose storage: float32"):
        diffuse(graph, x * 40_000, wide)


def test_the_star_has_no_inverted_normalisation():
    """1 / sqrt(3) from the centre to a leaf; the public code has sqrt(3)."""
    star = dgl.graph(([0, 0, 0, 1, 2, 3], [1, 2, 3, 0, 0, 0]))
    found = diffuse(star, torch.eye(4), Recipe((Block("adjacency", 1),), self_loops=False))
    assert found[0, 1].item() == pytest.approx(0.5773503, abs=1e-6)


def test_standardised_columns_and_constants():
    x = features(6, 10_000) * 3 + 1000
    x[:, 2], x[:, 4] = 0.1, 0
    empty = dgl.graph(([], []), num_nodes=10_000)
    found = diffuse(empty, x, Recipe((IDENTITY,), standardize=True)).numpy()
    np.testing.assert_allclose(found, standardized(x.numpy().astype(np.float64)), atol=2e-4)
    assert not found[:, [2, 4]].any()


@pytest.mark.parametrize("standardize", [False, True])
def test_svd_is_the_best_projection(standardize, monkeypatch):
    monkeypatch.setattr(columns, "_ROWS", 9)
    x = features(8)
    base = standardized(x.numpy().astype(np.float64)) if standardize else x.numpy().astype(np.float64)
    _, _, v = np.linalg.svd(base, full_matrices=False)
    expected = base @ v[:3].T
    source = Features(x, 3, standardize)
    assert source.dim == 3
    found = source.read(0, NUM_NODES).numpy()
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-3)  # signs are a matter of convention
    np.testing.assert_allclose(source.read(4, 9, 1, 3).numpy(), found[4:9, 1:3], atol=1e-5)
    assert Features(x, 100).dim == 8


def test_what_backbones_ask_for():
    graph, x = random_nx(False, 5), features()
    made = to_dgl(graph)
    s = normalized(matrix(graph) + np.eye(NUM_NODES), "symmetric")
    _, found = SimpleGCN.prepare(made, x, SimpleGCNOptions(k=2, standardize=False))
    np.testing.assert_allclose(found.numpy(), s @ s @ x.numpy(), atol=1e-5)
    _, none = SimpleGCN.prepare(made, x, SimpleGCNOptions(k=0, standardize=False))
    assert torch.equal(none, x)
    options = SIGNOptions(s=2, p=1, t=1, alpha=0.3, iterations=5, normalization="row")
    _, found = SIGN.prepare(made, x, options)
    np.testing.assert_allclose(found.numpy(), diffused(graph, x.numpy(), SIGN.recipe(options)), atol=2e-5)
    assert [(b.operator, b.power) for b in SIGN.recipe(options).blocks] == [
        ("identity", 0),
        ("adjacency", 1),
        ("adjacency", 2),
        ("pagerank", 1),
        ("triangles", 1),
    ]
    _, found = SAGN.prepare(made, x, SAGNOptions(k=2, storage="float16"))
    assert found.dtype == torch.float16, "half the memory; training reads rows of it as float32"
    assert found.shape == (NUM_NODES, 21)


def test_recipes_that_make_no_sense():
    with pytest.raises(ValueError, match="without blocks"):
        Recipe(())
    with pytest.raises(ValueError, match="no such block"):
        Block("adjacency", -1)
    with pytest.raises(ValueError, match="no such block"):
        Block("identity", 2)


def test_blocks_go_on_from_the_block_before():
    recipe = Recipe((*powers_of("adjacency", 2), Block("adjacency", 5), Block("pagerank", 2), Block("adjacency", 1)))
    assert [recipe.origin(number) for number in range(5)] == [(None, 1), (0, 1), (1, 3), (None, 2), (None, 1)]
    graph, x = random_nx(False, 6), features()
    np.testing.assert_allclose(diffuse(to_dgl(graph), x, recipe).numpy(), diffused(graph, x.numpy(), recipe), atol=2e-5)


@pytest.mark.parametrize(
    ("indptr", "indices", "said"),
    [
        ([0, 1, 2], [1, 2], "outside 0 to 1"),
        ([0, 1, 2], [1, -1], "outside 0 to 1"),
        ([0, 1, 2], [1 << 32, 0], "outside 0 to 1"),
        ([0, 1, 3], [1, 0], "ends with 3, but indices.npy holds 2"),
        ([0, 2, 1], [1], "never descend"),
        ([1, 1, 1], [1], "begin with 0"),
        ([], [], "begin with 0"),
        ([0, 1, 2], [0.0, 1.0], "int32 or int64"),
    ],
)
def test_graphs_in_files_that_are_wrong(indptr, indices, said, tmp_path):
    np.save(tmp_path / "indptr.npy", np.array(indptr, dtype=np.int64))
    np.save(tmp_path / "indices.npy", np.array(indices, dtype=None if indices else np.int64))
    with pytest.raises(StageBenchError, match=said):
        neighbours.of_files(tmp_path)


def test_graphs_that_are_not_there(tmp_path):
    with pytest.raises(StageBenchError, match="indptr"):
        neighbours.of_files(tmp_path)

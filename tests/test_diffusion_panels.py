"""A diffusion whose panels are made apart, by processes or by the nodes of a Ray cluster: the bytes of one process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffused import random_nx, to_dgl
from stage_bench.diffusion import documents, neighbours, out_of_core
from stage_bench.diffusion.engine import diffuse
from stage_bench.diffusion.recipe import IDENTITY, Recipe, powers_of
from stage_bench.errors import JobError

PLENTY = 10**11
DIM = 7
RECIPE = Recipe((IDENTITY, *powers_of("adjacency", 3), *powers_of("pagerank", 1)), standardize=True, iterations=10)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A graph and its features as a giant one would lie there."""
    folder = tmp_path / "graph"
    folder.mkdir()
    edges = neighbours.of_graph(to_dgl(random_nx(True, 0)))
    np.save(folder / "indptr.npy", edges.indptr.numpy())
    np.save(folder / "indices.npy", edges.indices.numpy())
    x = np.random.default_rng(0).normal(1, 2, (edges.num_nodes, DIM)).astype(np.float32)
    np.save(folder / "features.npy", x)
    return folder


def inputs(files: Path) -> tuple[Any, np.ndarray]:
    return neighbours.of_files(files), np.load(files / "features.npy", mmap_mode="r")


def alone(folder: Path, files: Path, columns: int) -> bytes:
    """matrix.npy as one process makes it in panels of that width."""
    edges, x = inputs(files)
    assert out_of_core.begin(folder, edges, x, RECIPE, PLENTY, -(-DIM // columns)) == -(-DIM // columns)
    assert json.loads((folder / documents.PLAN).read_text())["columns"] == columns
    out_of_core.diffuse_to(folder, edges, x, RECIPE, PLENTY)
    return (folder / "matrix.npy").read_bytes()


@pytest.mark.parametrize(("machines", "columns"), [(1, 7), (2, 4), (3, 3), (7, 1), (50, 1)])
def test_panels_made_apart_come_to_the_same_bytes(files, tmp_path, machines, columns):
    edges, x = inputs(files)
    target = tmp_path / "all" / "mine"
    count = out_of_core.begin(target, edges, x, RECIPE, PLENTY, machines)
    assert count == -(-DIM // columns)
    assert out_of_core.begin(target, edges, x, RECIPE, PLENTY, 1) == count, "as it was begun"
    for panel in reversed(range(count)):
        elsewhere = tmp_path / str(panel) / "mine"
        elsewhere.mkdir(parents=True)
        shutil.copy(target / documents.PLAN, elsewhere)
        made = out_of_core.diffuse_panels(elsewhere, edges, x, RECIPE, PLENTY, [panel])
        assert len(made) == 2 * 4, "a block of each power, and its note"
        for path in made:
            copy = target / path.relative_to(elsewhere)
            copy.parent.mkdir(exist_ok=True)
            shutil.copy(path, copy)
    stamps = {path: path.stat().st_mtime_ns for path in (target / "parts").iterdir()}
    assert out_of_core.diffuse_panels(target, edges, x, RECIPE, PLENTY, range(count))
    assert {path: path.stat().st_mtime_ns for path in (target / "parts").iterdir()} == stamps, "nothing is done again"
    found = out_of_core.diffuse_to(target, edges, x, RECIPE, PLENTY)
    assert (target / "matrix.npy").read_bytes() == alone(tmp_path / "alone", files, columns)
    np.testing.assert_allclose(found, diffuse(edges, np.array(x), RECIPE).numpy(), atol=1e-5)


def test_panels_of_nothing_and_without_room_are_refused(files, tmp_path):
    edges, x = inputs(files)
    with pytest.raises(JobError, match="no diffusion was begun here"):
        out_of_core.diffuse_panels(tmp_path / "nothing", edges, x, RECIPE, PLENTY, [0])
    out_of_core.begin(tmp_path / "mine", edges, x, RECIPE, PLENTY, 1)
    with pytest.raises(JobError, match="too small to diffuse"):
        out_of_core.diffuse_panels(tmp_path / "mine", edges, x, RECIPE, 10**6, [0])


# --- on two nodes ---

DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from stage_bench.execution.ray_diffusion import diffuse_over
from test_diffusion_panels import PLENTY, RECIPE

graph = Path(sys.argv[2])
diffuse_over(
    Path(sys.argv[1]), graph, graph / "features.npy", RECIPE, PLENTY, sys.argv[3], shared=sys.argv[4] == "shared",
    say=lambda line: print(line, flush=True),
)
"""


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if os.environ.get("CI") != "true":
        pytest.importorskip("ray", reason='Ray is not installed: pip install -e ".[ray]"')
    from clusters import cluster

    with cluster(STAGE_BENCH_SCRATCH=str(tmp_path_factory.mktemp("scratch"))) as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("shared", ["shared", "apart"])
def test_two_nodes_come_to_the_bytes_of_one_process(head, files, tmp_path, shared):
    from clusters import second_node

    script = tmp_path / "driver.py"
    script.write_text(DRIVER.format(tests=str(Path(__file__).parent)))
    target = tmp_path / "target" / "mine"
    with second_node(head, STAGE_BENCH_SCRATCH=str(tmp_path / "scratch")):
        command = [sys.executable, str(script), str(target), str(files), head.address, shared]
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((target / documents.PLAN).read_text())["columns"] == 4, "one panel for each node"
    assert (target / "matrix.npy").read_bytes() == alone(tmp_path / "alone", files, 4)
    assert not list((tmp_path / "scratch").glob("*/*/*.f32"))


@pytest.mark.slow
def test_a_node_without_the_graph_is_named(head, files, tmp_path):
    from clusters import second_node

    script = tmp_path / "driver.py"
    script.write_text(DRIVER.format(tests=str(Path(__file__).parent)).replace("graph = Path", "graph = Path") + "")
    moved = tmp_path / "moved"
    with second_node(head):
        # The driver reads the features while it plans; by the time that the nodes look, they are gone.
        command = [sys.executable, str(script), str(tmp_path / "target"), str(files), head.address, "shared"]
        text = script.read_text().replace(
            "diffuse_over(\n",
            "from stage_bench.diffusion import out_of_core\n"
            "begin = out_of_core.begin\n"
            "def moving(*given):\n"
            "    count = begin(*given)\n"
            f"    graph.rename({str(moved)!r})\n"
            "    return count\n"
            "out_of_core.begin = moving\n"
            "diffuse_over(\n",
            1,
        )
        script.write_text(text)
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode != 0
    assert "indptr.npy is not on node" in done.stderr

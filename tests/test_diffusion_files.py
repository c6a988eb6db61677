"""Diffusion out of core: the same numbers, whatever the budget, and whatever happened before."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

from diffused import NUM_NODES, diffused, random_nx, to_dgl
from stage_bench.diffusion import budget, neighbours, out_of_core
from stage_bench.diffusion.engine import diffuse
from stage_bench.diffusion.neighbours import Neighbours
from stage_bench.diffusion.out_of_core import diffuse_to
from stage_bench.diffusion.recipe import IDENTITY, Block, Recipe, powers_of
from stage_bench.errors import JobError

PLENTY = 10**11
EVERYTHING = (IDENTITY, *powers_of("adjacency", 3), *powers_of("pagerank", 2), *powers_of("triangles", 2))
RECIPE = Recipe(EVERYTHING, standardize=True, iterations=20)
DIM = 7


def features(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1, 2, (NUM_NODES, DIM)).astype(np.float32)


@pytest.fixture
def graph():
    return to_dgl(random_nx(True, 0))


@pytest.fixture
def tight(monkeypatch):
    """A budget for panels of so many columns: nothing is held but what is counted here."""
    monkeypatch.setattr(budget, "resident_bytes", lambda: 0)
    monkeypatch.setattr(budget, "_FIXED", 0)
    monkeypatch.setattr(out_of_core, "_RANGE_BYTES", 2000)

    def of(columns: int, graph, recipe: Recipe = RECIPE) -> int:
        edges = graph.num_edges()
        held = 20 * edges + 16 * NUM_NODES + 5 * 2000
        return held + budget.work_bytes(NUM_NODES, edges, DIM, recipe, columns)

    return of


def columns_of(folder: Path) -> int:
    return json.loads((folder / "plan.json").read_text())["columns"]


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("columns", [1, 2, 3, 4, 7])
def test_the_same_numbers_in_panels_of_any_width(columns, standardize, directed, tight, tmp_path):
    nx_graph = random_nx(directed, 1)
    graph, x = to_dgl(nx_graph), features()
    recipe = Recipe(EVERYTHING, "row", False, 0.3, 20, standardize)
    found = diffuse_to(tmp_path, graph, x, recipe, tight(columns, graph, recipe))
    assert -(-DIM // columns_of(tmp_path)) == -(-DIM // columns)
    assert columns_of(tmp_path) <= columns
    assert isinstance(found, np.memmap)
    assert found.dtype == np.float32
    assert not found.flags.writeable
    expected = diffused(nx_graph, x, recipe)
    np.testing.assert_allclose(found, expected, atol=2e-5 * max(1, np.abs(expected).max()))
    np.testing.assert_allclose(found, diffuse(graph, torch.from_numpy(x), recipe).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    "recipe",
    [
        RECIPE,
        Recipe(EVERYTHING, svd=3, standardize=True, iterations=5),
        Recipe(EVERYTHING, svd=3, iterations=5, storage="float16"),
        Recipe((IDENTITY,), standardize=True),
        Recipe((IDENTITY,)),
        Recipe((Block("adjacency", 3),)),
    ],
)
def test_in_memory_and_out_of_core_are_bit_equal_where_panels_are(recipe, graph, tmp_path):
    x = features()
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="c")
    found = diffuse_to(tmp_path / "result", graph, mapped, recipe, PLENTY)
    assert found.dtype == np.dtype(recipe.storage)
    np.testing.assert_array_equal(found, diffuse(graph, torch.from_numpy(x), recipe).numpy())
    assert sorted(path.name for path in (tmp_path / "result").iterdir()) == [
        "lock",
        "manifest.json",
        "matrix.npy",
        "plan.json",
        "rows",
    ]


def test_a_graph_in_files(graph, tight, tmp_path):
    indptr, indices, _ = graph.adj_tensors("csc")
    np.save(tmp_path / "indptr.npy", indptr.numpy())
    np.save(tmp_path / "indices.npy", indices.to(torch.int32).numpy())
    edges = neighbours.of_files(tmp_path)
    found = diffuse_to(tmp_path / "result", edges, features(), RECIPE, tight(3, graph))
    np.testing.assert_allclose(found, diffuse(graph, torch.from_numpy(features()), RECIPE).numpy(), atol=1e-5)


def test_row_blocks_of_a_few_edges(graph, tight, tmp_path, monkeypatch):
    monkeypatch.setattr(neighbours, "_EDGES_OF_A_BLOCK", 5)
    monkeypatch.setattr(neighbours, "_FLOATS_OF_A_BLOCK", 6)
    found = diffuse_to(tmp_path, graph, features(), RECIPE, tight(2, graph))
    monkeypatch.undo()
    np.testing.assert_allclose(found, diffuse(graph, torch.from_numpy(features()), RECIPE).numpy(), atol=1e-5)


def test_a_budget_that_is_too_small_says_what_is_needed(graph, tight, tmp_path):
    with pytest.raises(JobError, match=r"budget of 1kB is too small .* at least (\S+) are needed") as raised:
        diffuse_to(tmp_path, graph, features(), RECIPE, 1000)
    least = str(raised.value).split("at least ")[1].split()[0]
    diffuse_to(tmp_path, graph, features(), RECIPE, budget.bytes_of(least))
    assert columns_of(tmp_path) < DIM  # rounded up to a whole kB, there is room for more than one
    assert not (tmp_path / "parts").exists()


def test_what_the_process_holds_counts(graph, tmp_path):
    with pytest.raises(JobError, match="in use already"):
        diffuse_to(tmp_path, graph, features(), RECIPE, budget.resident_bytes())


def test_a_full_disk_is_said_before(graph, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 5000, 5000))
    needed = NUM_NODES * DIM * 4 * (7 + 8)
    with pytest.raises(JobError, match=rf"needs {budget.shown(needed)} more on the disk .* has 5kB free"):
        diffuse_to(tmp_path, graph, features(), RECIPE, PLENTY)
    assert not (tmp_path / "matrix.npy").exists()


def counted(monkeypatch) -> list[str]:
    """The parts that are written from now on."""
    written: list[str] = []
    write = out_of_core._Work._write_part

    def noted(self, part, panel):
        written.append(part.name)
        return write(self, part, panel)

    monkeypatch.setattr(out_of_core._Work, "_write_part", noted)
    return written


class Stop(Exception):
    pass


@pytest.mark.parametrize("at", [0, 1, 3, 8, 13, 20, 21, 22, 24])
def test_interrupted_anywhere_it_goes_on_from_the_last_block(at, graph, tight, tmp_path, monkeypatch):
    size = tight(3, graph)
    undisturbed = np.array(diffuse_to(tmp_path / "one", graph, features(), RECIPE, size))
    steps: list[int] = []

    def stop(done: int, total: int, what: str) -> None:
        steps.append(done)
        if done == at:
            raise Stop

    with pytest.raises(Stop):
        diffuse_to(tmp_path / "two", graph, features(), RECIPE, size, stop)
    assert steps == list(range(at + 1))
    written = counted(monkeypatch)
    steps.clear()
    found = diffuse_to(tmp_path / "two", graph, features(), RECIPE, size, lambda done, *rest: steps.append(done))
    np.testing.assert_array_equal(found, undisturbed)
    assert len(written) == 21 - min(at, 21)
    assert min(steps) == min(at, 21)


def test_a_finished_one_is_read_and_nothing_is_done(graph, tmp_path, monkeypatch):
    first = np.array(diffuse_to(tmp_path, graph, features(), RECIPE, PLENTY))
    before = (tmp_path / "matrix.npy").stat().st_mtime_ns
    monkeypatch.setattr(out_of_core, "Features", None)
    monkeypatch.setattr(out_of_core, "panels_of", None)
    sample = json.loads((tmp_path / "plan.json").read_text())["sample"]
    monkeypatch.setattr(out_of_core._Work, "_sample", lambda self: sample)
    again = diffuse_to(tmp_path, graph, features(), RECIPE, 1)  # reading takes no budget
    np.testing.assert_array_equal(again, first)
    assert (tmp_path / "matrix.npy").stat().st_mtime_ns == before


def flip(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place, os.SEEK_END if place < 0 else os.SEEK_SET)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 0xFF]))


@pytest.mark.parametrize("harm", ["flip", "cut", "gone", "no note", "note of another"])
def test_a_damaged_part_is_done_again_and_nothing_else(harm, graph, tight, tmp_path, monkeypatch):
    size = tight(3, graph)

    def stop(done: int, total: int, what: str) -> None:
        if done == 20:
            raise Stop

    with pytest.raises(Stop):
        diffuse_to(tmp_path, graph, features(), RECIPE, size, stop)
    part = tmp_path / "parts" / "00001-03.f32"
    if harm == "flip":
        flip(part, 100)
    elif harm == "cut":
        part.write_bytes(part.read_bytes()[:-4])
    elif harm == "gone":
        part.unlink()
    elif harm == "no note":
        part.with_suffix(".json").unlink()
    else:
        shutil.copy(part.with_name("00000-03.json"), part.with_suffix(".json"))
    (tmp_path / "parts" / ".00002-07.f32.left-over").write_bytes(b"half")
    written = counted(monkeypatch)
    found = diffuse_to(tmp_path, graph, features(), RECIPE, size)
    assert written == ["00001-03", "00002-07"]
    np.testing.assert_allclose(found, diffuse(graph, torch.from_numpy(features()), RECIPE).numpy(), atol=1e-5)


@pytest.mark.parametrize("harm", ["flip", "cut", "header", "gone", "no note", "no manifest"])
def test_a_damaged_result_is_found_and_mended(harm, graph, tight, tmp_path):
    size = tight(3, graph)
    first = np.array(diffuse_to(tmp_path, graph, features(), RECIPE, size))
    matrix = tmp_path / "matrix.npy"
    notes = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "rows").iterdir()}
    assert len(notes) > 2
    if harm == "flip":
        flip(matrix, -5)
    elif harm == "cut":
        matrix.write_bytes(matrix.read_bytes()[:-4])
    elif harm == "header":
        flip(matrix, 20)
    elif harm == "gone":
        matrix.unlink()
    elif harm == "no note":
        (tmp_path / "rows" / "00001.json").unlink()
    else:
        (tmp_path / "manifest.json").unlink()
    found = diffuse_to(tmp_path, graph, features(), RECIPE, size)
    np.testing.assert_array_equal(found, first)
    assert (tmp_path / "manifest.json").is_file()
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "rows").iterdir()}
    changed = {name for name in notes if notes[name] != after[name]}
    last = max(notes)
    assert (
        changed
        == {
            "flip": {last},
            "cut": set(notes),
            "header": set(notes),
            "gone": set(notes),
            "no note": {"00001.json"},
            "no manifest": set(),
        }[harm]
    )


def test_a_folder_of_something_else_is_refused(graph, tmp_path):
    x = features()
    diffuse_to(tmp_path, graph, x, RECIPE, PLENTY)
    other = Recipe(EVERYTHING, standardize=True, iterations=21)
    for wrong, what in (
        ((graph, x, other), "recipe"),
        ((graph, features(1), RECIPE), "sample"),
        ((to_dgl(random_nx(True, 9)), x, RECIPE), "num_edges"),
        ((graph, x[:, :5], RECIPE), "dim"),
    ):
        with pytest.raises(JobError, match=rf"something else \(another {what}\): delete it, or choose another folder"):
            diffuse_to(tmp_path, *wrong, PLENTY)
    reversed_graph = Neighbours(*(torch.from_numpy(a) for a in _transposed(graph)))
    with pytest.raises(JobError, match="another sample"):
        diffuse_to(tmp_path, reversed_graph, x, RECIPE, PLENTY)


def _transposed(graph) -> tuple[np.ndarray, np.ndarray]:
    indptr, indices, _ = graph.adj_tensors("csr")
    return indptr.numpy(), indices.numpy().astype(np.int32)


def test_a_folder_with_rubbish_in_it_is_begun_anew(graph, tmp_path):
    (tmp_path / "plan.json").write_text('{"columns": ')
    (tmp_path / "manifest.json").write_text("[]")
    (tmp_path / "matrix.npy").write_bytes(b"no array")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "00000-01.f32").write_bytes(b"")
    (tmp_path / "parts" / "00000-01.json").write_text("{}")
    found = diffuse_to(tmp_path, graph, features(), RECIPE, PLENTY)
    np.testing.assert_array_equal(found, diffuse(graph, torch.from_numpy(features()), RECIPE).numpy())


def test_features_of_another_graph_are_refused(graph, tmp_path):
    with pytest.raises(JobError, match="the features have 29 rows, the graph has 30 nodes"):
        diffuse_to(tmp_path, graph, features()[1:], RECIPE, PLENTY)


def test_a_smaller_budget_than_before_begins_anew_a_larger_one_goes_on(graph, tight, tmp_path, monkeypatch):
    def stop(done: int, total: int, what: str) -> None:
        if done == 9:
            raise Stop

    with pytest.raises(Stop):
        diffuse_to(tmp_path, graph, features(), RECIPE, tight(3, graph), stop)
    written = counted(monkeypatch)
    with pytest.raises(Stop):
        diffuse_to(tmp_path, graph, features(), RECIPE, tight(1, graph), stop)
    assert len(written) == 9
    written.clear()
    found = diffuse_to(tmp_path, graph, features(), RECIPE, PLENTY)
    assert columns_of(tmp_path) == 1
    assert len(written) == 7 * DIM - 9
    np.testing.assert_allclose(found, diffuse(graph, torch.from_numpy(features()), RECIPE).numpy(), atol=1e-5)


def test_float16_that_overflows_is_one_line(graph, tmp_path):
    recipe = Recipe((IDENTITY, Block("adjacency", 1)), "none", storage="float16")
    with pytest.raises(JobError, match="beyond the 65504 of float16"):
        diffuse_to(tmp_path, graph, features() * 50_000, recipe, PLENTY)


def test_a_second_process_waits_for_the_first(graph, tmp_path):
    said: list[str] = []

    def let_go(done: int, total: int, what: str) -> None:
        said.append(what)
        held.release()

    held = FileLock(tmp_path / "lock")
    held.acquire()
    diffuse_to(tmp_path, graph, features(), RECIPE, PLENTY, let_go)
    assert said[0] == "waiting for another process that diffuses the same"


KILLED = """
import os, sys
from pathlib import Path
import numpy as np
from diffused import random_nx, to_dgl
import test_diffusion_files as own
from stage_bench import files
from stage_bench.diffusion import budget, out_of_core
budget.resident_bytes, budget._FIXED, out_of_core._RANGE_BYTES = (lambda: 0), 0, 2000
fsync, count = os.fsync, [0]
def stop(descriptor):
    fsync(descriptor)
    count[0] += 1
    if count[0] == int(sys.argv[2]):  # in the midst of writing: written under its temporary name, or in place
        os.kill(os.getpid(), 9)
os.fsync = stop
out_of_core.diffuse_to(Path(sys.argv[1]), to_dgl(random_nx(True, 0)), own.features(), own.RECIPE, int(sys.argv[3]))
"""


@pytest.mark.parametrize("at", [2, 10, 46])
def test_killed_inside_a_block_it_ends_the_same(at, graph, tight, tmp_path, monkeypatch):
    """Parts and notes are synced once each: first the plan, then the parts, the empty result, ranges of rows."""
    size = tight(3, graph)
    undisturbed = np.array(diffuse_to(tmp_path / "one", graph, features(), RECIPE, size))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "two"), str(at), str(size)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "two" / "manifest.json").exists()
    kept = len(list((tmp_path / "two" / "parts").glob("*.json")))
    written = counted(monkeypatch)
    found = diffuse_to(tmp_path / "two", graph, features(), RECIPE, size)
    np.testing.assert_array_equal(found, undisturbed)
    assert len(written) == 21 - kept
    assert kept == {2: 0, 10: 4, 46: 21}[at]

"""Sizes as people write them, and what a diffusion is said to need against what it takes."""

import json
import subprocess
import sys

import numpy as np
import pytest

from stage_bench.diffusion import budget
from stage_bench.diffusion.budget import bytes_of, needed_bytes, shown
from stage_bench.diffusion.recipe import IDENTITY, Recipe, powers_of


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("8GB", 8_000_000_000),
        ("500MB", 500_000_000),
        ("8GiB", 8 * 2**30),
        ("1.5 GB", 1_500_000_000),
        ("64kb", 64_000),
        ("64KiB", 65_536),
        ("2TB", 2 * 10**12),
        (" 7 B ", 7),
    ],
)
def test_sizes(size, expected):
    assert bytes_of(size) == expected


@pytest.mark.parametrize("size", ["", "8", "GB", "-8GB", "8 gigs", "8G", "8GB of it", "1e9B", "8,5GB", "nanGB"])
def test_what_is_no_size_is_said(size):
    with pytest.raises(ValueError, match=r"write a number and one of .*GB.* such as 8GB"):
        bytes_of(size)


def test_no_memory_is_no_budget():
    with pytest.raises(ValueError, match="no memory at all"):
        bytes_of("0GB")


@pytest.mark.parametrize("size", [1, 999, 1_000_001, 123_456_789, 9_999_999_999, 12_345_678_901, 10**12, 3 * 10**13])
def test_a_shown_size_is_enough_when_asked_for(size):
    assert size <= bytes_of(shown(size)) <= max(1.02 * size, size + 1000)


def test_more_of_anything_needs_more():
    recipe = Recipe((IDENTITY, *powers_of("adjacency", 2)))
    least = needed_bytes(1000, 5000, 16, recipe)
    assert needed_bytes(2000, 5000, 16, recipe) > least
    assert needed_bytes(1000, 9000, 16, recipe) > least
    assert needed_bytes(1000, 5000, 32, recipe) > least
    assert needed_bytes(1000, 5000, 16, Recipe((IDENTITY, *powers_of("triangles", 2)))) > least
    assert needed_bytes(1000, 5000, 16, Recipe((IDENTITY, *powers_of("pagerank", 2)))) > least
    half = Recipe((IDENTITY, *powers_of("adjacency", 2)), storage="float16")
    assert needed_bytes(1000, 5000, 16, half) == least - 1000 * 48 * 2


def test_resident_memory_is_known_here():
    assert budget.resident_bytes() > 10_000_000


SCRIPT = """
import json, sys
import numpy as np, torch
from pathlib import Path
from stage_bench.dgl_library import dgl
from stage_bench.diffusion.budget import needed_bytes, resident_bytes
from stage_bench.diffusion.engine import diffuse
from stage_bench.diffusion.recipe import IDENTITY, Recipe, powers_of
kind = sys.argv[1]
nodes, pairs, dim = 60_000, 600_000, 96
random = np.random.default_rng(0)
ends = (random.random((2, pairs)) ** 1.5 * nodes).astype(np.int64)
ends = ends[:, ends[0] != ends[1]]
graph = dgl.graph((np.concatenate(ends), np.concatenate(ends[::-1])), num_nodes=nodes)
np.save("x.npy", random.standard_normal((nodes, dim), dtype=np.float32))
x = np.load("x.npy", mmap_mode="r")
recipe = Recipe((IDENTITY, *powers_of(kind, 2)), iterations=2, standardize=True, svd=64)
del ends
before = resident_bytes()
Path("/proc/self/clear_refs").write_text("5")
diffuse(graph, x, recipe)
status = Path("/proc/self/status").read_text()
peak = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
print(json.dumps([peak - before, needed_bytes(nodes, graph.num_edges(), dim, recipe)]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read as Linux tells it")
@pytest.mark.parametrize("kind", ["adjacency", "pagerank", "triangles"])
def test_no_more_is_taken_than_is_said(kind, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, kind], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    taken, said = json.loads(done.stdout.splitlines()[-1])
    assert taken < said
    assert np.isfinite(said)

"""How fast features diffuse: against STAGE's way, against the memory's bandwidth, out of core, and as graphs grow.

    python tests/speed/diffuse.py [--rounds 5]                   A^3 X at ogbn-arxiv's size, 512 columns
    python tests/speed/diffuse.py --large [--budget 8GB]         ogbn-products' size, out of core
    python tests/speed/diffuse.py --scale                        five sizes, a fit, and what it says of papers100M

Graphs are generated: both ends of an edge are drawn with a power law. Ratios are of one run, whose ways take turns. No
number here is asserted. `--place DIR` keeps what is generated for the next run (several GB with --large).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

ARXIV = (169_343, 2_330_000)
PRODUCTS = (2_449_029, 123_718_280)
PAPERS = (111_059_956, 3_231_371_744)  # ogbn-papers100M, both directions of its 1,615,685,872 edges
SIZES = (
    (250_000, 2_500_000),
    (500_000, 12_000_000),
    (1_000_000, 5_000_000),
    (1_500_000, 20_000_000),
    (2_000_000, 8_000_000),
)
WIDTHS = (16, 64, 128)
HOPS = 3
_BLOCK = 1 << 22


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--columns", type=int, default=512)
    parser.add_argument("--large", action="store_true", help="ogbn-products' size, out of core")
    parser.add_argument("--scale", action="store_true", help="cost against size")
    parser.add_argument("--budget", default="8GB", help="of --large")
    parser.add_argument("--place", type=Path, help="where generated graphs go; default: a temporary folder")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    from stage_bench.kernels import allocator

    allocator.keep_memory()  # as for every job of the program
    if arguments.work:
        print(json.dumps(work(arguments.work, arguments.budget)))
        return
    import torch

    from stage_bench.runs.provenance import cpu

    print(f"{cpu()}; {torch.get_num_threads()} threads")
    with folder(arguments.place) as place:
        if arguments.large:
            large(place, arguments.budget)
        elif arguments.scale:
            scale(place, arguments.rounds)
        else:
            against(place, arguments.columns, arguments.rounds)


@contextmanager
def folder(place: Path | None) -> Iterator[Path]:
    if place is not None:
        yield place
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)


def generate(place: Path, num_nodes: int, num_edges: int) -> Path:
    """`indptr.npy` and `indices.npy` of about so many edges, without self loops or parallel ones, block by block."""
    own = place / f"{num_nodes}-{num_edges}"
    if (own / "indptr.npy").is_file():
        return own
    own.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    step = 1_000_003  # a prime: node number = rank * step mod num_nodes, so that popular nodes lie anywhere
    assert np.gcd(step, num_nodes) == 1
    rank = np.empty(num_nodes, dtype=np.int64)
    rank[np.arange(num_nodes, dtype=np.int64) * step % num_nodes] = np.arange(num_nodes)
    drawn = num_edges * 1.04  # what is drawn twice counts once
    degrees = random.poisson(drawn / (2 * num_nodes) * np.sqrt(num_nodes / (rank + 1)))
    bounds = np.concatenate([[0], np.cumsum(degrees)])
    counts = np.empty(num_nodes, dtype=np.int64)
    total, start = 0, 0
    with (own / "indices.npy").open("wb") as file:
        header(file, 10**9)
        while start < num_nodes:
            stop = max(start + 1, int(np.searchsorted(bounds, bounds[start] + _BLOCK, side="right")) - 1)
            rows = np.repeat(np.arange(start, stop), degrees[start:stop])
            chosen = (random.random(len(rows)) ** 2 * num_nodes).astype(np.int64) * step % num_nodes
            keys = np.unique((rows * num_nodes + chosen)[rows != chosen])
            counts[start:stop] = np.bincount(keys // num_nodes - start, minlength=stop - start)
            file.write((keys % num_nodes).astype(np.int32).tobytes())
            total, start = total + len(keys), stop
        file.seek(0)
        header(file, total)
    np.save(own / "indptr.npy", np.concatenate([[0], np.cumsum(counts)]))
    return own


def header(file, length: int) -> None:
    """Of the same number of bytes for any length."""
    text = f"{{'descr': '<i4', 'fortran_order': False, 'shape': ({length},), }}"
    file.write(b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + text.ljust(117).encode() + b"\n")


def generate_features(own: Path, num_nodes: int, columns: int) -> Path:
    path = own / f"features-{columns}.npy"
    if not path.is_file():
        random = np.random.default_rng(1)
        with path.open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "<f4", "fortran_order": False, "shape": (num_nodes, columns)}
            )
            for start in range(0, num_nodes, 16_384):
                rows = min(16_384, num_nodes - start)
                file.write(random.standard_normal((rows, columns), dtype=np.float32).tobytes())
    return path


def seconds_of(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def in_memory(own: Path):
    """The same graph, not in files."""
    import torch

    from stage_bench.diffusion import neighbours

    edges = neighbours.of_files(own)
    return neighbours.Neighbours(edges.indptr, torch.from_numpy(np.load(own / "indices.npy")))


# --- A^3 X at ogbn-arxiv's size ---


def against(place: Path, columns: int, rounds: int) -> None:
    import torch
    from tabulate import tabulate

    from stage_bench.diffusion.engine import diffuse
    from stage_bench.diffusion.recipe import Block, Recipe

    edges = in_memory(generate(place, *ARXIV))
    x = torch.randn(edges.num_nodes, columns)
    recipe = Recipe((Block("adjacency", HOPS),))
    few = 4
    ways: dict[str, tuple[Callable[[], float], float]] = {
        "stage-bench": (lambda: seconds_of(lambda: diffuse(edges, x, recipe)), 1),
        "bound": (bound(edges, x), HOPS),
    }
    try:
        import graphblas  # noqa: F401
    except ImportError:
        print("python-graphblas is not here; to compare with it: pip install python-graphblas")
    else:
        ways["STAGE's way"] = (column_by_column(edges, x, few, np.float64), columns / few)
        ways["the same, float32"] = (column_by_column(edges, x, few, np.float32), columns / few)
    print(
        f"\nA^{HOPS} X, symmetric with self loops; {edges.num_nodes:,} nodes, {edges.num_edges:,} directed edges, "
        f"{columns} columns; medians of {rounds} rounds"
    )
    times: dict[str, list[float]] = {way: [] for way in ways}
    for way in ways:
        ways[way][0]()
    for _ in range(rounds):
        for way, (call, factor) in ways.items():
            times[way].append(call() * factor)
    table = []
    for way in ways:
        ratios = [other / ours for other, ours in zip(times[way], times["stage-bench"], strict=True)]
        spread = f"{statistics.median(ratios):.3g} ({min(ratios):.3g} to {max(ratios):.3g})"
        table.append([way, f"{statistics.median(times[way]):.3f}", spread])
    print(tabulate(table, headers=["way", "seconds", "times stage-bench's"], disable_numparse=True))
    print(
        f"STAGE's way: python-graphblas, column by column, weights in float64 and features in float32 as in its\n"
        f"public code; {few} columns measured, times {columns // few}. Then the same with weights in float32.\n"
        f"bound: the rows of a hop's edges gathered in their order, in panels of 128 columns or all, whichever is\n"
        f"faster, and a result written; times {HOPS}."
    )


def bound(edges, x) -> Callable[[], float]:
    """Seconds of gathering the rows that one hop sums up and of writing a result."""
    import torch

    def of(width: int) -> float:
        panel, result = x[:, :width].contiguous(), torch.empty(x.shape[0], width)
        rows = (1 << 20) // width  # what is gathered stays in the cache
        into = torch.empty(rows, width)
        begin = time.perf_counter()
        for start in range(0, edges.num_edges, rows):
            chosen = edges.indices[start : start + rows]
            torch.index_select(panel, 0, chosen, out=into[: len(chosen)])
        result.fill_(1.0)
        return (time.perf_counter() - begin) * x.shape[1] / width

    return lambda: min(of(128), of(x.shape[1]))


def column_by_column(edges, x, few: int, dtype: type) -> Callable[[], float]:
    """Seconds for `few` columns of `x`: a vector from a column, as many products as hops, a column from the vector."""
    import graphblas as gb
    import torch

    from stage_bench.diffusion.engine import diffuse
    from stage_bench.diffusion.recipe import Block, Recipe

    gb.ss.config["nthreads"] = torch.get_num_threads()
    degrees_in, degrees_out = (edges.in_degrees() + 1).numpy(), (edges.out_degrees() + 1).numpy()
    nodes = np.arange(edges.num_nodes)
    rows, columns = np.repeat(nodes, np.diff(edges.indptr.numpy())), edges.indices.numpy()
    rows, columns = np.concatenate([rows, nodes]), np.concatenate([columns, nodes])
    weights = (1 / np.sqrt(degrees_in[rows] * degrees_out[columns])).astype(dtype)
    a = gb.Matrix.from_coo(rows, columns, weights, nrows=len(nodes), ncols=len(nodes))
    features = x.numpy()

    def call() -> np.ndarray:
        found = []
        for column in features.T[:few]:
            v = gb.Vector.from_dense(column, dtype=features.dtype)
            for _ in range(HOPS):
                v << a @ v
            found.append(v.to_dense(fill_value=0))
        return np.array(found).T

    difference = np.abs(call() - diffuse(edges, x[:, :few], Recipe((Block("adjacency", HOPS),))).numpy()).max()
    print(f"largest difference from python-graphblas with {np.dtype(dtype)} weights: {difference:.1e}")
    return lambda: seconds_of(call)


# --- out of core ---


def large(place: Path, budget: str) -> None:
    own = generate(place, *PRODUCTS)
    generate_features(own, PRODUCTS[0], 100)
    for left in (own / "result").glob("**/*"):
        if left.is_file():
            left.unlink()
    command = [sys.executable, __file__, "--work", str(own), "--budget", budget]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    check(own)
    print(
        f"\nSIGN's X, S X, S^2 X, S^3 X out of core; {said['nodes']:,} nodes, {said['edges']:,} directed edges, "
        f"100 columns; budget {budget}\n"
        f"{said['seconds']:.1f} s in {said['panels']} panels of {said['columns']} columns; peak memory (VmHWM) "
        f"{said['peak'] / 1e9:.2f} GB, of which {said['before'] / 1e9:.2f} GB before it began;\n"
        "every power of 1,000 nodes checked against scipy"
    )


def work(own: Path, budget: str) -> dict[str, float]:
    """What `--large` measures, in a process of its own, whose memory is nobody else's."""
    from stage_bench.diffusion import neighbours
    from stage_bench.diffusion.budget import bytes_of, resident_bytes
    from stage_bench.diffusion.out_of_core import diffuse_to
    from stage_bench.diffusion.recipe import IDENTITY, Recipe, powers_of

    edges = neighbours.of_files(own)
    features = np.load(own / "features-100.npy", mmap_mode="r")
    before = resident_bytes()
    recipe = Recipe((IDENTITY, *powers_of("adjacency", HOPS)))
    seconds = seconds_of(lambda: diffuse_to(own / "result", edges, features, recipe, bytes_of(budget)))
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    columns = json.loads((own / "result" / "plan.json").read_text())["columns"]
    return {
        "nodes": edges.num_nodes,
        "edges": edges.num_edges,
        "seconds": seconds,
        "peak": peak,
        "before": before,
        "columns": columns,
        "panels": -(-100 // columns),
    }


def check(own: Path) -> None:
    """Each power of some nodes from the power before it, with scipy."""
    import scipy.sparse as sp

    indptr, indices = np.load(own / "indptr.npy"), np.load(own / "indices.npy", mmap_mode="r")
    num_nodes = len(indptr) - 1
    out_degrees = np.bincount(indices, minlength=num_nodes) + 1
    in_degrees = np.diff(indptr) + 1
    result = np.load(own / "result" / "matrix.npy", mmap_mode="r")
    nodes = np.random.default_rng(2).choice(num_nodes, 1000, replace=False)
    senders = [np.append(indices[indptr[node] : indptr[node + 1]], node) for node in nodes]
    lengths = [len(sender) for sender in senders]
    rows, columns = np.repeat(np.arange(1000), lengths), np.concatenate(senders)
    weights = 1 / np.sqrt(in_degrees[nodes[rows]] * out_degrees[columns])
    s = sp.csr_array((weights, (rows, np.arange(len(columns)))), shape=(1000, len(columns)))
    senders_rows = np.array(result[columns])
    for power in range(1, HOPS + 1):
        expected = s @ senders_rows[:, (power - 1) * 100 : power * 100]
        np.testing.assert_allclose(result[nodes, power * 100 : (power + 1) * 100], expected, atol=1e-5)


# --- cost against size ---


def scale(place: Path, rounds: int) -> None:
    import torch
    from tabulate import tabulate

    from stage_bench.diffusion import neighbours
    from stage_bench.diffusion.out_of_core import diffuse_to
    from stage_bench.diffusion.products import products_of
    from stage_bench.diffusion.recipe import Block, Recipe

    recipe = Recipe((Block("adjacency", 1),))
    folders = [generate(place, *size) for size in SIZES]
    graphs = [neighbours.of_files(own) for own in folders]
    features = [
        np.load(generate_features(own, len(e.indptr) - 1, 64), mmap_mode="r")
        for own, e in zip(folders, graphs, strict=True)
    ]
    products = [products_of(edges, recipe)["adjacency"] for edges in graphs]
    times: dict[tuple[int, int], list[float]] = {}
    whole: list[list[float]] = [[] for _ in graphs]
    for _ in range(rounds):  # whatever else the machine does meets all of them
        for number, edges in enumerate(graphs):
            for columns in WIDTHS:
                x, out = torch.randn(edges.num_nodes, columns), torch.zeros(edges.num_nodes, columns)
                seconds = seconds_of(partial(products[number].into, out, x))
                times.setdefault((number, columns), []).append(seconds)
            del x, out
            with tempfile.TemporaryDirectory(dir=place) as result:
                run = partial(diffuse_to, Path(result), edges, features[number], recipe, 20 * 10**9)
                whole[number].append(seconds_of(run))
    hop = {key: statistics.median(found) for key, found in times.items()}
    table = [
        [f"{e.num_nodes:,}", f"{e.num_edges:,}", *(hop[i, columns] for columns in WIDTHS), statistics.median(whole[i])]
        for i, e in enumerate(graphs)
    ]
    headers = ["nodes", "edges", *(f"hop, {columns} columns" for columns in WIDTHS), "file to file, 64"]
    print(f"\nseconds of S X, graph in files; medians of {rounds} rounds")
    print(tabulate(table, headers=headers, floatfmt=".3f"))

    facts = [(graphs[i].num_nodes, graphs[i].num_edges, columns) for i, columns in hop]
    hops = list(hop.values())
    rest = [statistics.median(found) - hop[i, 64] for i, found in enumerate(whole)]
    moved = [edges.num_nodes * 64 * 4 for edges in graphs]
    nodes, edge_counts, columns = np.array(facts, dtype=float).T
    terms = np.stack([edge_counts, edge_counts * columns, nodes * columns], axis=1)
    weights = 1 / np.array(hops)[:, None]
    cost = nonnegative(terms * weights, np.ones(len(hops)))
    error = np.abs(terms @ cost / np.array(hops) - 1)
    print(
        "\nfit of a hop, least squares of relative errors, no term below 0:\n"
        f"seconds = {cost[0]:.3g} * edges + {cost[1]:.3g} * edges * columns + {cost[2]:.3g} * nodes * columns;\n"
        f"off by {np.median(error):.0%} in the median, {error.max():.0%} at most"
    )
    print("bytes of a hop: edges * (4 + 4 * columns) gathered, nodes * columns * 4 read and written once each")
    per_byte = statistics.median(seconds / size for seconds, size in zip(rest, moved, strict=True))
    print(f"features read, panel written, result put together and written: {per_byte * 1e9:.2f} s a GB of result")
    papers(cost, per_byte)


def nonnegative(terms: np.ndarray, target: np.ndarray) -> np.ndarray:
    from scipy.optimize import nnls

    size = terms.max(axis=0)
    return nnls(terms / size, target)[0] / size


def papers(cost: np.ndarray, per_byte: float) -> None:
    """Arithmetic from the fit: nothing of this size is run."""
    from tabulate import tabulate

    from stage_bench.diffusion import budget
    from stage_bench.diffusion.recipe import Recipe, powers_of

    num_nodes, num_edges = PAPERS
    recipe = Recipe(powers_of("adjacency", HOPS))
    table = []
    for dim in (128, 1024):
        for memory, machines in (("16GB", 1), ("64GB", 1), ("256GB", 1), ("64GB", 8), ("64GB", 64)):
            own = -(-dim // machines)
            one = budget.work_bytes(num_nodes, num_edges, dim, recipe, 1)
            none = budget.work_bytes(num_nodes, num_edges, dim, recipe, 0)
            room = budget.bytes_of(memory) - none - 8 * num_nodes - 500_000_000  # indptr; what Python and torch hold
            columns = min(own, int(room // (one - none)))
            panels = -(-own // columns)
            hop = panels * cost[0] * num_edges + own * (cost[1] * num_edges + cost[2] * num_nodes)
            result = num_nodes * own * HOPS * 4
            table.append(
                [
                    dim,
                    machines,
                    memory,
                    f"{panels} of {columns}",
                    f"{hop / 60:.1f}",
                    f"{(HOPS * hop + per_byte * result) / 3600:.2f}",
                    f"{(panels * HOPS * num_edges * 4 + num_edges * own * HOPS * 4) / 1e12:.2f}",
                    f"{2 * result / 1e9:,.0f}",
                ]
            )
    headers = [
        "columns",
        "machines",
        "memory of each",
        "panels",
        "hop, min",
        "S X to S^3 X, h",
        "TB gathered",
        "disk, GB",
    ]
    print(
        f"\nby this fit, {num_nodes:,} nodes and {num_edges:,} directed edges (ogbn-papers100M,\n"
        "both directions); each machine takes columns, and all of the graph; nothing of this was run"
    )
    print(tabulate(table, headers=headers, disable_numparse=True))


if __name__ == "__main__":
    main()

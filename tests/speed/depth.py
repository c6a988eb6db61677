"""RevGAT's memory and time against its depth: 4 and 32 layers, reversible and not.

    python tests/speed/depth.py [--nodes 20000] [--rounds 3]

Each number is of a process of its own: peak resident memory above what is there before training, and seconds of a
training step with its evaluation on one thread, the median of three. No number is asserted.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from tabulate import tabulate

LAYERS = (4, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=2, metavar=("LAYERS", "REVERSIBLE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(*measure(arguments.nodes, int(arguments.one[0]), arguments.one[1] == "True"))
        return
    rows = []
    for reversible in (False, True):
        found = {}
        for layers in LAYERS:
            command = [sys.executable, __file__, "--nodes", str(arguments.nodes), "--one", str(layers), str(reversible)]
            runs = [
                tuple(map(float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()))
                for _ in range(arguments.rounds)
            ]
            found[layers] = [statistics.median(column) for column in zip(*runs, strict=True)]
        few, many = (found[layers] for layers in LAYERS)
        rows.append(["yes" if reversible else "no", few[0], many[0], many[0] / few[0], few[1], many[1]])
    names = [f"{layers} layers" for layers in LAYERS]
    print(f"RevGAT, hidden 64 x 3 heads, {arguments.nodes:,} nodes, medians of {arguments.rounds} rounds")
    headers = ["reversible", *(f"MB, {name}" for name in names), "ratio", *(f"s a step, {name}" for name in names)]
    print(tabulate(rows, headers, floatfmt=("", ".0f", ".0f", ".2f", ".3f", ".3f")))


def measure(nodes: int, layers: int, reversible: bool) -> tuple[float, float]:
    """MB and seconds."""
    import torch

    from stage_bench.backbones.options import RevGATOptions
    from stage_bench.backbones.revgat import RevGAT
    from stage_bench.dgl_library import dgl
    from stage_bench.kernels import allocator
    from stage_bench.runs.clock import PeakMemory
    from stage_bench.training import loop

    loop.warm_up()
    allocator.keep_memory(not reversible)  # as the program does
    torch.set_num_threads(1)
    torch.manual_seed(0)
    options = RevGATOptions(num_layers=layers, hidden=64, reversible=reversible)
    graph = dgl.graph((torch.randint(nodes, (10 * nodes,)), torch.randint(nodes, (10 * nodes,))), num_nodes=nodes)
    graph, inputs = RevGAT.prepare(dgl.to_simple(graph), torch.randn(nodes, 128), options)
    model = RevGAT(128, 40, options)
    optimizer = torch.optim.RMSprop(model.parameters(), lr=0.002)
    labels = torch.randint(40, (nodes,))
    small = dgl.graph((torch.arange(100), torch.arange(100).flip(0)))
    warm, few = RevGAT.prepare(small, torch.randn(100, 128), options)
    torch.nn.functional.cross_entropy(RevGAT(128, 40, options)(warm, few), labels[:100]).backward()  # compiles
    memory = PeakMemory()
    memory.start()
    before = memory.megabytes()
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model.train()(graph, inputs), labels).backward()
        optimizer.step()
        with torch.no_grad():
            model.eval()(graph, inputs)
        seconds.append(time.perf_counter() - begin)
    after = memory.megabytes()
    assert before is not None, "this system does not tell a process its peak memory"
    assert after is not None
    return after - before, statistics.median(seconds)


if __name__ == "__main__":
    main()

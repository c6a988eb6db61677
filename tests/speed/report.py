"""How long a report of many rows takes, and how much memory: python tests/speed/report.py [--runs 100000] [--keep DIR]

Rows are generated (five datasets, the last on a fixed split, ten seeds a row), written as runs.csv, and
`stage-bench report runs.csv` makes every file of the report from it in a process of its own. Printed are the seconds
and the peak memory of that process, where the seconds go, and beside them what pandas takes for means and deviations
of the same rows, in this run and on this machine.
"""

from __future__ import annotations

import argparse
import contextlib
import cProfile
import os
import pstats
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from stage_bench.leaderboard import rows

DATASETS = ("cora", "pubmed", "tape-arxiv23", "ogbn-products-subset", "ogbn-arxiv")
FIXED = ("ogbn-products-subset", "ogbn-arxiv")
SEEDS = 10
LLMS = 10
HARDWARE = "AMD EPYC, 2 cores, 24 GiB, 1 thread"
PHASES = {
    "read and check rows": ("rereading.py", "read"),
    "board and bootstraps": ("board.py", "of_checked"),
    "tests against the best": ("separation.py", "separations"),
    "mean ranks": ("mean_ranks.py", "mean_ranks"),
    "costs": ("costs.py", "costs"),
    "plots": ("drawing.py", "draw"),
    "page": ("page.py", "html"),
    "Markdown": ("markdown.py", "markdown"),
    "LaTeX": ("latex.py", "latex"),
    "runs.csv": ("rows.py", "checked_csv"),
}


def generate(count: int) -> pd.DataFrame:
    """`count` runs: every (dataset, LLM, backbone) with SEEDS of them, accuracies that differ by model and by split."""
    random = np.random.default_rng(0)
    backbones = max(1, count // (SEEDS * LLMS * len(DATASETS)))
    made = []
    for dataset in DATASETS:
        hard = random.normal(0, 0.01, SEEDS)
        for llm in range(LLMS):
            for backbone in range(backbones):
                level = 0.7 + 0.15 * random.beta(4, 2)
                accuracies = np.clip(level + hard + random.normal(0, 0.005, SEEDS), 0, 1)
                seconds = random.lognormal(1, 1.2)
                for seed, accuracy in enumerate(accuracies):
                    made.append((dataset, f"llm-{llm}", f"gnn-{backbone}", seed, accuracy, seconds))
    frame = pd.DataFrame(made, columns=["dataset", "llm", "backbone", "init_seed", "test_accuracy", "train_seconds"])
    drawn = ~frame["dataset"].isin(FIXED)
    facts = {
        **{"features": "zero-shot", "instruction": "default", "kind": "train", "status": "ok", "hardware": HARDWARE},
        **{"infer_seconds": 0.01, "embed_seconds": 60.0, "peak_memory_mb": 900.0, "parameters": 100_000, "epochs": 200},
        **{"version": "0.1.0", "commit": "0" * 40, "dataset_fingerprint": "d", "schema_version": rows.SCHEMA_VERSION},
        **{"train_nodes": 6000, "val_nodes": 2000, "test_nodes": 2000},
    }
    frame = frame.assign(**facts)
    frame["split"] = np.where(drawn, "random-60-20-20", "official")
    frame["split_seed"] = frame["init_seed"].where(drawn)
    frame["split_fingerprint"] = frame["dataset"] + frame["split_seed"].astype("string").fillna("")
    frame["embedding_id"] = frame["dataset"] + frame["llm"]
    frame["peak_memory_mb"] += random.integers(0, 400, len(frame))
    frame["val_accuracy"] = frame["test_accuracy"] + 0.001
    frame["id"] = [f"{number:016x}" for number in range(len(frame))]
    return frame.reindex(columns=list(rows.RUN_COLUMNS))


def measure(runs: Path, reports: Path) -> tuple[float, float, pstats.Stats]:
    """Seconds and peak MB of `stage-bench report` with its processes, and, from another call, where the time goes."""
    script = Path(sysconfig.get_path("scripts")) / "stage-bench"
    command = [str(script), "report", str(runs), "--reports", str(reports)]
    begin = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, held(process.pid))
            time.sleep(0.1)
        whole = time.perf_counter() - begin
        if process.returncode:
            said.seek(0)
            sys.exit(said.read())
    return whole, peak, profile(runs, reports)


def held(process: int) -> float:
    """MB that a process and its children hold at this moment, what they share counted once."""
    found = 0.0
    with contextlib.suppress(OSError):  # it has just ended
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            found += int(line.split()[1]) * 1024 / 1e6 if line.startswith("Pss:") else 0
        for task in Path(f"/proc/{process}/task").iterdir():
            children = (task / "children").read_text().split()
            found += sum(held(int(child)) for child in children)
    return found


def profile(runs: Path, reports: Path) -> pstats.Stats:
    from stage_bench.execution import published_numbers
    from stage_bench.leaderboard import beside, rereading, writing

    beside.ROWS = sys.maxsize  # all in this process
    profiler = cProfile.Profile()
    profiler.enable()
    read = rereading.read(runs)
    report = rereading.make(read, *published_numbers.load([]))
    writing.write(reports / "profiled", report)
    profiler.disable()
    return pstats.Stats(profiler)


def plain_pandas(runs: Path) -> float:
    """Seconds that pandas takes to read the same file and group it by row: mean, std and count."""
    begin = time.perf_counter()
    frame = pd.read_csv(runs)
    frame.groupby(list(rows.KEY), dropna=False)["test_accuracy"].agg(["mean", "std", "count"])
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--keep", type=Path, help="a folder for the rows and the report")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = options.keep or Path(temporary)
        frame = generate(options.runs)
        runs = rows.write_runs(place / "generated" / "runs.csv", frame)
        print(f"{len(frame):,} runs, {frame.groupby(list(rows.KEY), dropna=False).ngroups:,} rows of the board, "
              f"runs.csv {runs.stat().st_size / 1e6:.0f} MB")  # fmt: skip
        seconds, peak, stats = measure(runs, place / "reports")
        size = sum(path.stat().st_size for path in (place / "reports" / "generated").rglob("*") if path.is_file())
        print(f"stage-bench report: {seconds:.1f} s, start of Python included; peak memory {peak:.0f} MB")
        print(f"files of the report: {size / 1e6:.0f} MB")
        print(f"pandas, to read the file and take mean and std of each row: {plain_pandas(runs):.2f} s")
        print("where the time goes (profiled, and in one process, so slower):")
        for name, (file, function) in PHASES.items():
            found = [
                value[3] for (path, _, called), value in stats.stats.items()  # type: ignore[attr-defined]
                if called == function and os.path.basename(path) == file
            ]  # fmt: skip
            print(f"  {name:<24} {sum(found):6.1f} s")


if __name__ == "__main__":
    main()

"""How much faster than a plain DGL loop per seed models train: ratios measured in one run.

    STAGE_BENCH_DATA=FOLDER python tests/speed/train.py [--only cora] [--results DIR] [--seeds 10] [--rounds 3]

* cora: STAGE's four models of 4 layers x 128 on MiniLM's features and their ensemble, seed after seed in one process,
  against `stage-bench run`. Both from the start of the command to its end, embeddings there already.
* arxiv: a generated graph of ogbn-arxiv's size (tests/speed/generated.py), 3 layers x 256, seconds an epoch.
* wordnet: real, MiniLM's features, 3 layers x 256, until 50 epochs bring no better validation accuracy.
* exact: logits of both after a few steps from the same weights without dropout.
* `--profile` instead: where the plain loop's time goes.

The plain loop is tests/speed/plain_dgl.py; both sides take their options from one suite (recipe `stage`). Each is a
process of its own, and they take turns, so that whatever else the machine does meets both. No number is asserted.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import generated
import numpy as np

HERE = Path(__file__).resolve().parent
MEMBERS = ("mlp", "gcn", "sage", "revgat")
SECTIONS = ("exact", "cora", "arxiv", "wordnet")
SMALL = generated.Size(nodes=3_000, pairs=12_000, dim=64, classes=8)
BFLOAT16 = {"products": "bfloat16"}  # of the program's training options, once it is one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=SECTIONS, action="append", help="may be repeated; default: all")
    parser.add_argument("--results", type=Path, help="keep embeddings and generated graphs here (default: nowhere)")
    parser.add_argument("--seeds", type=int, default=10, help="of cora (10)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="at most; arxiv: exactly (default: the recipe's; arxiv 6)")
    parser.add_argument("--models", nargs="+", default=["gcn", "sage", "revgat"], help="of arxiv, wordnet, --profile")
    parser.add_argument("--features", type=Path, help=".npy of wordnet's embeddings, instead of computing them")
    parser.add_argument("--size", type=float, default=1.0, help="of the arxiv graph, as a share; to try the script")
    parser.add_argument("--threads", type=int, help="of the plain loop (default: as many as torch takes)")
    parser.add_argument("--no-reversing", action="store_true", help="arxiv, wordnet: plain RevGAT keeps activations")
    parser.add_argument(
        "--ours", nargs="+", default=[], metavar="KEY=VALUE", help="options for the program's side only"
    )
    parser.add_argument("--profile", action="store_true", help="shares of the plain loop's time, on cora and arxiv")
    arguments = parser.parse_args()
    from stage_bench.runs.provenance import cpu

    print(cpu())
    with _place(arguments.results) as place:
        for section in arguments.only or SECTIONS:
            if arguments.profile:
                if section in ("cora", "arxiv", "wordnet"):
                    profile(section, arguments, place)
            else:
                {"exact": exact, "cora": cora, "arxiv": large, "wordnet": large}[section](section, arguments, place)


@contextmanager
def _place(results: Path | None) -> Iterator[Path]:
    if results is not None:
        results.mkdir(parents=True, exist_ok=True)
        yield results.resolve()
        return
    with tempfile.TemporaryDirectory() as place:
        yield Path(place)


def suite(
    path: Path,
    dataset: str,
    layers: int,
    hidden: int,
    models: Sequence[str],
    training: dict[str, Any],
    seeds: int = 1,
    ensemble: bool = False,
) -> Path:
    """A suite of these models, written as JSON, which is YAML."""
    content: dict[str, Any] = {
        "name": path.stem,
        "datasets": [dataset],
        "llms": ["minilm"],
        "recipe": "stage",
        "backbones": [{"name": model, "num_layers": layers, "hidden": hidden} for model in models],
        "seeds": seeds,
        "splits": "random-60-20-20",
        "training": training,
    }
    if ensemble:  # its members must have the recipe's values: others change their names
        content["ensembles"] = [{"name": "stage", "members": list(models)}]
    path.write_text(json.dumps(content))
    return path


def values_of(path: Path) -> dict[str, dict[str, Any]]:
    """Every backbone of a suite with all its options and its training's."""
    from stage_bench.execution import running

    return {choice.name: {**choice.options, **choice.training} for choice in running.read_suite(path).backbones}


def dataset(path: Path, place: Path, features: Path | None = None) -> tuple[Path, list[list[dict[str, Any]]]]:
    """A suite's one dataset written for both sides, embedded first if need be, and its runs, a list a seed."""
    from stage_bench.execution import running
    from stage_bench.features import source
    from stage_bench.llms.cache import EmbeddingCache
    from stage_bench.suite.jobs import EmbedJob, TrainJob

    data = Path(os.environ.get("STAGE_BENCH_DATA", HERE.parents[2] / "shared/data"))
    plan = running.make_plan(path, running.Folders(data, place, place / "reports"))
    (graph,) = plan.graphs.values()
    if features is None:
        choice = next(job.choice for job in plan.jobs if isinstance(job, EmbedJob))
        vectors, _ = source.load(graph, choice, EmbeddingCache(place / "embeddings"), "cpu")
    else:
        vectors = np.load(features, mmap_mode="r")
        if len(vectors) != graph.num_nodes:
            raise SystemExit(f"{features} has {len(vectors):,} rows, {graph.name} {graph.num_nodes:,} nodes")
    jobs = [job for job in plan.jobs if isinstance(job, TrainJob)]
    seeds = sorted({(job.split_seed or 0, job.init_seed) for job in jobs})
    runs = [
        [
            {
                "backbone": job.choice.name,
                "values": {**job.choice.options, **job.choice.training},
                "split": number,
                "seed": job.init_seed,
            }
            for job in jobs
            if (job.split_seed or 0, job.init_seed) == pair
        ]
        for number, pair in enumerate(seeds)
    ]
    splits = [graph.split(jobs[0].split, pair[0]) for pair in seeds]
    folder = place / "inputs" / path.stem
    parts = [(split.train, split.val, split.test) for split in splits]
    generated.save(folder, graph.name, vectors, graph.edges, graph.labels, graph.num_classes, parts)
    return folder, runs


def arxiv_size(place: Path, share: float) -> Path:
    full = generated.ARXIV
    size = generated.Size(int(full.nodes * share), int(full.pairs * share), full.dim, full.classes)
    folder = place / "inputs" / f"arxiv-{size.nodes}"
    if not generated.stored(folder):
        generated.write(folder, size, "arxiv-size")
    return folder


def environment(side: str, threads: int | None = None) -> dict[str, str]:
    """The plain loop runs in the environment as it is, the program in the one that its command sets."""
    own = dict(os.environ)
    if side == "ours":
        own.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    elif threads is not None:
        own["OMP_NUM_THREADS"] = str(threads)
    return own


def megabytes(root: int) -> float:
    """Peak resident memory (VmHWM) of a process and its descendants, added up; shared pages count in each."""
    total, todo = 0, [root]
    while todo:
        pid = todo.pop()
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            todo += [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return total * 1024 / 1e6


def run(command: list[str], side: str, log: Path, threads: int | None = None) -> tuple[float, float, str]:
    """Seconds, peak memory in MB and standard output of a command, from its start to its end."""
    with log.open("w") as errors, tempfile.TemporaryFile("w+") as output:
        begin, peak = time.perf_counter(), 0.0
        process = subprocess.Popen(command, env=environment(side, threads), stdout=output, stderr=errors)
        while True:
            try:
                process.wait(0.1)
                break
            except subprocess.TimeoutExpired:
                peak = max(peak, megabytes(process.pid))
        seconds = time.perf_counter() - begin
        output.seek(0)
        text = output.read()
    if process.returncode:
        raise SystemExit(f"{side} failed ({process.returncode}):\n{log.read_text()[-3000:]}{text[-3000:]}")
    return seconds, peak, text


class Worker:
    """`worker.py` for one side on one dataset, waiting for runs to do."""

    def __init__(self, side: str, folder: Path, log: Path, threads: int | None) -> None:
        self.side, self.log = side, log
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), side, str(folder)],
            env=environment(side, threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            text=True,
        )
        self.threads = int(self._line().split()[1])

    def fit(self, backbone: str, values: dict[str, Any], split: int, seed: int) -> dict[str, Any]:
        assert self.process.stdin is not None
        asked = {"backbone": backbone, "values": values, "split": split, "seed": seed}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._line())
        return answer

    def end(self) -> float:
        """Peak memory in MB."""
        peak = megabytes(self.process.pid)
        self.process.communicate()
        return peak

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.side} ended early:\n{self.log.read_text()[-3000:]}")
        return line


def once(what: str, folder: Path, runs: Any, place: Path, threads: int | None = None) -> tuple[float, float, Any]:
    """`worker.py` doing one thing from start to end: seconds, peak memory in MB, answer."""
    asked = place / f"{what}.json"
    asked.write_text(json.dumps(runs))
    command = [sys.executable, str(HERE / "worker.py"), what, str(folder), str(asked)]
    seconds, peak, text = run(command, "plain", place / f"{what}.log", threads)
    return seconds, peak, json.loads(text.splitlines()[-1])


def exact(section: str, arguments: argparse.Namespace, place: Path) -> None:
    steps = 5
    folder = generated.write(place / "inputs" / "small", SMALL, "small", signal=0.5)
    path = suite(place / "exact.yaml", "cora", 4, 32, MEMBERS, {"epochs": steps, "patience": steps})
    still = {"dropout": 0.0, "input_dropout": 0.0, "edge_dropout": 0.0}
    runs = []
    for name, values in values_of(path).items():
        values |= {key: value for key, value in still.items() if key in values}
        # the program's MLP looks at the rows that count alone: its batch norm is over the training nodes
        values["batch_norm"] = name != "mlp"
        runs.append({"backbone": name, "values": values, "seed": 0})
    found = once("exact", folder, runs, place)[2]
    print(f"\nexactness: largest difference of logits over the largest logit, after {steps} steps without dropout")
    rows = [[one["backbone"], f"{one['training']:.1e}", f"{one['evaluation']:.1e}"] for one in found]
    show(["model (mlp without batch norm)", "in training mode", "in evaluation mode"], rows)
    print("Evaluation: after passes that settle batch norm's running statistics, which the sides come by differently.")


def cora(section: str, arguments: argparse.Namespace, place: Path) -> None:
    epochs = {"whole": {} if arguments.epochs is None else {"epochs": arguments.epochs}, "one epoch": {"epochs": 1}}
    paths = {
        what: suite(place / f"cora-{what.split()[0]}.yaml", "cora", 4, 128, MEMBERS, training, arguments.seeds, True)
        for what, training in epochs.items()
    }
    inputs = {what: dataset(path, place) for what, path in paths.items()}
    seconds: dict[tuple[str, str], list[float]] = {}
    peaks: dict[str, list[float]] = {"plain": [], "ours": []}
    right: dict[str, list[dict[str, float]]] = {}
    for number in range(arguments.rounds):
        for what, path in paths.items():
            for side in _turns(number):
                if side == "plain":
                    took, peak, right_now = once("plain-suite", *inputs[what], place, arguments.threads)
                else:
                    took, peak, right_now = program(path, place)
                seconds.setdefault((side, what), []).append(took)
                if what == "whole":
                    peaks[side].append(peak)
                    right[side] = right_now
    print(
        f"\ncora, {arguments.seeds} seeds of 4 models x (4 layers x 128) and their ensemble; {arguments.rounds} rounds"
    )
    show(
        ["way", "seconds", "with one epoch a model", "peak memory, MB"],
        [
            [
                side,
                *(f"{statistics.median(seconds[side, what]):.1f}" for what in paths),
                f"{statistics.median(peaks[side]):,.0f}",
            ]
            for side in ("plain", "ours")
        ],
    )
    whole = [one / other for one, other in zip(seconds["plain", "whole"], seconds["ours", "whole"], strict=True)]
    rest = {
        side: [w - s for w, s in zip(seconds[side, "whole"], seconds[side, "one epoch"], strict=True)]
        for side in ("plain", "ours")
    }
    print(f"ratio, from the start of the command to its end: {spread(whole)}")
    if arguments.epochs != 1:
        less = [one / other for one, other in zip(rest["plain"], rest["ours"], strict=True)]
        print(f"ratio without what one epoch a model takes (starting, reading, records, report): {spread(less)}")
    print(f"Peak memory is VmHWM, the program's processes added up. {agreement(right['plain'], right['ours'])}")


def program(path: Path, place: Path) -> tuple[float, float, list[dict[str, float]]]:
    """`stage-bench run` in a results folder that has nothing but the embedding; test accuracies, one entry a seed."""
    data = os.environ.get("STAGE_BENCH_DATA", str(HERE.parents[2] / "shared/data"))
    with tempfile.TemporaryDirectory() as fresh:
        shutil.copytree(place / "embeddings", Path(fresh) / "embeddings")
        command = [str(Path(sys.executable).with_name("stage-bench")), "run", str(path)]
        folders = ["--results", fresh, "--reports", str(Path(fresh) / "reports"), "--data", data, "--device", "cpu"]
        seconds, peak, _ = run([*command, *folders], "ours", place / "ours.log")
        found: dict[int, dict[str, float]] = {}
        for file in Path(fresh).glob("runs/*/run.json"):
            record = json.loads(file.read_text())
            name = record["backbone"].partition("(")[0]
            found.setdefault(record["init_seed"], {})[name] = record["metrics"]["test_accuracy"]
    return seconds, peak, [found[seed] for seed in sorted(found)]


def agreement(plain: list[dict[str, float]], ours: list[dict[str, float]]) -> str:
    """Test accuracies over the seeds, mean and standard error (deviation with ddof 1 over the root of their number)."""
    rows = []
    for name in (*MEMBERS, "stage"):
        sides = [np.array([seed[name] for seed in side]) for side in (plain, ours)]
        errors = [side.std(ddof=1) / math.sqrt(len(side)) if len(side) > 1 else math.nan for side in sides]
        difference = float(sides[1].mean() - sides[0].mean())
        said = "-" if math.isnan(errors[0]) else "yes" if abs(difference) <= errors[0] else "no"
        cells = [f"{side.mean():.4f} +- {error:.4f}" for side, error in zip(sides, errors, strict=True)]
        rows.append([name, *cells, f"{difference:+.4f}", said])
    from tabulate import tabulate

    headers = ["model", "plain", "ours", "difference", "within one standard error"]
    title = f"Test accuracy, mean +- standard error of {len(plain)} seeds, each on the same split:"
    return f"\n{title}\n{tabulate(rows, headers=headers, disable_numparse=True)}"


def large(section: str, arguments: argparse.Namespace, place: Path) -> None:
    """The arxiv-size graph, or wordnet: one model after another, the sides by turns."""
    models, epochs = arguments.models, arguments.epochs
    if section == "arxiv":
        training = {"epochs": epochs or 6, "patience": epochs or 6}
        path = suite(place / "arxiv.yaml", "cora", 3, 256, models, training)
        folder, every = arxiv_size(place, arguments.size), values_of(path)
    else:
        path = suite(place / "wordnet.yaml", "wordnet", 3, 256, models, {"epochs": epochs} if epochs else {})
        folder, runs = dataset(path, place, arguments.features)
        every = {one["backbone"]: one["values"] for one in runs[0]}
    rows, ends, threads = [], [], {}
    for model in models:
        for label, more in variants(arguments.ours).items():
            found: dict[str, list[dict[str, Any]]] = {"plain": [], "ours": []}
            log = place / "worker"
            workers = {side: Worker(side, folder, log.with_suffix(f".{side}.log"), arguments.threads) for side in found}
            given = {"plain": {"reverses": not arguments.no_reversing}, "ours": more}
            warm = {"epochs": 2, "patience": 2}  # compiles, maps and allocates what is done once a process
            for side, worker in workers.items():
                worker.fit(model, {**every[model], **warm, **given[side]}, 0, 0)
            for number in range(arguments.rounds):
                for side in _turns(number):
                    values = {**every[model], **given[side]}
                    found[side].append(workers[side].fit(model, values, 0, number))
            peaks = {side: worker.end() for side, worker in workers.items()}
            threads = {side: worker.threads for side, worker in workers.items()}
            one, other = (found[side] for side in ("plain", "ours"))
            name = f"{model}, {label}" if label else model
            rows.append([name, *_epoch_cells(one, other), *(f"{peaks[side]:,.0f}" for side in peaks)])
            ends.append([name, *_end_cells(one, other)])
    facts = json.loads((folder / "facts.json").read_text())
    labels, edges = np.load(folder / "labels.npy", mmap_mode="r"), np.load(folder / "edges.npy", mmap_mode="r")
    dim = np.load(folder / "features.npy", mmap_mode="r").shape[1]
    print(
        f"\n{facts['name']}: {len(labels):,} nodes, {edges.shape[1]:,} directed edges, {dim} dimensions; "
        f"3 layers x 256; {arguments.rounds} rounds; threads: plain {threads['plain']}, ours {threads['ours']}"
    )
    show(
        ["model", "plain, s an epoch", "ours", "ratio", "once before, s", "plain, peak MB", "ours"],
        rows,
    )
    print(
        "\nWhole runs, the fixed work before them counted. To best: seconds until the end of the best epoch."
        if section == "wordnet"
        else "\nWhole runs of that many epochs, the fixed work before them counted."
    )
    show(
        ["model", "plain, s", "ours", "ratio", "ratio to best", "best epoch, plain", "ours", "test, plain", "ours"],
        ends,
    )


def variants(given: list[str]) -> dict[str, dict[str, Any]]:
    """What the program's side is run with: as it is, with bfloat16 products if it has them, or as `--ours` says."""
    if given:
        pairs = dict(pair.split("=", 1) for pair in given)
        return {" ".join(given): {key: _parsed(value) for key, value in pairs.items()}}
    from stage_bench.runs.provenance import has_bfloat16
    from stage_bench.training.options import TrainingOptions

    can = BFLOAT16.keys() <= TrainingOptions.model_fields.keys() and has_bfloat16()
    return {"": {}, **({"bfloat16 products": BFLOAT16} if can else {})}


def _parsed(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _epoch_cells(plain: list[dict[str, Any]], ours: list[dict[str, Any]]) -> list[str]:
    medians = [[statistics.median(one["epochs"][1:] or one["epochs"]) for one in side] for side in (plain, ours)]
    ratios = [one / other for one, other in zip(*medians, strict=True)]
    return [*(f"{statistics.median(side):.3f}" for side in medians), spread(ratios), f"{ours[0]['prepare']:.2f}"]


def _end_cells(plain: list[dict[str, Any]], ours: list[dict[str, Any]]) -> list[str]:
    ends = [[one["seconds"] + one["prepare"] for one in side] for side in (plain, ours)]
    best = [[sum(one["epochs"][: one["best_epoch"]]) + one["prepare"] for one in side] for side in (plain, ours)]
    return [
        *(f"{statistics.median(side):.1f}" for side in ends),
        *(spread([one / other for one, other in zip(*sides, strict=True)]) for sides in (ends, best)),
        *(f"{statistics.median(one['best_epoch'] for one in side):g}" for side in (plain, ours)),
        *(f"{statistics.mean(one['test'] for one in side):.4f}" for side in (plain, ours)),
    ]


def profile(section: str, arguments: argparse.Namespace, place: Path) -> None:
    """Shares of the plain loop's time by kind of operation."""
    layers, hidden = (4, 128) if section == "cora" else (3, 256)
    epochs = arguments.epochs or (30 if section == "cora" else 3)
    name = "wordnet" if section == "wordnet" else "cora"
    training = {"epochs": max(2, epochs), "patience": max(2, epochs)}
    path = suite(place / f"profile-{section}.yaml", name, layers, hidden, arguments.models, training)
    folder = arxiv_size(place, arguments.size) if section == "arxiv" else dataset(path, place, arguments.features)[0]
    runs = [{"backbone": model, "values": values, "seed": 0} for model, values in values_of(path).items()]
    found = once("profile", folder, runs, place, arguments.threads)[2]
    kinds = sorted({kind for one in found for kind in one["shares"]}, key=lambda kind: -found[0]["shares"].get(kind, 0))
    print(
        f"\n{section}: shares of the plain loop's time, {layers} layers x {hidden}, evaluation of every epoch included"
    )
    rows = [[kind, *(f"{one['shares'].get(kind, 0):.0%}" for one in found)] for kind in kinds]
    rows.append(["seconds an epoch, profiled", *(f"{one['seconds']:.3f}" for one in found)])
    rows.append(["page faults an epoch", *(f"{one['faults']:,.0f}" for one in found)])
    show(["", *(one["backbone"] for one in found)], rows)


def spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _turns(number: int) -> tuple[str, str]:
    return ("plain", "ours") if number % 2 == 0 else ("ours", "plain")


def show(headers: list[str], rows: list[list[str]]) -> None:
    from tabulate import tabulate

    print(tabulate(rows, headers=headers, disable_numparse=True), flush=True)


if __name__ == "__main__":
    main()

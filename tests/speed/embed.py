"""How much faster than sentence-transformers' default `encode` texts become embeddings: ratios measured in one run.

    STAGE_BENCH_DATA=FOLDER python tests/speed/embed.py [--rounds 5] [--wordnet 7000 | --wordnet all]

MiniLM on 1,000 abstracts of cora and on the short texts of wordnet. Each way is a process of its own that loads its
model first; then they take turns, so that whatever else the machine does meets all of them. Seconds run from texts to
vectors: for sentence-transformers in memory, for stage-bench in the cache, on disk. No number here is asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

WAYS = ("default", "exact", "bfloat16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--abstracts", type=int, default=1000, help="texts of cora")
    parser.add_argument("--wordnet", default="7000", help="texts of wordnet, spread over it, or `all`")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--texts", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        work(arguments.way, json.loads(arguments.texts.read_text()))
        return
    from stage_bench.runs.provenance import cpu

    print(cpu())
    data = Path(os.environ.get("STAGE_BENCH_DATA", "../shared/data"))
    measure(f"cora, {arguments.abstracts:,} abstracts", texts_of(data / "cora", arguments.abstracts), arguments.rounds)
    number = None if arguments.wordnet == "all" else int(arguments.wordnet)
    texts = texts_of(data / "wordnet", number)
    measure(f"wordnet, {len(texts):,} short texts", texts, arguments.rounds)


def texts_of(folder: Path, number: int | None) -> list[str]:
    """Some texts of a dataset, evenly spread over it, each once."""
    from stage_bench.datasets import folder as folders

    texts = list(dict.fromkeys(folders.load(folder).texts or ()))
    if number is None or number >= len(texts):
        return texts
    return [texts[int(place)] for place in np.linspace(0, len(texts) - 1, number)]


def measure(title: str, texts: list[str], rounds: int) -> None:
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "texts.json").write_text(json.dumps(texts))
        workers = {way: start(way, Path(place) / "texts.json") for way in WAYS}
        for _ in range(rounds):
            for way, worker in workers.items():
                seconds[way].append(ask(worker, "go")["seconds"])
        last = {way: ask(worker, str(Path(place) / f"{way}.npy")) for way, worker in workers.items()}
        vectors = {way: np.load(Path(place) / f"{way}.npy") for way in WAYS}
        for worker in workers.values():
            worker.communicate()
    from tabulate import tabulate

    table = []
    for way in WAYS:
        ratios = [first / own for first, own in zip(seconds["default"], seconds[way], strict=True)]
        cosines = (vectors[way] * vectors["default"]).sum(axis=1) / np.linalg.norm(vectors[way], axis=1)
        table.append(
            [
                way,
                f"{len(texts) / statistics.median(seconds[way]):,.1f}",
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
                f"{np.abs(vectors[way] - vectors['default']).max():.1e}",
                f"{cosines.min():.6f}",
                f"{last[way]['megabytes']:,.0f}",
            ]
        )
    print(f"\n{title}; medians of {rounds} rounds")
    headers = ["way", "texts/s", "ratio to default", "largest difference", "lowest cosine", "peak memory, MB"]
    print(tabulate(table, headers=headers, disable_numparse=True), flush=True)


def start(way: str, texts: Path) -> subprocess.Popen[str]:
    """`default` runs in the environment as it is, stage-bench in the one its command sets."""
    environment = dict(os.environ)
    if way != "default":
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    command = [sys.executable, __file__, "--way", way, "--texts", str(texts)]
    worker = subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert worker.stdout is not None
    assert worker.stdout.readline() == "ready\n", f"{way} did not start"
    return worker


def ask(worker: subprocess.Popen[str], what: str) -> dict[str, float]:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(f"{what}\n")
    worker.stdin.flush()
    answer: dict[str, float] = json.loads(worker.stdout.readline())
    return answer


def work(way: str, texts: list[str]) -> None:
    """Embed at each `go`; a path instead: write the vectors there, and say how much memory was needed at most."""
    encode = default() if way == "default" else ours("float32" if way == "exact" else way)
    encode(texts[:64])
    print("ready", flush=True)
    vectors = np.empty(0)
    for line in sys.stdin:
        if line.strip() == "go":
            vectors, seconds = encode(texts)
            print(json.dumps({"seconds": seconds}), flush=True)
        else:
            np.save(line.strip(), vectors)
            status = Path("/proc/self/status").read_text()
            peak = next(row.split()[1] for row in status.splitlines() if row.startswith("VmHWM"))
            print(json.dumps({"megabytes": int(peak) / 1024}), flush=True)


def default():
    from sentence_transformers import SentenceTransformer

    from stage_bench import registry
    from stage_bench.llms import weights

    model = SentenceTransformer(str(weights.find(registry.get("llms", "minilm"))), device="cpu")

    def encode(texts: list[str]) -> tuple[np.ndarray, float]:
        begin = time.perf_counter()
        vectors = model.encode(texts)
        return vectors, time.perf_counter() - begin

    return encode


def ours(dtype: str):
    from stage_bench import registry
    from stage_bench.datasets.textgraph import TextGraph
    from stage_bench.llms import encoders, encoding
    from stage_bench.llms.cache import EmbeddingCache
    from stage_bench.llms.spec import LLMChoice

    spec = registry.get("llms", "minilm")
    choice = LLMChoice(
        spec=spec,
        label="minilm",
        instruction="none",
        pooling=spec.pooling,
        max_length=spec.max_length,
        dtype=dtype,
        normalize=spec.normalize,
    )
    loaded = encoders.load(choice, "cpu")
    encoders.load = lambda choice, device: loaded  # loaded once, as the other way's model is
    empty = np.empty((2, 0), dtype=np.int64)

    def encode(texts: list[str]) -> tuple[np.ndarray, float]:
        graph = TextGraph("texts", texts, empty, np.zeros(len(texts), dtype=np.int64), ["a", "b"])
        with tempfile.TemporaryDirectory() as place:
            begin = time.perf_counter()
            vectors, _ = encoding.embed(graph, choice, EmbeddingCache(Path(place)), "cpu")
            seconds = time.perf_counter() - begin
            return np.array(vectors), seconds

    return encode


if __name__ == "__main__":
    main()

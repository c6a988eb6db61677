"""Texts -> embeddings: identical texts once, length-sorted batches under a token budget, through the cache."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from stage_bench import fingerprint
from stage_bench.errors import JobError
from stage_bench.llms import weights
from stage_bench.llms.cache import EmbeddingCache
from stage_bench.llms.prompts import instruction_text, render
from stage_bench.runs.provenance import cores

if TYPE_CHECKING:
    from stage_bench.datasets.textgraph import TextGraph
    from stage_bench.llms.encoders import Encoder
    from stage_bench.llms.spec import LLMChoice

VERSION = 1  # raise when the same choice would give other embeddings
SHARD_ROWS = 1024
# Small batches stay in a CPU's cache, big ones feed a GPU (evidence.md, Embedding speed).
TOKENS_PER_BATCH = {"cpu": 1024, "cuda": 32768}

Progress = Callable[[int, int], None]


def identity(graph: TextGraph, choice: LLMChoice) -> dict[str, Any]:
    """What determines the embeddings of a graph's texts by an LLM, and nothing else."""
    spec = choice.spec
    encoder = (
        spec.encoder if isinstance(spec.encoder, str) else getattr(spec.encoder, "__qualname__", repr(spec.encoder))
    )
    return {
        "kind": "embedding",
        "version": [VERSION, spec.version],
        "texts": graph.text_fingerprint,
        "model": weights.fingerprint(choice.path) if choice.path else spec.hub_id or spec.name,
        "revision": spec.revision,
        "encoder": encoder or spec.loader,
        "prompt": spec.prompt,
        "instruction": instruction_text(choice.instruction, graph.name, graph.instructions),
        "pooling": choice.pooling,
        "max_length": choice.max_length,
        "dtype": choice.dtype,
        "normalize": choice.normalize,
    }


def embed(
    graph: TextGraph, choice: LLMChoice, cache: EmbeddingCache, device: str, progress: Progress | None = None
) -> tuple[np.ndarray, dict[str, Any]]:
    """float32 [num_nodes, dimension], from the cache as far as it goes, and the cache's manifest.

    Raises:
        JobError: the weights are absent, or the model gave something that is not finite numbers.
    """
    content = identity(graph, choice)
    id_ = fingerprint.of_json(content)
    assert graph.texts is not None
    unique = list(dict.fromkeys(graph.texts))
    row = {text: number for number, text in enumerate(unique)}
    nodes = np.fromiter((row[text] for text in graph.texts), dtype=np.int64, count=graph.num_nodes)
    known = cache.read(id_)
    if known is None:
        pairs = [render(choice.spec.prompt, content["instruction"], text) for text in unique]
        encode = _Shards(choice, device, [pair[0] for pair in pairs], [pair[1] for pair in pairs], progress)
        facts = {"content": content, "llm": choice.label, "dataset": graph.name, "texts": graph.num_nodes}
        cache.write(id_, len(unique), SHARD_ROWS, encode, facts)
        known = cache.read(id_)
    manifest = cache.manifest(id_)
    if known is None or manifest is None:
        raise JobError(f"the embedding {id_} could not be read back; is the disk sound?")
    return known[nodes], manifest


class _Shards:
    """Computes one shard; the model is loaded when the first one is needed.

    On a CPU every core works on batches of its own with one thread: the result does not depend on how many cores
    there are, and none waits for another, which on a busy machine costs several times the work itself.
    """

    def __init__(
        self, choice: LLMChoice, device: str, prompts: Sequence[str], starts: Sequence[int], progress: Progress | None
    ) -> None:
        self.choice, self.device, self.prompts, self.starts = choice, device, prompts, starts
        self.progress = progress
        self.encoder: Encoder | None = None

    def __call__(self, start: int, stop: int) -> tuple[np.ndarray, float]:
        from stage_bench.llms import encoders

        if self.encoder is None:
            self.encoder = encoders.load(self.choice, self.device)
        encoder = self.encoder
        begin = time.perf_counter()
        prompts, starts = self.prompts[start:stop], self.starts[start:stop]
        vectors: np.ndarray | None = None
        done = 0
        groups = batches(encoder.lengths(prompts), TOKENS_PER_BATCH[self.device])
        tokens = (
            (group, encoder.tokenize([prompts[i] for i in group], [starts[i] for i in group])) for group in groups
        )
        workers = encoder.threads or (cores() if self.device == "cpu" else 1)
        for group, part in _side_by_side(encoder.forward, tokens, workers, alone=workers == 1):
            if part.ndim != 2 or len(part) != len(group):
                raise JobError(f"llm '{self.choice.label}' gave an array of shape {part.shape} for {len(group)} texts")
            registered = self.choice.spec.dimension
            if registered is not None and self.choice.path is None and part.shape[1] != registered:
                raise JobError(
                    f"llm '{self.choice.label}' gave {part.shape[1]} dimensions, registered are {registered}"
                )
            if not np.isfinite(part).all():
                raise JobError(f"llm '{self.choice.label}' gave numbers that are not finite")
            if vectors is None:
                vectors = np.empty((stop - start, part.shape[1]), dtype=np.float32)
            vectors[group] = part
            done += len(group)
            if self.progress is not None:
                self.progress(start + done, len(self.prompts))
        assert vectors is not None
        return vectors, time.perf_counter() - begin


def _side_by_side(
    forward: Callable[[Any], np.ndarray], batches: Iterator[tuple[np.ndarray, Any]], workers: int, alone: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(positions, vectors) of every batch, in order; a few batches are tokenised ahead while others are computed.

    alone: the one worker may use all of torch's threads; else each uses one.
    """
    import torch

    threads = torch.get_num_threads() if alone else 1
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        ahead: deque[tuple[np.ndarray, Future[np.ndarray]]] = deque()
        try:
            for group, batch in batches:
                ahead.append((group, pool.submit(forward, batch)))
                while len(ahead) > 2 * workers:
                    group, future = ahead.popleft()
                    yield group, future.result()
            for group, future in ahead:
                yield group, future.result()
        finally:
            for _, future in ahead:
                future.cancel()


def batches(lengths: np.ndarray, tokens: int) -> Iterator[np.ndarray]:
    """Positions, longest texts first, in batches whose padded size stays within `tokens` (one text at least)."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, tokens // max(1, int(lengths[order[start]])))
        yield order[start : start + size]
        start += size

"""Texts -> embeddings: identical texts once, length-sorted batches under a token budget, through the cache."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from stage_bench import fingerprint, out_of_memory
from stage_bench.errors import JobError
from stage_bench.llms import weights
from stage_bench.llms.cache import Computed, EmbeddingCache, Shard
from stage_bench.llms.prompts import instruction_text, render
from stage_bench.llms.reducing import reduce
from stage_bench.runs.energy import Meter, unmeasured
from stage_bench.runs.provenance import cores

if TYPE_CHECKING:
    from stage_bench.datasets.textgraph import TextGraph
    from stage_bench.llms.encoders import Encoder
    from stage_bench.llms.spec import LLMChoice

VERSION = 2  # raise when the same choice would give other embeddings
SHARD_ROWS = 1024
# Small batches stay in a CPU's cache, big ones feed a GPU (evidence.md, Embedding speed).
TOKENS_PER_BATCH = {"cpu": 1024, "cuda": 32768}

Progress = Callable[[int, int], None]
_Submitted = tuple[Shard, int, list[tuple[np.ndarray, Future[np.ndarray]]]]


def identity(graph: TextGraph, choice: LLMChoice) -> dict[str, Any]:
    """What determines the embeddings of a graph's texts by an LLM, and nothing else.

    Raises:
        StageBenchError: the dataset has no sentence for the instruction, or a folder of weights holds none.
    """
    spec = choice.spec
    encoder = (
        spec.encoder if isinstance(spec.encoder, str) else getattr(spec.encoder, "__qualname__", repr(spec.encoder))
    )
    model = spec.hub_id or spec.name
    if spec.packed is not None and not spec.packed.as_published:
        model = f"{model}@{spec.packed.sha256}"
    if choice.path:
        model = weights.fingerprint(choice.path, choice.allow_pickle, choice.trust_remote_code)
    content = {
        "kind": "embedding",
        "version": [VERSION, spec.version],
        "texts": graph.text_fingerprint,
        "model": choice.endpoint.model if choice.endpoint else model,
        "revision": [spec.revision, *spec.base],
        "remote_code": choice.trust_remote_code,
        "encoder": "endpoint" if choice.endpoint else encoder or spec.loader,
        "prompt": [spec.prompt, spec.plain_prompt],
        "instruction": instruction_text(choice.instruction, graph.name, graph.instructions),
        "pooling": choice.pooling,
        "max_length": choice.max_length,
        "dtype": choice.dtype,
        "normalize": choice.normalize,
    }
    if choice.reduction is not None:
        content["reduction"] = [choice.reduction.kind, choice.reduction.dimensions]
    return content


def embed(
    graph: TextGraph,
    choice: LLMChoice,
    cache: EmbeddingCache,
    device: str,
    progress: Progress | None = None,
    meters: Callable[[str], Meter] = unmeasured,
) -> tuple[np.ndarray, dict[str, Any]]:
    """float32 [num_nodes, dimension], from the cache as far as it goes, and the cache's manifest.

    meters: gives a meter for the joules of work on a device.

    Raises:
        JobError: the weights are absent, or the model gave something that is not finite numbers.
    """
    assert graph.texts is not None
    content = identity(graph, choice)
    id_ = fingerprint.of_json(content)
    facts = {"content": content, "llm": choice.label, "dataset": graph.name, "texts": graph.num_nodes}
    if choice.reduction is not None:
        return _reduced(graph, choice, cache, device, progress, meters, id_, facts)
    known = cache.found(id_)
    if known is not None and known[1]["rows"] == graph.num_nodes:
        return known
    unique = list(dict.fromkeys(graph.texts))
    if known is None:
        check_characters(graph)
        pairs = [render(choice.spec, content["instruction"], text) for text in unique]
        # What a server draws is not known here.
        meters = unmeasured if choice.endpoint else meters
        encode = _Shards(choice, device, [pair[0] for pair in pairs], [pair[1] for pair in pairs], progress, meters)
        # Requests cost money: less of it is lost where a server goes down.
        rows = SHARD_ROWS // 4 if choice.endpoint else SHARD_ROWS
        cache.write(id_, len(unique), rows, encode, facts)
        known = cache.read_back(id_)
    vectors, manifest = known
    if len(unique) == graph.num_nodes:
        return vectors, manifest
    row = {text: number for number, text in enumerate(unique)}
    return vectors[np.fromiter((row[text] for text in graph.texts), dtype=np.int64, count=graph.num_nodes)], manifest


def check_characters(graph: TextGraph) -> None:
    """Half of a character pair is no character: no tokenizer takes it, and to drop it would be to change the text."""
    assert graph.texts is not None
    for node, text in enumerate(graph.texts):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise JobError(
                f"dataset '{graph.name}': the text of node {node} holds a lone surrogate "
                f"(U+{ord(text[error.start]):04X}, character {error.start}), which is no character; repair the text"
            ) from None


def _reduced(
    graph: TextGraph,
    choice: LLMChoice,
    cache: EmbeddingCache,
    device: str,
    progress: Progress | None,
    meters: Callable[[str], Meter],
    id_: str,
    facts: dict[str, Any],
) -> tuple[np.ndarray, dict[str, Any]]:
    """Made from the whole embedding, which is in the cache as well; what that cost counts here too."""
    reduction = choice.reduction
    assert reduction is not None

    def make() -> tuple[np.ndarray, dict[str, float]]:
        whole, manifest = embed(graph, dataclasses.replace(choice, reduction=None), cache, device, progress, meters)
        with meters("cpu") as meter:
            begin = time.perf_counter()
            reduced = reduce(whole, reduction, choice.normalize)
            seconds = time.perf_counter() - begin
        spent: dict[str, float] = {key: manifest[key] for key in ("tokens", "requests", "dollars") if key in manifest}
        joules = meter.joules()
        if joules is not None and "joules" in manifest:
            spent["joules"] = manifest["joules"] + joules
        return reduced, {"seconds": manifest["seconds"] + seconds, **spent}

    return cache.keep(id_, graph.num_nodes, make, facts)


class _Shards:
    """Computes shards; the model is loaded when the first one is asked for.

    On a CPU every core works on batches of its own with one thread: the result does not depend on how many cores
    there are, and none waits for another, which on a busy machine costs several times the work itself. While the
    batches of one shard are computed the next one is tokenised, and stands in line.
    """

    def __init__(
        self,
        choice: LLMChoice,
        device: str,
        prompts: Sequence[str],
        starts: Sequence[int],
        progress: Progress | None,
        meters: Callable[[str], Meter],
    ) -> None:
        self.choice, self.prompts, self.starts = choice, prompts, starts
        self.device = choice.device or device
        self.progress = progress
        self.meters = meters
        self.meter = Meter()  # of the shard that is computed
        self.encoder: Encoder | None = None
        self.most: int | None = None  # tokens in a batch for which there was memory, once there was not for more

    def __call__(self, shards: Iterable[Shard]) -> Iterator[Computed]:
        from stage_bench.llms import encoders

        line: deque[_Submitted] = deque()
        with ExitStack() as stack:
            for shard in shards:
                if self.encoder is None:
                    check_device(self.device)
                    self.encoder = encoders.load(self.choice, self.device)
                if not line:
                    begin = self._begin()
                    pool = workers(self.encoder, self.device)
                    stack.callback(pool.shutdown, cancel_futures=True)
                    stack.callback(self._close)
                line.append(self._submit(self.encoder, pool, shard))
                if len(line) > 1:
                    yield self._computed(line.popleft(), self.encoder, begin)
                    begin = self._begin()
            while line and self.encoder is not None:
                yield self._computed(line.popleft(), self.encoder, begin)
                begin = self._begin()

    def _begin(self) -> float:
        self.meter = self.meters(self.device)
        self.meter.start()
        return time.perf_counter()

    def _close(self) -> None:
        self.meter.stop()
        if self.encoder is not None:
            self.encoder.close()
        if self.choice.endpoint is not None:
            self.encoder = None  # one that was told to stop does not try again

    def _submit(self, encoder: Encoder, pool: ThreadPoolExecutor, shard: Shard) -> _Submitted:
        here = slice(shard.start, shard.stop)
        items = encoder.tokenize(self.prompts[here], self.starts[here])
        usual = TOKENS_PER_BATCH["cuda" if self.choice.endpoint else self.device]  # a server batches by itself
        budget = min(self.choice.batch_tokens or usual, self.most or sys.maxsize)
        groups = list(batches(encoder.lengths(items), budget))
        cut = sum(getattr(item, "cut", False) for item in items)
        return shard, cut, [(group, pool.submit(self._forward, encoder, [items[i] for i in group])) for group in groups]

    def _forward(self, encoder: Encoder, items: Sequence[Any]) -> np.ndarray:
        """float32 [len(items), dimension]; in smaller batches where there is no memory for this one."""
        try:
            parts = out_of_memory.in_parts(lambda start, stop: encoder.forward(items[start:stop]), len(items), "texts")
        except Exception as error:
            if not out_of_memory.happened(error) or self.choice.endpoint:
                raise
            longest = int(encoder.lengths(items).max())
            raise JobError(
                f"llm '{self.choice.label}': out of memory with one text at a time (the longest has {longest:,} tokens)"
            ) from error
        if len(parts) > 1:  # what comes next need not fail first
            size = max(map(len, parts))
            self.most = min(self.most or sys.maxsize, size * int(encoder.lengths(items).max()))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _computed(self, submitted: _Submitted, encoder: Encoder, begin: float) -> Computed:
        shard, cut, parts = submitted
        vectors: np.ndarray | None = None
        done = 0
        for group, future in parts:
            part = future.result()
            self._check(part, len(group))
            if vectors is None:
                vectors = np.empty((shard.stop - shard.start, part.shape[1]), dtype=np.float32)
            vectors[group] = part
            done += len(group)
            if self.progress is not None:
                self.progress(shard.start + done, len(self.prompts))
        assert vectors is not None
        if len(vectors) > 1 and not cut and (vectors == vectors[0]).all():
            raise JobError(f"llm '{self.choice.label}' gave one and the same vector for {len(vectors)} different texts")
        seconds = time.perf_counter() - begin
        self.meter.stop()
        return shard, vectors, {"seconds": seconds, "cut": cut, **encoder.spent(), **self.meter.spent()}

    def _check(self, part: np.ndarray, texts: int) -> None:
        label, registered = self.choice.label, self.choice.spec.dimension
        if part.ndim != 2 or len(part) != texts:
            raise JobError(f"llm '{label}' gave an array of shape {part.shape} for {texts} texts")
        if registered is not None and part.shape[1] != registered:
            raise JobError(
                f"llm '{label}' gave {part.shape[1]} dimensions, registered are {registered}; another model needs an "
                "entry of its own (docs/llms.md)"
            )
        if not np.isfinite(part).all():
            raise JobError(f"llm '{label}' gave numbers that are not finite")


def check_device(device: str) -> None:
    """Raises JobError where torch does not see the device."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise JobError("device: cuda, but torch sees no CUDA device; leave the key out to embed on the CPU")


def workers(encoder: Encoder, device: str) -> ThreadPoolExecutor:
    """Workers with one thread of torch's each; an encoder that is not safe in several threads has all of them."""
    import torch

    count = encoder.threads or (cores() if device == "cpu" else 1)
    threads = torch.get_num_threads() if encoder.threads == 1 else 1
    return ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(threads,))


def batches(lengths: np.ndarray, tokens: int) -> Iterator[np.ndarray]:
    """Positions, longest texts first, in batches whose padded size stays within `tokens` (one text at least)."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, tokens // max(1, int(lengths[order[start]])))
        yield order[start : start + size]
        start += size

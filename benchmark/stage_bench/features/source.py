"""The one door through which node features come in, whatever they are made of."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from stage_bench import fingerprint, registry
from stage_bench.errors import JobError, StageBenchError
from stage_bench.features.spec import FeatureChoice
from stage_bench.llms import encoding
from stage_bench.llms.cache import EmbeddingCache
from stage_bench.llms.spec import LLMChoice

if TYPE_CHECKING:
    from stage_bench.datasets.textgraph import TextGraph

ZERO_SHOT = "zero-shot"


def identity(graph: TextGraph, choice: LLMChoice | FeatureChoice) -> dict[str, Any]:
    """What determines the features of a graph.

    Raises:
        StageBenchError: this dataset lacks what the features are made of.
    """
    needs_text = isinstance(choice, LLMChoice) or registry.get("features", choice.name).needs_text
    if needs_text and graph.texts is None:
        raise StageBenchError(f"dataset '{graph.name}' has no texts, which '{choice.label}' needs")
    if isinstance(choice, LLMChoice):
        return encoding.identity(graph, choice)
    spec = registry.get("features", choice.name)
    content = {
        "kind": "features",
        "source": choice.name,
        "version": spec.version,
        "options": choice.options,
        "dataset": graph.fingerprint,
    }
    if spec.reads:
        content["reads"] = registry.resolve(spec.reads)(graph, _options(choice))
    return content


def load(
    graph: TextGraph,
    choice: LLMChoice | FeatureChoice,
    cache: EmbeddingCache,
    device: str,
    progress: encoding.Progress | None = None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """float32 [num_nodes, dimension] and the cache's manifest (`seconds`: what computing them took)."""
    if isinstance(choice, LLMChoice):
        return encoding.embed(graph, choice, cache, device, progress)
    spec = registry.get("features", choice.name)
    content = identity(graph, choice)
    id_ = fingerprint.of_json(content)

    def make() -> tuple[np.ndarray, float]:
        begin = time.perf_counter()
        matrix = np.asarray(registry.resolve(spec.builder)(graph, _options(choice)), dtype=np.float32)
        if matrix.shape[0] != graph.num_nodes or matrix.ndim != 2 or not np.isfinite(matrix).all():
            raise JobError(f"features '{choice.label}' of shape {matrix.shape} are not one finite row a node")
        return matrix, time.perf_counter() - begin

    return cache.keep(id_, graph.num_nodes, make, {"content": content, "dataset": graph.name})


def _options(choice: FeatureChoice) -> Any:
    model = registry.get("features", choice.name).options
    return registry.resolve(model)(**choice.options) if model else None

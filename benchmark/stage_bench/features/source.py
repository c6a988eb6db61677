"""The one door through which node features come in, whatever they are made of."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stage_bench import fingerprint, registry
from stage_bench.errors import JobError, StageBenchError
from stage_bench.features.spec import Built, FeatureChoice, FeatureSpec, Setting
from stage_bench.llms import encoding
from stage_bench.llms.cache import EmbeddingCache
from stage_bench.llms.spec import LLMChoice
from stage_bench.runs.energy import Meter, unmeasured

if TYPE_CHECKING:
    from stage_bench.datasets.splits import Split
    from stage_bench.datasets.textgraph import TextGraph

ZERO_SHOT = "zero-shot"
NONE = "none"
"""What the leaderboard calls the features of a method that reads none."""

Step = Callable[[int, int, str], None]


def per_split(choice: LLMChoice | FeatureChoice) -> bool:
    """Whether these features are learnt from training labels, and so differ from split to split."""
    if isinstance(choice, LLMChoice):
        return False
    spec = registry.get("features", choice.name)
    if isinstance(spec.per_split, bool):
        return spec.per_split
    return bool(registry.resolve(spec.per_split)(_options(choice)))


def predicts(choice: LLMChoice | FeatureChoice) -> bool:
    """Whether these features come with class scores of their own."""
    return isinstance(choice, FeatureChoice) and bool(registry.get("features", choice.name).predicts)


def identity(graph: TextGraph, choice: LLMChoice | FeatureChoice, split: Split | None = None) -> dict[str, Any]:
    """What determines the features of a graph; `split`: where they differ from split to split.

    Raises:
        StageBenchError: this dataset lacks what the features are made of.
    """
    needs_text = isinstance(choice, LLMChoice) or registry.get("features", choice.name).needs_text
    if needs_text and graph.texts is None:
        raise StageBenchError(f"dataset '{graph.name}' has no texts, which '{choice.label}' needs")
    if isinstance(choice, LLMChoice):
        return encoding.identity(graph, choice)
    spec = registry.get("features", choice.name)
    content: dict[str, Any] = {
        "kind": "features",
        "source": choice.name,
        "version": spec.version,
        "options": choice.options,
        "dataset": graph.fingerprint,
    }
    if choice.llm is not None:
        content["llm"] = encoding.identity(graph, choice.llm)
    if choice.answers is not None:
        content["answers"] = _answers_identity(graph, choice)
    if split is not None:
        content["split"] = split.fingerprint
    if spec.reads and choice.answers is None:
        given = (graph, _options(choice)) if split is None else (graph, _options(choice), split)
        content["reads"] = registry.resolve(spec.reads)(*given)
    return content


def answers_id(content: dict[str, Any]) -> str:
    """Of the answers that features with that identity are made of, empty where there are none.

    Several features, of other splits and options, may be made of the same ones: they were paid for once.
    """
    return fingerprint.of_json(content["answers"]) if "answers" in content else ""


def predictions_id(features_id: str) -> str:
    """Under which a source's own class scores lie in the cache."""
    return fingerprint.of_json([features_id, "predictions"])


def load(
    graph: TextGraph,
    choice: LLMChoice | FeatureChoice,
    cache: EmbeddingCache,
    device: str,
    step: Step = lambda done, total, what: None,
    split: Split | None = None,
    meters: Callable[[str], Meter] = unmeasured,
) -> tuple[np.ndarray, dict[str, Any]]:
    """float32 [num_nodes, dimension] and the cache's manifest (`seconds`: what computing them took).

    meters: gives a meter for the joules of work on a device. Those of a pipeline are not measured: it may be the end of
    work that an earlier session began.
    """
    if isinstance(choice, LLMChoice):
        return encoding.embed(graph, choice, cache, device, lambda done, total: step(done, total, "texts"), meters)
    content = identity(graph, choice, split)
    id_ = fingerprint.of_json(content)
    spec: FeatureSpec = registry.get("features", choice.name)
    folder = cache.root / id_ / "work"
    facts = {"content": content, "dataset": graph.name, "answers_id": answers_id(content)}

    def make() -> tuple[np.ndarray, dict[str, float]]:
        if not spec.pipeline:
            build = registry.resolve(spec.builder)  # what it imports is on no clock
            with meters("cpu") as meter:
                begin = time.perf_counter()
                matrix = build(_without_labels(graph, split), _options(choice))
                seconds = time.perf_counter() - begin
            return _checked(matrix, graph.num_nodes, choice), {"seconds": seconds, **meter.spent()}
        built = _run(spec, graph, choice, split, folder, cache, device, step)
        matrix = _checked(built.matrix, graph.num_nodes, choice)
        if spec.predicts:
            # First these: where the features are, the scores are too.
            scores = _checked(built.logits, graph.num_nodes, choice, graph.num_classes)
            cache.keep(predictions_id(id_), graph.num_nodes, lambda: (scores, {"seconds": 0.0}), facts)
        return matrix, {"seconds": 0.0, **built.spent, **({"elsewhere": 1.0} if built.elsewhere else {})}

    found = cache.keep(id_, graph.num_nodes, make, facts)
    shutil.rmtree(folder, ignore_errors=True)  # not before: what it holds may have taken hours
    return found


def load_predictions(
    graph: TextGraph, choice: FeatureChoice, cache: EmbeddingCache, split: Split | None = None
) -> np.ndarray:
    """float32 [num_nodes, num_classes]: the source's own class scores, which `load` has made.

    Raises:
        JobError: they are not there.
    """
    id_ = fingerprint.of_json(identity(graph, choice, split))
    scores = cache.read(predictions_id(id_))
    if scores is None:
        # They are made with the features, and with these alone.
        raise JobError(f"the predictions of '{choice.label}' are damaged or absent; remove {cache.root / id_}")
    return scores


def _run(
    spec: FeatureSpec,
    graph: TextGraph,
    choice: FeatureChoice,
    split: Split | None,
    folder: Path,
    cache: EmbeddingCache,
    device: str,
    step: Step,
) -> Built:
    nothing = np.empty(0, dtype=np.int64)
    setting = Setting(
        graph=_without_labels(graph, split),
        train=nothing if split is None else split.train,
        val=nothing if split is None else split.val,
        split_seed=0 if split is None else split.seed or 0,
        folder=folder,
        results=cache.root.parent,
        device=device,
        llm=choice.llm,
        answers=choice.answers,
        step=step,
        say=cache.say,
    )
    built: Built = registry.resolve(spec.pipeline)(setting, _options(choice))
    return built


def _without_labels(graph: TextGraph, split: Split | None) -> TextGraph:
    """The graph with the labels that what makes features may see: those of training and validation nodes, or none."""
    visible = np.full_like(graph.labels, -1)
    if split is not None:
        for part in (split.train, split.val):
            visible[part] = graph.labels[part]
    return dataclasses.replace(graph, labels=visible)


def _checked(matrix: np.ndarray | None, rows: int, choice: FeatureChoice, columns: int | None = None) -> np.ndarray:
    what = "features" if columns is None else "class scores"
    if matrix is None:
        raise JobError(f"'{choice.label}' gave no {what}")
    matrix = np.asarray(matrix, dtype=np.float32)
    shaped = matrix.ndim == 2 and matrix.shape[0] == rows and columns in (None, matrix.shape[1])
    if not shaped or not np.isfinite(matrix).all():
        raise JobError(f"{what} '{choice.label}' of shape {matrix.shape} are not one finite row a node")
    return matrix


def _answers_identity(graph: TextGraph, choice: FeatureChoice) -> dict[str, Any]:
    from stage_bench.answers import choice as answers

    assert choice.answers is not None
    return answers.identity(graph, choice.answers)


def _options(choice: FeatureChoice) -> Any:
    model = registry.get("features", choice.name).options
    return registry.resolve(model)(**choice.options) if model else None

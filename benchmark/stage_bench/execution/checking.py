"""`check`: does one entry do what the runner will ask of it?"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stage_bench import registry
from stage_bench.errors import StageBenchError

_TEXTS = [
    "Title: Graph neural networks\nAbstract: We study how a node learns from its neighbours.",
    "A short one.",
    "Title: Casting shadows\nAbstract: " + "A longer text fills more of the model's window. " * 20,
    "",
]


@dataclass(frozen=True)
class Line:
    what: str
    passed: bool = True


def guarded(lines: Iterator[Line]) -> Iterator[Line]:
    """The same lines; what the thing under test raises becomes a failed one that says where."""
    try:
        yield from lines
    except StageBenchError:
        raise
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        reason = " ".join(str(error).split())
        yield Line(f"{type(error).__name__}: {reason} ({Path(where.filename).name}:{where.lineno})", False)


def check(kind: str, name: str, data: Path, device: str) -> Iterator[Line]:
    """One line for each thing that was tried. Raises StageBenchError: it cannot be tried at all."""
    if kind == "llms":
        yield from _llm(name, device)
    elif kind == "backbones":
        yield from _backbone(name)
    elif kind == "datasets":
        yield from _dataset(name, data)
    else:
        raise StageBenchError(f"there is no check for {kind}; `stage-bench run` a small suite with it")


def _llm(name: str, device: str) -> Iterator[Line]:
    from stage_bench.execution import devices
    from stage_bench.llms import encoders
    from stage_bench.llms.spec import LLMChoice

    spec = registry.get("llms", name)
    if spec.needs:
        raise StageBenchError(f"llm '{name}' needs {spec.needs}")
    choice = LLMChoice(
        spec, name, "none", spec.pooling, spec.max_length, spec.dtype, spec.normalize, None, spec.remote_code
    )
    if spec.remote_code:
        raise StageBenchError(
            f"llm '{name}' runs code of its repository; try it in a suite with trust_remote_code: true"
        )
    encoder = encoders.load(choice, devices.choose(device).embedding)
    starts = [0] * len(_TEXTS)
    begin = time.perf_counter()
    together = encoders.encode(encoder, _TEXTS, starts)
    seconds = time.perf_counter() - begin
    good = together.shape == (len(_TEXTS), spec.dimension or together.shape[1]) and together.dtype == np.float32
    yield Line(f"shape {together.shape}, {together.dtype} (registered dimension: {spec.dimension})", good)
    yield Line("every number is finite, an empty text too", bool(np.isfinite(together).all()))
    yield Line(
        "the same texts give the same vectors", np.array_equal(together, encoders.encode(encoder, _TEXTS, starts))
    )
    alone = np.concatenate([encoders.encode(encoder, [text], [0]) for text in _TEXTS])
    apart = float(np.abs(alone - together).max())
    yield Line(
        f"a text alone and in a batch differ by {apart:.1e} at most",
        apart < (1e-4 if spec.dtype == "float32" else 2e-2),
    )
    lengths = np.linalg.norm(together[[bool(text) for text in _TEXTS]], axis=1)  # an empty text may be all zeros
    if spec.normalize:
        yield Line(
            f"vectors have length 1 ({lengths.min():.4f} to {lengths.max():.4f})",
            bool(np.allclose(lengths, 1, atol=1e-2)),
        )
    cosine = float(together[0] @ together[1] / max(lengths[0] * lengths[1], 1e-12))
    yield Line(f"different texts differ (cosine {cosine:.3f})", cosine < 0.99)
    yield Line(f"{len(_TEXTS) / seconds:.1f} texts/s over {len(_TEXTS)} texts")


def _backbone(name: str) -> Iterator[Line]:
    import torch

    from stage_bench.runs.clock import Clock
    from stage_bench.suite.recipe import load
    from stage_bench.training import loop
    from stage_bench.training.options import TrainingOptions

    spec = registry.get("backbones", name)
    if spec.needs:
        raise StageBenchError(f"backbone '{name}': {spec.needs}")
    module, model = registry.resolve(spec.module), registry.resolve(spec.options)
    values = load("default").values.get(name, {})
    options = model(**{key: value for key, value in values.items() if key in model.model_fields})
    graph, features, labels = _tiny()
    prepared, inputs = module.prepare(graph, features, options)
    again, twice = module.prepare(graph, features, options)
    yield Line("prepare gives the same twice", torch.equal(inputs, twice) and prepared.num_edges() == again.num_edges())
    yield Line(
        f"prepare_options are options ({', '.join(module.prepare_options) or 'none'})",
        set(module.prepare_options) <= set(model.model_fields),
    )
    torch.manual_seed(0)
    with torch.no_grad():
        shape = tuple(module(inputs.shape[1], 3, options).eval()(prepared, inputs).shape)
    yield Line(f"logits have shape {shape}; [num_nodes, num_classes] is (40, 3)", shape == (40, 3))
    if shape != (40, 3):
        return
    nodes = np.arange(40)
    task = loop.task(prepared, inputs, labels, nodes[:24], nodes[24:], 3)
    training = TrainingOptions(epochs=30, patience=30, lr=0.01)

    def fit() -> Any:
        return loop.fit(lambda: module(inputs.shape[1], 3, options), task, training, 0, Clock())

    first, second = fit(), fit()
    yield Line(
        f"logits {first.logits.shape}, finite", first.logits.shape == (40, 3) and bool(np.isfinite(first.logits).all())
    )
    yield Line("the same seed gives the same logits", np.array_equal(first.logits, second.logits))
    yield Line(f"it learns: {first.val_accuracy:.2f} on a graph where chance is 0.33", first.val_accuracy > 0.6)
    torch.manual_seed(0)
    built = module(inputs.shape[1], 3, options)
    built(prepared, inputs).sum().backward()
    without = [key for key, weight in built.named_parameters() if weight.grad is None]
    yield Line(f"every parameter receives a gradient{': not ' + ', '.join(without) if without else ''}", not without)


def _tiny() -> tuple[Any, Any, np.ndarray]:
    """Three communities of 40 nodes in all, with features that tell them apart."""
    import torch

    from stage_bench.dgl_library import dgl

    random = np.random.RandomState(0)
    labels = np.arange(40) % 3
    joined = random.rand(40, 40) < np.where(labels[:, None] == labels[None, :], 0.4, 0.03)
    src, dst = np.nonzero(np.triu(joined, 1))
    graph = dgl.graph((np.concatenate([src, dst]), np.concatenate([dst, src])), num_nodes=40)
    features = np.eye(3)[labels].repeat(4, axis=1) + random.randn(40, 12)
    return graph, torch.tensor(features, dtype=torch.float32), labels.astype(np.int64)


def _dataset(name: str, data: Path) -> Iterator[Line]:
    from stage_bench.execution.describing import dataset

    graph = dataset(name, data)
    yield Line(f"read: {graph.num_nodes} nodes, {graph.num_edges} directed edges, {graph.num_classes} classes")
    split = graph.split(graph.default_split, 0)
    yield Line(f"split {graph.default_split}: {' / '.join(str(size) for size in split.sizes)}")
    absent = {graph.label_names[label] for label in set(graph.labels[split.test]) - set(graph.labels[split.train])}
    what = f"the test part has classes that the training part lacks: {', '.join(sorted(absent))}"
    yield Line(what if absent else "every class of the test part is in the training part")
    if graph.num_edges == 0:
        yield Line("there are no edges", False)
    if graph.texts is None:
        yield Line("no texts: only features that need none can be used")
        return
    accuracy, chance = _text_signal(graph.texts, graph.labels, split)
    what = (
        f"TF-IDF and logistic regression: {accuracy:.3f} of {len(split.test)} test nodes (their most frequent class: "
        f"{chance:.3f})"
    )
    yield Line(
        what if accuracy > chance + 0.05 else f"{what}; are the texts shuffled over the nodes?",
        accuracy > chance + 0.05,
    )


def _text_signal(texts: Any, labels: np.ndarray, split: Any) -> tuple[float, float]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words = TfidfVectorizer(max_features=20_000).fit_transform(texts)
    train, test = split.train[:20_000], split.test[:20_000]
    model = LogisticRegression(max_iter=300).fit(words[train], labels[train])
    chance = np.bincount(labels[test]).max() / len(test)
    return float(model.score(words[test], labels[test])), float(chance)

"""`check backbone`: does a backbone do what the training loop will ask of it?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from stage_bench import registry
from stage_bench.checks import Line
from stage_bench.errors import StageBenchError


def check(name: str) -> Iterator[Line]:
    import torch

    from stage_bench.backbones.base import Direct
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
    graph, features, labels = _tiny(spec.reads)
    prepared, inputs = module.prepare(graph, features, options)
    again, twice = module.prepare(graph, features, options)
    yield Line("prepare gives the same twice", torch.equal(inputs, twice) and prepared.num_edges() == again.num_edges())
    yield Line(
        f"prepare_options are options ({', '.join(module.prepare_options) or 'none'})",
        set(module.prepare_options) <= set(model.model_fields),
    )
    direct = isinstance(module, type) and issubclass(module, Direct)
    kind = f"is {'a' if direct else 'no'} subclass of Direct"
    yield Line(f"it is of the family {spec.family}, and {kind}", direct == (spec.family == "direct"))
    nodes = np.arange(40)
    task = loop.task(prepared, inputs, labels, nodes[:24], nodes[24:], 3)
    if direct:
        yield from _told(lambda: loop.solve(module, task, options, 0, Clock()))
        yield _without_validation(module, task, options)
        return
    torch.manual_seed(0)
    with torch.no_grad():
        shape = tuple(module(inputs.shape[1], 3, options).eval()(prepared, inputs).shape)
    yield Line(f"logits have shape {shape}; [num_nodes, num_classes] is (40, 3)", shape == (40, 3))
    if shape != (40, 3):
        return
    if module.rowwise:
        yield _by_rows(module(inputs.shape[1], 3, options).eval(), prepared, inputs)
    training = TrainingOptions(epochs=30, patience=30, lr=0.01)

    def fit() -> Any:
        return loop.fit(lambda: module(inputs.shape[1], 3, options), task, training, 0, Clock())

    if hasattr(module, "forward_blocks") and not module.rowwise:
        yield _by_blocks(module(inputs.shape[1], 3, options).eval(), task)
    yield from _told(fit)
    torch.manual_seed(0)
    built = module(inputs.shape[1], 3, options)
    built(prepared, inputs).sum().backward()
    without = [key for key, weight in built.named_parameters() if weight.grad is None]
    yield Line(f"every parameter receives a gradient{': not ' + ', '.join(without) if without else ''}", not without)


def _told(fit: Callable[[], Any]) -> Iterator[Line]:
    """What it says after training, twice."""
    first, second = fit(), fit()
    yield Line(
        f"logits {first.logits.shape}, finite", first.logits.shape == (40, 3) and bool(np.isfinite(first.logits).all())
    )
    yield Line("the same seed gives the same logits", np.array_equal(first.logits, second.logits))
    yield Line(f"it learns: {first.val_accuracy:.2f} on a graph where chance is 0.33", first.val_accuracy > 0.6)


def _without_validation(module: Any, task: Any, options: Any) -> Line:
    """Whether validation labels, which are there to select by, leave a method's solution as it is."""
    import torch

    others = task.labels.clone()
    others[task.val] = (others[task.val] + 1) % 3
    one, other = (module.solve(replace(task, labels=labels), options, 0).logits for labels in (task.labels, others))
    return Line("other validation labels give the same logits", torch.equal(one, other))


def _by_rows(model: Any, graph: Any, inputs: Any) -> Line:
    """Whether a node's logits depend on its own row alone, as `rowwise` says."""
    import torch

    what = "rowwise: the logits of some rows are what they are among all rows"
    try:
        with torch.no_grad():
            return Line(what, torch.allclose(model(graph, inputs[:7]), model(graph, inputs)[:7], atol=1e-5))
    except Exception as error:  # whatever a model does that counts on every node being there
        return Line(f"{what}: {type(error).__name__}: {' '.join(str(error).split())}", False)


def _by_blocks(model: Any, task: Any) -> Line:
    """Whether blocks with all neighbours give what the whole graph gives."""
    import torch

    from stage_bench.training.neighbors import NeighborPasses
    from stage_bench.training.options import TrainingOptions

    passes = NeighborPasses(task, TrainingOptions(batching="neighbor", fanout=-1))
    nodes = torch.arange(9)
    with torch.no_grad():
        whole, part = model(task.graph, task.inputs)[:9], passes.predict(model, nodes)
    return Line(
        "batching: blocks with all neighbours give the logits of the whole graph",
        torch.allclose(whole, part, atol=1e-4),
    )


def _tiny(reads: str) -> tuple[Any, Any, np.ndarray]:
    """Three communities of 40 nodes in all, with features that tell them apart, scores of classes or none."""
    import torch

    from stage_bench.dgl_library import dgl

    random = np.random.RandomState(0)
    labels = np.arange(40) % 3
    joined = random.rand(40, 40) < np.where(labels[:, None] == labels[None, :], 0.4, 0.03)
    src, dst = np.nonzero(np.triu(joined, 1))
    graph = dgl.graph((np.concatenate([src, dst]), np.concatenate([dst, src])), num_nodes=40)
    features = np.eye(3)[labels].repeat(4, axis=1) + random.randn(40, 12)
    if reads == "predictions":
        features = features.reshape(40, 3, 4).mean(axis=2)
    elif reads == "nothing":
        features = np.zeros((40, 1))
    return graph, torch.tensor(features, dtype=torch.float32), labels.astype(np.int64)

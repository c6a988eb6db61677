"""From a cell and a backbone to a fitted model: features, fixed work, training, each kept as long as it is shared."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from stage_bench import fingerprint, registry
from stage_bench.datasets.textgraph import TextGraph
from stage_bench.diffusion import budget
from stage_bench.diffusion.recipe import Recipe
from stage_bench.features import source
from stage_bench.features.spec import FeatureChoice
from stage_bench.kernels import allocator
from stage_bench.llms.cache import EmbeddingCache
from stage_bench.runs.clock import Clock
from stage_bench.runs.energy import Meter
from stage_bench.suite.jobs import Cell, EmbedJob

if TYPE_CHECKING:
    import torch
    from dgl import DGLGraph

    from stage_bench.backbones.spec import BackboneChoice
    from stage_bench.datasets.splits import Split
    from stage_bench.execution.devices import Devices
    from stage_bench.training.loop import Fit


@dataclass(frozen=True)
class Prepared:
    """What `Backbone.prepare` made of a dataset's features, on the training device, and the seconds it took.

    unchanged: the features are as they were.
    """

    graph: DGLGraph
    inputs: torch.Tensor
    seconds: float
    unchanged: bool


@dataclass
class _Kept:
    """The last of what several jobs share; jobs come in an order in which one is enough, and a study has its cells."""

    most: int = 1
    values: dict[str, Any] = field(default_factory=dict)

    def get(self, key: str, make: Callable[[], Any]) -> Any:
        if key in self.values:
            self.values[key] = self.values.pop(key)  # the last used is the last to go
        else:
            while len(self.values) >= self.most:
                del self.values[next(iter(self.values))]  # let go before the next one is made
            self.values[key] = make()
        return self.values[key]


@dataclass
class Fitter:
    """Fits models, one at a time.

    embeds: the plan's embedding jobs by id, for the features that a cell names.
    memory: bytes that a diffusion may make this process hold; None: as many as it takes.
    on_step: told (done, total, what) while the work goes on.
    meters: gives a meter for the joules of work on a device.
    """

    graphs: dict[str, TextGraph]
    embeds: dict[str, EmbedJob]
    cache: EmbeddingCache
    devices: Devices
    on_step: Callable[[int, int, str], None]
    memory: int | None
    meters: Callable[[str], Meter]
    _features: _Kept = field(default_factory=_Kept)
    _prepared: _Kept = field(default_factory=_Kept)

    def keep(self, cells: int) -> None:
        """Of how many cells the features and the fixed work are kept."""
        self._features.most = self._prepared.most = cells

    def load_features(self, job: EmbedJob) -> tuple[np.ndarray, dict[str, Any]]:
        def make() -> tuple[np.ndarray, dict[str, Any]]:
            return source.load(
                self.graphs[job.dataset],
                job.choice,
                self.cache,
                self.devices.embedding,
                self.on_step,
                self._split_of(job),
                self.meters,
            )

        loaded: tuple[np.ndarray, dict[str, Any]] = self._features.get(job.id, make)
        return loaded

    def _split_of(self, job: EmbedJob) -> Split | None:
        """The split whose labels features are learnt from."""
        return self.graphs[job.dataset].split(job.split, job.split_seed or 0) if job.split else None

    def _inputs(self, cell: Cell, reads: str) -> np.ndarray:
        """float32 [num_nodes, columns]: what a model reads."""
        if not cell.embedding_id:
            return np.zeros((self.graphs[cell.dataset].num_nodes, 1), dtype=np.float32)
        embed = self.embeds[cell.embedding_id]
        matrix, _ = self.load_features(embed)
        if reads != "predictions":
            return matrix
        assert isinstance(embed.choice, FeatureChoice)
        return source.load_predictions(self.graphs[cell.dataset], embed.choice, self.cache, self._split_of(embed))

    def _prepare(self, cell: Cell, choice: BackboneChoice, options: Any, backbone: Any) -> Prepared:
        """Fixed work for a backbone on a dataset's features, kept for the next seeds and trials."""
        import torch

        from stage_bench.diffusion import out_of_core

        reads = registry.get("backbones", choice.name).reads
        matrix = self._inputs(cell, reads)
        key = diffusion_id(cell, choice, options.model_dump(), backbone)

        def make() -> Prepared:
            graph = self.graphs[cell.dataset].graph.to(self.devices.training)
            recipe = _recipe(backbone, options)
            if recipe is not None and self._is_too_large(graph, matrix, recipe):
                folder = self.cache.root.parent / "diffusion" / key
                limit, say = self.memory or 0, self.cache.say
                rows = out_of_core.diffuse_to(folder, graph, matrix, recipe, limit, self.on_step, say)
                inputs = torch.from_numpy(rows)
                seconds = out_of_core.seconds_of(folder)
                return Prepared(backbone.prepare_graph(graph, options), inputs, seconds, unchanged=False)
            clock = Clock(self.devices.synchronize)
            features = torch.from_numpy(matrix).to(self.devices.training)
            with clock.phase("diffuse"):
                graph, inputs = backbone.prepare(graph, features, options)
            return Prepared(graph, inputs, clock.seconds["diffuse"], inputs is features)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that a mapped file may not be written to
            prepared: Prepared = self._prepared.get(f"{key} {reads}", make)
        return prepared

    def _is_too_large(self, graph: DGLGraph, matrix: np.ndarray, recipe: Recipe) -> bool:
        """Whether a diffusion in memory would go beyond what this process may hold."""
        if self.memory is None or self.devices.training != "cpu":
            return False
        needed = budget.needed_bytes(graph.num_nodes(), graph.num_edges(), matrix.shape[1], recipe)
        return budget.BEFORE_BYTES + needed > self.memory

    def fit(
        self, cell: Cell, choice: BackboneChoice, values: dict[str, Any], clock: Clock, on_epoch: Any = None
    ) -> tuple[Fit, Prepared, str]:
        """The fitted model, what it was fitted on, and the id of the fixed work in that, if there was some."""
        from stage_bench.kernels import compiling
        from stage_bench.training import label_inputs, loop
        from stage_bench.training.options import TrainingOptions

        spec = registry.get("backbones", choice.name)
        backbone, model = registry.resolve(spec.module), registry.resolve(spec.options)
        options = model(**{key: value for key, value in values.items() if key in model.model_fields})
        prepared = self._prepare(cell, choice, options, backbone)
        if compiling.is_first_time():
            self.on_step(0, 1, "compiling kernels, once on this machine")
        loop.warm_up()
        if self.devices.training == "cpu":
            allocator.keep_memory(not getattr(options, "reversible", False))
        graph = self.graphs[cell.dataset]
        split = graph.split(cell.split, cell.split_seed or 0)
        task = loop.task(prepared.graph, prepared.inputs, graph.labels, split.train, split.val, graph.num_classes)
        diffuses = spec.family == "diffusion" or _recipe(backbone, options) is not None
        shared = diffusion_id(cell, choice, options.model_dump(), backbone) if diffuses else ""
        if spec.family == "direct":
            return loop.solve(backbone, task, options, cell.init_seed, clock), prepared, shared
        training = TrainingOptions(**{key: value for key, value in values.items() if key not in model.model_fields})
        in_dim = prepared.inputs.shape[1]
        if training.label_inputs:
            label_inputs.check(prepared.unchanged, choice.label)
            in_dim += graph.num_classes
        fitted = loop.fit(
            lambda: backbone(in_dim, graph.num_classes, options), task, training, cell.init_seed, clock, on_epoch
        )
        return fitted, prepared, shared


def diffusion_id(cell: Cell, choice: BackboneChoice, options: dict[str, Any], backbone: Any) -> str:
    """Of the fixed work that `prepare` does: the features, the graph, and the options that it reads."""
    read = {key: options[key] for key in backbone.prepare_options}
    # Named as registered: two plug-ins may well call their classes the same.
    return fingerprint.of_json([cell.graph, cell.embedding_id, [choice.name, choice.version], read])


def _recipe(backbone: Any, options: Any) -> Recipe | None:
    """What a backbone wants diffused; None where it does so itself, in a `prepare` of its own, or not at all."""
    from stage_bench.backbones.base import Backbone

    own = backbone.prepare.__func__ is not Backbone.prepare.__func__  # type: ignore[attr-defined]
    found: Recipe | None = None if own else backbone.recipe(options)
    return found

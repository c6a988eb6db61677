"""Doing one job: embed, tune, train or combine."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stage_bench import fingerprint, registry
from stage_bench.datasets.textgraph import TextGraph
from stage_bench.diffusion import budget
from stage_bench.diffusion.recipe import Recipe
from stage_bench.errors import JobError, StageBenchError
from stage_bench.features import source
from stage_bench.features.spec import FeatureChoice
from stage_bench.kernels import allocator
from stage_bench.llms.cache import EmbeddingCache
from stage_bench.runs import provenance, scoring
from stage_bench.runs.clock import Clock, PeakMemory
from stage_bench.runs.record import RunRecord
from stage_bench.runs.store import Store
from stage_bench.suite.planning import EmbedJob, EnsembleJob, Job, RunJob, TrainJob, TuneJob
from stage_bench.training import ensembles, tuning

if TYPE_CHECKING:
    import torch
    from dgl import DGLGraph

    from stage_bench.execution.devices import Devices


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
    """The last of what several jobs share; jobs come in an order in which that is enough."""

    key: str = ""
    value: Any = None

    def get(self, key: str, make: Callable[[], Any]) -> Any:
        if self.key != key:
            self.key, self.value = "", None  # let go before the next one is made
            self.value, self.key = make(), key
        return self.value


@dataclass(frozen=True)
class Result:
    """How a job went: one line, and whether it failed."""

    text: str
    failed: bool = False


@dataclass
class Runner:
    """Does jobs, one at a time, and writes their records.

    A job that fails becomes a failed record; an interruption passes through.
    embeds: the plan's embedding jobs by id, for the runs that need their features.
    memory: bytes that a diffusion may make this process hold; None: as many as it takes.
    side_by_side: how many runners share the machine; recorded, because it costs time.
    on_step: told (done, total, what) while a job goes on.
    """

    graphs: dict[str, TextGraph]
    load_seconds: dict[str, float]
    embeds: dict[str, EmbedJob]
    store: Store
    cache: EmbeddingCache
    devices: Devices
    log: Path
    on_step: Callable[[int, int, str], None]
    memory: int | None = None
    side_by_side: int = 1
    _features: _Kept = field(default_factory=_Kept)
    _prepared: _Kept = field(default_factory=_Kept)
    _hardware: str = ""

    def do(self, job: Job) -> Result:
        allocator.give_back()  # so that the peak is this job's own
        memory = PeakMemory()
        memory.start()
        if not isinstance(job, EnsembleJob):
            self._hardware = self.devices.use_threads(self.graphs[job.dataset].num_nodes)
        if self.side_by_side > 1:
            self._hardware += f", {self.side_by_side} jobs side by side"
        try:
            return Result(self._do(job, memory))
        except Exception as error:
            return self.fail(job, error)

    def fail(self, job: Job, error: Exception) -> Result:
        """Record that a job failed; the traceback goes to the log."""
        reason = " ".join(str(error).split()) or type(error).__name__
        if not isinstance(error, StageBenchError):
            reason = f"{type(error).__name__}: {reason}"
        if isinstance(error, MemoryError) or ("alloc" in reason and "memory" in reason):
            reason = f"out of memory: {reason}"
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("a", encoding="utf-8") as file:
                file.write(f"{job.title}\n{''.join(traceback.format_exception(error))}\n")
            if isinstance(job, (TrainJob, EnsembleJob)):
                self.store.put(self._record(job, status="failed", error=reason))
        except OSError as problem:  # a full disk, most likely, which is then also why the job failed
            reason = f"{reason} (nor could this be recorded: {problem.strerror})"
        return Result(reason, failed=True)

    def _do(self, job: Job, memory: PeakMemory) -> str:
        if isinstance(job, EmbedJob):
            _, manifest = self._load_features(job)
            return _embedded(job, manifest)
        if isinstance(job, TuneJob):
            found = self._tune(job)
            return f"{found.trials} trials, best val {found.val_accuracy:.4f}"
        if isinstance(job, TrainJob):
            record = self._train(job, memory)
        else:
            assert isinstance(job, EnsembleJob)
            record = self._combine(job, memory)
        return f"val {record.metrics['val_accuracy']:.4f} test {record.metrics['test_accuracy']:.4f}"

    def _load_features(self, job: EmbedJob) -> tuple[np.ndarray, dict[str, Any]]:
        def make() -> tuple[np.ndarray, dict[str, Any]]:
            graph = self.graphs[job.dataset]
            return source.load(
                graph,
                job.choice,
                self.cache,
                self.devices.embedding,
                lambda done, total: self.on_step(done, total, "texts"),
            )

        loaded: tuple[np.ndarray, dict[str, Any]] = self._features.get(job.id, make)
        return loaded

    def _prepare(self, job: TuneJob | TrainJob, options: Any, backbone: Any) -> Prepared:
        """Fixed work for a backbone on a dataset's features, kept for the next seeds and trials."""
        import torch

        from stage_bench.diffusion import out_of_core

        matrix, _ = self._load_features(self.embeds[job.embedding_id])
        key = diffusion_id(job, options.model_dump(), backbone)

        def make() -> Prepared:
            graph = self.graphs[job.dataset].graph.to(self.devices.training)
            recipe = _recipe(backbone, options)
            if recipe is not None and self._is_too_large(graph, matrix, recipe):
                folder = self.store.results / "diffusion" / key
                rows = out_of_core.diffuse_to(folder, graph, matrix, recipe, self.memory or 0, self.on_step)
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
            prepared: Prepared = self._prepared.get(key, make)
        return prepared

    def _is_too_large(self, graph: DGLGraph, matrix: np.ndarray, recipe: Recipe) -> bool:
        """Whether a diffusion in memory would go beyond what this process may hold."""
        if self.memory is None or self.devices.training != "cpu":
            return False
        needed = budget.needed_bytes(graph.num_nodes(), graph.num_edges(), matrix.shape[1], recipe)
        return budget.BEFORE_BYTES + needed > self.memory

    def _fit(
        self, job: TuneJob | TrainJob, values: dict[str, Any], seeds: tuple[int | None, int], clock: Clock, loud: bool
    ) -> tuple[Any, Prepared, str]:
        from stage_bench.kernels import compiling
        from stage_bench.training import label_inputs, loop
        from stage_bench.training.options import TrainingOptions

        spec = registry.get("backbones", job.choice.name)
        backbone, model = registry.resolve(spec.module), registry.resolve(spec.options)
        options = model(**{key: value for key, value in values.items() if key in model.model_fields})
        training = TrainingOptions(**{key: value for key, value in values.items() if key not in model.model_fields})
        prepared = self._prepare(job, options, backbone)
        if compiling.is_first_time():
            self.on_step(0, 1, "compiling kernels, once on this machine")
        loop.warm_up()
        if self.devices.training == "cpu":
            allocator.keep_memory(not getattr(options, "reversible", False))
        graph = self.graphs[job.dataset]
        split = graph.split(job.split, seeds[0] or 0)
        task = loop.task(prepared.graph, prepared.inputs, graph.labels, split.train, split.val, graph.num_classes)
        in_dim = prepared.inputs.shape[1]
        if training.label_inputs:
            label_inputs.check(prepared.unchanged, job.backbone)
            in_dim += graph.num_classes
        fitted = loop.fit(
            lambda: backbone(in_dim, graph.num_classes, options),
            task,
            training,
            seeds[1],
            clock,
            (lambda epoch, most, best: self.on_step(epoch, most, f"epochs, val {best:.4f}")) if loud else None,
        )
        diffuses = spec.family == "diffusion" or _recipe(backbone, options) is not None
        shared = diffusion_id(job, options.model_dump(), backbone) if diffuses else ""
        return fitted, prepared, shared

    def _tune(self, job: TuneJob) -> tuning.Result:
        values = {**job.choice.options, **job.choice.training}

        def objective(tried: dict[str, Any]) -> float:
            fits = [self._fit(job, {**values, **tried}, pair, Clock(), loud=False)[0] for pair in job.seeds]
            return float(np.mean([fit.val_accuracy for fit in fits]))

        return tuning.search(
            self.store.results / "studies",
            job.id,
            job.choice.trials,
            job.choice.sampler,
            job.choice.space or {},
            values,
            objective,
            lambda done, best: self.on_step(done, job.choice.trials, f"trials, best val {best:.4f}"),
        )

    def _train(self, job: TrainJob, memory: PeakMemory) -> RunRecord:
        values = {**job.choice.options, **job.choice.training}
        clock = Clock(self.devices.synchronize)
        seconds: dict[str, float] = {}
        note = ""
        if job.study_id:
            found = tuning.read(self.store.results / "studies", job.study_id, job.choice.trials)
            if found is None:
                raise JobError("its study is not there")
            values |= found.values
            seconds["tune"] = found.seconds
            note = "tuned: " + ", ".join(f"{key}={_shown(value)}" for key, value in found.values.items())
        fitted, prepared, shared = self._fit(job, values, (job.split_seed, job.init_seed), clock, loud=True)
        graph = self.graphs[job.dataset]
        split = graph.split(job.split, job.split_seed or 0)
        predictions = ensembles.stored(fitted.logits, split.fingerprint, graph.labels)
        manifest = self.cache.manifest(job.embedding_id) or {}
        seconds |= {**clock.seconds, "load": self.load_seconds[job.dataset], "embed": manifest["seconds"]}
        if shared:
            seconds["diffuse"] = prepared.seconds
        record = self._record(
            job,
            status="ok",
            metrics={
                **scoring.accuracies(predictions["probabilities"], graph.labels, split, predictions.get("nodes")),
                "best_epoch": fitted.best_epoch,
                "epochs": fitted.epochs,
                "parameters": fitted.parameters,
            },
            seconds={phase: round(value, 4) for phase, value in seconds.items()},
            curve=fitted.curve,
            embedding_id=job.embedding_id,
            diffusion_id=shared,
            study_id=job.study_id,
            peak_memory_mb=memory.megabytes(),
            note=note,
        )
        return self.store.put(record, predictions)

    def _combine(self, job: EnsembleJob, memory: PeakMemory) -> RunRecord:
        members = []
        for id_ in job.members:
            member = self.store.done(id_)
            if member is None:
                failed = self.store.get(id_)
                name = failed.backbone if failed else id_
                raise JobError(f"its member {name} failed")
            members.append(member)
        if len({member.split_fingerprint for member in members}) > 1:
            raise JobError("its members were trained on different splits")
        clock = Clock()
        with clock.phase("infer"):
            predictions = ensembles.combine([self.store.predictions(id_) for id_ in job.members], job.combine)
        graph = self.graphs[job.dataset]
        split = graph.split(job.split, job.split_seed or 0)
        if str(predictions["split_fingerprint"]) != split.fingerprint:
            raise JobError("its members were trained on another split than this one")
        own = self._record(
            job,
            hardware="; ".join(sorted({member.hardware for member in members})),  # where its time was spent
            status="ok",
            metrics={
                **scoring.accuracies(predictions["probabilities"], graph.labels, split, predictions.get("nodes")),
                "parameters": sum(member.metrics["parameters"] for member in members),
            },
            seconds={"load": self.load_seconds[job.dataset], **_together(members, clock.seconds["infer"])},
            embedding_id="+".join(sorted({member.embedding_id for member in members})),
            diffusion_id="+".join(sorted({member.diffusion_id for member in members} - {""})),
            study_id="+".join(sorted({member.study_id for member in members} - {""})),
            peak_memory_mb=_largest([memory.megabytes(), *(member.peak_memory_mb for member in members)]),
        )
        return self.store.put(own, predictions)

    def _record(self, job: RunJob, hardware: str = "", **more: Any) -> RunRecord:
        graph = self.graphs[job.dataset]
        split = graph.split(job.split, job.split_seed or 0)
        return RunRecord(
            id=job.id,
            kind=job.kind,
            dataset=job.dataset,
            split=job.split,
            features=job.features,
            llm=job.llm,
            instruction=job.instruction,
            backbone=job.backbone,
            split_seed=job.split_seed,
            init_seed=job.init_seed,
            content=job.content,
            split_fingerprint=split.fingerprint,
            dataset_fingerprint=graph.fingerprint,
            hardware=hardware or self._hardware,
            versions=provenance.versions(),
            commit=provenance.commit(),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            **more,
        )


def _embedded(job: EmbedJob, manifest: dict[str, Any]) -> str:
    what = "nodes" if isinstance(job.choice, FeatureChoice) else "texts"
    said = [f"{manifest['rows']:,} {what}, dimension {manifest['dimension']}"]
    if manifest["seconds"] > 0:
        said.append(f"{manifest['rows'] / manifest['seconds']:,.0f} {what}/s")
    if manifest.get("cut"):
        said.append(f"{manifest['cut']:,} longer than {job.choice.max_length} tokens and cut")  # type: ignore[union-attr]
    if "tokens" in manifest:
        said.append(f"{manifest['tokens']:,} tokens")
    if "dollars" in manifest:
        said.append(f"{manifest['dollars']:.4f} US dollars")
    return ", ".join(said)


def diffusion_id(job: TuneJob | TrainJob, options: dict[str, Any], backbone: Any) -> str:
    """Of the fixed work that `prepare` does: the features, the graph, and the options that it reads."""
    read = {key: options[key] for key in backbone.prepare_options}
    # Named as registered: two plug-ins may well call their classes the same.
    return fingerprint.of_json([job.content["graph"], job.embedding_id, job.content["backbone"], read])


def _recipe(backbone: Any, options: Any) -> Recipe | None:
    """What a backbone wants diffused; None where it does so itself, in a `prepare` of its own, or not at all."""
    from stage_bench.backbones.base import Backbone

    own = backbone.prepare.__func__ is not Backbone.prepare.__func__  # type: ignore[attr-defined]
    found: Recipe | None = None if own else backbone.recipe(options)
    return found


def _together(members: list[RunRecord], infer: float) -> dict[str, float]:
    """An ensemble costs what its members cost; work that they share counts once."""
    seconds = {"infer": infer + sum(member.seconds["infer"] for member in members)}
    seconds["train"] = sum(member.seconds["train"] for member in members)
    for phase, key in (("embed", "embedding_id"), ("diffuse", "diffusion_id"), ("tune", "study_id")):
        shared = {getattr(member, key): member.seconds[phase] for member in members if phase in member.seconds}
        if shared:
            seconds[phase] = sum(shared.values())
    return {phase: round(value, 4) for phase, value in seconds.items()}


def _largest(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return max(known) if len(known) == len(values) else None


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

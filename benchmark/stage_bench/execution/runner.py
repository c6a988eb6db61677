"""Doing one job: embed, tune, train or combine."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stage_bench import full_disk, out_of_memory, stopping
from stage_bench.datasets.textgraph import TextGraph
from stage_bench.errors import JobError, StageBenchError
from stage_bench.execution import costs
from stage_bench.execution.fitting import Fitter
from stage_bench.features.spec import FeatureChoice
from stage_bench.kernels import allocator
from stage_bench.llms.cache import EmbeddingCache
from stage_bench.llms.spec import LLMChoice
from stage_bench.runs import energy, provenance, scoring
from stage_bench.runs.clock import Clock, PeakMemory
from stage_bench.runs.record import RunRecord
from stage_bench.runs.store import Store
from stage_bench.suite.jobs import EmbedJob, EnsembleJob, Job, RunJob, TrainJob, TuneJob
from stage_bench.training import ensembles, tuning

if TYPE_CHECKING:
    from stage_bench.execution.devices import Devices
    from stage_bench.training.storages import Storage


@dataclass(frozen=True)
class Result:
    """How a job went: one line, and whether it failed. is_full: because the disk is, and so would the others."""

    text: str
    failed: bool = False
    is_full: bool = False


@dataclass
class Runner:
    """Does jobs, one at a time, and writes their records.

    A job that fails becomes a failed record; an interruption passes through.
    embeds: the plan's embedding jobs by id, for the runs that need their features.
    memory: bytes that a diffusion may make this process hold; None: as many as it takes.
    side_by_side: how many runners share the machine; recorded, because it costs time. Where there are several, energy
        is not measured.
    storage: where trials are shared; None: in the results folder.
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
    storage: Storage | None = None
    fitter: Fitter = field(init=False)
    _hardware: str = ""

    def __post_init__(self) -> None:
        self.fitter = Fitter(
            self.graphs,
            self.embeds,
            self.cache,
            self.devices,
            self._step,
            self.memory,
            self._meter,
        )

    def _meter(self, device: str) -> energy.Meter:
        """For the joules of work on that device; counters count the machine, so with others on it they say nothing."""
        if self.side_by_side > 1:
            return energy.unmeasured(device)
        return energy.Meter(energy.counters(device, self.devices.gpus))

    def _step(self, done: int, total: int, what: str) -> None:
        stopping.check()
        self.on_step(done, total, what)

    def do(self, job: Job) -> Result:
        allocator.give_back()  # so that the peak is this job's own
        memory = PeakMemory()
        memory.start()
        if not isinstance(job, EnsembleJob):
            self._hardware = self.devices.use_threads(self.graphs[job.dataset].num_nodes)
        self.fitter.keep(len(job.cells) if isinstance(job, TuneJob) else 1)
        if self.side_by_side > 1:
            self._hardware += f", {self.side_by_side} jobs side by side"
        try:
            said = [self._do(job, memory), out_of_memory.taken()]
            return Result(", ".join(filter(None, said)))
        except Exception as error:
            stopping.check()  # a library may turn an interruption into an error of its own
            if full_disk.happened(error):
                return Result(full_disk.described(error), failed=True, is_full=True)
            return self.fail(job, error)
        finally:
            self._hardware = ""

    def fail(self, job: Job, error: Exception, is_own: bool = True) -> Result:
        """Record that a job failed; the traceback goes to the log. is_own: not because a job failed that it needs."""
        reason = " ".join(str(error).split()) or type(error).__name__
        if not isinstance(error, StageBenchError):
            reason = f"{type(error).__name__}: {reason}"
            if out_of_memory.happened(error):
                reason = f"out of memory: {reason}"
        if is_own and "out of memory" in reason:
            reason += ("" if reason.endswith("?") else ";") + f" {_advice(job)}"
        out_of_memory.taken()
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            with self.log.open("a", encoding="utf-8") as file:
                file.write(f"{job.title}\n{''.join(traceback.format_exception(error))}\n")
            if isinstance(job, (TrainJob, EnsembleJob)):
                self.store.put(self._record(job, status="failed", error=reason))
        except OSError as problem:
            if full_disk.happened(problem):
                return Result(full_disk.described(problem), failed=True, is_full=True)
            reason = f"{reason} (nor could this be recorded: {problem.strerror})"
        return Result(reason, failed=True)

    def _do(self, job: Job, memory: PeakMemory) -> str:
        if isinstance(job, EmbedJob):
            _, manifest = self.fitter.load_features(job)
            return _embedded(job, manifest)
        if isinstance(job, TuneJob):
            return _tuned(self._tune(job))
        if isinstance(job, TrainJob):
            record = self._train(job, memory)
        else:
            assert isinstance(job, EnsembleJob)
            record = self._combine(job, memory)
        return described(record)

    def _tune(self, job: TuneJob) -> tuning.Result:
        from stage_bench.training import loop

        loop.warm_up()  # on no trial's clock
        values = {**job.choice.options, **job.choice.training}

        def objective(tried: dict[str, Any], report: Callable[[int, float], None]) -> tuning.Scores:
            fits: list[Any] = []

            def on_epoch(epoch: int, most: int, best: float) -> None:
                report(len(fits) * most + epoch, best)

            for cell in job.cells:
                fits.append(self.fitter.fit(cell, job.choice, {**values, **tried}, Clock(), on_epoch)[0])
            return tuning.Scores(
                float(np.mean([fit.val_accuracy for fit in fits])), float(np.mean([fit.val_loss for fit in fits]))
            )

        return tuning.search(
            self.store.results / "studies",
            job.id,
            job.tuning,
            values,
            objective,
            lambda done, best: self._step(done, job.tuning.trials, f"trials, best val {best:.4f}"),
            self.store.warn,
            self.storage,
            job.title,
        )

    def _train(self, job: TrainJob, memory: PeakMemory) -> RunRecord:
        values = {**job.choice.options, **job.choice.training}
        meter = self._meter(self.devices.training)
        clock = Clock(self.devices.synchronize, meter)
        seconds: dict[str, float] = {}
        note = ""
        if job.study_id:
            assert job.choice.tuning is not None
            found = tuning.read(self.store.results / "studies", job.study_id, job.choice.tuning)
            if found is None:
                raise JobError("its study is not there")
            values |= found.values
            seconds["tune"] = found.seconds
            note = "tuned: " + ", ".join(f"{key}={_shown(value)}" for key, value in found.values.items())
        fitted, prepared, shared = self.fitter.fit(
            job.cell,
            job.choice,
            values,
            clock,
            lambda epoch, most, best: self._step(epoch, most, f"epochs, val {best:.4f}"),
        )
        graph = self.graphs[job.dataset]
        split = graph.split(job.split, job.split_seed or 0)
        predictions = ensembles.stored(fitted.logits, split.fingerprint, graph.labels)
        seconds |= {**clock.seconds, "load": self.load_seconds[job.dataset]}
        answers: dict[str, Any] = {}
        embedding: dict[str, float] = {}
        if job.cell.embedding_id:
            manifest = self.cache.manifest(job.cell.embedding_id) or {}
            seconds |= costs.feature_seconds(manifest)
            answers = costs.answers(manifest)
            embedding = costs.embedding(manifest)
        joules = meter.joules()
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
            embedding_id=job.cell.embedding_id,
            diffusion_id=shared,
            study_id=job.study_id,
            **answers,
            embedding=embedding,
            energy_joules=round(joules, 3) if joules else None,  # 0: shorter than a counter's step
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
        graph = self.graphs[job.dataset]
        split = graph.split(job.split, job.split_seed or 0)
        with clock.phase("infer"):
            combined = ensembles.combine(
                [self.store.predictions(id_) for id_ in job.members],
                job.combine,
                job.weights,
                split.val,
                graph.labels[split.val],
            )
        predictions = combined.predictions
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
            seconds={"load": self.load_seconds[job.dataset], **costs.together(members, clock.seconds["infer"])},
            embedding_id="+".join(sorted({member.embedding_id for member in members} - {""})),
            diffusion_id="+".join(sorted({member.diffusion_id for member in members} - {""})),
            study_id="+".join(sorted({member.study_id for member in members} - {""})),
            answers_id="+".join(sorted({member.answers_id for member in members} - {""})),
            answers=costs.once_each(members),
            embedding=costs.embeddings_once_each(members, self.cache.manifest),
            energy_joules=costs.energy(members),
            weights={member.id: round(weight, 6) for member, weight in zip(members, combined.weights, strict=True)},
            peak_memory_mb=costs.largest([memory.megabytes(), *(member.peak_memory_mb for member in members)]),
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
            hardware=hardware or self._hardware or self.devices.hardware,
            versions=provenance.versions(),
            commit=provenance.commit(),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            **more,
        )


def _advice(job: Job) -> str:
    """What to change where a job has no room. Nothing here is done by itself: it would change the numbers."""
    if isinstance(job, EmbedJob):
        if isinstance(job.choice, LLMChoice):
            return "choose dtype: bfloat16, a smaller max_length or another device"
        return "choose a smaller batch_size (with accumulate, where a model is tuned) or fewer dimensions"
    if isinstance(job, EnsembleJob):
        return "combine fewer members"
    return "choose fewer --workers, a smaller hidden, batching: neighbor, or memory: for what is diffused"


def described(record: RunRecord) -> str:
    """How a run went, in a few words."""
    return f"val {record.metrics['val_accuracy']:.4f} test {record.metrics['test_accuracy']:.4f}"


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
    if manifest.get("joules"):
        said.append(f"{manifest['joules']:,.0f} J")
    if "finetune_seconds" in manifest:
        said.append(f"fine-tuned in {manifest['finetune_seconds']:,.0f} s")
    return ", ".join(said)


def _tuned(found: tuning.Result) -> str:
    said = [f"{found.trials} trials, best val {found.val_accuracy:.4f}"]
    said += [f"{count} {what}" for count, what in ((found.pruned, "pruned"), (found.failed, "failed")) if count]
    return ", ".join(said)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

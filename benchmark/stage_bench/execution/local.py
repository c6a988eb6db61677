"""Carrying out a plan on this machine: jobs on small graphs side by side in processes, the others one by one here.

A job on a small graph uses one thread, so it gives the same numbers in whatever process it runs and beside whatever
else; only its seconds suffer, and its record says so. Where jobs have limits, every job is done in a process of its
own or in one of several, which can be ended.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from stage_bench import stopping
from stage_bench.datasets.textgraph import TextGraph
from stage_bench.errors import DiskFull, JobError
from stage_bench.execution import limits
from stage_bench.execution.claims import Claims
from stage_bench.execution.devices import SMALL, Devices
from stage_bench.execution.executor import NO_OPTIONS, Options
from stage_bench.execution.progress import Progress
from stage_bench.execution.queue import Queue, needs
from stage_bench.execution.runner import Result, Runner, described
from stage_bench.execution.workers import Worker
from stage_bench.llms.cache import EmbeddingCache
from stage_bench.runs.record import RunRecord
from stage_bench.runs.store import Store
from stage_bench.suite.jobs import EmbedJob, EnsembleJob, Job, TrainJob, TuneJob
from stage_bench.training.storages import Storage
from stage_bench.training.studies import Study
from stage_bench.training.tuning import SIDE_BY_SIDE

__all__ = ["LocalExecutor", "Setting", "make_runner", "needs"]

_NEWS_EVERY = 1.0  # seconds that workers are listened to, at most, before we look at anything else
_WATCH_EVERY = 0.2  # where jobs have limits
_LOOK_EVERY = 1.0  # at jobs that other processes have in hand


@dataclass(frozen=True)
class Setting:
    """All that a worker process needs to be a runner."""

    graphs: dict[str, TextGraph]
    load_seconds: dict[str, float]
    embeds: dict[str, EmbedJob]
    results: Path
    device: str
    log: Path
    workers: int
    memory: int | None = None  # bytes that a process may hold while it diffuses
    storage: Storage | None = None  # where trials are shared, if not in the results folder


@dataclass
class LocalExecutor:
    """Does jobs in the plan's order, as far as what they need is there. `failed` has one line for each that failed."""

    setting: Setting
    devices: Devices
    progress: Progress
    options: Options = NO_OPTIONS
    failed: list[str] = field(default_factory=list)
    not_started: list[Job] = field(default_factory=list)
    _workers: list[Worker] = field(default_factory=list)
    _began: dict[str, float] = field(default_factory=dict)  # jobs in workers, by id
    _deadly: set[str] = field(default_factory=set)  # studies that cost a worker its life
    _looked: float = 0.0
    _said: bool = False

    def run(self, jobs: Sequence[Job]) -> None:
        self.here = make_runner(self.setting, self.devices, self.progress.line)
        self.claims = Claims(self.setting.results, jobs)
        self.queue = Queue(jobs, self.claims, self.options.max_failures)
        try:
            while not self.queue.is_over:
                stopping.check()
                self._dispatch()
                if self._busy():
                    self._collect()
                elif self.queue.aside:
                    self._wait_for_others()
        finally:
            for worker in self._workers:
                worker.kill()
            self.claims.close()
        self.not_started = self.queue.left

    def _busy(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.job is not None]

    def _dispatch(self) -> None:
        """Start what can be started, in order; a job that cannot run beside others waits until it is alone."""
        if time.monotonic() - self._looked > _LOOK_EVERY:
            self._looked = time.monotonic()
            self.queue.look_again()
        while (job := self.queue.first()) is not None:
            broken = self.queue.broken(job)
            beside = self._is_small(job)
            worker = None
            if not broken and (self._are_apart or not isinstance(job, EnsembleJob)):
                busy = self._busy()
                if any(other.alone for other in busy) or (busy and not beside):
                    return
                if beside or self._are_apart:
                    worker = self._idle_worker()
                    if worker is None:
                        return
            if not self.queue.take():
                continue
            ended = self.claims.ended(job)
            if ended is not None:
                self._finish(job, by_another(ended))
            elif broken:
                self._finish(job, self.here.fail(job, JobError(because(job, broken)), is_own=False))
            elif worker is None:
                self._do_here(job)
            else:
                self.progress.start(job)
                worker.send(job, self.setting.workers if beside else 1, alone=not beside)
        self._share_studies()

    def _share_studies(self) -> None:
        """Workers that nothing is left for join the studies of others, which come out the same (proposals.py)."""
        while studies := [
            worker.job
            for worker in self._busy()
            if isinstance(worker.job, TuneJob) and not worker.alone and worker.job.id not in self._deadly
        ]:
            counts = Counter(job.id for job in studies)
            least = min(studies, key=lambda job: counts[job.id])
            if counts[least.id] >= SIDE_BY_SIDE or (worker := self._idle_worker()) is None:
                return
            worker.send(least, self.setting.workers, alone=False)

    @property
    def _is_limited(self) -> bool:
        return self.options.seconds is not None or self.options.memory is not None

    @property
    def _are_apart(self) -> bool:
        """Whether every job is done in a process where it can be ended."""
        return self.options.apart or self._is_limited

    def _is_small(self, job: Job) -> bool:
        """Whether a job may run beside others, in a worker process."""
        if isinstance(job, EnsembleJob):
            return self._are_apart and self.setting.workers > 1
        # A study of several datasets bears the name of the largest.
        small = isinstance(job, (TrainJob, TuneJob)) and self.setting.graphs[job.dataset].num_nodes < SMALL
        return small and self.setting.workers > 1 and self.devices.training == "cpu"

    def _do_here(self, job: Job) -> None:
        self.progress.start(job)
        self.here.on_step = lambda done, total, what: self.progress.step(job, done, total, what)
        self._finish(job, self.here.do(job))

    def _finish(self, job: Job, result: Result) -> None:
        if result.is_full:
            raise DiskFull(result.text)
        self.queue.end(job, result.text if result.failed else "")
        self._began.pop(job.id, None)
        if result.failed:
            self.failed.append(f"{job.title}: {result.text}")
        self.progress.finish(job, f"FAILED: {result.text}" if result.failed else result.text)

    def _idle_worker(self) -> Worker | None:
        for worker in list(self._workers):
            if worker.job is None and worker.process.is_alive():
                return worker
            if worker.job is None:
                self._remove(worker)  # killed while it had nothing to do
        if len(self._workers) == self.setting.workers:
            return None
        worker = Worker(self.setting)
        self._workers.append(worker)
        return worker

    def _remove(self, worker: Worker) -> None:
        self._workers.remove(worker)
        worker.kill()

    def _collect(self) -> None:
        """Wait for news of the workers, and see whether they keep within their limits."""
        busy = self._busy()
        every = _WATCH_EVERY if self._is_limited else _NEWS_EVERY
        ready = wait([worker.connection for worker in busy], timeout=every)
        for worker in busy:
            if worker.connection in ready and worker.job is not None:
                try:
                    self._hear(worker, *worker.connection.recv())
                except (EOFError, OSError):
                    self._died(worker, worker.job)
        if self._is_limited:
            for worker in self._busy():
                if worker in self._workers and worker.job is not None:
                    self._watch(worker, worker.job)

    def _hear(self, worker: Worker, kind: str, *content: Any) -> None:
        job = worker.job
        assert job is not None
        if kind == "begun":
            self._began.setdefault(job.id, time.monotonic())
        elif kind == "step":
            if job.id in self.progress.running:  # it may be over in another process
                self.progress.step(job, *content)
        elif kind == "line":
            self.progress.line(*content)
        else:
            worker.job = None
            if job.id in self.progress.running:
                self._finish(job, content[0])

    def _died(self, worker: Worker, job: Job) -> None:
        reason = worker.ended()
        self._remove(worker)
        if any(other.job is not None and other.job.id == job.id for other in self._workers):
            self._deadly.add(job.id)  # the others take over the trial that it had, and may die of it too
        else:
            self._finish(job, self.here.fail(job, JobError(reason)))

    def _watch(self, worker: Worker, job: Job) -> None:
        """End what goes beyond its limit. What is done of it on disk (parts of an embedding, trials) is kept."""
        if reason := limits.too_long(self.options, self._began.get(job.id)):
            for other in self._busy():
                if other.job is not None and other.job.id == job.id:
                    self._remove(other)
        elif reason := limits.too_much(self.options, worker.process.pid):
            self._remove(worker)
            if isinstance(job, TuneJob) and Study(self.setting.results / "studies", job.id).give_up(reason):
                self._go_on_with(worker, job)
                return
        else:
            return
        if isinstance(job, (EmbedJob, TuneJob)):
            reason = f"{reason}; what was done of it is kept"
        self._finish(job, self.here.fail(job, JobError(reason)))

    def _go_on_with(self, dead: Worker, study: Job) -> None:
        """A trial that took too much is a failed one; the study goes on, here or where others are at work on it."""
        if any(other.job is not None and other.job.id == study.id for other in self._workers):
            return
        worker = Worker(self.setting)
        self._workers.append(worker)
        worker.send(study, 1 if dead.alone else self.setting.workers, dead.alone)

    def _wait_for_others(self) -> None:
        if not self._said:
            self._said = True
            left = self.queue.aside
            what = left[0].title if len(left) == 1 else f"{len(left)} jobs"
            self.progress.line(f"waiting for {what}, which another process has in hand")
        time.sleep(_LOOK_EVERY / 2)
        self.queue.look_again()


def because(job: Job, broken: str) -> str:
    """Why a job was not done; broken: what was said of one that it needs."""
    return f"{'a member' if isinstance(job, EnsembleJob) else 'what it is made of'} failed: {broken}"


def by_another(record: RunRecord) -> Result:
    """A run that another process did meanwhile."""
    if record.status == "ok":
        return Result(f"{described(record)}, by another process")
    return Result(f"{record.error} (in another process)", failed=True)


def make_runner(setting: Setting, devices: Devices, say: Callable[[str], None]) -> Runner:
    return Runner(
        graphs=setting.graphs,
        load_seconds=setting.load_seconds,
        embeds=setting.embeds,
        store=Store(setting.results, say),
        cache=EmbeddingCache(setting.results / "embeddings", say),
        devices=devices,
        log=setting.log,
        on_step=lambda done, total, what: None,
        memory=setting.memory,
        storage=setting.storage,
    )

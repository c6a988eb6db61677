"""Carrying out a plan on this machine: jobs on small graphs side by side in processes, the others one by one here.

A job on a small graph uses one thread, so it gives the same numbers in whatever process it runs and beside whatever
else; only its seconds suffer, and its record says so.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from stage_bench import registry
from stage_bench.datasets.textgraph import TextGraph
from stage_bench.errors import JobError
from stage_bench.execution.devices import SMALL, Devices
from stage_bench.execution.executor import NO_OPTIONS, Options
from stage_bench.execution.progress import Progress
from stage_bench.execution.runner import Result, Runner
from stage_bench.llms.cache import EmbeddingCache
from stage_bench.runs.store import Store
from stage_bench.suite.jobs import EmbedJob, EnsembleJob, Job, TrainJob, TuneJob
from stage_bench.training.tuning import SIDE_BY_SIDE

_STEP_EVERY = 0.2  # seconds between a worker's reports about one job


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


@dataclass
class _Worker:
    """A process that does one job at a time."""

    process: Any
    connection: Connection
    job: Job | None = None


@dataclass
class LocalExecutor:
    """Does jobs in the plan's order, as far as what they need is there. `failed` has one line for each that failed."""

    setting: Setting
    devices: Devices
    progress: Progress
    options: Options = NO_OPTIONS
    failed: list[str] = field(default_factory=list)
    not_started: list[Job] = field(default_factory=list)
    _errors: dict[str, str] = field(default_factory=dict)  # id of a failed job to the reason
    _workers: list[_Worker] = field(default_factory=list)
    _deadly: set[str] = field(default_factory=set)  # studies that cost a worker its life

    def run(self, jobs: Sequence[Job]) -> None:
        self.here = make_runner(self.setting, self.devices, self.progress.line)
        pending = list(jobs)
        try:
            while pending or any(worker.job for worker in self._workers):
                self._dispatch(pending)
                if any(worker.job for worker in self._workers):
                    self._collect()
        finally:
            for worker in self._workers:
                worker.process.kill()  # whatever it writes is whole or not there
                worker.process.join()

    def _dispatch(self, pending: list[Job]) -> None:
        """Start what can be started, in order; a job that cannot run beside others waits until it is alone."""
        for job in list(pending):
            unfinished = {other.id for other in pending} | {worker.job.id for worker in self._workers if worker.job}
            needed = needs(job)
            if needed & (unfinished - {job.id}):
                continue
            if any(worker.job is not None and worker.job.id == job.id for worker in self._workers):
                continue  # the same study with another number of trials: the one goes on where the other ended
            broken = next((need for need in sorted(needed) if need in self._errors), None)
            if broken is not None:
                pending.remove(job)
                what = "a member failed: " if isinstance(job, EnsembleJob) else ""
                self._finish(job, self.here.fail(job, JobError(what + self._errors[broken])))
            elif isinstance(job, EnsembleJob):
                pending.remove(job)
                self._do_here(job)
            elif self._is_small(job):
                worker = self._idle_worker()
                if worker is None:
                    return
                pending.remove(job)
                self.progress.start(job)
                self._send(worker, job)
            else:
                if any(worker.job for worker in self._workers):
                    return
                pending.remove(job)
                self._do_here(job)
                return  # what it was needed for may stand before what comes next
        self._share_studies()

    def _share_studies(self) -> None:
        """Workers that nothing is left for join the studies of others, which come out the same (proposals.py)."""
        while studies := [
            worker.job
            for worker in self._workers
            if isinstance(worker.job, TuneJob) and worker.job.id not in self._deadly
        ]:
            counts = Counter(job.id for job in studies)
            least = min(studies, key=lambda job: counts[job.id])
            if counts[least.id] >= SIDE_BY_SIDE or (worker := self._idle_worker()) is None:
                return
            self._send(worker, least)

    def _send(self, worker: _Worker, job: Job) -> None:
        worker.job = job
        with suppress(OSError):  # that a worker died is what _collect finds out
            worker.connection.send(job)

    def _is_small(self, job: Job) -> bool:
        """Whether a job is to run in a worker process."""
        # A study of several datasets bears the name of the largest.
        small = isinstance(job, (TrainJob, TuneJob)) and self.setting.graphs[job.dataset].num_nodes < SMALL
        return small and self.setting.workers > 1 and self.devices.training == "cpu"

    def _do_here(self, job: Job) -> None:
        self.progress.start(job)
        self.here.on_step = lambda done, total, what: self.progress.step(job, done, total, what)
        self._finish(job, self.here.do(job))

    def _finish(self, job: Job, result: Result) -> None:
        if result.failed:
            self._errors[job.id] = result.text
            self.failed.append(f"{job.title}: {result.text}")
        self.progress.finish(job, f"FAILED: {result.text}" if result.failed else result.text)

    def _idle_worker(self) -> _Worker | None:
        for worker in list(self._workers):
            if worker.job is None and worker.process.is_alive():
                return worker
            if worker.job is None:
                self._workers.remove(worker)  # killed while it had nothing to do
        if len(self._workers) == self.setting.workers:
            return None
        context = multiprocessing.get_context("spawn")  # a forked torch may hang
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, *_plugins()), daemon=True)
        # Ctrl-C goes to the whole group, but it is the parent that ends its workers: they are born deaf to it.
        listening = signal.signal(signal.SIGINT, signal.SIG_IGN)
        process.start()
        signal.signal(signal.SIGINT, listening)
        theirs.close()
        worker = _Worker(process, ours)
        self._workers.append(worker)
        with suppress(OSError):
            ours.send(self.setting)
        return worker

    def _collect(self) -> None:
        """Wait for news of the workers."""
        busy = [worker for worker in self._workers if worker.job is not None]
        ready = wait([worker.connection for worker in busy], timeout=1.0)
        for worker in busy:
            if worker.connection not in ready:
                continue
            assert worker.job is not None
            try:
                kind, *content = worker.connection.recv()
            except (EOFError, OSError):
                worker.process.join()
                code = worker.process.exitcode
                reason = f"its process was killed by signal {-code}" if code < 0 else f"its process ended with {code}"
                job = worker.job
                self._workers.remove(worker)
                if self._is_shared(job):
                    self._deadly.add(job.id)  # the others take over the trial that it had, and may die of it too
                    continue
                self._finish(job, self.here.fail(job, JobError(f"{reason}; out of memory?")))
                continue
            if kind == "step":
                if worker.job.id in self.progress.running:  # it may be over in another process
                    self.progress.step(worker.job, *content)
            elif kind == "line":
                self.progress.line(*content)
            else:
                job, worker.job = worker.job, None
                if job.id in self.progress.running:
                    self._finish(job, content[0])

    def _is_shared(self, job: Job) -> bool:
        return any(worker.job is not None and worker.job.id == job.id for worker in self._workers)


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
    )


def needs(job: Job) -> set[str]:
    """Ids of the jobs whose results a job reads."""
    if isinstance(job, EnsembleJob):
        return set(job.members)
    if isinstance(job, TrainJob):
        return {job.cell.embedding_id, job.study_id} - {""}
    return {cell.embedding_id for cell in job.cells} - {""} if isinstance(job, TuneJob) else set()


def _plugins() -> tuple[list[Path], int]:
    """What a worker must load before it can read what it is sent, and who its parent is."""
    return registry.plugins(), os.getpid()


def _work(connection: Connection, plugins: list[Path], parent: int) -> None:
    """A worker process: jobs in, steps and results out, until the other end is closed."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for path in plugins:
        registry.load_plugin(path)
    from stage_bench.execution import devices

    setting: Setting = connection.recv()
    runner = make_runner(setting, devices.choose(setting.device), lambda line: connection.send(("line", line)))
    runner.side_by_side = setting.workers
    last = 0.0

    def step(done: int, total: int, what: str) -> None:
        nonlocal last
        if os.getppid() != parent:
            os._exit(1)  # the parent was killed: nobody waits for this job
        if time.perf_counter() - last > _STEP_EVERY:
            last = time.perf_counter()
            connection.send(("step", done, total, what))

    runner.on_step = step
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            return
        connection.send(("done", runner.do(job)))

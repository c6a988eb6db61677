"""What the commands `run`, `plan`, `prepare` and `report` do."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from stage_bench import files
from stage_bench.diffusion.budget import bytes_of
from stage_bench.errors import StageBenchError
from stage_bench.execution import at_hand, limits
from stage_bench.execution import executor as executors
from stage_bench.execution.executor import NO_OPTIONS, Options
from stage_bench.llms.cache import EmbeddingCache
from stage_bench.runs import provenance
from stage_bench.runs.store import Store
from stage_bench.suite import planning, resources
from stage_bench.suite.choices import Choices, choose
from stage_bench.suite.jobs import EmbedJob, Job, TrainJob, TuneJob
from stage_bench.suite.planning import Plan
from stage_bench.suite.reading import read
from stage_bench.training import storages, studies, tuning


@dataclass(frozen=True)
class Folders:
    """Where things are read from and written to."""

    data: Path
    results: Path
    reports: Path


def read_suite(suite: Path) -> Choices:
    """Read and check a suite; no dataset is looked at."""
    return choose(*read(suite))


def make_plan(
    suite: Path, folders: Folders, note: Callable[[str], None] = lambda line: None, available: bool = False
) -> Plan:
    """Read, check and plan a suite. Writes nothing.

    available: leave out, with a word, what needs data or weights that are not here.
    """
    cache = EmbeddingCache(folders.results / "embeddings")
    return planning.make(read_suite(suite), folders.data, note, at_hand.judge(cache) if available else None)


def options(
    executor: str,
    max_failures: int | None,
    seconds: float | None,
    memory: str | None,
    storage: str | None = None,
    address: str | None = None,
    retries: int | None = None,
    shared_results: bool | None = None,
) -> Options:
    """What the command line says of how jobs are to be done.

    Raises:
        StageBenchError: it cannot be done so.
    """
    elsewhere = executors.check(executor).elsewhere
    of_clusters = {"--address": address, "--ray-retries": retries, "--shared-results": shared_results}
    for name, value in of_clusters.items():
        if value is not None and not elsewhere:
            raise StageBenchError(f"{name} is read only with --executor ray")
    try:
        size = None if memory is None else bytes_of(memory)
    except ValueError as error:
        raise StageBenchError(f"--job-memory: {error}") from None
    made = Options(
        max_failures=max_failures,
        seconds=seconds,
        memory=size,
        storage=storages.parse(storage) if storage is not None else None,
        address=address,
        retries=Options.retries if retries is None else retries,
        shared_results=shared_results,
    )
    limits.check(made)
    return made


def todo(plan: Plan, folders: Folders, warn: Callable[[str], None], leave_failed: bool = False) -> list[Job]:
    """The jobs of a plan that are still to be done. warn: told what is damaged of what they need."""
    store, cache = Store(folders.results, warn), EmbeddingCache(folders.results / "embeddings", warn)
    return missing(plan, store, cache, leave_failed)


def missing(plan: Plan, store: Store, cache: EmbeddingCache, leave_failed: bool = False) -> list[Job]:
    """The jobs to do, in the plan's order: runs without a good record, and what those are made of.

    leave_failed: runs that were tried and failed are not among them.

    Also studies of which something is there and no sound summary: reports show it, and it is made from their trials.
    """
    records = {job.id: store.get(job.id) for job in plan.runs}
    runs = {id_ for id_, record in records.items() if record is None or (record.status != "ok" and not leave_failed)}
    needed = set(runs)
    for job in plan.jobs:
        if isinstance(job, TrainJob) and job.id in runs:
            needed |= {job.cell.embedding_id} - {""} if cache.manifest(job.cell.embedding_id) is None else set()
            if job.choice.tuning and tuning.read(store.results / "studies", job.study_id, job.choice.tuning) is None:
                needed.add(job.study_id)
    needed |= _begun_studies(plan, store)
    for job in plan.jobs:
        if isinstance(job, TuneJob) and job.id in needed:
            needed |= {cell.embedding_id for cell in job.cells if cache.manifest(cell.embedding_id) is None} - {""}
    return [job for job in plan.jobs if job.id in needed]


def _begun_studies(plan: Plan, store: Store) -> set[str]:
    """Those that are not finished, or damaged, which is told."""
    folder = store.results / "studies"
    jobs = [job for job in plan.jobs if isinstance(job, TuneJob)]
    for id_ in dict.fromkeys(job.id for job in jobs):
        if problem := studies.problem(folder, id_):
            store.warn(f"{folder / id_}.json: {problem}; it is made again, from its trials where they are there")
    begun = [job for job in jobs if studies.is_begun(folder, job.id)]
    return {job.id for job in begun if tuning.read(folder, job.id, job.tuning) is None}


def carry_out(
    plan: Plan,
    jobs: Sequence[Job],
    folders: Folders,
    device: str,
    console: Console,
    workers: int | None = None,
    executor: str = "local",
    options: Options = NO_OPTIONS,
    again: Callable[[], Sequence[Job]] | None = None,
) -> list[str]:
    """Do the jobs; one line for each that failed.

    workers: processes side by side for jobs on small graphs; None: one a core. On a cluster: jobs at once; None: as
        many as find room.
    executor: its registered name.
    options: they come before what the suite says under `limits:`.
    again: given, what failed is tried once more at the end, one job after another; says what is still to be done then.

    Raises:
        StageBenchError: that executor cannot be used.
    """
    elsewhere = executors.check(executor).elsewhere

    def say(line: str) -> None:
        console.print(line, soft_wrap=True, highlight=False, markup=False)

    if not jobs:
        return []
    _check_writable(folders.results, "--results")
    if options.storage is not None and any(isinstance(job, TuneJob) for job in jobs):
        storages.open_(options.storage)
    console.print("loading torch and dgl ...", style="dim")
    # Imported here because they take seconds, which a run with nothing to do should not.
    from stage_bench.execution import devices
    from stage_bench.execution.local import Setting
    from stage_bench.execution.progress import Progress

    chosen = devices.choose("cpu" if elsewhere else device)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    log = folders.results / "logs" / f"{plan.choices.suite.name}-{stamp}-{os.getpid()}.log"
    _write_provenance(log.with_suffix(".json"), plan, chosen.hardware)
    reserved = resources.of_jobs(plan.choices, jobs)
    if elsewhere:
        options = replace(options, at_once=workers, resources=reserved)
    elif reserved:
        say("resources: are reserved on a cluster; this machine reserves nothing")
    runs = sum(isinstance(job, TrainJob) for job in jobs)
    workers = max(1, min(workers or provenance.cores(), runs))
    embeds = {job.id: job for job in plan.jobs if isinstance(job, EmbedJob)}
    memory = bytes_of(plan.choices.suite.memory) if plan.choices.suite.memory else None
    seconds, storage = plan.load_seconds, options.storage
    setting = Setting(plan.graphs, seconds, embeds, folders.results, device, log, workers, memory, storage)
    options = executors.within(options, plan.choices.suite.limits)
    limits.check(options)
    made = executors.find(executor)
    with Progress(console, jobs, workers) as progress:
        if chosen.note:
            progress.line(chosen.note)
        doing = made(setting, chosen, progress, options)
        doing.run(jobs)
    if again is not None and doing.failed and not doing.not_started:
        jobs = again()
        say(f"trying again what failed, one job after another: {_counted(jobs)}")
        with Progress(console, jobs) as progress:
            doing = made(replace(setting, workers=1), chosen, progress, replace(options, apart=True))
            doing.run(jobs)
    if doing.not_started:
        failures = f"{options.max_failures} failed job{'s' if options.max_failures != 1 else ''}"
        say(f"not started after {failures} (--max-failures): {_counted(doing.not_started)}")
    if doing.failed:
        say(f"tracebacks: {log}")
    return doing.failed


def _counted(jobs: Sequence[Job]) -> str:
    """Jobs in a line: how many, and the first few by name."""
    named = ", ".join(job.title for job in jobs[:3])
    return f"{len(jobs)} job{'s' if len(jobs) != 1 else ''} ({named}{', ...' if len(jobs) > 3 else ''})"


def check_folders(folders: Folders, reports_only: bool = False) -> None:
    """Before anything is done: can what will be made be written? reports_only: results are read alone.

    Raises:
        StageBenchError: a folder, or where it would be made, cannot be written.
    """
    written = [(folders.results, "--results"), (folders.reports, "--reports")]
    for path, option in written[reports_only:]:
        above = next(place for place in (path, *path.absolute().parents) if place.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            why = f"no permission to write in {above}" if above.is_dir() else f"{above} is in the way"
            raise StageBenchError(f"{path} cannot be written ({why}); choose another {option}")


def _check_writable(path: Path, option: str) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StageBenchError(f"{path} cannot be made: {error}; choose another {option}") from None


def _write_provenance(path: Path, plan: Plan, hardware: str) -> None:
    """Before the work begins: what is about to be run, and with what."""
    files.write_json(
        path,
        {
            "schema_version": 1,
            "suite": plan.choices.suite.model_dump(mode="json"),
            "datasets": {name: graph.fingerprint for name, graph in plan.graphs.items()},
            "left_out": list(plan.left_out),
            "jobs": dict(Counter(job.kind for job in plan.jobs)),
            "hardware": hardware,
            "versions": provenance.versions(),
            "commit": provenance.commit(),
            "began": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )


def plan_table(plan: Plan, missing_jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """A row for each group of like jobs: how many there are, and how many are to be done."""
    left = {job.id for job in missing_jobs}
    table: dict[tuple[str, ...], dict[str, Any]] = {}
    for job in plan.jobs:
        key = (job.kind, job.dataset, job.split, job.features, job.llm, job.instruction, job.backbone)
        row = table.setdefault(
            key,
            {
                "job": job.kind,
                "dataset": job.dataset,
                "split": job.split,
                "features": job.inputs,
                "instruction": job.instruction,
                "backbone": job.backbone,
                "count": 0,
                "to do": 0,
            },
        )
        row["count"] += 1
        row["to do"] += job.id in left
    return list(table.values())


def plan_json(plan: Plan, missing_jobs: Sequence[Job]) -> str:
    left = {job.id for job in missing_jobs}
    jobs = [
        {"id": job.id, "kind": job.kind, "title": job.title, "done": job.id not in left, "content": job.content}
        for job in plan.jobs
    ]
    return json.dumps({"suite": plan.choices.suite.name, "left_out": list(plan.left_out), "jobs": jobs}, indent=1)


def features_to_prepare(plan: Plan, folders: Folders) -> list[Job]:
    """The embeddings that are not there yet."""
    cache = EmbeddingCache(folders.results / "embeddings")
    wanted = {job.id: job for job in plan.jobs if isinstance(job, EmbedJob) and cache.manifest(job.id) is None}
    return list(wanted.values())

"""Who does which job, where several processes work on one results folder.

    <results>/claims/<id>   locked by the process that does this job, for as long as it does

The system gives a killed process's locks back at once, so nothing is ever left claimed. What several processes share
among themselves is not claimed: embeddings of many texts (by parts), studies (by trials).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from stage_bench.llms.encoding import SHARD_ROWS
from stage_bench.llms.spec import LLMChoice
from stage_bench.runs.record import RunRecord
from stage_bench.runs.store import Store
from stage_bench.suite.jobs import EmbedJob, EnsembleJob, Job, TrainJob, TuneJob


def is_shared(job: Job) -> bool:
    """Whether processes that do the same job at once divide the work."""
    if isinstance(job, EmbedJob):
        return isinstance(job.choice, LLMChoice) and job.choice.reduction is None and job.nodes > SHARD_ROWS
    return isinstance(job, TuneJob)


class Claims:
    """The jobs that this process has in hand; `jobs`: all that it is about to do."""

    def __init__(self, results: Path, jobs: Sequence[Job]) -> None:
        self._store = Store(results)
        self._folder = results / "claims"
        self._held: dict[str, FileLock] = {}
        # Records that are there already are of runs that failed, or are damaged: to be done again.
        self._before = {job.id: self._written(job) for job in jobs if isinstance(job, (TrainJob, EnsembleJob))}

    def take(self, job: Job) -> bool:
        """Whether the job is for this process to do; False: another one does it now."""
        if is_shared(job):
            return True
        lock = FileLock(self._folder / job.id)
        for _ in range(3):
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                return False
            except FileNotFoundError:  # another process has just removed the empty folder
                continue
            self._held[job.id] = lock
            return True
        return True  # to do a job twice does no harm, and not to do it would

    def ended(self, job: Job) -> RunRecord | None:
        """What another process has meanwhile made of a run, well or failed; None where that is still to be done.

        For a job that was taken: nobody is at work on it now.
        """
        if not isinstance(job, (TrainJob, EnsembleJob)) or not (written := self._written(job)):
            return None
        record = self._store.get(job.id)
        is_new = record is not None and (record.status == "ok" or written != self._before.get(job.id))
        return record if is_new else None

    def release(self, job: Job) -> None:
        self._release(job.id)

    def close(self) -> None:
        """Let go of everything, and leave nothing behind."""
        for id_ in list(self._held):
            self._release(id_)
        with contextlib.suppress(OSError):  # others are at work there, or there was nothing to claim
            self._folder.rmdir()

    def _release(self, id_: str) -> None:
        lock = self._held.pop(id_, None)
        if lock is not None:
            with contextlib.suppress(OSError):
                os.unlink(lock.lock_file)  # while it is ours: whoever opened it meanwhile finds that out
            lock.release()

    def _written(self, job: Job) -> int:
        """When a run's record was written, in nanoseconds; 0: there is none."""
        try:
            return (self._store.folder(job.id) / "run.json").stat().st_mtime_ns
        except OSError:
            return 0

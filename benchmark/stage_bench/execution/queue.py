"""Which of a call's jobs may start: what it needs has ended, and no other process has it in hand."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from stage_bench.execution.claims import Claims
from stage_bench.suite.jobs import EnsembleJob, Job, TrainJob, TuneJob


def needs(job: Job) -> set[str]:
    """Ids of the jobs whose results a job reads."""
    if isinstance(job, EnsembleJob):
        return set(job.members)
    if isinstance(job, TrainJob):
        return {job.cell.embedding_id, job.study_id} - {""}
    return {cell.embedding_id for cell in job.cells} - {""} if isinstance(job, TuneJob) else set()


class Queue:
    """The jobs of a call, from the plan's order to their ends. A job costs the same however many there are.

    Jobs of one id (a study asked for with other numbers of trials) are done one after another: each goes on where the
    one before ended.

    max_failures: after how many failed jobs no other is started; None: however many fail. A job that could not be done
        because another had failed is none of them.
    """

    def __init__(self, jobs: Sequence[Job], claims: Claims, max_failures: int | None = None) -> None:
        self._jobs = list(jobs)
        self._claims = claims
        self._max_failures = max_failures
        self._failures = 0
        self._errors: dict[str, str] = {}  # id of a failed job to the reason
        self._waits = [0] * len(self._jobs)  # for how many others
        self._after: list[list[int]] = [[] for _ in self._jobs]  # who waits for each
        self._running: dict[str, int] = {}
        self._aside: list[int] = []  # in another process's hands
        self._left = set(range(len(self._jobs)))
        places: dict[str, list[int]] = {}
        for place, job in enumerate(self._jobs):
            before = places.setdefault(job.id, [])
            if before:
                self._wait(place, before[-1])
            before.append(place)
        for place, job in enumerate(self._jobs):
            for need in needs(job):
                for other in places.get(need, ()):
                    self._wait(place, other)
        self._ready = [place for place, count in enumerate(self._waits) if not count]  # sorted, so a heap

    def _wait(self, place: int, other: int) -> None:
        self._waits[place] += 1
        self._after[other].append(place)

    @property
    def is_stopped(self) -> bool:
        """Whether too many have failed for another to be started."""
        return self._max_failures is not None and self._failures >= self._max_failures

    @property
    def is_over(self) -> bool:
        return not self._running and (self.is_stopped or not self._left)

    @property
    def left(self) -> list[Job]:
        """The jobs that have not been begun here, in order."""
        return [self._jobs[place] for place in sorted(self._left - set(self._running.values()))]

    @property
    def aside(self) -> list[Job]:
        """The jobs that another process has in hand."""
        return [self._jobs[place] for place in self._aside]

    def first(self) -> Job | None:
        """The job to start next; None while there is none."""
        return self._jobs[self._ready[0]] if self._ready and not self.is_stopped else None

    def take(self) -> bool:
        """Begin the job that `first` gave. False: another process has it; it is put aside, and others go on."""
        place = heapq.heappop(self._ready)
        job = self._jobs[place]
        if not self._claims.take(job):
            self._aside.append(place)
            return False
        self._running[job.id] = place
        return True

    def look_again(self) -> None:
        """Jobs that another process had in hand may be started: it may have let go of them."""
        for place in self._aside:
            heapq.heappush(self._ready, place)
        self._aside.clear()

    def broken(self, job: Job) -> str:
        """Why a job cannot be done: what was said of one that it needs; empty where it can."""
        return next((self._errors[need] for need in sorted(needs(job)) if need in self._errors), "")

    def end(self, job: Job, error: str = "") -> None:
        """A job that was begun has ended; `error`: why it failed."""
        if error and not self.broken(job):
            self._failures += 1
        place = self._running.pop(job.id)
        self._left.discard(place)
        self._claims.release(job)
        if error:
            self._errors[job.id] = error
        else:
            self._errors.pop(job.id, None)
        for other in self._after[place]:
            self._waits[other] -= 1
            if not self._waits[other]:
                heapq.heappush(self._ready, other)

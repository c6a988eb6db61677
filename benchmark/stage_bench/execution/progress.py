"""Progress with time left: bars in a terminal, a line a job elsewhere. Everything goes to standard error."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from stage_bench.llms.spec import LLMChoice
from stage_bench.suite.jobs import EmbedJob, Job, TuneJob

# First guesses in seconds a run on 3,000 nodes, until runs of the same kind were seen.
_GUESS = {"mlp": 1.0, "simplegcn": 1.0, "gcn": 3.0, "sage": 3.0, "sign": 4.0, "gat": 6.0, "revgat": 15.0}
_LINE_EVERY = 10.0  # seconds between lines about one job, where there are no bars


@dataclass
class _Kind:
    """Jobs that are alike: how many are left, what the first guesses say of those, and how long the others took."""

    left: int = 0
    guess: float = 0.0
    done: int = 0
    took: float = 0.0

    @property
    def seconds(self) -> float:
        """Left, as far as one of them was seen."""
        return self.left * self.took / self.done if self.done else 0.0


class Estimate:
    """Seconds left, from the jobs that are left and how long jobs like them took.

    Sums are kept up to date: there may be thousands of jobs, and an estimate after each.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._kinds: dict[str, _Kind] = {}
        for job in jobs:
            kind = self._kinds.setdefault(_kind(job), _Kind())
            kind.left += 1
            kind.guess += _guess(job)
        self._seen = 0.0  # seconds left of kinds of which one is done
        self._unseen = sum(kind.guess for kind in self._kinds.values())  # what the first guesses say of the others
        self._took = self._guessed = 0.0  # of jobs that are done: what they took, what the first guesses said

    def finished(self, job: Job, seconds: float) -> None:
        kind = self._kinds.setdefault(_kind(job), _Kind(left=1))
        self._seen -= kind.seconds
        self._unseen -= 0.0 if kind.done else kind.guess
        kind.left -= 1
        kind.guess -= _guess(job)
        kind.done += 1
        kind.took += seconds
        self._seen += kind.seconds
        self._took += seconds
        self._guessed += _guess(job)

    def seconds(self) -> float:
        return max(0.0, self._seen + self._unseen * (self._took / self._guessed if self._guessed else 1.0))


def _kind(job: Job) -> str:
    return f"{job.kind} {job.dataset} {job.llm or job.features} {job.backbone}"


def _guess(job: Job) -> float:
    if isinstance(job, EmbedJob):
        # A language model sees each text several times while it is tuned, and goes backward as well.
        return job.nodes / (3 if not isinstance(job.choice, LLMChoice) and job.choice.llm is not None else 25)
    name = job.backbone.partition("(")[0]
    if isinstance(job, TuneJob):
        return _GUESS.get(name, 3.0) * job.tuning.trials * len(job.cells)
    return 0.1 if job.kind == "ensemble" else _GUESS.get(name, 3.0)


@dataclass
class _Running:
    job: Job
    bar: TaskID
    began: float
    last_line: float
    first: tuple[float, int] | None = None  # when the first step came, and what was done by then: a resumed job's share
    phase: tuple[int, str] = (0, "")  # what these steps are of


class Progress:
    """Shows jobs as they are done, several at a time. Use as a context manager around the work."""

    def __init__(self, console: Console, jobs: Sequence[Job], side_by_side: int = 1) -> None:
        self.console = console
        self.total = len(jobs)
        self.done = 0
        self.side_by_side = side_by_side
        self.estimate = Estimate(jobs)
        self.running: dict[str, _Running] = {}
        self.bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self.all: TaskID = self.bars.add_task("all jobs", total=self.total, detail="")

    def __enter__(self) -> Progress:
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def start(self, job: Job) -> None:
        now = time.perf_counter()
        self.running[job.id] = _Running(job, self.bars.add_task(job.title, total=None, detail=""), now, now)
        self.bars.update(self.all, detail=self._left())

    def step(self, job: Job, done: int, total: int, what: str) -> None:
        """Part of a job is done: texts, epochs or trials."""
        running = self.running[job.id]
        now = time.perf_counter()
        phase = (total, what.partition(",")[0])
        if running.first is None or running.phase != phase:  # a job may have several kinds of steps, one after another
            running.first, running.phase = (now, done), phase
        since, before = running.first
        shown = what
        if done > before:
            rate = (done - before) / max(now - since, 1e-9)
            shown = f"{what}, {_span((total - done) / rate)} left"
            if what == "texts":
                shown = f"{what}, {rate:,.0f}/s, {_span((total - done) / rate)} left"
        self.bars.update(running.bar, completed=done, total=total, detail=shown)
        if not self.console.is_terminal and now - running.last_line > _LINE_EVERY:
            running.last_line = now
            self.line(f"  {job.title}: {done}/{total} {shown}")

    def finish(self, job: Job, result: str) -> None:
        """A job is over; `result` says how it went."""
        running = self.running.pop(job.id, None)
        seconds = 0.0
        if running is not None:
            seconds = time.perf_counter() - running.began
            self.bars.remove_task(running.bar)
        self.done += 1
        self.estimate.finished(job, seconds)
        self.bars.update(self.all, completed=self.done, detail=self._left())
        self.line(f"[{self.done}/{self.total}] {job.title}: {result}, {seconds:.1f} s, {self._left()}")

    def line(self, text: str) -> None:
        """A line that stays."""
        self.console.print(Text(text), soft_wrap=True, highlight=False)

    def _left(self) -> str:
        return (
            "nothing left" if self.done == self.total else f"{_span(self.estimate.seconds() / self.side_by_side)} left"
        )


def _span(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"

"""Carrying out a plan on a Ray cluster: every job a task, what it needs brought to it, what it makes written here.

The driver keeps the one results folder. A node that sees it too (and its locks) works in it; on any other a job works
in a folder of the node's own (scratch.py), and files come and go as parcels. Ensembles are combined here; so are
features made that are read from this machine's files or asked of a server, whose key then stays here.

A task whose process or node is lost is given out again, so many times; one that raises is a failed job. Everything else
that makes a run whole is as it is on one machine: claims (claims.py), the order (queue.py), studies shared by trials.
"""

from __future__ import annotations

import pickle
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from stage_bench import registry, stopping
from stage_bench.datasets.textgraph import TextGraph
from stage_bench.errors import DiskFull, JobError, StageBenchError
from stage_bench.execution import limits, parcels, pieces, ray_worker, scratch
from stage_bench.execution.claims import Claims
from stage_bench.execution.devices import Devices
from stage_bench.execution.executor import NO_OPTIONS, Options
from stage_bench.execution.local import Setting, because, by_another, make_runner
from stage_bench.execution.parcels import Parcel
from stage_bench.execution.pieces import Piece
from stage_bench.execution.progress import Progress
from stage_bench.execution.queue import Queue
from stage_bench.execution.ray_nodes import Cluster, shared_token, unlike
from stage_bench.execution.ray_worker import Look, Outcome, Terms, Token, appears
from stage_bench.execution.reservations import Reservation, Reserving
from stage_bench.execution.runner import Result
from stage_bench.execution.workers import Worker
from stage_bench.llms.spec import LLMChoice
from stage_bench.suite.jobs import EmbedJob, EnsembleJob, Job, TrainJob, TuneJob
from stage_bench.training import tuning
from stage_bench.training.studies import Study
from stage_bench.training.tuning import SIDE_BY_SIDE

_NEWS_EVERY = 0.5  # seconds that is waited for news, at most
_LOOK_EVERY = 1.0  # at jobs that other processes have in hand
_COUNT_EVERY = 10.0  # of the nodes that are there
_STUCK_AFTER = 60.0  # seconds in which a task has not begun, before it is asked whether it can
_AHEAD = 4  # tasks given to Ray beyond those that find room at once


@dataclass(eq=False)
class _Task:
    """A job as it was given to Ray. Times are by `time.monotonic`. began: a process has it; working: and does it, with
    torch loaded and what it needs brought. ended: why it was ended from here.
    """

    key: int
    job: Job
    reservation: Reservation
    reference: Any
    given: float
    began: float | None = None
    working: float | None = None
    node: str = ""
    ended: str = ""


@dataclass
class RayExecutor:
    """As `execution.executor.Executor`. `failed` has one line for each job that failed."""

    setting: Setting
    devices: Devices
    progress: Progress
    options: Options = NO_OPTIONS
    failed: list[str] = field(default_factory=list)
    not_started: list[Job] = field(default_factory=list)

    def run(self, jobs: Sequence[Job]) -> None:
        self.here = make_runner(self.setting, self.devices, self.progress.line)
        self.claims = Claims(self.setting.results, jobs)
        self.queue = Queue(jobs, self.claims, self.options.max_failures)
        try:
            with (
                Cluster(self.options.address, self.setting.log) as cluster,
                _tokens(self.setting, self.options) as tokens,
            ):
                _Driver(self, cluster, tokens, jobs).run()
        finally:
            self.claims.close()
        self.not_started = self.queue.left

    def finish(self, job: Job, result: Result) -> None:
        if result.is_full:
            raise DiskFull(result.text)
        self.queue.end(job, result.text if result.failed else "")
        if result.failed:
            self.failed.append(f"{job.title}: {result.text}")
        self.progress.finish(job, f"FAILED: {result.text}" if result.failed else result.text)


class _Driver:
    """One connection to a cluster, from the first job to the last."""

    def __init__(self, executor: RayExecutor, cluster: Cluster, tokens: _Tokens, jobs: Sequence[Job]) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self.executor, self.cluster = executor, cluster
        self.setting, self.options, self.progress = executor.setting, executor.options, executor.progress
        self.here, self.queue, self.claims = executor.here, executor.queue, executor.claims
        looks = cluster.look(tokens.results, tokens.storage, self.setting.device)
        self.all_shared = all(look.sees and look.locks for look in looks.values())
        self._say_nodes(looks, tokens)
        self.nodes = cluster.nodes()
        self.reserving = Reserving(
            self.options.resources,
            [node.room for node in self.nodes],
            any(look.embeds != "cpu" for look in looks.values()),
            any(look.trains != "cpu" for look in looks.values()),
        )
        for job in jobs:
            self._reservation(job)  # refuses before anything is begun
        self.run_id = uuid.uuid4().hex
        self.terms = ray.put(self._terms(tokens.results, jobs))
        own = NodeAffinitySchedulingStrategy(cluster.own_node(), soft=False)
        post: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(ray_worker.Post)
        self.post = post.options(scheduling_strategy=own).remote()
        self.mail = self.post.read.remote()
        self.work = ray.remote(max_retries=0)(ray_worker.work)
        self.tasks: dict[Any, _Task] = {}
        self.by_key: dict[int, _Task] = {}
        self.count = 0
        self.open: dict[str, Job] = {}  # jobs that were given out and have not ended
        self.lost: Counter[str] = Counter()  # by job
        self.deadly: set[str] = set()  # studies that cost a process its life
        self.ready_later: list[Job] = []  # taken, and waiting for an embedding that is being made
        self.brought: dict[Piece, Parcel] = {}
        self.uses = Counter(piece for job in jobs for piece in pieces.needed(job))
        self.local: Worker | None = None
        self.local_began: float | None = None
        self.most = 1 if self.options.apart else self.options.at_once
        self.progress.side_by_side = min(sum(max(1, int(node.room.cpus)) for node in self.nodes), self.most or 10**6)
        self.looked = self.counted = time.monotonic()
        self.said_waiting = False
        self.said_stuck: set[Reservation] = set()

    def run(self) -> None:
        import ray

        ended_well = False
        try:
            while not (self.queue.is_over and not self.ready_later):
                stopping.check()
                self._dispatch()
                if self.tasks or self.local is not None:
                    self._listen()
                elif self.queue.aside:
                    self._wait_for_others()
            ended_well = True
        finally:
            for task in self.tasks.values():
                with suppress(Exception):
                    ray.cancel(task.reference, force=True)
            if self.local is not None:
                self.local.kill()
            if ended_well and not self.all_shared:
                self._clean()

    # What is said and sent at the beginning.

    def _say_nodes(self, looks: Mapping[str, Look], tokens: _Tokens) -> None:
        nodes = {node.id: node for node in self.cluster.nodes()}
        cores = sum(node.room.cpus for node in nodes.values())
        what = f"{len(looks)} node{'s' if len(looks) != 1 else ''}, {cores:g} cores"
        self.progress.line(f"Ray: {what}" + (f" ({self.cluster.address})" if self.cluster.address else ""))
        apart = []
        for id_, look in looks.items():
            name = self.cluster.name(id_)
            self._note(f"node {name}: {look.hardware}" + (f"; Ray gives {nodes[id_].room}" if id_ in nodes else ""))
            if differing := unlike(look):
                self.progress.line(f"node {name} has other versions: {differing}; its runs' records name them")
            if look.sees and not look.locks:
                self.progress.line(
                    f"node {name} sees {self.setting.results}, but file locks do not hold between it and this machine: "
                    "its files are brought and fetched instead"
                )
            if not (look.sees and look.locks):
                apart.append(name)
        if tokens.results is None:
            self.progress.line("results are fetched from every node (--no-shared-results)")
        elif apart and self.options.shared_results:
            raise StageBenchError(
                f"--shared-results: node {apart[0]} does not see {self.setting.results.resolve()}; leave it out"
            )
        elif apart:
            self.progress.line(f"results are fetched from {', '.join(apart)}, where the results folder is not shared")
        for id_, look in looks.items():
            if tokens.storage is not None and not look.stores:
                assert self.options.storage is not None
                raise StageBenchError(
                    f"--storage {self.options.storage.url}: node {self.cluster.name(id_)} does not see that file; name "
                    "a database that all nodes reach, such as postgresql://user@host/name"
                )

    def _terms(self, token: Token | None, jobs: Sequence[Job]) -> Terms:
        import ray

        graphs = {
            name: ray.put(pickle.dumps(_plain(graph)))
            for name, graph in self.setting.graphs.items()
            if any(name in _datasets(job) for job in jobs)
        }
        return Terms(
            run=self.run_id,
            setting=pickle.dumps(replace(self.setting, graphs={})),
            graphs=graphs,
            plugins=tuple((str(path), path.read_bytes()) for path in registry.plugins()),
            results=str(self.setting.results.resolve()),
            token=token,
            code=ray_worker.code(),
            options=self.options,
            jobs=sum(isinstance(job, (TrainJob, TuneJob)) for job in jobs),
        )

    # Jobs go out.

    def _dispatch(self) -> None:
        if time.monotonic() - self.looked > _LOOK_EVERY:
            self.looked = time.monotonic()
            self.queue.look_again()
        if time.monotonic() - self.counted > _COUNT_EVERY:
            self.counted = time.monotonic()
            self._count_nodes()
        for job in list(self.ready_later):
            if self._has_room(job) and not self._is_being_embedded(job):
                self.ready_later.remove(job)
                self._give(job)
        while (following := self.queue.first()) is not None:
            job = following
            broken = self.queue.broken(job)
            local = self._stays_here(job)
            if not broken and not isinstance(job, EnsembleJob):
                if local and self.local is not None:
                    return
                if not local and not self._has_room(job):
                    return
            if not self.queue.take():
                continue
            ended = self.claims.ended(job)
            if ended is not None:
                self.executor.finish(job, by_another(ended))
            elif broken:
                self._fail(job, because(job, broken), is_own=False)
            elif isinstance(job, EnsembleJob):
                self.progress.start(job)
                self.executor.finish(job, self.here.do(job))
            else:
                self.open[job.id] = job
                if local:
                    self._do_here(job)
                elif self._is_being_embedded(job):
                    self.ready_later.append(job)
                else:
                    self._give(job)
        self._share_studies()

    def _is_open(self, job: Job) -> bool:
        """Whether a job has still to end. A study that is asked for twice is two jobs of one id."""
        return self.open.get(job.id) is job

    def _has_room(self, job: Job) -> bool:
        """Whether Ray is to be given another task now: those in line already find something to do first."""
        if self.most is not None:
            return len(self.tasks) < self.most
        reservation = self._reservation(job)
        room = sum(reservation.beside(node.room) for node in self.nodes if reservation.fits(node.room))
        return len(self.tasks) < room + _AHEAD

    def _reservation(self, job: Job) -> Reservation:
        if isinstance(job, EnsembleJob):
            return Reservation(1)
        return self.reserving.of(job, self.setting.graphs[job.dataset].num_nodes)

    def _stays_here(self, job: Job) -> bool:
        """Whether features are made on this machine: from its files, or by a server that this machine has a key for."""
        if not isinstance(job, EmbedJob):
            return False
        if isinstance(job.choice, LLMChoice):
            return job.choice.endpoint is not None
        answers = job.choice.answers
        if answers is not None and answers.kind == "endpoint":
            return not self._is_answered(job)
        reads = bool(registry.get("features", job.choice.name).reads) or (
            answers is not None and answers.kind == "upstream"
        )
        return reads and not self.all_shared

    def _is_answered(self, job: EmbedJob) -> bool:
        """Whether all answers are there, so that nothing has to be asked."""
        folder = self.setting.results / "answers" / pieces.answers_folder(job)
        count = sum(path.stem.isdigit() for path in folder.glob("*.json")) if folder.is_dir() else 0
        return count >= self.setting.graphs[job.dataset].num_nodes

    def _is_being_embedded(self, job: Job) -> bool:
        """Whether the same texts are being embedded elsewhere, which would be done twice where no folder is shared."""
        if self.all_shared or not isinstance(job, EmbedJob) or not isinstance(job.choice, LLMChoice):
            return False
        wanted = self._whole(job)
        return any(self._whole(task.job) == wanted for task in self.tasks.values())

    def _whole(self, job: Job) -> str:
        return pieces.whole_embedding(job, self.setting.graphs[job.dataset]) if isinstance(job, EmbedJob) else job.id

    def _give(self, job: Job) -> None:
        reservation = self._reservation(job)
        self.count += 1
        reference = self.work.options(name=job.title, **reservation.to_ray()).remote(
            self.run_id, [self.terms], self.post, self.count, pickle.dumps(job), reservation, self._parcels(job)
        )
        task = _Task(self.count, job, reservation, reference, time.monotonic())
        self.tasks[reference] = self.by_key[task.key] = task

    def _parcels(self, job: Job) -> list[Parcel]:
        """What a job needs, and what of use is there, for a node that does not see this folder."""
        if self.all_shared:
            return []
        needed = pieces.needed(job)
        found = [self._kept(piece) for piece in needed]
        for piece in pieces.useful(job, self.setting.graphs[job.dataset]):
            found.append(self._packed(piece))
        return [parcel for parcel in found if parcel is not None]

    def _kept(self, piece: Piece) -> Parcel | None:
        """Packed once for all jobs that need it."""
        if piece not in self.brought:
            parcel = self._packed(piece)
            if parcel is None:
                return None
            self.brought[piece] = parcel
        return self.brought[piece]

    def _packed(self, piece: Piece) -> Parcel | None:
        import ray

        kind, id_ = piece
        if kind == "answers":
            folder = self.setting.results / kind / id_
            names = sorted(f"{kind}/{id_}/{path.name}" for path in folder.glob("[!.]*.json"))
            return parcels.pack(self.setting.results, kind, id_, names, "", ray.put) if names else None
        holding = parcels.find(self.setting.results, kind, id_)
        if holding is None or (kind == "embeddings" and not parcels.is_done(self.setting.results, kind, id_)):
            return None
        return parcels.of_holding(holding, ray.put)

    def _share_studies(self) -> None:
        """Cores that nothing is left for join studies that others work on, where trials can be shared."""
        if not self.all_shared and self.options.storage is None:
            return
        while studies := [
            task for task in self.tasks.values() if isinstance(task.job, TuneJob) and task.job.id not in self.deadly
        ]:
            counts = Counter(task.job.id for task in studies)
            least = min((task.job for task in studies), key=lambda job: counts[job.id])
            room = sum(self._reservation(least).beside(node.room) for node in self.nodes)
            if counts[least.id] >= SIDE_BY_SIDE or len(self.tasks) >= min(room, self.most or room):
                return
            self._give(least)

    def _do_here(self, job: Job) -> None:
        self.local, self.local_began = Worker(self.setting), None
        self.progress.start(job)
        self.local.send(job, 1, alone=True)

    # News comes in.

    def _listen(self) -> None:
        import ray

        every = _NEWS_EVERY if self.tasks else 0.0
        ready, _ = ray.wait([*self.tasks, self.mail], timeout=every, fetch_local=False)
        if ready:
            ready, _ = ray.wait([*self.tasks, self.mail], num_returns=len(self.tasks) + 1, timeout=0, fetch_local=False)
        if self.mail in ready:
            self._read_mail()
        for reference in ready:
            if reference in self.tasks:
                self._ended(self.tasks[reference])
        if self.local is not None:
            self._hear(self.local, every)
        self._watch()

    def _read_mail(self) -> None:
        import ray

        try:
            messages = ray.get(self.mail)
        except ray.exceptions.RayError:  # its process died; another one begins with nothing
            messages = []
        self.mail = self.post.read.remote()
        for kind, *content in messages:
            if kind == "line":
                self.progress.line(*content)
            elif kind == "trials":
                parcels.receive_journal(self.setting.results, *content)
            elif kind == "parcel":
                parcels.unpack(content[0], self.setting.results, bytes)
            elif (task := self.by_key.get(content[0])) is not None:
                self._told(task, kind, content[1:])

    def _told(self, task: _Task, kind: str, content: Sequence[Any]) -> None:
        if kind == "begun":
            task.began, task.node = time.monotonic(), self.cluster.name(content[0])
            if task.job.id not in self.progress.running and task.reference in self.tasks:
                self.progress.start(task.job)
        elif kind == "working":
            task.working = time.monotonic()
        elif kind == "step" and task.job.id in self.progress.running:
            self.progress.step(task.job, *content)
        elif kind == "ended":
            task.ended = task.ended or content[0]

    def _ended(self, task: _Task) -> None:
        """What became of a task."""
        import ray

        del self.tasks[task.reference], self.by_key[task.key]
        try:
            outcome: Outcome = ray.get(task.reference)
            task.node = self.cluster.name(outcome.node)
            result = self._taken_in(task, outcome)
        except ray.exceptions.RayTaskError as error:
            self._raised(task, error)
        except (ray.exceptions.RayError, _Lost) as error:
            self._lost(task, error)
        else:
            if result is not None and self._is_open(task.job):
                self._finish(task.job, replace(result, text=f"{result.text}, on {task.node}"))

    def _taken_in(self, task: _Task, outcome: Outcome) -> Result | None:
        """The outcome's files are written. None: the job was given out again, with what it lacked."""
        import ray

        job = task.job
        if outcome.log:
            self._note(f"on {task.node}:\n{outcome.log}")
        if outcome.result is None:
            if self.all_shared:
                self.all_shared = False  # a node that came later, say
                self._give(job)
                return None
            lacking = ", ".join("/".join(piece) for piece in outcome.lacking)
            return self.here.fail(job, JobError(f"node {task.node} lacks {lacking} of the results folder"))
        for parcel in outcome.parcels:
            parcels.unpack(parcel, self.setting.results, lambda part: ray_worker.had(part, ray.get))
        for kind, id_ in outcome.gone:
            if kind == "studies" and self._is_open(job) and outcome.result.failed:
                study = Study(self.setting.results / kind, id_)
                with study.locked():
                    study.forget()
        if not outcome.result.failed and not appears(lambda: self._is_there(job), self.setting.results):
            raise _Lost("what it made did not arrive whole")
        return outcome.result

    def _is_there(self, job: Job) -> bool:
        if isinstance(job, TrainJob):
            return self.here.store.done(job.id) is not None
        if isinstance(job, TuneJob):
            return tuning.read(self.setting.results / "studies", job.id, job.tuning) is not None
        return self.here.cache.manifest(job.id) is not None

    def _raised(self, task: _Task, error: Exception) -> None:
        """Not the job itself, whose errors are results, but what was to be done around it."""
        if self._is_open(task.job):
            cause = getattr(error, "cause", None)
            self._finish(task.job, self.here.fail(task.job, cause if isinstance(cause, Exception) else error))

    def _lost(self, task: _Task, error: Exception) -> None:
        """Its process is gone, or its node: to be done again, unless it was ended from here."""
        import ray

        job = task.job
        if not self._is_open(job):
            return  # a study that has ended elsewhere
        if any(other.job.id == job.id for other in self.tasks.values()):
            self.deadly.add(job.id)  # the others take over the trial that it had, and may die of it too
            return
        if task.ended:
            self._stopped(job, task.ended)
            return
        self.lost[job.id] += 1
        where = f" on {task.node}" if task.node else ""
        reason = " ".join(str(error).split())[:200]
        is_gone = task.node and not any(node.name == task.node for node in self.cluster.nodes())
        if is_gone or isinstance(error, ray.exceptions.NodeDiedError):
            reason = "its node was lost"
        elif isinstance(error, ray.exceptions.OutOfMemoryError):
            reason = "its process was killed, since memory ran out"
        elif isinstance(error, ray.exceptions.WorkerCrashedError):
            reason = "its process was killed"
        again, most = self.lost[job.id], self.options.retries
        if again > most:
            tries = f", {again} times" if again > 1 else ""
            self._fail(job, f"{reason}{where}{tries}; out of memory?")
            return
        line = f"{job.title}: {reason}{where}; it is done again ({again} of {most})"
        self.progress.line(line)
        self._note(f"{line}: {error}")
        self._give(job)

    def _stopped(self, job: Job, reason: str) -> None:
        """Beyond its limit of time or memory."""
        if isinstance(job, TuneJob) and self.options.storage is None and reason.startswith("out of memory"):
            study = Study(self.setting.results / "studies", job.id)
            if study.give_up(reason):
                self._give(job)  # that trial is a failed one; the study goes on
                return
        if isinstance(job, TuneJob) or (isinstance(job, EmbedJob) and self.all_shared):
            reason = f"{reason}; what was done of it is kept"
        self._fail(job, reason)

    def _fail(self, job: Job, reason: str, is_own: bool = True) -> None:
        self._finish(job, self.here.fail(job, JobError(reason), is_own=is_own))

    def _finish(self, job: Job, result: Result) -> None:
        if job.id not in self.progress.running:
            self.progress.start(job)
        self.open.pop(job.id, None)
        self.executor.finish(job, result)
        for piece in pieces.needed(job):
            self.uses[piece] -= 1
            if self.uses[piece] <= 0:
                self.brought.pop(piece, None)  # and Ray lets go of it

    def _hear(self, worker: Worker, ahead: float) -> None:
        """News of the job that is done on this machine."""
        job = worker.job
        assert job is not None
        if not wait([worker.connection], timeout=0.0 if ahead else _NEWS_EVERY):
            return
        try:
            kind, *content = worker.connection.recv()
        except (EOFError, OSError):
            self.local = None
            self._fail(job, worker.ended())
            return
        if kind == "begun":
            self.local_began = time.monotonic()
        elif kind == "step":
            self.progress.step(job, *content)
        elif kind == "line":
            self.progress.line(*content)
        elif kind == "done":
            self.local = None
            worker.kill()
            self._finish(job, content[0])

    def _watch(self) -> None:
        """The time that jobs take, and what the one on this machine holds; others are watched where they are."""
        import ray

        if (worker := self.local) is not None and (job := worker.job) is not None:
            held = limits.too_much(self.options, worker.process.pid)
            reason = limits.too_long(self.options, self.local_began) or held
            if reason:
                self.local = None
                worker.kill()
                self._fail(job, f"{reason}; what was done of it is kept")
        for task in self.tasks.values():
            if not task.ended and (reason := limits.too_long(self.options, task.working)):
                task.ended = reason
                ray.cancel(task.reference, force=True)

    def _count_nodes(self) -> None:
        """Nodes come and go; say where a job waits for one that is not there."""
        self.nodes = self.cluster.nodes()
        for task in self.tasks.values():
            waited = time.monotonic() - task.given
            is_stuck = task.began is None and waited > _STUCK_AFTER and task.reservation not in self.said_stuck
            if is_stuck and not any(task.reservation.fits(node.room) for node in self.nodes):
                self.said_stuck.add(task.reservation)
                self.progress.line(f"{task.job.title} waits for a node with {task.reservation}; there is none now")

    def _wait_for_others(self) -> None:
        if not self.said_waiting:
            self.said_waiting = True
            left = self.queue.aside
            what = left[0].title if len(left) == 1 else f"{len(left)} jobs"
            self.progress.line(f"waiting for {what}, which another process has in hand")
        time.sleep(_LOOK_EVERY / 2)
        self.queue.look_again()

    def _note(self, line: str) -> None:
        """For the log alone."""
        with self.setting.log.open("a", encoding="utf-8") as file:
            file.write(f"{line.rstrip()}\n")

    def _clean(self) -> None:
        """The nodes' own folders, as far as they answer; what is left is removed by the next run there."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        asked = []
        for node in self.cluster.nodes():
            there = NodeAffinitySchedulingStrategy(node.id, soft=False)
            clean = ray.remote(num_cpus=0, max_retries=0)(scratch.remove)
            asked.append(clean.options(scheduling_strategy=there).remote(self.run_id))
        ray.wait(asked, num_returns=len(asked), timeout=10)


class _Lost(Exception):
    """A task has ended, and what it was for is not there."""


@dataclass(frozen=True)
class _Tokens:
    """results: None where they are to be fetched even if nodes see the folder. storage: None where it is no file."""

    results: Token | None
    storage: Token | None


@contextmanager
def _tokens(setting: Setting, options: Options) -> Iterator[_Tokens]:
    with ExitStack() as held:
        results = None
        if options.shared_results is not False:
            results = held.enter_context(shared_token(setting.results))
        storage = None
        if options.storage is not None and options.storage.path is not None:
            storage = held.enter_context(shared_token(options.storage.path.parent))
        yield _Tokens(results, storage)


def _datasets(job: Job) -> set[str]:
    if isinstance(job, TuneJob):
        return {job.dataset, *(cell.dataset for cell in job.cells)}
    return {job.dataset}


def _plain(graph: TextGraph) -> TextGraph:
    """Without what was made of it here, but for fingerprints; its files by names that hold in every process."""

    def there(path: Path | None) -> Path | None:
        return None if path is None else path.absolute()

    plain = replace(
        graph,
        predictions_path=there(graph.predictions_path),
        answers_path=there(graph.answers_path),
        matrix_paths={name: path.absolute() for name, path in graph.matrix_paths.items()},
    )
    known = {key: value for key, value in vars(graph).items() if key.endswith("fingerprint")}
    vars(plain).update(known)
    return plain

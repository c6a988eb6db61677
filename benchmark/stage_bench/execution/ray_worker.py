"""What happens on a node of a Ray cluster: a process there does the jobs that it is given, one after another.

Nothing of torch is imported here before the first job; Ray is there by then, since it has started this process.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pickle
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from stage_bench import fingerprint, registry
from stage_bench.errors import JobError
from stage_bench.execution import parcels, pieces
from stage_bench.execution.executor import Options
from stage_bench.execution.parcels import Parcel
from stage_bench.execution.pieces import Piece
from stage_bench.execution.reservations import Reservation, Room
from stage_bench.execution.scratch import Scratch
from stage_bench.runs import provenance
from stage_bench.suite.jobs import Job, TrainJob, TuneJob

if TYPE_CHECKING:
    from stage_bench.datasets.textgraph import TextGraph
    from stage_bench.execution.local import Setting
    from stage_bench.execution.runner import Result

INLINE_BYTES = 64 << 10
"""Parts up to this size go with what Ray says of a task; larger ones through its store of objects."""

_STEP_EVERY = 1.0  # seconds between reports about one job
_ANSWERS_EVERY = 20.0  # from one look for new answers to the next
_WATCH_EVERY = 0.2  # at memory, where jobs have a limit
_APPEARS_WITHIN = 30.0  # seconds that are waited for what another machine has written
_MOST_SAID = 100_000  # characters kept of what a job printed


@dataclass(frozen=True)
class Token:
    """By which a process finds out whether it sees the driver's results folder, and whether locks hold there.

    path: a file in it, which the driver holds a lock on. content: what the file `<path>.id` says.
    """

    path: str
    content: str

    def look(self) -> tuple[bool, bool]:
        """Whether the folder is seen from here, and whether the driver's lock is."""
        try:
            if Path(f"{self.path}.id").read_text(encoding="utf-8") != self.content:
                return False, False
            with FileLock(self.path, timeout=0):
                return True, False
        except Timeout:
            return True, True
        except OSError:
            return False, False


@dataclass(frozen=True)
class Terms:
    """What the processes of a run have in common.

    run: 32 hexadecimal digits. setting: pickled, without graphs, log and results. graphs: Ray's references by name.
    plugins: by path, with their content. results, token: the driver's results folder; token: None where it is not to be
    used even if it is seen. code: the fingerprint of the driver's stage-bench. jobs: how many there are that could run
    side by side.
    """

    run: str
    setting: bytes
    graphs: dict[str, Any]
    plugins: tuple[tuple[str, bytes], ...]
    results: str
    token: Token | None
    code: str
    options: Options
    jobs: int


@dataclass(frozen=True)
class Look:
    """What a node says of itself. code: fingerprint of its stage-bench. trains, embeds: on which device.

    sees: whether it sees the driver's results folder; locks: whether locks hold between the two. stores: whether it
    sees the file of `--storage`.
    """

    host: str
    versions: dict[str, str]
    code: str
    hardware: str
    sees: bool
    locks: bool
    stores: bool
    embeds: str
    trains: str


@dataclass(frozen=True)
class Outcome:
    """How a job went. result: None where `lacking` names what was not there to do it.

    parcels: what it made, where the driver's results folder is not seen from here. gone: what it did away with.
    log: tracebacks, and what the job printed.
    """

    node: str
    result: Result | None
    lacking: tuple[Piece, ...] = ()
    parcels: tuple[Parcel, ...] = ()
    gone: tuple[Piece, ...] = ()
    log: str = ""


def code() -> str:
    """The fingerprint of this stage-bench: of its Python files. Suites and recipes are the driver's business."""
    digest = hashlib.sha256()
    package = Path(__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def look(results: Token | None, storage: Token | None, device: str, has_gpu: bool) -> Look:
    """What this node says of itself; has_gpu: whether Ray says that it has one."""
    sees, locks = results.look() if results is not None else (False, False)
    stores = storage is not None and storage.look()[0]
    embeds = trains = "cpu"
    if has_gpu and device != "cpu":
        from stage_bench.execution import devices

        chosen = devices.choose("auto")
        embeds, trains = chosen.embedding, chosen.training
    facts = (socket.gethostname(), provenance.versions(), code(), provenance.cpu())
    return Look(*facts, sees, locks, stores, embeds, trains)


class Post:
    """An actor beside the driver: workers tell it how their jobs go on, and the driver reads all of it at once."""

    def __init__(self) -> None:
        import asyncio

        self._messages: list[tuple[Any, ...]] = []
        self._news = asyncio.Event()

    async def tell(self, *message: Any) -> None:
        self._messages.append(message)
        self._news.set()

    async def read(self) -> list[tuple[Any, ...]]:
        """What came since the last call, at least one message."""
        await self._news.wait()
        self._news.clear()
        messages, self._messages = self._messages, []
        return messages


def work(
    run: str,
    terms: Sequence[Any],
    post: Any,
    key: int,
    job: bytes,
    reservation: Reservation,
    brought: Sequence[Parcel],
) -> Outcome:
    """Do a job. terms: a reference to the run's, in a list, so that it is read once by each process; job: pickled."""
    import ray

    context = ray.get_runtime_context()
    post.tell.remote("begun", key, context.get_node_id(), os.getpid())
    if run not in _places:
        _places[run] = Workplace(ray.get(terms[0]), post, context.get_node_id())
    return _places[run].do(key, pickle.loads(job), reservation, brought)


_places: dict[str, Workplace] = {}


class Workplace:
    """This process, as far as it works for one run."""

    def __init__(self, terms: Terms, post: Any, node: str) -> None:
        import ray

        # Threads that spin while they wait take the core from those that work. Must be set before torch is imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        self.terms, self.post, self.node = terms, post, node
        if code() != terms.code:  # of a node that came after the others were looked at
            raise JobError(
                f"node {socket.gethostname()} has another stage-bench than the driver: install the same there"
            )
        found = next(each["Resources"] for each in ray.nodes() if each["NodeID"] == node)
        self.room = Room(found.get("CPU", 0), found.get("GPU", 0), found.get("memory", 0))
        self.scratch = Scratch(terms.run)
        self.is_shared = terms.token is not None and terms.token.look() == (True, True)
        self.results = Path(terms.results) if self.is_shared else self.scratch.results
        self._load_plugins()

        from stage_bench.execution import devices
        from stage_bench.execution.local import make_runner

        setting: Setting = pickle.loads(terms.setting)
        self.log = self.scratch.folder / f"{uuid.uuid4().hex}.log"
        graphs = _Graphs(terms.graphs, ray.get)
        setting = replace(setting, graphs=graphs, results=self.results, log=self.log)
        self.runner = make_runner(setting, devices.choose(setting.device), lambda line: self._tell("line", line))

    def _load_plugins(self) -> None:
        """By path where the file is here and the same, else what was sent."""
        for name, content in self.terms.plugins:
            path = Path(name)
            with contextlib.suppress(OSError):
                if path.read_bytes() == content:
                    registry.load_plugin(path)
                    continue
            copy = self.scratch.folder / "plugins" / fingerprint.of_json(name) / path.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)
            registry.load_plugin(copy, known_as=path)

    def _tell(self, kind: str, *content: Any) -> None:
        self.post.tell.remote(kind, *content)

    def do(self, key: int, job: Job, reservation: Reservation, brought: Sequence[Parcel]) -> Outcome:
        lacking = self._receive(job, brought)
        if lacking:
            return Outcome(self.node, None, lacking=tuple(lacking))
        provenance.use_cores(reservation.cpus)
        self.runner.side_by_side = min(reservation.beside(self.room), self.terms.jobs)
        self._tell("working", key)
        reports = _Reports(self, key, job)
        self.runner.on_step = reports.step
        before = pieces.embeddings(self.results) if not self.is_shared else []
        said = io.StringIO()
        with (
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
            _watched(self.terms.options, lambda reason: self._tell("ended", key, reason)),
        ):
            result = self._known(job) or self.runner.do(job)
        sent: list[Parcel] = []
        gone: tuple[Piece, ...] = ()
        if not self.is_shared:
            reports.send_answers()
            sent = self._leave(job, before)
            if isinstance(job, TuneJob) and not any(parcel.kind == "studies" for parcel in sent):
                gone = (("studies", job.id),)  # all its trials failed
        return Outcome(self.node, result, parcels=tuple(sent), gone=gone, log=self._log(job, said.getvalue()))

    def _receive(self, job: Job, brought: Sequence[Parcel]) -> list[Piece]:
        """Unpack what is not here yet; what a job needs and nobody brought."""
        import ray

        if self.is_shared:
            needed = pieces.needed(job)
            return [
                piece
                for piece in needed
                if not appears(lambda piece=piece: parcels.is_done(self.results, *piece), self.results)  # type: ignore[misc]
            ]
        there = {(parcel.kind, parcel.id): parcel for parcel in brought}
        locks = self.scratch.folder / "locks"
        locks.mkdir(exist_ok=True)
        lacking = []
        needed = pieces.needed(job)
        for piece in dict.fromkeys([*needed, *there]):
            with FileLock(locks / "-".join(piece).replace("/", "-")):
                if piece in needed and parcels.is_done(self.results, *piece):
                    continue
                if piece in there:
                    parcels.unpack(there[piece], self.results, lambda part: had(part, ray.get))
                elif piece in needed:
                    lacking.append(piece)
        return lacking

    def _known(self, job: Job) -> Result | None:
        """A run that was done here before, by a process that died before it could say so."""
        from stage_bench.execution.runner import Result, described

        record = self.runner.store.done(job.id) if not self.is_shared and isinstance(job, TrainJob) else None
        return Result(described(record)) if record is not None else None

    def _leave(self, job: Job, before: Sequence[str]) -> list[Parcel]:
        import ray

        found = [parcels.find(self.results, *piece) for piece in pieces.left(job, self.results, before)]
        return [parcels.of_holding(holding, kept(ray.put)) for holding in found if holding is not None]

    def _log(self, job: Job, said: str) -> str:
        """Tracebacks that the runner wrote, and what was printed."""
        try:
            text = self.log.read_text(encoding="utf-8")
            self.log.unlink()
        except FileNotFoundError:
            text = ""
        if said.strip():
            cut = "... " if len(said) > _MOST_SAID else ""
            text += f"{job.title} printed:\n{cut}{said[-_MOST_SAID:].rstrip()}\n\n"
        return text


class _Reports:
    """What is told while a job goes on."""

    def __init__(self, place: Workplace, key: int, job: Job) -> None:
        self.place, self.key, self.job = place, key, job
        self._told = self._looked = 0.0
        self._size = 0  # of the study's journal when it was last sent
        folder = pieces.answers_folder(job) if not place.is_shared else ""
        self._answers = place.results / "answers" / folder if folder else None
        self._known = set(os.listdir(self._answers)) if self._answers and self._answers.is_dir() else set()

    def step(self, done: int, total: int, what: str) -> None:
        now = time.perf_counter()
        if now - self._told > _STEP_EVERY:
            self._told = now
            self.place._tell("step", self.key, done, total, what)
        if not self.place.is_shared and isinstance(self.job, TuneJob):
            self._send_trials()
        if now - self._looked > _ANSWERS_EVERY:
            self._looked = now
            self.send_answers()

    def _send_trials(self) -> None:
        path = self.place.results / "studies" / f"{self.job.id}.trials.jsonl"
        with contextlib.suppress(OSError):
            if path.stat().st_size != self._size:
                journal = path.read_bytes()
                self._size = len(journal)
                self.place._tell("trials", self.job.id, journal)

    def send_answers(self) -> None:
        """They may have been paid for: not to be lost with this machine."""
        if self._answers is None or not self._answers.is_dir():
            return
        new = {name for name in os.listdir(self._answers) if name.endswith(".json") and name not in self._known}
        if new:
            self._known |= new
            names = [f"answers/{self._answers.name}/{name}" for name in sorted(new)]
            sent = parcels.pack(self.place.results, "answers", self._answers.name, names, "", bytes)
            self.place._tell("parcel", sent)


class _Graphs(dict[str, "TextGraph"]):
    """The plan's graphs, each fetched when it is asked for."""

    def __init__(self, references: dict[str, Any], get: Callable[[Any], bytes]) -> None:
        super().__init__()
        self._references, self._get = references, get

    def __missing__(self, name: str) -> TextGraph:
        # Pickled once more: arrays straight from Ray's store may not be written to, and in other processes they may.
        self[name] = pickle.loads(self._get(self._references[name]))
        return self[name]


def appears(is_there: Callable[[], bool], results: Path) -> bool:
    """Whether something that was written on another machine is there, or is within seconds.

    Network file systems remember for a while that a file was not there; to list its folder helps.
    """
    end = time.monotonic() + _APPEARS_WITHIN
    while not is_there():
        if time.monotonic() > end:
            return False
        time.sleep(_WATCH_EVERY)
        for name in ("runs", "embeddings", "studies"):
            with contextlib.suppress(OSError):
                os.listdir(results / name)
    return True


def kept(put: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """For `parcels`: small parts as they are, large ones put into Ray's store."""
    return lambda part: part if len(part) <= INLINE_BYTES else put(part)


def had(part: Any, get: Callable[[Any], bytes]) -> bytes:
    """What `kept` made something else of."""
    return part if isinstance(part, bytes) else get(part)


@contextlib.contextmanager
def _watched(options: Options, tell: Callable[[str], None]) -> Iterator[None]:
    """Ends this process where it holds more than a job may, whatever it is in the middle of."""
    if options.memory is None:
        yield
        return
    from stage_bench.execution import limits

    over = threading.Event()

    def watch() -> None:
        while not over.wait(_WATCH_EVERY):
            if reason := limits.too_much(options, os.getpid()):
                tell(reason)
                time.sleep(0.5)  # so that it is sent
                os._exit(1)

    thread = threading.Thread(target=watch, name="memory of a job", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()

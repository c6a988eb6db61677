"""Studies in an Optuna storage: where machines meet that share no folder, and where `optuna-dashboard` can look.

A trial of a study is an ordinary trial of an Optuna study, named by the study's id; what Optuna has no place for stands
in its user attributes. Nobody locks the storage. A trial is taken by turning it from waiting to running, which a
storage grants to one process alone, and its values follow from earlier trials, so it does not matter who takes it.
Whoever is at work on one adds a beat to it now and then. Where the beats stop, the trial is begun again, with the same
number and values; should its process turn out to be alive, both come to the same, and the first to end counts.

The study's own file of trials (studies.py) is kept beside it, with all that have ended: a study goes on with or without
the storage, and what is in the file is not run again.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from stage_bench.errors import JobError, StageBenchError
from stage_bench.training import studies
from stage_bench.training.options import TuningChoice
from stage_bench.training.studies import Study, Trial

if TYPE_CHECKING:
    import optuna

BEAT_SECONDS = 10.0
GONE_SECONDS = 60.0
"""Without a beat for so long, by the clock of who looks, a trial's process is taken for dead."""

_JOURNAL = "journal:"
_SQLITE = "sqlite:///"
_TRIES, _TRIES_TO_OPEN = 6, 4
_FIRST_PAUSE = 0.5  # seconds; doubled from try to try
_ATTRIBUTES = ("val_accuracy", "val_loss", "seconds", "error", "reports", "pruning")
_NOTHING = Trial(0, {})


@dataclass(frozen=True)
class Storage:
    """Where trials are kept. url: `journal:PATH`, or a database as SQLAlchemy names it."""

    url: str

    @property
    def shown(self) -> str:
        """Without a password."""
        return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", self.url)

    @property
    def path(self) -> Path | None:
        """The file that it is in; None where that is a server's business."""
        for beginning in (_JOURNAL, _SQLITE):
            if self.url.startswith(beginning):
                return Path(self.url.removeprefix(beginning))
        return None


def parse(text: str) -> Storage:
    """`--storage`, a file's path made absolute.

    Raises:
        StageBenchError: it is neither.
    """
    for beginning in (_JOURNAL, _SQLITE):
        if text.startswith(beginning):
            name = text.removeprefix(beginning)
            if not name or name == ":memory:":
                raise StageBenchError(f"--storage {text}: name a file, such as {beginning}studies.db")
            return Storage(f"{beginning}{Path(name).absolute()}")
    if not re.match(r"[a-z0-9+]+://.", text):
        raise StageBenchError(
            f"--storage {text}: write journal:PATH, or a database's URL such as sqlite:///studies.db or "
            "postgresql://user@host/name"
        )
    return Storage(text)


def open_(storage: Storage) -> optuna.storages.BaseStorage:
    """Optuna's storage.

    Raises:
        StageBenchError: it cannot be reached.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = storage.path

    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)

    def make() -> optuna.storages.BaseStorage:
        if storage.url.startswith(_JOURNAL):
            from optuna.storages import JournalStorage
            from optuna.storages.journal import JournalFileBackend

            return JournalStorage(JournalFileBackend(str(path)))
        from optuna.storages import RDBStorage, get_storage

        waits = {"connect_args": {"timeout": 60}} if path is not None else {"pool_pre_ping": True}
        return get_storage(RDBStorage(storage.url, engine_kwargs=waits))

    try:
        with FileLock(f"{path}.taking") if storage.url.startswith(_SQLITE) else contextlib.nullcontext():
            return _patiently(make, _TRIES_TO_OPEN)
    except Exception as error:  # of Optuna, SQLAlchemy, and of whatever speaks to the database
        raise StageBenchError(f"--storage {storage.shown} cannot be used: {_reason(error, storage)}") from None


class StoredStudy(Study):
    """A study in a storage, with the interface of `Study`.

    maximize: what is selected on is the accuracy, which is maximised; else the loss.
    """

    pause = 1.0

    def __init__(
        self,
        folder: Path,
        id_: str,
        say: Callable[[str], None],
        storage: Storage,
        choice: TuningChoice,
        distributions: dict[str, Any],
        title: str,
    ) -> None:
        super().__init__(folder, id_, say)
        self._where = storage
        self._metric = choice.metric
        self._distributions = distributions
        self._storage = open_(storage)
        self._study = self._find(title)
        self._recorded = {trial.number: trial for trial in self._in_file() if trial.ended}
        self._held: int | None = None  # trial id of the trial in hand
        self._beats: dict[int, tuple[Any, float]] = {}  # by number: the last beat seen, and when it was seen first
        self._stop = threading.Event()
        # SQLite lets two read that a trial waits before either writes that it runs; but then both see its file.
        is_sqlite = storage.url.startswith(_SQLITE)
        self._taking = FileLock(f"{storage.path}.taking") if is_sqlite else contextlib.nullcontext()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Nothing is locked: what must be done by one alone is done by the storage."""
        yield

    @contextlib.contextmanager
    def working(self) -> Iterator[str]:
        beating = threading.Thread(target=self._beat, name="beats of a trial", daemon=True)
        beating.start()
        try:
            yield f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex[:8]}"
        finally:
            self._stop.set()
            beating.join()

    def trials(self) -> list[Trial]:
        try:
            found = self._call(lambda: self._storage.get_all_trials(self._study, deepcopy=False))
        except KeyError:  # deleted: all its trials failed, in another process
            return []
        self._frozen = {frozen.number: frozen for frozen in found}
        trials = [self._trial(self._frozen[number]) for number in sorted(self._frozen)]
        self._keep(trials)
        return trials

    def is_free(self, trial: Trial) -> bool:
        from optuna.trial import TrialState

        frozen = self._frozen[trial.number]
        if frozen.state == TrialState.WAITING:
            return True
        if frozen.state != TrialState.RUNNING:
            return False
        beat = (frozen.user_attrs.get("worker"), frozen.user_attrs.get("beat"))
        seen, since = self._beats.get(trial.number, (None, 0.0))
        if seen != beat:
            self._beats[trial.number] = (beat, time.monotonic())
            return False
        return time.monotonic() - since > GONE_SECONDS

    def take(self, trial: Trial) -> bool:
        """A trial that nobody has begun yet is added as a waiting one first."""
        from optuna.trial import TrialState, create_trial

        if trial.number not in self._frozen:
            waiting = create_trial(state=TrialState.WAITING)
            self._call(lambda: self._storage.create_new_trial(self._study, template_trial=waiting))
            # Two who add one at once get two numbers; the second of these is another one's, or for later.
            self.trials()
            if trial.number not in self._frozen or self._frozen[trial.number].state != TrialState.WAITING:
                return False
        frozen = self._frozen[trial.number]
        id_ = frozen._trial_id
        try:
            with self._taking:
                if frozen.state == TrialState.RUNNING:  # of a process that is gone, as `is_free` found
                    self._call(lambda: self._storage.set_trial_state_values(id_, TrialState.WAITING))
                if not self._call(lambda: self._storage.set_trial_state_values(id_, TrialState.RUNNING)):
                    return False
            self._held = id_  # from now on it beats
            self._set_attribute(id_, "worker", trial.worker)
            if not frozen.params:
                for name, value in trial.values.items():
                    self._set_value(id_, name, value)
        except RuntimeError:  # it has ended meanwhile
            self._held = None
            return False
        return True

    def recorded(self, trial: Trial) -> Trial | None:
        known = self._recorded.get(trial.number)
        return known if known is not None and known.values == trial.values else None

    def write(self, trial: Trial) -> None:
        """The end of the trial in hand; where another process has ended it meanwhile, that holds."""
        from optuna.trial import TrialState

        states = {
            studies.OK: TrialState.COMPLETE,
            studies.PRUNED: TrialState.PRUNED,
            studies.FAILED: TrialState.FAIL,
        }
        id_ = self._held
        assert id_ is not None
        value = trial.val_accuracy if self._metric == "val_accuracy" else trial.val_loss
        values = [value] if trial.state == studies.OK and value is not None else None
        try:
            for name in _ATTRIBUTES:
                if getattr(trial, name) != getattr(_NOTHING, name):
                    self._set_attribute(id_, name, getattr(trial, name))
            for step, accuracy in trial.reports:
                self._set_report(id_, int(step), accuracy)
            self._call(lambda: self._storage.set_trial_state_values(id_, states[trial.state], values))
        except RuntimeError:
            pass
        finally:
            self._held = None

    def give_up(self, reason: str) -> int:
        """None: that a process is gone shows only later here."""
        return 0

    def forget(self) -> None:
        super().forget()
        with contextlib.suppress(KeyError):
            self._call(lambda: self._storage.delete_study(self._study))

    def _find(self, title: str) -> int:
        from optuna.exceptions import DuplicatedStudyError
        from optuna.study import StudyDirection

        name = f"stage-bench {self.id}"
        direction = StudyDirection.MAXIMIZE if self._metric == "val_accuracy" else StudyDirection.MINIMIZE
        try:
            found = self._call(lambda: self._storage.create_new_study([direction], name))
        except DuplicatedStudyError:
            return self._call(lambda: self._storage.get_study_id_from_name(name))
        self._call(lambda: self._storage.set_study_user_attr(found, "title", title))
        self._call(lambda: self._storage.set_study_user_attr(found, "metric", self._metric))
        return found

    def _trial(self, frozen: optuna.trial.FrozenTrial) -> Trial:
        from optuna.trial import TrialState

        states = {
            TrialState.COMPLETE: studies.OK,
            TrialState.PRUNED: studies.PRUNED,
            TrialState.FAIL: studies.FAILED,
        }
        state = states.get(frozen.state, studies.RUNNING)
        attributes = frozen.user_attrs
        if state == studies.RUNNING:
            return Trial(frozen.number, dict(frozen.params), worker=str(attributes.get("worker", "")))
        known = {name: attributes[name] for name in _ATTRIBUTES if name in attributes}
        if state == studies.OK and not {"val_accuracy", "val_loss"} <= known.keys():
            raise JobError(f"{self._where.shown}: trial {frozen.number} of study {self.id} was not made by stage-bench")
        return Trial(frozen.number, dict(frozen.params), state, **known)

    def _in_file(self) -> list[Trial]:
        with super().locked():
            return super().trials()

    def _keep(self, trials: list[Trial]) -> None:
        """Trials that have ended, in the study's own file too, as far as none before them is missing."""
        new = []
        for trial in trials:
            if not trial.ended:
                break
            if trial.number not in self._recorded:
                new.append(trial)
        if not new:
            return
        with super().locked():
            there = {trial.number for trial in super().trials() if trial.ended}
            for trial in new:
                if trial.number not in there:
                    super().write(trial)
                self._recorded[trial.number] = trial

    def _set_value(self, id_: int, name: str, value: Any) -> None:
        distribution = self._distributions[name]
        stored = distribution.to_internal_repr(value)
        self._call(lambda: self._storage.set_trial_param(id_, name, stored, distribution))

    def _set_attribute(self, id_: int, name: str, value: Any) -> None:
        self._call(lambda: self._storage.set_trial_user_attr(id_, name, value))

    def _set_report(self, id_: int, step: int, accuracy: float) -> None:
        self._call(lambda: self._storage.set_trial_intermediate_value(id_, step, accuracy))

    def _beat(self) -> None:
        count = 0
        while not self._stop.wait(BEAT_SECONDS):
            id_, count = self._held, count + 1
            if id_ is not None:
                # It has ended meanwhile, or the storage is out of reach: then the next one may get through.
                with contextlib.suppress(Exception):
                    self._storage.set_trial_user_attr(id_, "beat", count)

    def _call(self, ask: Callable[[], Any]) -> Any:
        """What the storage says.

        Raises:
            JobError: it is out of reach. KeyError, RuntimeError: as Optuna raises them.
        """
        from optuna.exceptions import DuplicatedStudyError

        try:
            return _patiently(ask)
        except (KeyError, RuntimeError, DuplicatedStudyError):
            raise
        except Exception as error:
            raise JobError(f"--storage {self._where.shown}: {_reason(error, self._where)}") from error


def _patiently(ask: Callable[[], Any], tries: int = _TRIES) -> Any:
    """Again, where a database says that it is busy, out of reach, or just being set up by another process."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import DBAPIError

    pause = _FIRST_PAUSE
    for _ in range(tries - 1):
        try:
            return ask()
        except (DBAPIError, StorageInternalError):
            time.sleep(pause)
            pause *= 2
    return ask()


def _reason(error: Exception, storage: Storage) -> str:
    """One line, without a password."""
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed; pip install {error.name}"
    text = str(error).partition("\n")[0]
    return text.replace(storage.url, storage.shown) or type(error).__name__

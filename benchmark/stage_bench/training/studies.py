"""Studies on disk: one line a trial begun or ended, shared by processes, and a summary once a study has all it wants.

`<id>.trials.jsonl` is what processes that work on one study share; it is read and written under `<id>.lock`. A trial
that is running names its worker, a file under `<id>.workers/` that this process holds a lock on for as long as it
lives: a process that was killed lets go of it, and its trial is begun again, with the same number and values.
`<id>.json` is the summary; it alone is read by runs and reports.

Each line and the summary carry a checksum. A line that is damaged is named and removed, and its trial is run again; a
summary that is damaged is written anew from the trials.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from stage_bench import files, seals
from stage_bench.errors import shown
from stage_bench.training.options import TuningChoice

SCHEMA_VERSION = 3
RUNNING, OK, PRUNED, FAILED = "running", "ok", "pruned", "failed"

_READ = (2, 3)
_SEALED_SINCE = 3


class Damaged(Exception):
    """A summary or a trial is not what was written; the message says in a few words what is wrong with it."""


@dataclass(frozen=True)
class Trial:
    """One trial, as its last line says.

    number: from 0. values: the options that are on. val_accuracy, val_loss: of a trial that is `ok`.
    seconds: what it took. reports: (step, accuracy) told while it went on; pruning: what Optuna's pruner noted.
    """

    number: int
    values: dict[str, Any]
    state: str = RUNNING
    val_accuracy: float | None = None
    val_loss: float | None = None
    seconds: float = 0.0
    error: str = ""
    worker: str = ""
    reports: list[list[float]] = field(default_factory=list)
    pruning: dict[str, float] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        return self.state != RUNNING


class Study:
    """The files of one study. `trials`, `take` and `write` are for within `locked`.

    say: is told of lines that are damaged.
    """

    pause = 0.2
    """Seconds from one look to the next at what other processes have done."""

    def __init__(self, folder: Path, id_: str, say: Callable[[str], None] = lambda line: None) -> None:
        self.id = id_
        self.say = say
        self.summary_path = folder / f"{id_}.json"
        self._journal = folder / f"{id_}.trials.jsonl"
        self._workers = folder / f"{id_}.workers"
        self._lock = FileLock(folder / f"{id_}.lock")
        folder.mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """No other process looks at the study meanwhile."""
        with self._lock:
            yield

    @contextlib.contextmanager
    def working(self) -> Iterator[str]:
        """The name of a worker that counts as alive until the end, or until this process dies."""
        self._workers.mkdir(exist_ok=True)
        name = uuid.uuid4().hex
        path = self._workers / name
        try:
            with FileLock(path):
                yield name
        finally:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # others are at work there
                self._workers.rmdir()

    def is_free(self, trial: Trial) -> bool:
        """Whether a trial is to be begun (again): nobody has ended it, or is at work on it."""
        return not trial.ended and not self.is_alive(trial.worker)

    def is_alive(self, worker: str) -> bool:
        path = self._workers / worker
        if not path.exists():
            return False
        try:
            with FileLock(path, timeout=0):
                pass
        except Timeout:
            return True
        path.unlink(missing_ok=True)
        return False

    def trials(self) -> list[Trial]:
        """Every trial by number, up to the first that no line tells of."""
        lines = self._lines()
        found: dict[int, Trial] = {}
        damaged = []
        for number, line in enumerate(lines, 1):
            try:
                trial = parse(line, self.id)
            except Damaged as damage:
                damaged.append(number)
                self.say(f"{self._journal}:{number}: {damage}; removed, and what only this line told of is run again")
            else:
                found[trial.number] = trial
        if damaged:
            sound = [line for number, line in enumerate(lines, 1) if number not in damaged]
            files.write_bytes(self._journal, b"".join(line + b"\n" for line in sound))
        trials: list[Trial] = []
        while len(trials) in found:  # one that is missing is begun again, and those after it count again then
            trials.append(found[len(trials)])
        return trials

    def take(self, trial: Trial) -> bool:
        """Begin a trial, a new one or one that is free. False: another process was faster."""
        self.write(trial)
        return True

    def recorded(self, trial: Trial) -> Trial | None:
        """How a trial that was just taken ended before, where that is known; then it need not be run."""
        return None

    def write(self, trial: Trial) -> None:
        """Add a line, which holds from now on; on disk when this returns."""
        self._lines()
        row = seals.sealed(asdict(trial), self.id)
        line = json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with self._journal.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def _lines(self) -> list[bytes]:
        """What is there, without a last line that is not whole: who wrote that is gone, or had no room on the disk."""
        try:
            data = self._journal.read_bytes()
        except FileNotFoundError:
            return []
        if not data.endswith(b"\n"):
            data = data[: data.rfind(b"\n") + 1]
            files.write_bytes(self._journal, data)
            self.say(f"{self._journal}: its last line was not finished; removed")
        return data.split(b"\n")[:-1]

    def give_up(self, reason: str) -> int:
        """Count the trials whose processes are gone as failed, instead of beginning them again; how many they were."""
        with self.locked():
            gone = [trial for trial in self.trials() if self.is_free(trial)]
            for trial in gone:
                self.write(replace(trial, state=FAILED, error=reason, worker=""))
        return len(gone)

    def forget(self) -> None:
        self._journal.unlink(missing_ok=True)
        self.summary_path.unlink(missing_ok=True)


def counted(trials: list[Trial], choice: TuningChoice, size: int | None) -> list[Trial] | None:
    """The trials that make up the study that is asked for; None while some of them have not ended.

    It ends with its last trial, with the trial that brings the seconds of all to `timeout`, or with the grid, which
    has `size` points: by number, so that neither later trials nor other processes change what counts.
    """
    found: list[Trial] = []
    for trial in trials:
        if trial.number != len(found) or not trial.ended or is_complete(found, choice, size):
            break
        found.append(trial)
    return found if is_complete(found, choice, size) else None


def is_complete(trials: list[Trial], choice: TuningChoice, size: int | None) -> bool:
    return len(trials) >= wanted(choice, size) or has_timed_out(trials, choice)


def wanted(choice: TuningChoice, size: int | None) -> int:
    """How many trials a study may have: a grid of `size` points has no more than these."""
    return choice.trials if size is None else min(choice.trials, size)


def has_timed_out(trials: list[Trial], choice: TuningChoice) -> bool:
    return choice.timeout is not None and sum(trial.seconds for trial in trials) >= choice.timeout


def best(trials: list[Trial], metric: str) -> Trial | None:
    """The winner, the earliest of equals; None where no trial is `ok`."""
    good = [trial for trial in trials if trial.state == OK]
    return max(good, key=lambda trial: score(trial, metric), default=None)


def score(trial: Trial, metric: str) -> float:
    """What is maximised: the validation accuracy, or the validation loss with its sign turned."""
    value = trial.val_accuracy if metric == "val_accuracy" else trial.val_loss
    assert value is not None
    return value if metric == "val_accuracy" else -value


def parse(line: bytes, id_: str) -> Trial:
    """A trial from its line in the journal of a study. Raises Damaged: it is none of that study, or not as written."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise Damaged("no trial") from None
    if not isinstance(row, dict):
        raise Damaged("no trial")
    if wrong := seals.problem(row, needed=False, context=id_):
        raise Damaged(wrong)
    return _trial(row)


def is_begun(folder: Path, id_: str) -> bool:
    """Whether there is something of a study, finished or not, sound or not."""
    return (folder / f"{id_}.json").exists() or (folder / f"{id_}.trials.jsonl").exists()


def problem(folder: Path, id_: str) -> str:
    """What is wrong with a summary that is there; empty where nothing is."""
    try:
        read(folder / f"{id_}.json")
    except Damaged as damage:
        return str(damage)
    return ""


def load(path: Path) -> tuple[dict[str, Any], list[Trial]] | None:
    """A summary and its trials; None where there is none, or what is there cannot be used."""
    try:
        return read(path)
    except Damaged:
        return None


def read(path: Path) -> tuple[dict[str, Any], list[Trial]] | None:
    """A summary and its trials; None where there is none. Raises Damaged: what is there cannot be used."""
    try:
        summary = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Damaged(error.strerror or "cannot be read") from None
    except (ValueError, RecursionError):
        raise Damaged("no study") from None
    if not isinstance(summary, dict):
        raise Damaged("no study")
    version = summary.get("schema_version")
    if version not in _READ:
        raise Damaged(f"of version {shown(version)}, which this stage-bench does not read")
    if summary.get("id") != path.name.removesuffix(".json"):
        raise Damaged(f"holds the study {shown(summary.get('id'))}")
    if wrong := seals.problem(summary, needed=version >= _SEALED_SINCE):
        raise Damaged(wrong)
    summary.pop(seals.KEY, None)
    rows = summary.get("history")
    trials = [_trial(row) for row in rows] if isinstance(rows, list) else []
    winner = next((trial for trial in trials if trial.number == summary.get("winner")), None)
    if winner is None:
        raise Damaged("names no winner among its trials")
    return summary, trials


def _trial(row: Any) -> Trial:
    """Raises Damaged: it is none."""
    try:
        trial = Trial(**{key: value for key, value in row.items() if key != seals.KEY})
    except (TypeError, AttributeError):
        raise Damaged("no trial") from None
    good = isinstance(trial.number, int) and isinstance(trial.values, dict)
    if not good or trial.state not in (RUNNING, OK, PRUNED, FAILED):
        raise Damaged("no trial")
    if trial.state == OK and not all(isinstance(value, (int, float)) for value in (trial.val_accuracy, trial.val_loss)):
        raise Damaged("no trial")
    return trial

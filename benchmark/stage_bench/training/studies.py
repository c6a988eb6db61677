"""Studies on disk: one line a trial begun or ended, shared by processes, and a summary once a study has all it wants.

`<id>.trials.jsonl` is what processes that work on one study share; it is read and written under `<id>.lock`. A trial
that is running names its worker, a file under `<id>.workers/` that this process holds a lock on for as long as it
lives: a process that was killed lets go of it, and its trial is begun again, with the same number and values.
`<id>.json` is the summary; it alone is read by runs and reports.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from stage_bench import files
from stage_bench.training.options import TuningChoice

SCHEMA_VERSION = 2
RUNNING, OK, PRUNED, FAILED = "running", "ok", "pruned", "failed"


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
    """The files of one study. `trials` and `write` are for within `locked`."""

    def __init__(self, folder: Path, id_: str) -> None:
        self.id = id_
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
        """Every trial by number."""
        found = {}
        for line in self._lines().splitlines():
            row = json.loads(line)
            found[row["number"]] = Trial(**row)
        return [found[number] for number in sorted(found)]

    def write(self, trial: Trial) -> None:
        """Add a line, which holds from now on; on disk when this returns."""
        self._lines()
        line = json.dumps(asdict(trial), ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with self._journal.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def _lines(self) -> bytes:
        """What is there, without a last line that is not whole: who wrote that is gone, or had no room on the disk."""
        try:
            data = self._journal.read_bytes()
        except FileNotFoundError:
            return b""
        if not data.endswith(b"\n"):
            data = data[: data.rfind(b"\n") + 1]
            files.write_bytes(self._journal, data)
        return data

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


def load(path: Path) -> tuple[dict[str, Any], list[Trial]] | None:
    """A summary and its trials; None where there is none, or what is there is not one (of this version)."""
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        if summary["schema_version"] != SCHEMA_VERSION:
            return None
        return summary, [Trial(**row) for row in summary["history"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None

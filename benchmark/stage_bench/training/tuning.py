"""Hyperparameter search with Optuna: persisted, seeded, resumable, on validation accuracy only."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stage_bench import files
from stage_bench.errors import JobError

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Result:
    """How a study ended. values: the winning options; seconds: what all its trials took."""

    values: dict[str, Any]
    val_accuracy: float
    trials: int
    seconds: float


def read(folder: Path, id_: str, trials: int) -> Result | None:
    """The result of the first `trials` trials of a study; None where it does not have that many, or none succeeded."""
    try:
        summary = json.loads((folder / f"{id_}.json").read_text(encoding="utf-8"))
        history = summary["history"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if summary.get("schema_version") != SCHEMA_VERSION or len(history) < trials:
        return None
    good = [row for row in history[:trials] if row["val_accuracy"] is not None]
    if not good:
        return None
    best = max(good, key=lambda row: row["val_accuracy"])  # the earliest of equals
    seconds = sum(row["seconds"] for row in history[:trials])
    return Result(best["values"], best["val_accuracy"], trials, round(seconds, 3))


def search(
    folder: Path,
    id_: str,
    trials: int,
    sampler: str,
    space: dict[str, Any],
    first: dict[str, Any],
    objective: Callable[[dict[str, Any]], float],
    on_trial: Callable[[int, float], None] | None = None,
) -> Result:
    """Run the trials that are missing, up to `trials` in total, and return the best.

    first: the recipe's own values; where the space holds them they are the first trial.
    objective: options to validation accuracy; an error makes the trial a failed one, and the study goes on.

    Every trial draws from a sampler seeded with its number, so that a study that was interrupted goes on as it would
    have gone.

    Raises:
        JobError: every trial failed; the study is forgotten then, so that the next call tries again.
    """
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def distribution(range_: Any) -> Any:
        if isinstance(range_, list):
            return CategoricalDistribution(range_)
        kind = IntDistribution if all(isinstance(range_[end], int) for end in ("low", "high")) else FloatDistribution
        return kind(range_["low"], range_["high"], log=range_.get("log", False))

    distributions = {name: distribution(range_) for name, range_ in sorted(space.items())}
    folder.mkdir(parents=True, exist_ok=True)
    journal = folder / f"{id_}.journal"
    _drop_unfinished_line(journal)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    study = optuna.create_study(study_name=id_, storage=storage, direction="maximize", load_if_exists=True)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)):
        # Killed in the middle: Optuna would count it as running for ever. It is run anew under another number.
        storage.set_trial_user_attr(trial._trial_id, "interrupted", True)  # a finished trial takes no attribute
        storage.set_trial_state_values(trial._trial_id, TrialState.FAIL, None)

    def history() -> list[dict[str, Any]]:
        return [
            {
                "values": trial.params,
                "val_accuracy": trial.value,
                "error": trial.user_attrs.get("error", ""),
                "seconds": trial.user_attrs["seconds"],
            }
            for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.FAIL))
            if "seconds" in trial.user_attrs and "interrupted" not in trial.user_attrs
        ]

    last_error: Exception | None = None
    fits = all(name in first and _holds(distributions[name], first[name]) for name in distributions)
    while (done := len(history())) < trials:
        study.sampler = (
            optuna.samplers.TPESampler(seed=done, n_startup_trials=max(5, trials // 4))
            if sampler == "tpe"
            else optuna.samplers.RandomSampler(seed=done)
        )
        if done == 0 and fits:
            study.enqueue_trial({name: first[name] for name in distributions})
        trial = study.ask(distributions)
        begin = time.perf_counter()
        value: float | None = None
        try:
            value = objective(trial.params)
        except Exception as error:  # options that do not go together, out of memory: the others may do
            last_error = error
            name = "" if isinstance(error, JobError) else f"{type(error).__name__}: "
            trial.set_user_attr("error", name + " ".join(str(error).split()))
        trial.set_user_attr("seconds", round(time.perf_counter() - begin, 4))
        study.tell(trial, value, state=TrialState.FAIL if value is None else TrialState.COMPLETE)
        if on_trial is not None:
            finished = [row["val_accuracy"] for row in history() if row["val_accuracy"] is not None]
            on_trial(done + 1, max(finished, default=0.0))
    rows = history()
    if all(row["val_accuracy"] is None for row in rows):
        journal.unlink()
        raise JobError(f"all {len(rows)} trials failed; the first: {rows[0]['error']}") from last_error
    summary = {"schema_version": SCHEMA_VERSION, "id": id_, "space": space, "sampler": sampler, "history": rows}
    files.write_json(folder / f"{id_}.json", summary)
    result = read(folder, id_, trials)
    if result is None:
        raise JobError(f"the first {trials} trials failed; the first: {rows[0]['error']}")
    return result


def _drop_unfinished_line(journal: Path) -> None:
    """A machine that stopped in the middle of a line leaves a journal that Optuna refuses."""
    if journal.is_file() and not (data := journal.read_bytes()).endswith(b"\n"):
        files.write_bytes(journal, data[: data.rfind(b"\n") + 1])


def _holds(distribution: Any, value: Any) -> bool:
    if hasattr(distribution, "choices"):
        return value in distribution.choices
    return isinstance(value, (int, float)) and distribution.low <= value <= distribution.high

"""Hyperparameter search with Optuna: persisted, seeded, resumable, shared by processes, on validation nodes only."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stage_bench import files, full_disk, out_of_memory, seals, stopping
from stage_bench.errors import JobError, StageBenchError
from stage_bench.training import spaces, studies
from stage_bench.training.options import TuningChoice
from stage_bench.training.studies import Study, Trial

if TYPE_CHECKING:
    from stage_bench.training.proposals import Proposal, Proposals
    from stage_bench.training.storages import Storage

SIDE_BY_SIDE = 4
"""Trials that may run at once: each is proposed without a look at the three before it, whether or not they have ended.
So a study comes out the same whether one process works on it or four do."""


class Pruned(Exception):
    """Raised by `report`: the trial is not worth going on with."""


@dataclass(frozen=True)
class Scores:
    """What a trial came to, on validation nodes; the means of its seeds."""

    val_accuracy: float
    val_loss: float


Report = Callable[[int, float], None]
Objective = Callable[[dict[str, Any], Report], Scores]


@dataclass(frozen=True)
class Result:
    """How a study ended.

    values: the winner's, those of the options that are on. trials: all that count, `pruned` and `failed` among them.
    seconds: what they took.
    """

    values: dict[str, Any]
    val_accuracy: float
    val_loss: float
    trials: int
    pruned: int
    failed: int
    seconds: float


def read(folder: Path, id_: str, choice: TuningChoice) -> Result | None:
    """The result of the trials that a choice asks for, whatever came after them; None where they are not all there."""
    found = _stored(folder, id_, choice)
    return _result(found[1], choice) if found is not None else None


def summary(folder: Path, id_: str, choice: TuningChoice) -> dict[str, Any] | None:
    """What a report shows of a study (docs/tuning.md): its summary, with the trials that a choice asks for alone."""
    found = _stored(folder, id_, choice)
    if found is None:
        return None
    content, trials = found
    content |= _facts(trials, choice)
    if len(found[1]) > len(trials):
        note = f"importances were worked out from {len(found[1])} trials, and these are the first {len(trials)}"
        content |= {"importances": {}, "importances_note": note}
    return content


def search(
    folder: Path,
    id_: str,
    choice: TuningChoice,
    first: dict[str, Any],
    objective: Objective,
    on_trial: Callable[[int, float], None] | None = None,
    say: Callable[[str], None] = lambda line: None,
    storage: Storage | None = None,
    title: str = "",
) -> Result:
    """Run the trials that are missing and return the best; the study ends as `studies.counted` says.

    first: the recipe's own values, complete; where the space holds them they are the first trial.
    objective: from tried values to scores. It may call `report(step, accuracy)` as training goes on, `step` in epochs
        over all runs of the trial; that raises Pruned where the pruner says so, which is to be let through. Any other
        error makes the trial a failed one, and the study goes on.
    on_trial: told how many trials have ended, and the winner's validation accuracy so far.
    say: told what of the study is damaged.
    storage: where trials are shared (storages.py); None: in the folder. title: what the study is called there.

    Several processes may call this for one study: they share its trials, and each returns once all have ended.

    Raises:
        JobError: every trial failed; the study is forgotten then, so that the next call tries again.
    """
    stored = read(folder, id_, choice)
    if stored is not None:
        return stored
    from stage_bench.training.proposals import Proposals

    proposals = Proposals(id_, choice, first)
    study = Study(folder, id_, say)
    if storage is not None:
        from stage_bench.training.storages import StoredStudy

        study = StoredStudy(folder, id_, say, storage, choice, proposals.distributions, title)
    size = _size(choice)
    seen, problem = 0, ""
    with study.working() as worker:
        while True:
            with study.locked():
                trials = study.trials()
                if seen and not trials:
                    raise JobError("all its trials failed, in another process")
                counted = studies.counted(trials, choice, size)
                if counted is not None:
                    return _end(study, choice, proposals, trials, counted, problem)
                proposal, trial = _begin(study, trials, choice, proposals, worker) or (None, None)
            if trial is None or proposal is None:
                time.sleep(study.pause)  # what is left is in the hands of other processes
            else:
                before = study.recorded(trial)
                ended, error = (
                    (before, "") if before else _carry_out(trial, proposal, objective, choice.pruner != "none")
                )
                problem = problem or error
                with study.locked():
                    study.write(ended)
                    trials = study.trials()
            done = [trial for trial in trials if trial.ended]
            if len(done) > seen and on_trial is not None:
                winner = studies.best(done, choice.metric)
                on_trial(len(done), winner.val_accuracy or 0.0 if winner else 0.0)
            seen = max(seen, len(done))


def _stored(folder: Path, id_: str, choice: TuningChoice) -> tuple[dict[str, Any], list[Trial]] | None:
    """A study's summary and the trials that a choice asks for; None where it has not ended, or nothing in it has."""
    found = studies.load(folder / f"{id_}.json")
    if found is None:
        return None
    trials = studies.counted(found[1], choice, _size(choice))
    if trials is None or studies.best(trials, choice.metric) is None:
        return None
    return found[0], trials


def _size(choice: TuningChoice) -> int | None:
    return sum(1 for _ in spaces.grid(choice.space)) if choice.sampler == "grid" else None


def _result(trials: list[Trial], choice: TuningChoice) -> Result | None:
    winner = studies.best(trials, choice.metric)
    if winner is None:
        return None
    assert winner.val_accuracy is not None
    assert winner.val_loss is not None
    return Result(
        values=winner.values,
        val_accuracy=winner.val_accuracy,
        val_loss=winner.val_loss,
        trials=len(trials),
        pruned=sum(trial.state == studies.PRUNED for trial in trials),
        failed=sum(trial.state == studies.FAILED for trial in trials),
        seconds=round(sum(trial.seconds for trial in trials), 3),
    )


def _begin(
    study: Study, trials: list[Trial], choice: TuningChoice, proposals: Proposals, worker: str
) -> tuple[Proposal, Trial] | None:
    """Take a trial: one whose process is gone, else a new one; None where there is none to take."""
    wanted = studies.wanted(choice, _size(choice))
    for trial in trials[:wanted]:
        if study.is_free(trial):
            known = _known(trials, trial.number)
            if all(earlier.ended for earlier in known):
                return _taken(study, proposals.next(trial.number, known, trial.values or None), trial.number, worker)
    known = _known(trials, len(trials))
    waits = not all(earlier.ended for earlier in known)
    if waits or len(trials) >= wanted or studies.has_timed_out(trials, choice):
        return None
    return _taken(study, proposals.next(len(trials), known), len(trials), worker)


def _known(trials: list[Trial], number: int) -> list[Trial]:
    """The trials from which that one is proposed: the same ones, however many processes share the study."""
    return trials[: max(0, number - SIDE_BY_SIDE + 1)]


def _taken(study: Study, proposal: Proposal, number: int, worker: str) -> tuple[Proposal, Trial] | None:
    trial = Trial(number=number, values=proposal.values, worker=worker)
    return (proposal, trial) if study.take(trial) else None


def _carry_out(trial: Trial, proposal: Proposal, objective: Objective, prunes: bool) -> tuple[Trial, str]:
    """The trial as it ended, and the traceback of one that failed."""
    from stage_bench.training.proposals import REPORT_EVERY

    reports: list[list[float]] = []

    def report(step: int, accuracy: float) -> None:
        if not prunes or step % REPORT_EVERY or (reports and step <= reports[-1][0]):
            return
        reports.append([step, accuracy])
        if proposal.report(step, accuracy):
            raise Pruned(f"given up at epoch {step}")

    begin = time.perf_counter()
    problem = ""
    try:
        scores = objective(dict(trial.values), report)
        for name, value in asdict(scores).items():
            if not math.isfinite(value):
                raise JobError(f"{name} is {value}")
        ended = replace(trial, state=studies.OK, val_accuracy=scores.val_accuracy, val_loss=scores.val_loss)
    except Pruned as stop:
        ended = replace(trial, state=studies.PRUNED, error=str(stop))
    except Exception as error:  # options that do not go together, out of memory: the others may do
        stopping.check()
        if full_disk.happened(error):  # no fault of the trial's, which is begun again
            raise
        ended = replace(trial, state=studies.FAILED, error=_reason(error))
        problem = "".join(traceback.format_exception(error))  # as text: the error itself would keep a model alive
    seconds = round(time.perf_counter() - begin, 4)
    return replace(ended, seconds=seconds, worker="", reports=reports, pruning=proposal.noted), problem


def _reason(error: Exception) -> str:
    reason = " ".join(str(error).split())
    if not isinstance(error, StageBenchError):
        reason = f"{type(error).__name__}: {reason}"
        if out_of_memory.happened(error):
            reason = f"out of memory: {reason}"
    return reason


def _end(
    study: Study,
    choice: TuningChoice,
    proposals: Proposals,
    trials: list[Trial],
    counted: list[Trial],
    problem: str,
) -> Result:
    """Write the summary, under the study's lock.

    Raises:
        JobError: no trial was carried to its end.
    """
    result = _result(counted, choice)
    if result is None:
        if studies.best(trials, choice.metric) is None:
            study.forget()
        failed = [trial for trial in counted if trial.state == studies.FAILED]
        what = f"all {len(counted)} trials failed"
        if len(failed) < len(counted):
            what = f"no trial of {len(counted)} was carried to its end: {len(failed)} failed, the others were given up"
        refused = JobError(f"{what}; the first: {failed[0].error}" if failed else what)
        if problem:
            refused.add_note(problem)
        raise refused
    shown = [trial for trial in trials if trial.ended and trial.number < _all_ended(trials)]
    importances, note = proposals.importances(shown)
    content = {
        "schema_version": studies.SCHEMA_VERSION,
        "id": study.id,
        "space": choice.space,
        "sampler": choice.sampler,
        "pruner": choice.pruner,
        "metric": choice.metric,
        "scope": choice.scope,
        "seeds": list(choice.seeds),
        "starts_with_recipe": proposals.first is not None,
        "importances": importances,
        "importances_note": note,
        **_facts(shown, choice),
    }
    files.write_json(study.summary_path, seals.sealed(content))
    return result


def _all_ended(trials: list[Trial]) -> int:
    """How many trials have ended before the first that has not."""
    return next((trial.number for trial in trials if not trial.ended), len(trials))


def _facts(trials: list[Trial], choice: TuningChoice) -> dict[str, Any]:
    """What a summary says of the trials that are in it."""
    winner = studies.best(trials, choice.metric)
    assert winner is not None
    size = _size(choice)
    ended = "trials"
    if size is not None and len(trials) == size < choice.trials:
        ended = "grid"
    elif len(trials) < choice.trials:
        ended = "timeout"
    rows = [asdict(trial) for trial in trials]
    for row in rows:
        del row["worker"], row["reports"], row["pruning"]
    return {
        "asked": choice.trials,
        "timeout": choice.timeout,
        "ended": ended,
        "winner": winner.number,
        "history": rows,
    }

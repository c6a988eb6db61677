"""What Optuna proposes and prunes, given the trials so far; nothing of it is stored, all of it follows from these.

A study's trials are put into an Optuna study in memory before each new one, under their own numbers and with a sampler
seeded with the number: what a trial tries depends on the earlier ones alone, not on interruptions or their processes.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState

from stage_bench.training import spaces, studies
from stage_bench.training.options import FIRST_LOOK, TuningChoice
from stage_bench.training.studies import Trial

STARTUP = 8
"""Trials before a sampler models what it has seen, the recipe's own values among them."""
REPORT_EVERY = 10
"""Epochs from one look of a pruner to the next: between trials, it compares equal epochs only."""
FOR_IMPORTANCES = 10
"""Trials carried to their end that importances are worked out from, at least."""

_STATES = {
    studies.OK: TrialState.COMPLETE,
    studies.PRUNED: TrialState.PRUNED,
    studies.FAILED: TrialState.FAIL,
    studies.RUNNING: TrialState.RUNNING,
}


@dataclass(frozen=True)
class Proposal:
    """Values to try, and Optuna's trial of them."""

    values: dict[str, Any]
    study: optuna.Study
    trial: optuna.trial.Trial

    def report(self, step: int, accuracy: float) -> bool:
        """Tell an accuracy; whether the trial should be given up."""
        self.trial.report(accuracy, step)
        return self.trial.should_prune()

    @property
    def noted(self) -> dict[str, float]:
        """What the pruner wrote down about the trial, which it will want to see with the next ones."""
        attributes = self.study.get_trials(deepcopy=False)[self.trial.number].system_attrs
        return {key: value for key, value in attributes.items() if key.startswith("completed_rung_")}


class Proposals:
    """first: the recipe's own values, complete; where the space holds them they are the first trial."""

    def __init__(self, id_: str, choice: TuningChoice, first: dict[str, Any]) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._id, self._choice = id_, choice
        self.distributions = {name: _distribution(entry) for name, entry in choice.space.items()}
        self.first = spaces.within(choice.space, first)
        self._points: list[dict[str, Any]] | None = None
        if choice.sampler == "grid":
            self._points = list(spaces.grid(choice.space))
            random.Random(0).shuffle(self._points)  # so that a part of the grid is spread over all of it
            if self.first is not None:
                self._points.remove(self.first)
                self._points.insert(0, self.first)

    def next(self, number: int, earlier: Sequence[Trial], values: dict[str, Any] | None = None) -> Proposal:
        """The trial of that number, from what is known of earlier ones; `values`: those that it was given before."""
        if values is None and self._points is not None:
            values = self._points[number]
        elif values is None and number == 0:
            values = self.first
        study = self._study(earlier, number)
        if values is not None:
            study.enqueue_trial(values)
        trial = study.ask()
        drawn = spaces.draw(self._choice.space, lambda name: _suggest(trial, name, self.distributions[name]))
        return Proposal(drawn, study, trial)

    def importances(self, trials: Sequence[Trial]) -> tuple[dict[str, float], str]:
        """Shares of the options in the variance of what was selected on (fANOVA, seeded), largest first; and a note.

        They are of the options that are on in every trial; the note says what is left out, or why there are none.
        """
        good = [trial for trial in trials if trial.state == studies.OK]
        if len(good) < FOR_IMPORTANCES:
            return {}, f"importances need {FOR_IMPORTANCES} trials carried to their end; there are {len(good)}"
        if len({studies.score(trial, self._choice.metric) for trial in good}) == 1:
            return {}, "all trials came out the same"
        varied = [name for name in sorted(self.distributions) if len({_key(trial, name) for trial in good}) > 1]
        always = [name for name in varied if all(name in trial.values for trial in good)]
        if not always:
            return {}, "no option that is on in every trial was varied"
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        study = self._study([trial for trial in trials if trial.ended], 0)
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator, params=always)
        left_out = [name for name in varied if name not in always]
        note = f"without {', '.join(left_out)}, not on in every trial" if left_out else ""
        rounded = {name: round(float(share), 4) for name, share in shares.items()}
        return dict(sorted(rounded.items(), key=lambda item: (-item[1], item[0]))), note

    def _study(self, trials: Sequence[Trial], seed: int) -> optuna.Study:
        study = optuna.create_study(
            study_name=self._id, direction="maximize", sampler=self._sampler(seed), pruner=self._pruner()
        )
        for trial in trials:
            study.add_trial(self._frozen(trial))
        return study

    def _frozen(self, trial: Trial) -> optuna.trial.FrozenTrial:
        done = trial.state == studies.OK
        return optuna.trial.create_trial(
            state=_STATES[trial.state],
            value=studies.score(trial, self._choice.metric) if done else None,
            params=trial.values,
            distributions={name: self.distributions[name] for name in trial.values},
            intermediate_values={int(step): accuracy for step, accuracy in trial.reports},
            system_attrs=trial.pruning,
        )

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        if self._choice.sampler == "tpe":
            grouped = any(spaces.conditions(entry) for entry in self._choice.space.values())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)  # `group` may change in a later Optuna
                return optuna.samplers.TPESampler(
                    seed=seed, n_startup_trials=STARTUP, multivariate=True, group=grouped, constant_liar=True
                )
        if self._choice.sampler == "gp":
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=STARTUP)
        return optuna.samplers.RandomSampler(seed=seed)

    def _pruner(self) -> optuna.pruners.BasePruner:
        makers: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
            "none": optuna.pruners.NopPruner,
            "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=FIRST_LOOK),
            "hyperband": lambda: optuna.pruners.HyperbandPruner(min_resource=FIRST_LOOK),
        }
        return makers[self._choice.pruner]()


def _distribution(entry: Any) -> BaseDistribution:
    listed = spaces.choices(entry)
    if listed is not None:
        return CategoricalDistribution(listed)
    log = entry.get("log", False)
    if spaces.is_whole(entry):
        return IntDistribution(entry["low"], entry["high"], log=log, step=entry.get("step", 1))
    return FloatDistribution(entry["low"], entry["high"], log=log)


def _suggest(trial: optuna.trial.Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    suggest = trial.suggest_int if isinstance(distribution, IntDistribution) else trial.suggest_float
    return suggest(name, distribution.low, distribution.high, step=distribution.step, log=distribution.log)


def _key(trial: Trial, name: str) -> str:
    return repr(trial.values.get(name))

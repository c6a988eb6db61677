"""What ends trials and studies early: pruners, and the seconds of all trials together."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

import tiny
from stage_bench.training import proposals, tuning
from studying import choice, history, search

SPACE = {"top": {"low": 0.0, "high": 1.0}}
EPOCHS = 100


class Curves:
    """Training that rises to `top`, epoch by epoch; notes how far each trial got."""

    def __init__(self, interrupt_at: tuple[int, int] | None = None, metric: str = "val_accuracy") -> None:
        self.interrupt_at, self.metric = interrupt_at, metric
        self.epochs: list[int] = []

    def __call__(self, values: dict[str, Any], report: tuning.Report) -> tuning.Scores:
        self.epochs.append(0)
        for epoch in range(1, EPOCHS + 1):
            self.epochs[-1] = epoch
            if (len(self.epochs) - 1, epoch) == self.interrupt_at:
                raise KeyboardInterrupt
            report(epoch, values["top"] * epoch / EPOCHS)
        return tuning.Scores(values["top"], 1 - values["top"])


def go(folder: Path, curves: Curves, trials: int, pruner: str, **changes: Any) -> tuning.Result:
    return search(folder, curves, trials, first={}, space=SPACE, sampler="random", pruner=pruner, **changes)


@pytest.mark.parametrize("metric", ["val_accuracy", "val_loss"])
@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_what_lags_behind_is_given_up(tmp_path, pruner, metric):
    result = go(tmp_path, curves := Curves(), 25, pruner, metric=metric)
    rows = history(tmp_path)
    pruned = [row for row in rows if row["state"] == "pruned"]
    assert result.pruned == len(pruned) > 3
    assert (result.trials, result.failed) == (25, 0)
    for row, epochs in zip(rows, curves.epochs, strict=True):
        assert (epochs == EPOCHS) == (row["state"] == "ok")
        assert epochs >= proposals.FIRST_LOOK
        assert epochs % proposals.REPORT_EVERY == 0
    assert all(row["val_accuracy"] is None and row["error"].startswith("given up at epoch") for row in pruned)
    worst = min(row["values"]["top"] for row in rows if row["state"] == "ok")
    best = max(row["values"]["top"] for row in rows)
    assert result.values["top"] == best, "the curves do not cross: the best one is never given up"
    assert sum(row["values"]["top"] for row in pruned) / len(pruned) < best
    assert worst >= 0


def test_without_a_pruner_nothing_is_given_up(tmp_path):
    assert go(tmp_path, curves := Curves(), 12, "none").pruned == 0
    assert curves.epochs == [EPOCHS] * 12


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_an_interrupted_study_prunes_as_it_would_have(tmp_path, pruner):
    """Also where the trial that was cut off had already passed, or failed to pass, a rung."""
    go(tmp_path / "undisturbed", undisturbed := Curves(), 16, pruner)
    expected = [(row["values"], row["state"]) for row in history(tmp_path / "undisturbed")]
    for trial, epoch in ((0, 50), (7, 30), (11, 95)):
        folder = tmp_path / f"{trial}"
        if undisturbed.epochs[trial] < epoch:
            epoch = undisturbed.epochs[trial]
        with pytest.raises(KeyboardInterrupt):
            go(folder, Curves((trial, epoch)), 16, pruner)
        go(folder, rest := Curves(), 16, pruner)
        assert [(row["values"], row["state"]) for row in history(folder)] == expected
        assert rest.epochs == undisturbed.epochs[trial:]


def test_the_winner_is_never_one_that_was_given_up(tmp_path):
    """It looked best in the middle; what was not carried to its end has no score."""
    calls = 0

    def objective(values: dict[str, Any], report: tuning.Report) -> tuning.Scores:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise tuning.Pruned("given up")
        return tuning.Scores(0.1 * calls, 1.0)

    result = search(tmp_path, objective, 4, first={}, space=SPACE)
    assert (result.pruned, result.val_accuracy) == (1, pytest.approx(0.3))


def test_epochs_of_a_second_run_that_were_told_before_are_passed_over(tmp_path):
    """Self-distillation trains twice from epoch 1 on."""

    def objective(values: dict[str, Any], report: tuning.Report) -> tuning.Scores:
        for _ in range(2):
            for epoch in range(1, EPOCHS + 1):
                report(epoch, values["top"])
        return tuning.Scores(values["top"], 1.0)

    search(tmp_path, objective, 3, first={}, space=SPACE, pruner="median")
    for line in (tmp_path / "study.trials.jsonl").read_text().splitlines():
        steps = [step for step, _ in json.loads(line)["reports"]]
        assert steps == sorted(set(steps))


def slow(values: dict[str, Any], report: tuning.Report) -> tuning.Scores:
    time.sleep(0.05)
    return tuning.Scores(values["top"], 1.0)


def test_a_study_ends_when_its_seconds_are_spent(tmp_path):
    result = search(tmp_path, slow, 1000, first={}, space=SPACE, timeout=0.3)
    assert result.trials <= 6, "each takes 0.05 s or more, and the one that passes the limit is the last"
    rows = history(tmp_path)
    assert sum(row["seconds"] for row in rows) >= 0.3 > sum(row["seconds"] for row in rows[:-1])
    assert result.seconds == pytest.approx(sum(row["seconds"] for row in rows), abs=1e-3)
    asked = choice(1000, space=SPACE, timeout=0.3)
    assert tuning.read(tmp_path, "study", asked) == result
    shown = tuning.summary(tmp_path, "study", asked)
    assert (shown["ended"], shown["timeout"], shown["asked"]) == ("timeout", 0.3, 1000)
    assert search(tmp_path, slow, 1000, first={}, space=SPACE, timeout=0.3) == result, "it is finished for good"


def test_seconds_of_before_an_interruption_count(tmp_path):
    calls = 0

    def objective(values: dict[str, Any], report: tuning.Report) -> tuning.Scores:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return slow(values, report)

    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, objective, 1000, first={}, space=SPACE, timeout=0.3)
    result = search(tmp_path, objective, 1000, first={}, space=SPACE, timeout=0.3)
    assert result.trials <= 6


def test_more_seconds_go_on_and_fewer_see_the_first(tmp_path):
    short = search(tmp_path, slow, 1000, first={}, space=SPACE, timeout=0.12)
    longer = search(tmp_path, slow, 1000, first={}, space=SPACE, timeout=short.seconds + 0.2)
    assert longer.trials > short.trials
    assert tuning.read(tmp_path, "study", choice(1000, space=SPACE, timeout=0.12)) == short
    assert tuning.read(tmp_path, "study", choice(1000, space=SPACE, timeout=9e9)) is None
    assert tuning.read(tmp_path, "study", choice(2, space=SPACE, timeout=9e9)).trials == 2


def test_the_first_trial_runs_whatever_it_takes(tmp_path):
    result = search(tmp_path, slow, 9, first={}, space=SPACE, timeout=0.001)
    assert result.trials == 1


def test_a_suite_prunes(tmp_path):
    """The runner tells the pruner of epochs, over all runs of a trial."""
    tiny.write_folder(tmp_path / "data", 60)
    space = {"lr": {"low": 1e-7, "high": 0.1, "log": True}}
    options = {"trials": 14, "sampler": "random", "pruner": "median", "seeds": [1000, 1001], "space": space}
    entry = {"name": "mlp", "epochs": 60, "patience": 60, "tuning": options}
    suite = {"features": [{"name": "shallow", "dimension": 8}], "backbones": [entry], "seeds": [0]}
    assert not tiny.carry_out(tmp_path, suite)
    (path,) = (tmp_path / "results" / "studies").glob("*.jsonl")
    trials = [json.loads(line) for line in path.read_text().splitlines()]
    ended = [trial for trial in trials if trial["state"] != "running"]
    assert {trial["state"] for trial in ended} == {"ok", "pruned"}
    for trial in ended:
        steps = [step for step, _ in trial["reports"]]
        assert steps == list(range(10, steps[-1] + 1, 10)), "in order, from the first epoch on"
        assert (steps[-1] == 120) == (trial["state"] == "ok"), "two runs of 60 epochs"
    (record,) = tiny.records(tmp_path)
    assert record.note.startswith("tuned: lr=")

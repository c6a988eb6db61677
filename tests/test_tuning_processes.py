"""Several processes on one study: they share its trials exactly, and a dead one's trial is begun again."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from stage_bench.errors import JobError
from stage_bench.training import tuning
from studying import FIRST, Objective, choice, history, quality, search, without_time

PROCESSES = multiprocessing.get_context("spawn")


def work(folder: Path, trials: int, seconds: float, hangs_at: int = -1) -> None:
    """A process on the study: each trial takes `seconds`, the call of number `hangs_at` for ever."""
    calls = 0

    def objective(values: dict[str, Any], report: tuning.Report) -> tuning.Scores:
        nonlocal calls
        with (folder / f"calls-{os.getpid()}").open("a") as file:
            file.write(json.dumps(values) + "\n")
        calls += 1
        time.sleep(3600 if calls - 1 == hangs_at else seconds)
        return tuning.Scores(quality(values), 1.0)

    result = tuning.search(folder, "study", choice(trials), FIRST, objective)
    (folder / f"result-{os.getpid()}").write_text(json.dumps([result.values, result.trials]))


def fail(folder: Path) -> None:
    def objective(values: dict[str, Any], report: tuning.Report) -> tuning.Scores:
        time.sleep(0.05)
        raise JobError("no")

    try:
        tuning.search(folder, "study", choice(4), FIRST, objective)
    except JobError as error:
        (folder / f"error-{os.getpid()}").write_text(str(error))


def start(*arguments: Any, target: Any = work) -> Any:
    process = PROCESSES.Process(target=target, args=arguments)
    process.start()
    return process


def calls(folder: Path) -> list[str]:
    return [line for path in folder.glob("calls-*") for line in path.read_text().splitlines()]


def until(condition: Any) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it never came to this")


def test_the_trials_are_shared_out(tmp_path):
    processes = [start(tmp_path, 12, 0.1) for _ in range(3)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len(calls(tmp_path)) == 12, "none more, none less"
    assert [row["number"] for row in history(tmp_path)] == list(range(12))
    assert Counter(json.dumps(row["values"], sort_keys=True) for row in history(tmp_path)) == Counter(
        json.dumps(json.loads(line), sort_keys=True) for line in calls(tmp_path)
    )
    assert len(list(tmp_path.glob("calls-*"))) > 1, "else there was nothing to share"
    results = {path.read_text() for path in tmp_path.glob("result-*")}
    assert len(results) == 1, "each of them ends with the result of all trials"
    assert not list(tmp_path.glob("study.workers/*"))


def test_a_running_trial_is_left_to_its_process(tmp_path):
    """A second process comes while the first is in the middle of the only trial: it waits for it."""
    first = start(tmp_path, 1, 2.0)
    until(lambda: calls(tmp_path))
    result = search(tmp_path, objective := Objective(), 1)
    first.join()
    assert not objective.tried
    assert result.trials == 1
    assert len(calls(tmp_path)) == 1


def test_the_trial_of_a_killed_process_is_begun_again(tmp_path):
    search(tmp_path / "undisturbed", undisturbed := Objective(), 5)
    first = start(tmp_path, 5, 0.0, 2)
    until(lambda: len(calls(tmp_path)) == 3)
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    search(tmp_path, rest := Objective(), 5)
    assert len(rest.tried) == 3, "the one that was cut off, and the two behind it"
    assert rest.tried[0] == json.loads(calls(tmp_path)[2]), "with the values that it had"
    assert [row["values"] for row in history(tmp_path)] == undisturbed.tried
    assert not list(tmp_path.glob("study.workers/*"))


def test_another_process_takes_over_while_it_is_at_work(tmp_path):
    """The killed process's trial is not the last: the living one has gone on meanwhile."""
    dying = start(tmp_path, 8, 0.0, 1)
    until(lambda: len(calls(tmp_path)) == 2)
    living = start(tmp_path, 8, 0.05)
    until(lambda: len(calls(tmp_path)) >= 5)  # what may run beside the hanging one, for which it waits then
    os.kill(dying.pid, signal.SIGKILL)
    dying.join()
    living.join()
    assert living.exitcode == 0
    assert len(calls(tmp_path)) == 9, "eight, and one of them twice"
    assert [row["state"] for row in history(tmp_path)] == ["ok"] * 8


def test_a_study_that_fails_fails_in_every_process(tmp_path):
    processes = [start(tmp_path, target=fail) for _ in range(2)]
    for process in processes:
        process.join()
    said = sorted(path.read_text() for path in tmp_path.glob("error-*"))
    assert len(said) == 2
    assert "all 4 trials failed; the first: no" in said
    assert not (tmp_path / "study.json").exists()


def test_one_process_alone_draws_as_ever(tmp_path):
    """Whatever other processes leave behind does not change what a study alone comes to."""
    search(tmp_path / "here", Objective(), 9)
    folder = tmp_path / "there"
    folder.mkdir()
    process = start(folder, 9, 0.0)
    process.join()
    rows = [{**row, "val_loss": None} for row in without_time(history(folder))]
    assert rows == [{**row, "val_loss": None} for row in without_time(history(tmp_path / "here"))]


@pytest.mark.parametrize("trials", [1, 3])
def test_a_finished_study_is_found_without_a_lock(tmp_path, trials):
    """Reports and runs read the summary alone, also from a folder that is not to be written to."""
    result = search(tmp_path, Objective(), trials)
    for path in tmp_path.iterdir():
        if path.name != "study.json":
            path.unlink()
    assert tuning.read(tmp_path, "study", choice(trials)) == result
    assert search(tmp_path, objective := Objective(), trials) == result
    assert not objective.tried
    assert [path.name for path in tmp_path.iterdir()] == ["study.json"]


def test_a_study_comes_out_the_same_whoever_works_on_it(tmp_path):
    """Trials are proposed from the same earlier ones, whether or not later ones have ended meanwhile."""
    search(tmp_path / "one", Objective(), 16)
    folder = tmp_path / "three"
    folder.mkdir()
    processes = [start(folder, 16, pause) for pause in (0.0, 0.02, 0.05)]
    for process in processes:
        process.join()
    assert {row["worker"] for row in map(json.loads, (folder / "study.trials.jsonl").read_text().splitlines())} > {""}
    together, alone = history(folder), history(tmp_path / "one")
    assert [row["values"] for row in together] == [row["values"] for row in alone]

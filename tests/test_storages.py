"""Studies in an Optuna storage: processes that share nothing else come to what one alone comes to."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import optuna
import pytest

from stage_bench.errors import JobError, StageBenchError
from stage_bench.training import storages, studies, tuning
from stage_bench.training.storages import Storage
from studying import FIRST, Objective, choice, history, quality, search, without_time

PROCESSES = multiprocessing.get_context("spawn")


@pytest.fixture(params=["journal:", "sqlite:///"])
def storage(request, tmp_path: Path) -> Storage:
    return storages.parse(f"{request.param}{tmp_path / 'storage' / 'trials'}")


@pytest.fixture(params=["journal:", pytest.param("sqlite:///", marks=pytest.mark.slow)])
def met(request, tmp_path: Path) -> Storage:
    """Where processes meet; they take seconds to start."""
    return storages.parse(f"{request.param}{tmp_path / 'storage' / 'trials'}")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry()


def hurry() -> None:
    storages.BEAT_SECONDS, storages.GONE_SECONDS, storages.StoredStudy.pause = 0.2, 3.0, 0.1


def stored(folder: Path, storage: Storage, objective: tuning.Objective, trials: int, **changes: Any) -> tuning.Result:
    study = choice(trials, **changes)
    return tuning.search(folder, "study", study, FIRST, objective, storage=storage, title="tune tiny mlp")


def work(folder: Path, url: str, trials: int, seconds: float, hangs_at: int = -1, fails: bool = False) -> None:
    """A process with a folder of its own: each trial takes `seconds`, the call of number `hangs_at` for ever."""
    hurry()
    folder.mkdir(parents=True)
    calls = 0

    def objective(values: dict[str, Any], report: tuning.Report) -> tuning.Scores:
        nonlocal calls
        with (folder / "calls").open("a") as file:
            file.write(json.dumps(values) + "\n")
        calls += 1
        time.sleep(3600 if calls - 1 == hangs_at else seconds)
        if fails:
            raise JobError("no")
        return tuning.Scores(quality(values), 1 - quality(values))

    try:
        result = stored(folder, Storage(url), objective, trials)
    except JobError as error:
        (folder / "error").write_text(str(error))
    else:
        (folder / "result").write_text(json.dumps([result.values, result.trials]))


def start(*arguments: Any, **more: Any) -> Any:
    process = PROCESSES.Process(target=work, args=arguments, kwargs=more)
    process.start()
    return process


def calls(*folders: Path) -> list[str]:
    return [line for folder in folders if (folder / "calls").exists() for line in
            (folder / "calls").read_text().splitlines()]  # fmt: skip


def until(condition: Any) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it never came to this")


def test_a_storage_changes_no_number(storage, tmp_path):
    changes = {"pruner": "median", "metric": "val_loss"}
    search(tmp_path / "file", first := Objective(), 14, **changes)
    result = stored(tmp_path / "stored", storage, second := Objective(), 14, **changes)
    assert second.tried == first.tried
    assert without_time(history(tmp_path / "stored")) == without_time(history(tmp_path / "file"))
    lines = [(tmp_path / name / "study.trials.jsonl").read_bytes().splitlines() for name in ("file", "stored")]
    endings = [
        {row["number"]: row["values"] for row in map(json.loads, rows) if row["state"] == "ok"} for rows in lines
    ]
    assert endings[0] == endings[1], "the file beside it has all that has ended"
    assert tuning.read(tmp_path / "stored", "study", choice(14, **changes)) == result


def test_its_trials_are_ordinary_ones(storage, tmp_path):
    stored(tmp_path, storage, Objective({2: JobError("no")}), 4)
    (study,) = optuna.get_all_study_summaries(storages.open_(storage))
    assert study.study_name == "stage-bench study"
    assert study.user_attrs == {"title": "tune tiny mlp", "metric": "val_accuracy"}
    loaded = optuna.load_study(study_name=study.study_name, storage=storages.open_(storage))
    rows = history(tmp_path)
    assert [trial.params for trial in loaded.trials] == [row["values"] for row in rows]
    assert [trial.state.name for trial in loaded.trials] == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE"]
    assert loaded.best_value == max(row["val_accuracy"] for row in rows if row["state"] == "ok")
    assert loaded.trials[2].user_attrs["error"] == "no"


def test_processes_that_share_nothing_else_share_the_trials(met, tmp_path):
    search(tmp_path / "alone", Objective(), 12)
    folders = [tmp_path / str(number) for number in range(3)]
    processes = [start(folder, met.url, 12, 0.15) for folder in folders]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len(calls(*folders)) == 12, "none more, none less"
    assert sum(bool(calls(folder)) for folder in folders) > 1, "else there was nothing to share"
    assert len({(folder / "result").read_text() for folder in folders}) == 1
    values = [row["values"] for row in history(tmp_path / "alone")]
    for folder in folders:
        assert [row["values"] for row in history(folder)] == values
        assert len((folder / "study.trials.jsonl").read_text().splitlines()) == 12


def test_the_trial_of_a_killed_process_is_begun_again_elsewhere(met, tmp_path):
    search(tmp_path / "undisturbed", undisturbed := Objective(), 7)
    dying = start(tmp_path / "dying", met.url, 7, 0.0, 2)
    until(lambda: len(calls(tmp_path / "dying")) == 3)
    os.kill(dying.pid, signal.SIGKILL)
    dying.join()
    stored(tmp_path / "rest", met, rest := Objective(), 7)
    assert len(rest.tried) == 5, "the one that was cut off, and the four behind it"
    assert json.loads(calls(tmp_path / "dying")[2]) in rest.tried, "with the values that it had"
    assert [row["values"] for row in history(tmp_path / "rest")] == undisturbed.tried


def test_a_living_process_keeps_its_trial(met, tmp_path):
    """Longer than a dead one's would be left alone: it beats."""
    first = start(tmp_path / "first", met.url, 1, 2 * storages.GONE_SECONDS)
    until(lambda: calls(tmp_path / "first"))
    result = stored(tmp_path / "second", met, objective := Objective(), 1)
    first.join()
    assert not objective.tried
    assert result.trials == 1


def test_a_process_that_was_taken_for_dead_comes_back(storage, tmp_path):
    """The first to end counts."""
    paused, other = tuning_study(tmp_path / "a", storage), tuning_study(tmp_path / "b", storage)
    values = {key: FIRST[key] for key in choice(1).space}
    trial = studies.Trial(0, values, worker="a")
    assert paused.trials() == other.trials() == []
    assert paused.take(trial)
    assert not other.take(trial), "both saw that it was not there"
    assert not other.is_free(other.trials()[0])
    time.sleep(storages.GONE_SECONDS)
    assert other.is_free(other.trials()[0])
    assert other.take(trial)
    other.write(studies.Trial(0, values, studies.OK, 0.5, 0.25, 1.0))
    paused.write(studies.Trial(0, values, studies.OK, 0.9, 0.1, 9.0))
    assert paused.trials()[0].val_accuracy == 0.5


def tuning_study(folder: Path, storage: Storage) -> storages.StoredStudy:
    from stage_bench.training.proposals import Proposals

    distributions = Proposals("study", choice(1), FIRST).distributions
    return storages.StoredStudy(folder, "study", lambda line: None, storage, choice(1), distributions, "")


def test_a_study_that_fails_fails_everywhere_and_is_forgotten(met, tmp_path):
    folders = [tmp_path / str(number) for number in range(2)]
    processes = [start(folder, met.url, 4, 0.1, fails=True) for folder in folders]
    for process in processes:
        process.join()
    said = [(folder / "error").read_text() for folder in folders]
    assert "all 4 trials failed; the first: no" in said
    assert all("all" in line and "failed" in line for line in said)
    assert not optuna.get_all_study_summaries(storages.open_(met))
    assert stored(tmp_path / "again", met, Objective(), 4).trials == 4


@pytest.mark.parametrize("order", ["file first", "storage first"])
def test_a_study_goes_on_with_and_without_a_storage(storage, tmp_path, order):
    search(tmp_path / "undisturbed", undisturbed := Objective(), 9)
    before, after = Objective(), Objective()
    if order == "file first":
        search(tmp_path / "study", before, 5)
        stored(tmp_path / "study", storage, after, 9)
    else:
        stored(tmp_path / "study", storage, before, 5)
        search(tmp_path / "study", after, 9)
    assert before.tried + after.tried == undisturbed.tried
    assert without_time(history(tmp_path / "study")) == without_time(history(tmp_path / "undisturbed"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("somewhere", "write journal:PATH, or a database's URL"),
        ("journal:", "name a file"),
        ("sqlite:///:memory:", "name a file"),
        ("/tmp/file", "write journal:PATH"),
    ],
)
def test_what_is_no_storage_is_refused(text, problem):
    with pytest.raises(StageBenchError, match=problem):
        storages.parse(text)


def test_a_storage_that_is_not_there_is_named_without_its_password(monkeypatch):
    monkeypatch.setattr(storages, "_TRIES_TO_OPEN", 1)
    with pytest.raises(StageBenchError) as refused:
        storages.open_(storages.parse("postgresql://me:secret@127.0.0.1:1/none"))
    assert "secret" not in str(refused.value)
    assert "postgresql://me:***@127.0.0.1:1/none cannot be used" in str(refused.value)
    assert "\n" not in str(refused.value)

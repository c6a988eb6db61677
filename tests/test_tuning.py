"""Studies: how many trials they have, what an interruption leaves, what they select on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from stage_bench.datasets.splits import random_split
from stage_bench.errors import JobError
from stage_bench.training import tuning

SPACE = {
    "lr": {"low": 0.001, "high": 0.1, "log": True},
    "hidden": {"low": 8, "high": 64},
    "dropout": {"low": 0.1, "high": 0.8},
    "optimizer": ["adam", "rmsprop"],
}
FIRST = {"lr": 0.01, "hidden": 16, "dropout": 0.5, "optimizer": "adam", "epochs": 200}


def quality(values: dict[str, Any]) -> float:
    """A smooth stand-in for validation accuracy, best at lr 0.03 and dropout 0.3."""
    off = abs(np.log10(values["lr"]) + 1.5) + abs(values["dropout"] - 0.3) + abs(values["hidden"] - 40) / 100
    return round(1 / (1 + off) - 0.1 * (values["optimizer"] == "rmsprop"), 12)


class Objective:
    """Counts calls; raises what the plan has for a call."""

    def __init__(self, plan: dict[int, BaseException] | None = None) -> None:
        self.plan = plan or {}
        self.tried: list[dict[str, Any]] = []

    def __call__(self, values: dict[str, Any]) -> float:
        self.tried.append(values)
        if len(self.tried) - 1 in self.plan:
            raise self.plan[len(self.tried) - 1]
        return quality(values)


def search(folder: Path, trials: int, objective: Objective, sampler: str = "tpe", space=SPACE, first=FIRST):
    return tuning.search(folder, "study", trials, sampler, space, first, objective)


def history(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "study.json").read_text())["history"]


def without_time(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_trials_are_a_total(tmp_path):
    objective = Objective()
    first = search(tmp_path, 3, objective)
    assert len(objective.tried) == first.trials == 3
    again = search(tmp_path, 3, objective)
    assert len(objective.tried) == 3, "a second call runs none"
    assert again == first
    more = search(tmp_path, 5, objective)
    assert len(objective.tried) == more.trials == 5, "only the difference"
    assert [row["values"] for row in history(tmp_path)] == objective.tried
    fewer = search(tmp_path, 3, objective)
    assert len(objective.tried) == 5
    assert fewer == first, "what the first three said, whatever came later"
    assert tuning.read(tmp_path, "study", 3) == first
    assert tuning.read(tmp_path, "study", 5) == more
    assert tuning.read(tmp_path, "study", 6) is None


def test_fewer_trials_do_not_see_the_later_ones(tmp_path):
    scores = iter((0.2, 0.1, 0.3, 0.4))
    result = tuning.search(tmp_path, "study", 4, "random", SPACE, FIRST, lambda values: next(scores))
    assert result.val_accuracy == 0.4
    assert [tuning.read(tmp_path, "study", trials).val_accuracy for trials in (1, 2, 3, 4)] == [0.2, 0.2, 0.3, 0.4]
    assert tuning.read(tmp_path, "study", 2).values == history(tmp_path)[0]["values"]


def test_the_best_of_the_history_wins(tmp_path):
    result = search(tmp_path, 12, Objective())
    rows = history(tmp_path)
    assert result.val_accuracy == max(row["val_accuracy"] for row in rows)
    assert quality(result.values) == result.val_accuracy
    assert result.seconds == pytest.approx(sum(row["seconds"] for row in rows), abs=1e-3)


def test_the_earliest_of_equals_wins(tmp_path):
    result = tuning.search(tmp_path, "study", 4, "random", SPACE, FIRST, lambda values: 0.5)
    assert result.values == history(tmp_path)[0]["values"]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_an_interrupted_study_goes_on_as_it_would_have_gone(tmp_path, sampler):
    undisturbed = Objective()
    expected = search(tmp_path / "undisturbed", 9, undisturbed, sampler)
    for stop in (0, 2, 7):  # before the first is known, among the random ones, among the modelled ones
        folder = tmp_path / f"stopped-{stop}"
        with pytest.raises(KeyboardInterrupt):
            search(folder, 9, Objective({stop: KeyboardInterrupt()}), sampler)
        assert not (folder / "study.json").exists()
        assert tuning.read(folder, "study", 1) is None
        rest = Objective()
        resumed = search(folder, 9, rest, sampler)
        assert len(rest.tried) == 9 - stop
        assert without_time(history(folder)) == without_time(history(tmp_path / "undisturbed"))
        assert (resumed.values, resumed.val_accuracy) == (expected.values, expected.val_accuracy)


def test_interrupted_twice(tmp_path):
    undisturbed = Objective()
    search(tmp_path / "undisturbed", 6, undisturbed)
    for stop in (2, 0, 1):
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path, 6, Objective({stop: KeyboardInterrupt()}))
    search(tmp_path, 6, Objective())
    assert [row["values"] for row in history(tmp_path)] == undisturbed.tried


def test_a_journal_whose_last_line_was_not_finished(tmp_path):
    """The machine went down while a line was written."""
    search(tmp_path / "undisturbed", 5, undisturbed := Objective())
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, 5, Objective({3: KeyboardInterrupt()}))
    journal = tmp_path / "study.journal"
    journal.write_bytes(journal.read_bytes() + b'{"op_code":8,"worker')
    rest = Objective()
    search(tmp_path, 5, rest)
    assert len(rest.tried) == 2
    assert [row["values"] for row in history(tmp_path)] == undisturbed.tried


def test_killed_between_a_trials_time_and_its_result(tmp_path):
    """The journal then has the trial's seconds and still calls it running."""
    search(tmp_path / "undisturbed", 3, undisturbed := Objective())
    search(tmp_path, 2, Objective())
    journal = tmp_path / "study.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]))
    (tmp_path / "study.json").unlink()
    search(tmp_path, 3, rest := Objective())
    assert len(rest.tried) == 2
    assert [row["values"] for row in history(tmp_path)] == undisturbed.tried
    assert not any(row["error"] or row["val_accuracy"] is None for row in history(tmp_path))


def test_the_first_trial_is_the_recipe(tmp_path):
    objective = Objective()
    search(tmp_path, 2, objective)
    assert objective.tried[0] == {name: FIRST[name] for name in SPACE}
    assert objective.tried[1] != objective.tried[0]


@pytest.mark.parametrize("outside", [{"lr": 0.5}, {"hidden": 128}, {"optimizer": "adamw"}])
def test_a_recipe_outside_the_space_is_not_tried(tmp_path, outside):
    objective = Objective()
    search(tmp_path, 2, objective, first={**FIRST, **outside})
    for name, value in outside.items():
        assert objective.tried[0][name] != value


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_ranges_and_choices_are_respected(tmp_path, sampler):
    objective = Objective()
    search(tmp_path, 40, objective, sampler, first={})
    for values in objective.tried:
        assert set(values) == set(SPACE)
        assert 0.001 <= values["lr"] <= 0.1
        assert isinstance(values["lr"], float)
        assert 8 <= values["hidden"] <= 64
        assert isinstance(values["hidden"], int)
        assert 0.1 <= values["dropout"] <= 0.8
        assert values["optimizer"] in ("adam", "rmsprop")
    assert {values["optimizer"] for values in objective.tried} == {"adam", "rmsprop"}
    assert len({values["hidden"] for values in objective.tried}) > 10


def test_a_logarithmic_range_is_drawn_so(tmp_path):
    space = {"lr": {"low": 1e-6, "high": 1.0, "log": True}, "dropout": {"low": 1e-6, "high": 1.0}}
    tried = []
    tuning.search(tmp_path, "study", 30, "random", space, {}, lambda values: tried.append(values) or 0.0)
    assert sum(values["lr"] < 1e-3 for values in tried) > 8
    assert sum(values["dropout"] < 1e-3 for values in tried) == 0


def test_choices_keep_their_types(tmp_path):
    space = {"batch_norm": [True, False], "svd": [None, 16], "hidden": [8, 16.5]}
    tried = []
    tuning.search(tmp_path, "study", 12, "random", space, {}, lambda values: tried.append(values) or 0.0)
    assert {repr(values["batch_norm"]) for values in tried} == {"True", "False"}
    assert {repr(values["svd"]) for values in tried} == {"None", "16"}
    assert [row["values"] for row in history(tmp_path)] == tried


def test_the_two_samplers_differ(tmp_path):
    made = []
    for sampler in ("tpe", "random"):
        search(tmp_path / sampler, 12, objective := Objective(), sampler)
        made.append(objective.tried)
    assert made[0] != made[1]


def test_failed_trials_are_recorded_and_the_study_goes_on(tmp_path):
    plan = {0: JobError("the loss is nan at epoch 3"), 2: ValueError("hidden is 33"), 3: MemoryError()}
    result = search(tmp_path, 5, Objective(plan))
    rows = history(tmp_path)
    assert [row["val_accuracy"] is None for row in rows] == [True, False, True, True, False]
    assert rows[0]["error"] == "the loss is nan at epoch 3"
    assert rows[2]["error"] == "ValueError: hidden is 33"
    assert rows[3]["error"].startswith("MemoryError")
    assert result.trials == 5
    assert result.val_accuracy == max(row["val_accuracy"] for row in rows if row["val_accuracy"] is not None)
    search(tmp_path, 5, again := Objective())
    assert not again.tried, "a failed trial is a trial"


def test_a_study_whose_trials_all_failed_is_an_error_and_is_tried_again(tmp_path):
    plan = {n: JobError(f"no {n}") for n in range(3)}
    with pytest.raises(JobError, match="all 3 trials failed; the first: no 0"):
        search(tmp_path, 3, Objective(plan))
    assert tuning.read(tmp_path, "study", 3) is None, "never found done"
    result = search(tmp_path, 3, objective := Objective())
    assert len(objective.tried) == result.trials == 3


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"history": []}', '{"schema_version": 9, "history": [1]}']
)
def test_a_summary_that_is_none_is_no_study(tmp_path, text):
    (tmp_path / "study.json").write_text(text)
    assert tuning.read(tmp_path, "study", 1) is None


def test_a_lost_summary_is_made_anew_from_the_journal(tmp_path):
    first = search(tmp_path, 3, Objective())
    (tmp_path / "study.json").unlink()
    assert search(tmp_path, 3, objective := Objective()) == first
    assert not objective.tried


def test_progress_tells_the_best_so_far(tmp_path):
    told = []
    plan = {0: JobError("no")}
    tuning.search(tmp_path, "study", 4, "tpe", SPACE, FIRST, Objective(plan), lambda *step: told.append(step))
    assert [done for done, _ in told] == [1, 2, 3, 4]
    assert told[0][1] == 0.0
    assert [best for _, best in told] == sorted(best for _, best in told)
    assert told[-1][1] == max(row["val_accuracy"] or 0 for row in history(tmp_path))


# --- the objective that the runner gives a study ---


def carry_out(place: Path, backbone: str, trials: int, space: dict[str, Any]) -> list[str]:
    entry = {"name": backbone, "epochs": 6, "tuning": {"trials": trials, "space": space}}
    features = [{"name": "shallow", "dimension": 8}]
    return tiny.carry_out(place, {"features": features, "backbones": [entry], "seeds": [0]})


def study(place: Path) -> list[dict[str, Any]]:
    (path,) = (place / "results" / "studies").glob("*.json")
    return without_time(json.loads(path.read_text())["history"])


def test_selection_does_not_see_test_labels(tmp_path):
    space = {"lr": {"low": 0.001, "high": 0.1, "log": True}, "hidden": [4, 8], "dropout": {"low": 0.1, "high": 0.9}}
    split = random_split(np.zeros(60, dtype=np.int64), "random-60-20-20", 1000)  # a study's own seed
    made, winners = {}, {}
    for name, nodes in {"as they are": [], "test": split.test, "validation": split.val}.items():
        folder = tmp_path / name
        folder.mkdir()
        tiny.relabel(tiny.write_folder(folder / "data", 60), nodes)
        assert not carry_out(folder, "mlp", 4, space)
        made[name] = study(folder)
        (winners[name],) = (record.note for record in tiny.records(folder))
    assert made["test"] == made["as they are"]
    assert winners["test"] == winners["as they are"]
    assert winners["test"].startswith("tuned: ")
    assert made["validation"] != made["as they are"], "else the above would show nothing"
    assert len({row["val_accuracy"] for row in made["as they are"]}) > 1


def test_the_winner_is_what_is_trained(tmp_path):
    tiny.write_folder(tmp_path / "data", 60)
    assert not carry_out(tmp_path, "mlp", 3, {"hidden": [3, 11, 29]})
    (record,) = tiny.records(tmp_path)
    hidden = max(study(tmp_path), key=lambda row: row["val_accuracy"])["values"]["hidden"]
    assert record.note == f"tuned: hidden={hidden}"
    weights = 8 * hidden + hidden + 2 * hidden + 3 * hidden + 3  # two layers and a batch norm
    assert record.metrics["parameters"] == weights
    assert record.seconds["tune"] > 0
    assert record.study_id


def test_options_that_do_not_go_together_fail_their_trial_only(tmp_path):
    """Both ends of the range are even; RevGAT's groups divide no odd width."""
    tiny.write_folder(tmp_path / "data", 60)
    assert not carry_out(tmp_path, "revgat", 8, {"hidden": {"low": 4, "high": 12}})
    rows = study(tmp_path)
    odd = [row for row in rows if row["values"]["hidden"] % 2]
    assert 0 < len(odd) < len(rows)
    assert all("divisible by groups" in row["error"] for row in odd)
    assert all((row["val_accuracy"] is None) == (row in odd) for row in rows)


def test_a_study_that_fails_fails_its_runs_and_is_tried_again(tmp_path):
    """lr 1e30 is no learning rate. The next call must neither take the study for done nor refuse the suite."""
    tiny.write_folder(tmp_path / "data", 60)
    for _ in range(2):
        failed = carry_out(tmp_path, "mlp", 2, {"lr": {"low": 1e30, "high": 2e30}})
        assert len(failed) == 2
        assert "all 2 trials failed" in failed[0]
        (record,) = tiny.records(tmp_path)
        assert record.status == "failed"
        assert "all 2 trials failed" in record.error

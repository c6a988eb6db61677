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
from studying import FIRST, SPACE, Objective, choice, history, noting, quality, search, untimed, without_time


def read(folder: Path, trials: int, **changes: Any) -> tuning.Result | None:
    return tuning.read(folder, "study", choice(trials, **changes))


def test_trials_are_a_total(tmp_path):
    objective = Objective()
    first = search(tmp_path, objective, 3)
    assert len(objective.tried) == first.trials == 3
    again = search(tmp_path, objective, 3)
    assert len(objective.tried) == 3, "a second call runs none"
    assert again == first
    more = search(tmp_path, objective, 5)
    assert len(objective.tried) == more.trials == 5, "only the difference"
    assert [row["values"] for row in history(tmp_path)] == objective.tried
    fewer = search(tmp_path, objective, 3)
    assert len(objective.tried) == 5
    assert fewer == first, "what the first three said, whatever came later"
    assert read(tmp_path, 3) == first
    assert read(tmp_path, 5) == more
    assert read(tmp_path, 6) is None


def test_how_many_are_asked_for_does_not_change_what_is_tried(tmp_path):
    """So that a study of 12 goes on to be the study of 20 that would have been."""
    search(tmp_path / "many", many := Objective(), 20)
    search(tmp_path / "few", few := Objective(), 12)
    assert few.tried == many.tried[:12]
    search(tmp_path / "few", rest := Objective(), 20)
    assert rest.tried == many.tried[12:]


def test_fewer_trials_do_not_see_the_later_ones(tmp_path):
    scores = iter((0.2, 0.1, 0.3, 0.4))
    result = search(tmp_path, lambda values, report: tuning.Scores(next(scores), 1.0), 4)
    assert result.val_accuracy == 0.4
    assert [read(tmp_path, trials).val_accuracy for trials in (1, 2, 3, 4)] == [0.2, 0.2, 0.3, 0.4]
    assert read(tmp_path, 2).values == history(tmp_path)[0]["values"]
    shown = tuning.summary(tmp_path, "study", choice(2))
    assert [row["val_accuracy"] for row in shown["history"]] == [0.2, 0.1]
    assert (shown["winner"], shown["asked"], shown["importances"]) == (0, 2, {})
    assert tuning.summary(tmp_path, "study", choice(5)) is None


def test_the_best_of_the_history_wins(tmp_path):
    result = search(tmp_path, Objective(), 12)
    rows = history(tmp_path)
    assert result.val_accuracy == max(row["val_accuracy"] for row in rows)
    assert quality(result.values) == result.val_accuracy
    assert result.seconds == pytest.approx(sum(row["seconds"] for row in rows), abs=1e-3)
    assert tuning.summary(tmp_path, "study", choice(12))["winner"] == [row["val_accuracy"] for row in rows].index(
        result.val_accuracy
    )


def test_the_metric_says_which_is_best(tmp_path):
    scores = [tuning.Scores(0.9, 0.8), tuning.Scores(0.7, 0.2), tuning.Scores(0.8, 0.5)]
    for metric, winner in (("val_accuracy", 0), ("val_loss", 1)):
        left = iter(scores)
        result = search(tmp_path / metric, lambda values, report, left=left: next(left), 3, metric=metric)
        assert (result.val_accuracy, result.val_loss) == (scores[winner].val_accuracy, scores[winner].val_loss)
        assert result.values == history(tmp_path / metric)[winner]["values"]


def test_a_lower_loss_is_what_the_sampler_goes_for(tmp_path):
    space = {"lr": {"low": 0.0, "high": 1.0}}
    tried: list[float] = []

    def objective(values: dict[str, Any], report: tuning.Report) -> tuning.Scores:
        tried.append(values["lr"])
        return tuning.Scores(values["lr"], 1 + values["lr"])  # the accuracy would have it go up

    search(tmp_path, objective, 40, first={}, space=space, metric="val_loss")
    assert np.mean(tried[20:]) < 0.25


def test_the_earliest_of_equals_wins(tmp_path):
    result = search(tmp_path, noting([]), 4)
    assert result.values == history(tmp_path)[0]["values"]


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid", "gp"])
def test_an_interrupted_study_goes_on_as_it_would_have_gone(tmp_path, sampler):
    space = {"hidden": {"low": 8, "high": 12}, "optimizer": ["adam", "rmsprop"]} if sampler == "grid" else SPACE
    first = {**FIRST, "hidden": 10}

    def score(values: dict[str, Any]) -> dict[str, Any]:
        return {**FIRST, **values}

    class Filled(Objective):
        def __call__(self, values: dict[str, Any], report: tuning.Report) -> tuning.Scores:
            return super().__call__(score(values), report)

    expected = search(tmp_path / "undisturbed", Filled(), 10, first=first, sampler=sampler, space=space)
    for stop in (0, 2, 9):  # before the first is known, among the random ones, among the modelled ones
        folder = tmp_path / f"stopped-{stop}"
        with pytest.raises(KeyboardInterrupt):
            search(folder, Filled({stop: KeyboardInterrupt()}), 10, first=first, sampler=sampler, space=space)
        assert not (folder / "study.json").exists()
        assert tuning.read(folder, "study", choice(1, sampler=sampler, space=space)) is None
        rest = Filled()
        resumed = search(folder, rest, 10, first=first, sampler=sampler, space=space)
        assert len(rest.tried) == 10 - stop
        assert without_time(history(folder)) == without_time(history(tmp_path / "undisturbed"))
        assert untimed(resumed) == untimed(expected)


def test_interrupted_twice(tmp_path):
    undisturbed = Objective()
    search(tmp_path / "undisturbed", undisturbed, 6)
    for stop in (2, 0, 1):
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path, Objective({stop: KeyboardInterrupt()}), 6)
    search(tmp_path, Objective(), 6)
    assert [row["values"] for row in history(tmp_path)] == undisturbed.tried
    assert not list(tmp_path.glob("study.workers/*"))


def test_a_line_that_was_not_finished(tmp_path):
    """The machine went down while a line was written."""
    search(tmp_path / "undisturbed", undisturbed := Objective(), 5)
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, Objective({3: KeyboardInterrupt()}), 5)
    journal = tmp_path / "study.trials.jsonl"
    journal.write_bytes(journal.read_bytes() + b'{"number": 3, "val')
    search(tmp_path, rest := Objective(), 5)
    assert len(rest.tried) == 2
    assert [row["values"] for row in history(tmp_path)] == undisturbed.tried
    assert all(json.loads(line) for line in journal.read_text().splitlines())


def test_a_line_is_not_written_behind_half_of_another(tmp_path):
    """Whoever wrote it was killed, or had no room on the disk, while this process was at a trial of its own."""
    journal = tmp_path / "study.trials.jsonl"

    def objective(values: dict[str, Any], report: tuning.Report) -> tuning.Scores:
        with journal.open("ab") as file:
            file.write(b'{"number": 9, "val')
        return tuning.Scores(0.5, 0.5)

    assert search(tmp_path, objective, 2).trials == 2
    assert [row["state"] for row in history(tmp_path)] == ["ok", "ok"]


def test_a_line_that_never_came(tmp_path):
    """The machine went down before a trial's result was on the disk."""
    search(tmp_path / "undisturbed", undisturbed := Objective(), 3)
    search(tmp_path, Objective(), 2)
    journal = tmp_path / "study.trials.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
    (tmp_path / "study.json").unlink()
    search(tmp_path, rest := Objective(), 3)
    assert len(rest.tried) == 2
    assert [row["values"] for row in history(tmp_path)] == undisturbed.tried
    assert all(row["state"] == "ok" for row in history(tmp_path))


def test_the_first_trial_is_the_recipe(tmp_path):
    objective = Objective()
    search(tmp_path, objective, 2)
    assert objective.tried[0] == {name: FIRST[name] for name in SPACE}
    assert objective.tried[1] != objective.tried[0]
    assert tuning.summary(tmp_path, "study", choice(2))["starts_with_recipe"]


@pytest.mark.parametrize("outside", [{"lr": 0.5}, {"hidden": 128}, {"optimizer": "adamw"}])
def test_a_recipe_outside_the_space_is_not_tried(tmp_path, outside):
    objective = Objective()
    search(tmp_path, objective, 2, first={**FIRST, **outside})
    for name, value in outside.items():
        assert objective.tried[0][name] != value
    assert not tuning.summary(tmp_path, "study", choice(2))["starts_with_recipe"]


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp"])
def test_ranges_and_choices_are_respected(tmp_path, sampler):
    objective = Objective()
    search(tmp_path, objective, 15 if sampler == "gp" else 40, first={}, sampler=sampler)
    for values in objective.tried:
        assert set(values) == set(SPACE)
        assert 0.001 <= values["lr"] <= 0.1
        assert isinstance(values["lr"], float)
        assert 8 <= values["hidden"] <= 64
        assert isinstance(values["hidden"], int)
        assert 0.1 <= values["dropout"] <= 0.8
        assert values["optimizer"] in ("adam", "rmsprop")
    assert {values["optimizer"] for values in objective.tried} == {"adam", "rmsprop"}
    assert len({values["hidden"] for values in objective.tried}) > 5


def test_a_step_is_kept_to(tmp_path):
    tried: list[dict[str, Any]] = []
    space = {"hidden": {"low": 8, "high": 64, "step": 8}}
    search(tmp_path, noting(tried), 20, first={}, sampler="random", space=space)
    assert all(values["hidden"] % 8 == 0 for values in tried)
    assert len({values["hidden"] for values in tried}) > 4


def test_a_logarithmic_range_is_drawn_so(tmp_path):
    space = {"lr": {"low": 1e-6, "high": 1.0, "log": True}, "dropout": {"low": 1e-6, "high": 1.0}}
    tried: list[dict[str, Any]] = []
    search(tmp_path, noting(tried), 30, first={}, sampler="random", space=space)
    assert sum(values["lr"] < 1e-3 for values in tried) > 8
    assert sum(values["dropout"] < 1e-3 for values in tried) == 0


def test_choices_keep_their_types(tmp_path):
    space = {"batch_norm": [True, False], "svd": [None, 16], "hidden": [8, 16.5]}
    tried: list[dict[str, Any]] = []
    search(tmp_path, noting(tried), 12, first={}, sampler="random", space=space)
    assert {repr(values["batch_norm"]) for values in tried} == {"True", "False"}
    assert {repr(values["svd"]) for values in tried} == {"None", "16"}
    assert [row["values"] for row in history(tmp_path)] == tried


def test_the_samplers_differ(tmp_path):
    made = []
    for sampler in ("tpe", "random", "gp"):
        search(tmp_path / sampler, objective := Objective(), 12, sampler=sampler)
        made.append(objective.tried)
    assert made[0] != made[1]
    assert made[0] != made[2]
    assert made[1] != made[2]


def test_failed_trials_are_recorded_and_the_study_goes_on(tmp_path):
    plan = {
        0: JobError("the loss is nan at epoch 3"),
        2: ValueError("hidden is 33"),
        3: MemoryError(),
        4: RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    }
    result = search(tmp_path, Objective(plan), 6)
    rows = history(tmp_path)
    assert [row["state"] for row in rows] == ["failed", "ok", "failed", "failed", "failed", "ok"]
    assert [row["val_accuracy"] is None for row in rows] == [row["state"] == "failed" for row in rows]
    assert rows[0]["error"] == "the loss is nan at epoch 3"
    assert rows[2]["error"] == "ValueError: hidden is 33"
    assert rows[3]["error"].startswith("out of memory: MemoryError")
    assert rows[4]["error"].startswith("out of memory: RuntimeError: DefaultCPUAllocator")
    assert (result.trials, result.failed, result.pruned) == (6, 4, 0)
    assert result.val_accuracy == max(row["val_accuracy"] for row in rows if row["val_accuracy"] is not None)
    search(tmp_path, again := Objective(), 6)
    assert not again.tried, "a failed trial is a trial"


@pytest.mark.parametrize("scores", [(float("nan"), 1.0), (0.5, float("inf"))])
def test_a_score_that_is_no_number_fails_its_trial(tmp_path, scores):
    left = iter([tuning.Scores(*scores), tuning.Scores(0.1, 2.0)])
    assert search(tmp_path, lambda values, report: next(left), 2).failed == 1
    assert history(tmp_path)[0]["error"] in ("val_accuracy is nan", "val_loss is inf")


def test_a_study_whose_trials_all_failed_is_an_error_and_is_tried_again(tmp_path):
    plan: dict[int, BaseException] = {n: JobError(f"no {n}") for n in range(3)}
    with pytest.raises(JobError, match="all 3 trials failed; the first: no 0") as caught:
        search(tmp_path, Objective(plan), 3)
    assert "JobError: no 0" in caught.value.__notes__[0], "with where it came from, for the log"
    assert read(tmp_path, 3) is None, "never found done"
    result = search(tmp_path, objective := Objective(), 3)
    assert len(objective.tried) == result.trials == 3


def test_trials_that_did_not_fail_are_not_forgotten_with_those_that_did(tmp_path):
    plan: dict[int, BaseException] = {n: JobError(f"no {n}") for n in range(3)}
    search(tmp_path, Objective(plan), 5)
    with pytest.raises(JobError, match="all 3 trials failed"):
        search(tmp_path, Objective(), 3)
    assert read(tmp_path, 5).trials == 5


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "{}", '{"history": []}', '{"schema_version": 9, "history": [1]}'),
        '{"schema_version": 1, "history": [{"values": {}, "val_accuracy": 0.5, "error": "", "seconds": 1}]}',
    ],
)
def test_a_summary_that_is_none_or_old_is_no_study(tmp_path, text):
    (tmp_path / "study.json").write_text(text)
    assert read(tmp_path, 1) is None
    assert search(tmp_path, Objective(), 1) == read(tmp_path, 1), "and is made anew"


def test_a_lost_summary_is_made_anew(tmp_path):
    first = search(tmp_path, Objective(), 3)
    content = (tmp_path / "study.json").read_bytes()
    (tmp_path / "study.json").unlink()
    assert search(tmp_path, objective := Objective(), 3) == first
    assert not objective.tried
    assert (tmp_path / "study.json").read_bytes() == content


def test_progress_tells_the_best_so_far(tmp_path):
    told: list[tuple[int, float]] = []
    plan: dict[int, BaseException] = {0: JobError("no")}
    tuning.search(tmp_path, "study", choice(4), FIRST, Objective(plan), lambda *step: told.append(step))
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

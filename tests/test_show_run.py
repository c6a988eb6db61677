"""`show run`: what a record says, for people and for machines; ids by their beginning; what is damaged."""

import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny
from stage_bench.runs import showing
from stage_bench.runs.record import RunRecord
from stage_bench.runs.store import Store
from stage_bench.training.ensembles import stored
from test_store import record

SUITE = {
    "features": [{"name": "shallow", "dimension": 4}],
    "training": {"epochs": 5},
    "backbones": [
        "mlp",
        {"name": "gcn", "tuning": {"trials": 2, "space": {"lr": [0.01, 0.02]}}},
        {"name": "mlp", "lr": 1.0e30},
    ],
    "ensembles": [{"name": "both", "members": ["mlp", "gcn(tuning=2)"], "combine": "weighted", "weights": [3, 1]}],
    "seeds": [4],
}
ID = "0123456789abcdef"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A results folder with an MLP, a tuned GCN, an ensemble and a run that failed."""
    place = tmp_path_factory.mktemp("made")
    tiny.write_folder(place / "data", 60)
    assert len(tiny.carry_out(place, SUITE)) == 1
    return place


@pytest.fixture
def results(made, tmp_path) -> Path:
    return Path(shutil.copytree(made / "results", tmp_path / "results"))


@pytest.fixture
def runs(made) -> dict[str, RunRecord]:
    return {run.backbone: run for run in tiny.records(made)}


def put(results: Path, id_: str = ID, **changes) -> Path:
    Store(results).put(record(id=id_, **changes), stored(np.zeros((20, 3)), "c0ffee"))
    return results / "runs" / id_ / "run.json"


def lines(results: Path, name: str) -> dict[str, str]:
    """What stands behind each name; what goes on in other lines is put behind it."""
    found: dict[str, str] = {}
    key = ""
    for line in showing.text(showing.describe(results, name)).splitlines():
        head, _, value = line.partition("  ")
        key = head or key
        found[key] = f"{found.get(key, '')} {value.strip()}".strip()
    return found


def test_a_run(results, runs, stage_bench):
    run = runs["gcn(tuning=2)"]
    code, out, err = stage_bench("show", "run", run.id[:6], "--results", results)
    assert (code, err) == (0, "")
    assert {line.split("  ")[0] for line in out.splitlines()} >= lines(results, run.id).keys()
    found = lines(results, run.id)
    assert found["id"] == run.id
    assert found["status"] == "ok"
    assert (found["dataset"], found["features"]) == ("tiny", "shallow(dimension=4)")
    assert found["seeds"] == "split 4, initialisation 4"
    metrics = run.metrics
    assert found["accuracy"] == (
        f"test {metrics['test_accuracy']:.4f}, val {metrics['val_accuracy']:.4f}, train {metrics['train_accuracy']:.4f}"
    )
    assert found["epochs"] == f"5, best {metrics['best_epoch']}"
    assert found["parameters"] == f"{metrics['parameters']:,}"
    assert found["study id"] == run.study_id
    assert found["note"].startswith("tuned: lr=0.0")
    assert "shared with other runs: embed " in found["seconds"]
    assert "hidden=128" in found["content"]
    assert f"python {run.versions['python']}" in found["versions"]
    assert found["hardware"] == run.hardware
    assert len(found["validation"].partition(" ")[0]) == 5
    assert {"llm", "error", "log", "members", "instruction"}.isdisjoint(found), "what says nothing is left out"


def test_a_run_for_machines(results, runs, stage_bench):
    run = runs["mlp"]
    code, out, err = stage_bench("show", "runs", run.id, "--results", results, "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    more = {"path": str(results / "runs" / run.id / "run.json"), "log": "", "members": []}
    assert facts == {**json.loads(Path(more["path"]).read_text()), **more}


def test_an_ensemble_has_members(results, runs):
    run = runs["both"]
    members = showing.describe(results, run.id)["members"]
    assert [(member["id"], member["weight"], member["backbone"]) for member in members] == [
        (runs["mlp"].id, 0.75, "mlp"),
        (runs["gcn(tuning=2)"].id, 0.25, "gcn(tuning=2)"),
    ]
    shown = lines(results, run.id)["members"]
    assert f"0.750  {runs['mlp'].id}  tiny shallow(dimension=4) mlp seed 4" in shown
    shutil.rmtree(results / "runs" / runs["mlp"].id)
    assert f"0.750  {runs['mlp'].id}    (absent or damaged)" in lines(results, run.id)["members"]


def test_a_failed_run_is_shown_with_its_log(results, runs, stage_bench):
    run = runs["mlp(lr=1e+30)"]
    code, out, err = stage_bench("show", "run", run.id, "--results", results)
    assert (code, err) == (0, "")
    assert out.splitlines()[1].split() == ["status", "failed"]
    (log,) = (results / "logs").glob("*.log")
    assert lines(results, run.id)["log"] == str(log)
    assert run.error in lines(results, run.id)["error"]
    assert "accuracy" not in lines(results, run.id)
    other = log.with_name("tiny-20990101T000000-7.log")
    shutil.copy(log, other)
    assert showing.describe(results, run.id)["log"] == str(other), "the last one"
    other.unlink(), log.unlink()
    assert lines(results, run.id)["log"] == "none of results/logs/*.log has its traceback"


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(RunRecord)])
def test_every_field_is_shown(tmp_path, field):
    """Also one that comes later, under its own name."""
    value = record().to_json()[field]
    if field in ("id", "schema_version"):
        return
    changed = {
        str: lambda: f"{value}-odd",
        dict: lambda: {"odd": 0.125},
        list: lambda: [0.125, 0.5],
        int: lambda: 987,
        float: lambda: 987.0,
        type(None): lambda: 987,
    }[type(value)]()
    changed = {"status": "failed", "curve": [0.125, 0.5]}.get(field, changed)
    if field == "metrics":
        changed = {"test_accuracy": 0.125}
    if field == "seconds":
        changed = {"train": 0.125}
    if field == "commit":
        changed = {"commit": "odd", "dirty": True}
    if field == "weights":
        changed = {"feedfeedfeedfeed": 0.125}
    members = {"kind": "ensemble", "content": {"members": ["feedfeedfeedfeed"]}} if field == "weights" else {}
    put(tmp_path, **{field: changed, **members})
    if field == "predictions_sha256":  # of what was written
        changed = Store(tmp_path).get(ID).predictions_sha256
    shown = showing.text(showing.describe(tmp_path, ID))
    looked_for = {str: changed, int: "987", float: "987"}.get(type(changed), "0.125")
    assert str({"commit": "odd, with changes", "curve": "▁█ 0.1250"}.get(field, looked_for)) in shown


def test_a_beginning_that_several_runs_have(tmp_path, stage_bench):
    put(tmp_path, "abcd000000000000"), put(tmp_path, "abcd000000000001", backbone="sage")
    put(tmp_path, "abcdffffffffffff").write_text("{")
    code, out, err = stage_bench("show", "run", "abcd", "--results", tmp_path)
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "error: 'abcd' is the beginning of 3 runs:",
        "error:   abcd000000000000  ok      cora minilm gcn seed 0",
        "error:   abcd000000000001  ok      cora minilm sage seed 0",
        "error:   abcdffffffffffff  damaged",
    ]
    assert showing.describe(tmp_path, "abcd000000000001")["backbone"] == "sage"


def test_an_id_may_be_the_beginning_of_another(tmp_path):
    put(tmp_path, "abcd"), put(tmp_path, "abcde")
    assert showing.describe(tmp_path, "abcd")["id"] == "abcd"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("012", "'012' is too short for a run's id: at least 4 characters"),
        ("", "'' is too short for a run's id: at least 4 characters"),
        ("0124", "no run '0124' in {runs} (1 are there; reports/<suite>/runs.csv has their ids)"),
        ("../../x", "no run '../../x' in {runs} (1 are there; "),
        ("0123456789abcdff", "no run '0123456789abcdff' in {runs}; did you mean '0123456789abcdef'? (1 are there; "),
        ("a\x1b[31mb", "no run 'a\\x1b[31mb' in {runs} ("),
    ],
)
def test_ids_that_are_none(tmp_path, stage_bench, name, message):
    put(tmp_path)
    code, out, err = stage_bench("show", "run", name, "--results", tmp_path)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message.format(runs=tmp_path / 'runs')}")
    assert err.count("\n") == 1


def test_without_results(tmp_path, stage_bench):
    code, out, err = stage_bench("show", "run", "abcdef")
    assert (code, out) == (2, "")
    assert err == "error: results/runs: there is no such folder; name the results folder with --results\n"
    code, _, err = stage_bench("show", "rum", "abcdef")
    assert (code, err) == (
        2,
        "error: unknown kind 'rum'; did you mean 'run'? (valid: backbone, dataset, feature, llm, run)\n",
    )
    code, _, err = stage_bench("check", "run", "abcdef")
    assert (code, err) == (2, "error: unknown kind 'run' (valid: backbone, dataset, feature, llm, report)\n")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_text("{"), "run.json: Expecting property name"),
        (lambda path: path.write_text('{"schema_version": 99}'), "run.json: record version 99 is newer than"),
        (lambda path: path.write_text('{"schema_version": 1}'), "run.json: not a run record: "),
        (
            lambda path: path.write_text(path.read_text().replace('"curve": [', '"curve": 3, "x": [')),
            "run.json: not a run",
        ),
        (lambda path: path.with_name("predictions.npz").write_bytes(b""), "predictions.npz: damaged or absent"),
        (lambda path: path.rename(path.with_name("gone")), " has no run.json: the run was interrupted"),
    ],
)
def test_a_damaged_record_is_one_line(tmp_path, stage_bench, damage, message):
    damage(put(tmp_path))
    code, out, err = stage_bench("show", "run", ID, "--results", tmp_path)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {tmp_path}/runs/{ID}{'' if message[0] == ' ' else '/'}{message}")
    assert err.count("\n") == 1


def test_values_that_no_record_has_are_shown_as_they_are(tmp_path):
    odd = {"test_accuracy": "high", "epochs": None, "best_epoch": [1], "parameters": {"a": 1}}
    put(
        tmp_path,
        metrics=odd,
        seconds={"train": "long", "x": 1},
        curve=["up", None, 0.5, True],
        weights={"a": "b"},
        versions={"torch": None},
        commit={"dirty": 1},
        content={"members": [["a"], 3], "x\x1b": {"y": [1, {"z": None}]}},
        kind="ensemble",
        error="red \x1b[31m\nline",
        init_seed=None,
        split_seed=None,
    )
    found = lines(tmp_path, ID)
    assert found["accuracy"] == "test high"
    assert found["seeds"] == "a fixed split, initialisation"
    assert found["error"] == "red \\x1b[31m\\nline"
    assert "\x1b" not in showing.text(showing.describe(tmp_path, ID))


@pytest.mark.parametrize("columns", [20, 60, 100, 200])
def test_lines_fit_the_terminal(results, runs, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    put(results, curve=[math.sin(epoch / 9) for epoch in range(500)])
    bars = lines(results, ID)["validation"].split()[0]
    assert set(bars) <= set("▁▂▃▄▅▆▇█")
    assert len(bars) == max(8, columns - 42)
    if columns < 60:
        return
    for id_ in (ID, *(run.id for run in runs.values())):
        for line in showing.text(showing.describe(results, id_)).splitlines():
            whole = line.split()[-1] if len(line) > columns else ""  # a path or a checksum is not broken
            assert len(line) <= columns or len(whole) > 20, line


@given(st.lists(st.one_of(st.floats(), st.integers(0, 1))), st.integers(1, 60))
def test_a_sparkline_is_no_longer_than_asked_for(values, width):
    line = showing.sparkline(values, width)
    assert len(line) == min(width, len(values))
    finite = [value for value in values if math.isfinite(value)]
    assert (line.strip() == "") == (not finite)
    if finite and len(values) <= width and 0 < max(finite) - min(finite) < math.inf:
        assert {"▁", "█"} <= set(line)


def test_a_sparkline_goes_from_the_least_to_the_largest():
    assert showing.sparkline([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], 20) == "▁▂▃▄▅▆▇█"
    assert showing.sparkline([0, 9, 0, 0, 0, 0], 3) == "█▁▁", "the best value is seen, however many share a bar"
    assert showing.sparkline([0.5, 0.5], 5) == "▄▄"
    assert showing.sparkline([0, 5e-324, 1.7e308, -1.7e308], 5) == "▄▄▄▄"
    assert showing.sparkline([0, 5e-324], 5) == "▁█"
    assert showing.sparkline([0, math.nan, 1], 5) == "▁ █"
    assert showing.sparkline([], 5) == ""

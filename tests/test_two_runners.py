"""Two commands on one results folder at once: no run is done twice, and both end with the whole board."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sysconfig
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from filelock import FileLock

import tiny
from stage_bench.execution.claims import Claims, is_shared
from stage_bench.execution.running import Folders, make_plan
from stage_bench.runs.store import Store

SCRIPT = str(Path(sysconfig.get_path("scripts")) / "stage-bench")
LONG = 180.0

PLUGIN = """
    import os
    import time
    from pathlib import Path

    import numpy as np

    import stage_bench
    from stage_bench.backbones.mlp import MLP
    from stage_bench.backbones.options import MLPOptions


    def note(what):
        with (Path(__file__).parent / "work").open("a") as file:
            file.write(f"{what} {os.getpid()}\\n")


    @stage_bench.register_features(name="noted", summary="")
    def noted(graph, options):
        note("features")
        time.sleep(1)
        return np.random.RandomState(0).randn(graph.num_nodes, 8)


    @stage_bench.register_backbone(name="noting", summary="writes down that it was begun", options=MLPOptions)
    class Noting(MLP):
        def __init__(self, in_dim, num_classes, options):
            super().__init__(in_dim, num_classes, options)
            note(f"width {options.hidden}")
            time.sleep(0.3)


    @stage_bench.register_backbone(name="failing", summary="writes it down, and fails", options=MLPOptions)
    class Failing(MLP):
        def __init__(self, in_dim, num_classes, options):
            note("failing")
            time.sleep(2)
            raise ValueError("as ever")
"""
WIDTHS = (3, 4, 5, 6)
SEEDS = 3


@pytest.fixture
def place(tmp_path: Path) -> Path:
    tiny.write_folder(tmp_path / "data", 60)
    (tmp_path / "plugin.py").write_text(dedent(PLUGIN))
    return tmp_path


def write(place: Path, **suite: Any) -> Path:
    standard = {
        "name": "tiny",
        "plugins": ["plugin.py"],
        "datasets": [{"name": "tiny", "path": "data"}],
        "features": ["noted"],
        "training": {"epochs": 3},
        "backbones": [{"name": "noting", "hidden": width} for width in WIDTHS],
        "ensembles": [{"name": "both", "members": ["noting(hidden=3)", "noting(hidden=6)"]}],
        "seeds": SEEDS,
    }
    (place / "suite.yaml").write_text(json.dumps({**standard, **suite}))
    return place / "suite.yaml"


def start(place: Path, name: str, workers: int = 1) -> subprocess.Popen[str]:
    """Reports of its own, results in common."""
    command = [SCRIPT, "run", "suite.yaml", "--device", "cpu", "--workers", str(workers), "--reports", name]
    with (place / f"{name}.log").open("w") as log:
        return subprocess.Popen(command, cwd=place, stdout=log, stderr=subprocess.STDOUT, text=True)


def ended(process: subprocess.Popen[str], place: Path, name: str) -> tuple[int, str]:
    code = process.wait(LONG)
    return code, (place / f"{name}.log").read_text()


def work(place: Path) -> list[tuple[str, str]]:
    """What was begun, and by which process."""
    path = place / "work"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(line.rpartition(" ")[0], line.rpartition(" ")[2]) for line in lines]


def board(place: Path, name: str) -> list[dict[str, str]]:
    with (place / name / "tiny" / "leaderboard.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def until(condition: Any) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("workers", [1, 2])
def test_they_divide_the_work_and_both_have_all_of_it_in_the_end(place, workers: int):
    write(place)
    processes = [start(place, name, workers) for name in ("one", "other")]
    outcomes = [ended(process, place, name) for process, name in zip(processes, ("one", "other"), strict=True)]
    assert [code for code, _ in outcomes] == [0, 0], outcomes
    begun = Counter(what for what, _ in work(place))
    assert begun == {"features": 1, **{f"width {width}": SEEDS for width in WIDTHS}}, "each run once"
    assert len({process for what, process in work(place) if what != "features"}) > 1, "else there was nothing to divide"
    boards = [board(place, name) for name in ("one", "other")]
    assert boards[0] == boards[1]
    assert [row["n_runs"] for row in boards[0]] == [str(SEEDS)] * (len(WIDTHS) + 1)
    assert {row["status"] for row in boards[0]} == {"ok"}
    assert not (place / "results" / "claims").exists()
    store = Store(place / "results", lambda line: pytest.fail(line))
    assert all(store.done(record.id) for record in tiny.records(place))
    assert any("by another process" in said for _, said in outcomes)


def test_what_failed_in_one_is_not_tried_again_in_the_other(place):
    write(place, backbones=["failing"], ensembles=[], seeds=1)
    one = start(place, "one")
    until(lambda: ("failing") in [what for what, _ in work(place)])
    other = start(place, "other")
    code, said = ended(other, place, "other")
    assert (ended(one, place, "one")[0], code) == (1, 1)
    if "waiting for train tiny noted failing" in said:  # it came while the first was at it, and not after
        assert [what for what, _ in work(place)].count("failing") == 1
        assert "ValueError: as ever (in another process)" in said


def test_a_killed_commands_job_is_done_by_the_other(place):
    write(place, seeds=1)
    dying = start(place, "dying")
    until(lambda: any(what.startswith("width") for what, _ in work(place)))
    dying.send_signal(signal.SIGSTOP)  # in the middle of a run, which it keeps in hand
    (claimed,) = (place / "results" / "claims").iterdir()
    living = start(place, "living")
    until(lambda: "which another process has in hand" in (place / "living.log").read_text())
    assert len(list((place / "results" / "runs").glob("*/run.json"))) >= len(WIDTHS) - 1, "others went on meanwhile"
    assert not (place / "results" / "runs" / claimed.name / "run.json").exists()
    dying.kill()
    dying.wait()
    code, said = ended(living, place, "living")
    assert code == 0, said
    assert (place / "results" / "runs" / claimed.name / "run.json").exists()
    assert {row["status"] for row in board(place, "living")} == {"ok"}
    assert not (place / "results" / "claims").exists()


# --- claims ---


@pytest.fixture
def plan(place, own_registry):
    llms = [{"name": "minilm"}, {"name": "minilm", "pca": 2}]
    tuned = {"name": "mlp", "tuning": {"trials": 2, "space": {"hidden": [4, 8]}}}
    return make_plan(write(place, llms=llms, backbones=["mlp", tuned], ensembles=[]), Folders(place, place, place))


def test_only_what_is_not_divided_is_claimed(plan):
    shared = {(job.kind, job.llm, job.features) for job in plan.jobs if is_shared(job)}
    assert {kind for kind, *_ in shared} == {"tune"}, "the texts are too few to be divided"
    jobs = [job for job in plan.jobs if job.kind == "embed"]
    for job in jobs:
        object.__setattr__(job, "nodes", 5000)
    assert [is_shared(job) for job in jobs] == [job.llm == "minilm" for job in jobs]


def test_a_claim_is_held_by_one_and_leaves_nothing_behind(plan, tmp_path):
    job = plan.runs[0]
    one, other = (Claims(tmp_path / "results", plan.jobs) for _ in range(2))
    assert one.take(job)
    assert not other.take(job)
    assert (tmp_path / "results" / "claims" / job.id).exists()
    one.release(job)
    assert other.take(job)
    other.close()
    one.close()
    assert not (tmp_path / "results" / "claims").exists()
    with FileLock(tmp_path / "lock"):
        pass


def test_a_record_that_another_process_wrote_meanwhile_is_found(place):
    write(place, features=[], llms=[], ensembles=[])
    suite = write(place, features=[{"name": "shallow", "dimension": 4}], backbones=["mlp"], ensembles=[], seeds=1)
    folders = Folders(place, place / "results", place / "reports")
    plan = make_plan(suite, folders)
    (job,) = plan.runs
    before = Claims(place / "results", plan.jobs)
    assert before.ended(job) is None
    assert not tiny.carry_out(place, json.loads(suite.read_text()))
    found = before.ended(job)
    assert found is not None
    assert found.status == "ok"
    store = Store(place / "results")
    store.put(replace(found, status="failed", error="no"))
    assert before.ended(job).error == "no", "it failed there, after this command had begun"
    after = Claims(place / "results", plan.jobs)
    assert after.ended(job) is None, "it failed before: it is to be tried again"
    path = place / "results" / "runs" / job.id / "run.json"
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert after.ended(job).error == "no"

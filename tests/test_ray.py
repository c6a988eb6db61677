"""A plan on a Ray cluster of two nodes on this machine: the same numbers, and nothing lost whatever dies."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

if os.environ.get("CI") != "true":
    pytest.importorskip("ray", reason='Ray is not installed: pip install -e ".[ray]"')

from clusters import Place, cluster, kill, second_node, until
from stage_bench.training import studies

pytestmark = pytest.mark.slow

SCRATCH = "STAGE_BENCH_SCRATCH"
TIMES = re.compile(r"_seconds|hardware|peak_memory")
STUDY = {"name": "slow", "tuning": {"trials": 6, "sampler": "random", "space": {"hidden": [8, 16, 24, 32, 40, 48]}}}


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with cluster(**{SCRATCH: str(tmp_path_factory.mktemp("scratch-of-head"))}) as made:
        made.scratch = made.head_node._ray_params.env_vars[SCRATCH]
        yield made


@pytest.fixture
def place(head: Any, tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path / "here", head.address)
    yield made
    made.close()


@pytest.fixture
def node(head: Any, tmp_path: Path) -> Iterator[Any]:
    with second_node(head, **{SCRATCH: str(tmp_path / "scratch-of-node")}) as made:
        yield made


def done(place: Place) -> int:
    return sum(record.status == "ok" for record in place.records().values())


def same(one: Place, other: Place) -> None:
    """That two results folders hold the same, but for times."""
    ours, theirs = one.records(), other.records()
    assert ours.keys() == theirs.keys()
    for key, record in ours.items():
        assert record.id == theirs[key].id
        assert (record.status, record.metrics) == (theirs[key].status, theirs[key].metrics), key
        assert record.predictions_sha256 == theirs[key].predictions_sha256, key
    boards = [pd.read_csv(each.folder / "reports" / "tiny" / "leaderboard.csv") for each in (one, other)]
    plain = [board.drop(columns=[name for name in board.columns if TIMES.search(name)]) for board in boards]
    pd.testing.assert_frame_equal(*plain)


def nothing_left(place: Place) -> None:
    assert not (place.results / "claims").exists()
    hidden = [path for path in place.results.rglob(".*") if not path.name.endswith(".lock")]
    assert not hidden


WHOLE = {
    "backbones": ["mlp", "gcn", {**STUDY, "tuning": {**STUDY["tuning"], "trials": 3}}],
    "ensembles": [{"name": "both", "members": ["mlp", "gcn"]}],
    "features": ["counted", {"name": "shallow", "dimension": 8}],
}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """The same suite on this machine alone."""
    made = Place(tmp_path_factory.mktemp("local"))
    made.suite(**WHOLE)
    code, said = made.run(executor="local")
    assert code == 0, said
    return made


@pytest.mark.parametrize("shared", [True, False])
def test_it_comes_to_what_one_machine_comes_to(place, node, local, head, tmp_path, shared):
    place.suite(**WHOLE)
    code, said = place.run(*([] if shared else ["--no-shared-results"]))
    assert code == 0, said
    same(place, local)
    nothing_left(place)
    assert len(place.builds("counted")) == 1, "features are made once for all nodes"
    processes = {pid for name in ("slow",) for _, pid, _ in place.builds(name)}
    assert len(processes) > 1, "both nodes had work"
    assert all("jobs side by side" not in record.hardware for record in place.records().values())
    trials = [studies.load(path)[1] for path in sorted((place.results / "studies").glob("*.json"))]
    theirs = [studies.load(path)[1] for path in sorted((local.results / "studies").glob("*.json"))]
    assert [[(t.values, t.val_accuracy) for t in each] for each in trials] == [
        [(t.values, t.val_accuracy) for t in each] for each in theirs
    ]
    for scratch in (Path(head.scratch), tmp_path / "scratch-of-node"):
        assert not list(scratch.glob("*/*/results")), "nothing stays on a node"
    code, said = place.run()
    assert code == 0, said
    assert "0 to do" in said


@pytest.mark.parametrize("shared", [True, False])
def test_a_node_that_is_killed_loses_nothing(place, node, shared):
    place.suite(backbones=["slow", STUDY], seeds=6)
    driver = place.start(*([] if shared else ["--no-shared-results"]))
    until(lambda: done(place) >= 2 and place.builds("slow"))
    # In the middle of something on that node, whatever that is.
    until(lambda: {pid for _, pid, _ in place.builds("slow")[-2:]} & {str(p.pid) for p in _processes(node)})
    kill(node)
    code, said = place.end(driver)
    assert code == 0, said
    assert "it is done again (1 of 3)" in said
    assert re.search(r"its (node was lost|process was killed)", said), said
    assert [record.status for record in place.records().values()] == ["ok"] * 12
    widths = Counter(width for width, _, _ in place.builds("slow"))
    # Six seeds of each of two models, and a trial for each width; what the node had in hand was begun twice.
    assert sum(widths.values()) <= 12 + 6 + 2
    (summary,) = (place.results / "studies").glob("*.json")
    assert [trial.state for trial in studies.load(summary)[1]] == ["ok"] * 6
    nothing_left(place)


def _processes(node: Any) -> list[Any]:
    from clusters import tree

    return tree(node)


def test_trials_of_a_lost_node_are_kept_where_nothing_is_shared(place, head, node):
    """The study is on the node that dies: the head has no room for it at first."""
    place.suite(backbones=[STUDY], seeds=1, resources={"cpus": 1})
    driver = place.start("--no-shared-results")
    until(lambda: len(place.builds("slow")) >= 4)
    journal = until(lambda: list((place.results / "studies").glob("*.trials.jsonl")))[0]
    until(lambda: journal.read_bytes().count(b'"state": "ok"') >= 2)
    pid = int(place.builds("slow")[-1][1])
    os.kill(pid, signal.SIGKILL)
    code, said = place.end(driver)
    assert code == 0, said
    assert "its process was killed" in said
    assert len(place.builds("slow")) <= 6 + 1 + 2, "two trials at most are run again, and then the run"


def test_a_killed_driver_is_started_again(place, node):
    place.suite(backbones=["slow"], seeds=8)
    driver = place.start()
    until(lambda: done(place) >= 3)
    driver.kill()
    driver.communicate()
    killed = time.time()
    time.sleep(8)
    before = done(place)
    builds = place.builds("slow")
    assert all(float(when) < killed + 4 for _, _, when in builds), "tasks of a dead driver end"
    time.sleep(3)
    assert (done(place), len(place.builds("slow"))) == (before, len(builds))
    code, said = place.run()
    assert code == 0, said
    assert f"{8 - before} to do" in said
    assert done(place) == 8
    assert len(place.builds("slow")) == len(builds) + 8 - before
    nothing_left(place)


def test_a_job_that_fails_is_not_tried_again(place, node):
    place.suite(backbones=["failing", "mlp"], seeds=2)
    code, said = place.run()
    assert code == 1, said
    assert len(place.builds("failing")) == 2
    failed = [record for record in place.records().values() if record.status == "failed"]
    assert {record.error for record in failed} == {"ValueError: no such thing"}
    assert done(place) == 2
    (log,) = (place.results / "logs").glob("*.log")
    assert 'raise ValueError("no such thing")' in log.read_text()


def test_a_job_that_kills_its_process_fails_in_the_end(place, node):
    place.suite(backbones=["deadly", "mlp"], seeds=1)
    code, said = place.run("--ray-retries", "1")
    assert code == 1, said
    assert len(place.builds("deadly")) == 2
    assert "it is done again (1 of 1)" in said
    (failed,) = [record for record in place.records().values() if record.status == "failed"]
    assert "its process was killed" in failed.error
    assert "2 times; out of memory?" in failed.error
    assert done(place) == 1


def test_an_interruption_ends_it_within_seconds(place, node):
    place.suite(backbones=["endless"], seeds=2)
    driver = place.start()
    until(lambda: len(place.builds("endless")) == 2)
    asked = time.monotonic()
    driver.send_signal(signal.SIGINT)
    code, said = place.end(driver)
    assert code == 130, said
    assert time.monotonic() - asked < 9
    assert "interrupted; what is done is kept" in said
    pids = {int(pid) for _, pid, _ in place.builds("endless")}
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 10)
    nothing_left(place)


def test_limits_hold_on_a_node(place, node):
    place.suite(backbones=["endless", "mlp"], seeds=1)
    code, said = place.run("--job-time", "4")
    assert code == 1, said
    (failed,) = [record for record in place.records().values() if record.status == "failed"]
    assert failed.error.startswith("stopped after 4 s, the time limit of a job")
    assert len(place.builds("endless")) == 1
    assert done(place) == 1


def test_nodes_share_a_study_through_a_storage_alone(place, node, tmp_path):
    place.suite(backbones=[STUDY], seeds=1)
    url = f"journal:{tmp_path / 'optuna' / 'trials'}"
    code, said = place.run("--no-shared-results", "--storage", url)
    assert code == 0, said
    builds = place.builds("slow")
    assert len(builds) == 6 + 1, "each trial once, and the run"
    assert len({pid for _, pid, _ in builds[:6]}) == 2, "both nodes worked on the study"
    import optuna

    from stage_bench.training import storages

    (study,) = optuna.get_all_study_summaries(storages.open_(storages.parse(url)))
    assert study.n_trials >= 6


def test_a_node_with_another_stage_bench_is_refused(place, head, tmp_path):
    import stage_bench

    copy = tmp_path / "other"
    source = Path(stage_bench.__file__).parent
    shutil.copytree(source, copy / "stage_bench", ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "stage_bench" / "counting.py").write_text("# another\n")
    place.suite(backbones=["mlp"])
    with second_node(head, PYTHONPATH=str(copy)):
        code, said = place.run()
    assert code == 2
    assert re.search(r"error: node \S+ \(\w+\) has another stage-bench than this machine", said)
    assert not place.records()


def test_more_than_a_node_has_is_refused_before_anything_is_begun(place, head):
    place.suite(backbones=["mlp", {"name": "gcn", "resources": {"cpus": 64}}])
    code, said = place.run()
    assert code == 2
    assert "train tiny counted gcn seed 0 is to have 64 cores, and no node of the cluster has that" in said
    assert not place.builds("counted")


def test_a_cluster_of_its_own_is_started_and_ended(tmp_path):
    place = Place(tmp_path / "own", address="")
    place.suite(backbones=["mlp"], seeds=2)
    driver = place.start("--executor", "ray", executor="local")
    code, said = place.end(driver)
    assert code == 0, said
    assert done(place) == 2
    assert not [line for line in said.splitlines() if "raylet" in line]
    json.loads((tmp_path / "own" / "reports" / "tiny" / "report.json").read_text())

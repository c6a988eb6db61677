"""What goes between the machines of a run, without a cluster: parcels, scratch folders, what a job needs."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from stage_bench import registry
from stage_bench.errors import JobError, StageBenchError
from stage_bench.execution import catalog, executor, parcels, pieces, running, scratch
from stage_bench.execution.reservations import Reservation, Reserving, Room
from stage_bench.llms.cache import EmbeddingCache
from stage_bench.runs import provenance
from stage_bench.runs.store import Store
from stage_bench.suite.jobs import EmbedJob, TrainJob, TuneJob
from stage_bench.suite.planning import Plan
from stage_bench.suite.resources import Resources
from stage_bench.training import studies
from stage_bench.training.studies import Study, Trial

SUITE: dict[str, Any] = {
    "features": [{"name": "shallow", "dimension": 8}],
    "backbones": ["mlp", {"name": "gcn", "tuning": {"trials": 3, "space": {"hidden": [8, 16, 32]}}}],
    "training": {"epochs": 2},
    "seeds": 2,
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    made = tmp_path / "here"
    tiny.write_folder(made / "data", 60)
    assert not tiny.carry_out(made, SUITE)
    return made


@pytest.fixture
def plan(place: Path) -> Plan:
    return running.make_plan(place / "suite.yaml", running.Folders(place, place / "results", place / "reports"))


def send(source: Path, target: Path, kind: str, id_: str, part_bytes: int = parcels.PART_BYTES) -> parcels.Parcel:
    """Pack in one folder, unpack in another; parts are numbered things that only a store knows."""
    stored: list[bytes] = []

    def put(part: bytes) -> int:
        stored.append(part)
        return len(stored) - 1

    holding = parcels.find(source, kind, id_)
    assert holding is not None
    parcel = parcels.of_holding(holding, put, part_bytes)
    assert all(len(part) <= part_bytes for part in stored)
    parcels.unpack(parcel, target, stored.__getitem__)
    return parcel


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("part_bytes", [1, 1000, parcels.PART_BYTES])
def test_a_job_can_be_done_where_nothing_but_its_parcels_is(place, plan, tmp_path, part_bytes):
    """And what it leaves is what it leaves at home, byte by byte."""
    there, back = tmp_path / "there", tmp_path / "back"
    for job in plan.jobs:
        if not isinstance(job, TrainJob):
            continue
        for piece in pieces.needed(job):
            if not parcels.is_done(there, *piece):
                send(place / "results", there, *piece, part_bytes)
    sent = {kind for job in plan.jobs for kind, _ in pieces.needed(job)}
    assert sent == {"embeddings", "studies"}
    store, cache = Store(there), EmbeddingCache(there / "embeddings")
    from stage_bench.execution import devices
    from stage_bench.execution.local import Setting, make_runner

    embeds = {job.id: job for job in plan.jobs if isinstance(job, EmbedJob)}
    setting = Setting(plan.graphs, plan.load_seconds, embeds, there, "cpu", there / "log", 1)
    runner = make_runner(setting, devices.choose("cpu"), lambda line: None)
    for job in plan.jobs:
        if isinstance(job, TrainJob):
            assert not runner.do(job).failed
            assert pieces.left(job, there, []) == [("runs", job.id)]
            send(there, back, "runs", job.id, part_bytes)
            ours, theirs = Store(place / "results").done(job.id), Store(back).done(job.id)
            assert ours is not None
            assert theirs is not None
            assert ours.predictions_sha256 == theirs.predictions_sha256
            assert ours.metrics == theirs.metrics
    assert not (cache.root / "work").exists()
    assert store.results == there


def test_an_embedding_arrives_whole_or_not_at_all(place, plan, tmp_path):
    (embed,) = [job for job in plan.jobs if isinstance(job, EmbedJob)]
    holding = parcels.find(place / "results", "embeddings", embed.id)
    assert holding is not None
    parcel = parcels.of_holding(holding, bytes, 500)
    target = tmp_path / "target"

    def broken(part: bytes) -> bytes:
        if part is parcel.parts[-1]:
            raise OSError("its machine is gone")
        return part

    with pytest.raises(OSError, match="its machine is gone"):
        parcels.unpack(parcel, target, broken)
    assert not content(target), "nothing is left of it"
    with pytest.raises(StageBenchError, match="did not arrive whole"):
        parcels.unpack(replace(parcel, parts=parcel.parts[:-1]), target, bytes)
    # What another process had begun there is replaced, and what is done stays.
    (target / "embeddings" / embed.id / "shards").mkdir(parents=True)
    (target / "embeddings" / embed.id / "vectors.npy").write_bytes(b"begun")
    parcels.unpack(parcel, target, bytes)
    assert content(target) == content(place / "results" / "embeddings" / embed.id / "..") or parcels.is_done(
        target, "embeddings", embed.id
    )
    np.testing.assert_array_equal(
        EmbeddingCache(target / "embeddings").read(embed.id),
        EmbeddingCache(place / "results" / "embeddings").read(embed.id),
    )
    before = content(target)
    parcels.unpack(parcel, target, broken)
    assert content(target) == before
    assert not list(target.rglob("*arriving*"))


def test_names_that_lead_elsewhere_are_refused(tmp_path):
    for name in ("../outside", "/etc/passwd", "runs/../../outside"):
        with pytest.raises(StageBenchError, match="no file of a results folder"):
            parcels.unpack(parcels.Parcel("runs", "x", ((name, 1),), "", (b"x",)), tmp_path, bytes)


def test_of_two_journals_of_a_study_the_one_with_more_trials_stays(tmp_path):
    def journal(folder: Path, ended: int, running_: bool = False) -> bytes:
        study = Study(folder / "studies", "id")
        for number in range(ended):
            study.write(Trial(number, {"lr": 0.1}))
            study.write(Trial(number, {"lr": 0.1}, studies.OK, 0.5, 0.5))
        if running_:
            study.write(Trial(ended, {"lr": 0.2}))
        return (folder / "studies" / "id.trials.jsonl").read_bytes()

    three = journal(tmp_path / "three", 3, running_=True)
    two = journal(tmp_path / "two", 2)
    assert (parcels.ended(three), parcels.ended(two), parcels.ended(b"nonsense\n")) == (3, 2, 0)
    target = tmp_path / "target"
    for data, stays in ((two, two), (three, three), (two, three)):
        parcels.receive_journal(target, "id", data)
        assert (target / "studies" / "id.trials.jsonl").read_bytes() == stays
    trials = Study(target / "studies", "id").trials()
    assert [trial.ended for trial in trials] == [True, True, True, False]
    assert Study(target / "studies", "id").is_free(trials[-1]), "its process is not on this machine"


def live(run: str, ready: Any) -> None:
    made = scratch.Scratch(run)
    made.results.mkdir()
    (made.results / "file").write_text("x")
    ready.set()
    signal.pause()


def test_what_a_killed_run_left_on_a_node_goes_with_the_next_one(tmp_path, monkeypatch):
    monkeypatch.setenv(scratch.PLACE, str(tmp_path))
    (tmp_path / "of-others").mkdir()
    context = multiprocessing.get_context("spawn")
    runs, processes = [uuid.uuid4().hex for _ in range(2)], []
    for run in runs:
        ready = context.Event()
        process = context.Process(target=live, args=(run, ready))
        process.start()
        assert ready.wait(60)
        processes.append(process)
    os.kill(processes[0].pid, signal.SIGKILL)
    processes[0].join()
    (top,) = [path for path in tmp_path.iterdir() if path.name.startswith("stage-bench-")]
    (top / "notes").mkdir()
    mine = scratch.Scratch(uuid.uuid4().hex)
    assert not (top / runs[0]).exists(), "nobody is at work there"
    assert (top / runs[1] / "results" / "file").exists()
    assert mine.folder.exists()
    processes[1].kill()
    processes[1].join()
    mine.close()
    assert {path.name for path in top.iterdir()} == {"lock", "notes"}
    assert (tmp_path / "of-others").exists()


def test_a_scratch_folder_of_another_user_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv(scratch.PLACE, str(tmp_path))
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(JobError, match="belongs to another user"):
        scratch.Scratch(uuid.uuid4().hex)


ROOMS = (Room(8, 0, 32e9), Room(64, 4, 256e9))


@pytest.mark.parametrize(
    ("kind", "num_nodes", "asked", "gpu", "expected"),
    [
        (TrainJob, 100, Resources(), False, Reservation(1)),
        (TuneJob, 100, Resources(), False, Reservation(1)),
        (TrainJob, 10**6, Resources(), False, Reservation(64)),
        (EmbedJob, 100, Resources(), False, Reservation(64)),
        (TrainJob, 10**6, Resources(), True, Reservation(16, 1.0)),  # a GPU's share of the node's cores
        (TrainJob, 100, Resources(), True, Reservation(1, 1.0)),
        (TrainJob, 10**6, Resources(gpus=0), True, Reservation(64)),
        (TrainJob, 10**6, Resources(cpus=3, gpus=0.5, memory=10**9), False, Reservation(3, 0.5, 10**9)),
        (EmbedJob, 100, Resources(memory=20 * 10**9), False, Reservation(64, 0.0, 20 * 10**9)),
    ],
)
def test_what_a_job_reserves(plan, kind, num_nodes, asked, gpu, expected):
    job = next(job for job in plan.jobs if isinstance(job, kind))
    reserving = Reserving({job.id: asked}, ROOMS, gpu, gpu)
    assert reserving.of(job, num_nodes) == expected


def test_what_no_node_has_is_refused(plan):
    job = next(job for job in plan.jobs if isinstance(job, TrainJob))
    for asked, said in (
        (Resources(cpus=100), "100 cores"),
        (Resources(gpus=8), "8 GPUs"),
        (Resources(memory=10**12), "1e+03 GB of memory"),
    ):
        with pytest.raises(StageBenchError, match="no node of the cluster has that") as refused:
            Reserving({job.id: asked}, ROOMS, False, False).of(job, 100)
        assert said in str(refused.value)


def test_how_many_find_room_side_by_side():
    assert Reservation(1).beside(ROOMS[0]) == 8
    assert Reservation(3).beside(ROOMS[0]) == 2
    assert Reservation(1, 0.5).beside(ROOMS[1]) == 8
    assert Reservation(1, 0.0, 10 * 10**9).beside(ROOMS[0]) == 3
    assert Reservation(64).beside(ROOMS[0]) == 1


def test_cores_may_be_granted(monkeypatch):
    machine, name = provenance.cores(), provenance.cpu()
    provenance.use_cores(1)
    try:
        assert provenance.cores() == 1
        assert provenance.cpu() == name, "the machine is the same"
        provenance.use_cores(10**6)
        assert provenance.cores() == machine
    finally:
        provenance.use_cores(None)
    assert provenance.cores() == machine


def test_a_plugin_may_be_loaded_from_a_copy(own_registry, tmp_path):
    """Under the name that it has elsewhere, so that what is in it can be sent."""
    source = "import stage_bench\nclass Thing: pass\nstage_bench.register_dataset(name='copied', loader=Thing)\n"
    for folder in ("there", "here"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(source)
    registry.load_plugin(tmp_path / "here" / "mine.py", known_as=tmp_path / "there" / "mine.py")
    copied = registry.get("datasets", "copied").loader.__module__
    registry._registered["datasets"].clear()
    registry.load_plugin(tmp_path / "there" / "mine.py")
    assert registry.get("datasets", "copied").loader.__module__ == copied


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"address": "auto"}, "--address is read only with --executor ray"),
        ({"retries": 1}, "--ray-retries is read only with --executor ray"),
        ({"shared_results": False}, "--shared-results is read only with --executor ray"),
        ({"storage": "nowhere"}, "write journal:PATH"),
    ],
)
def test_options_that_nothing_would_read_are_refused(given, problem):
    with pytest.raises(StageBenchError, match=problem):
        running.options("local", None, None, None, **given)


def test_without_ray_its_executor_says_what_to_install(monkeypatch):
    (ray,) = [spec for spec in catalog.SPECS if spec.name == "ray"]
    monkeypatch.setitem(registry.specs("executors"), "ray", ray)
    needs = 'Ray is not installed: pip install "stage-bench[ray]"'
    monkeypatch.setattr(registry, "get", lambda kind, name: replace(ray, needs=needs))
    with pytest.raises(StageBenchError, match="--executor ray: Ray is not installed: pip install"):
        executor.check("ray")


def test_where_no_cluster_answers_is_said_at_once(place: Path, stage_bench: Callable[..., tuple[int, str, str]]):
    pytest.importorskip("ray", reason="Ray is not installed")
    (place / "suite.yaml").write_text(json.dumps({**json.loads((place / "suite.yaml").read_text()), "seeds": 3}))
    for address, problem in (
        ("127.0.0.1:1", "no Ray cluster answers there"),
        ("nowhere", "write HOST:PORT"),
        ("ray://127.0.0.1:10001", "stage-bench runs on a machine of the cluster"),
    ):
        code, _, err = stage_bench(
            "run", place / "suite.yaml", "--results", place / "results", "--executor", "ray", "--address", address
        )
        assert code == 2
        (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
        assert f"--address {address}: {problem}" in line

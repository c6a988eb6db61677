"""Energy: which counters are read, what they add up to, when nothing is known; what embeddings cost, on a record."""

import dataclasses
import gc
import json
import math
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from stage_bench import registry
from stage_bench.execution import costs, devices, reporting, running
from stage_bench.features import source
from stage_bench.features.spec import Built, FeatureChoice
from stage_bench.llms import encoding
from stage_bench.llms.cache import EmbeddingCache
from stage_bench.llms.spec import Endpoint, Reduction
from stage_bench.runs import energy
from stage_bench.runs.clock import Clock
from stage_bench.runs.energy import Meter
from stage_bench.runs.record import SCHEMA_VERSION, RunRecord
from stage_bench.runs.store import Store
from test_endpoint import Server
from tiny import choice, text_graph

RANGE = 262_143_328_850  # µJ, of most packages
GPU = "GPU-5ac8e1c6-0000-0000-0000-000000000000"


def zone(root: Path, name: str, microjoules: int, what: str = "package-0") -> Path:
    """A zone as the kernel shows it."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(what + "\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    return folder


def say(folder: Path, microjoules: int) -> None:
    (folder / "energy_uj").write_text(f"{microjoules}\n")


@pytest.fixture
def root(tmp_path) -> Path:
    place = tmp_path / "powercap"
    (place / "intel-rapl").mkdir(parents=True)  # the control type, which is no zone
    return place


class Nvml:
    """What is used of pynvml: devices by UUID, their energy in mJ."""

    class NVMLError(Exception):
        pass

    def __init__(self, **millijoules: int) -> None:
        self.millijoules = {uuid.replace("_", "-"): value for uuid, value in millijoules.items()}
        self.begun = 0

    def nvmlInit(self) -> None:
        self.begun += 1

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid not in self.millijoules:
            raise self.NVMLError("Not Found")
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        assert self.begun, "NVML is used before nvmlInit"
        return self.millijoules[handle]


class Steps:
    """A counter that gives these joules one after another; one that is an error is raised."""

    def __init__(self, *values: float | Exception, span: float = math.inf) -> None:
        self.values, self.span = list(values), span

    def read(self) -> float:
        value = self.values.pop(0)
        if isinstance(value, Exception):
            raise value
        return value


def measured(*counters: energy.Counter, stretches: int = 1) -> float | None:
    meter = Meter(counters)
    for _ in range(stretches):
        with meter:
            pass
    return meter.joules()


# --- which counters there are ---


def test_a_package_by_its_own_zone_alone(root):
    package = zone(root, "intel-rapl:0", 5_000_000)
    parts = [
        zone(root, "intel-rapl:0:0", 4_000_000, "core"),
        zone(root, "intel-rapl:0:1", 1_000_000, "dram"),
        zone(root, "intel-rapl-mmio:0", 5_000_000),  # the same package by another way
        zone(root, "intel-rapl:1", 9_000_000, "psys"),  # the package and all around it
    ]
    (counter,) = energy.counters("cpu", root=root)
    with (meter := Meter([counter])):
        for folder in [package, *parts]:
            say(folder, 17_500_000)
    assert meter.joules() == 12.5
    assert meter.spent() == {"joules": 12.5}


def test_two_packages_add_up(root):
    first = zone(root, "intel-rapl:0", 0)
    second = zone(root, "intel-rapl:1", 1_000_000, "package-1")
    with (meter := Meter(energy.counters("cpu", root=root))):
        say(first, 2_000_000)
        say(second, 4_000_000)
    assert meter.joules() == 5


def test_no_counters(root, tmp_path):
    assert energy.counters("cpu", root=tmp_path / "nowhere") == []
    assert energy.counters("cpu", root=root) == []
    zone(root, "intel-rapl:0", 0, "psys")
    assert energy.counters("cpu", root=root) == []
    before = threading.active_count()
    with (meter := Meter()):
        assert threading.active_count() == before
    assert meter.joules() is None
    assert meter.spent() == {}
    assert energy.unmeasured("cuda").joules() is None


def test_a_package_that_may_not_be_read(root, monkeypatch):
    """Also where another may: half of what a job draws is not what it draws."""
    zone(root, "intel-rapl:0", 0)
    forbidden = zone(root, "intel-rapl:1", 0, "package-1") / "energy_uj"
    read = Path.read_text

    def refuse(self: Path, *args: Any, **more: Any) -> str:
        if self == forbidden:
            raise PermissionError(13, "Permission denied", str(self))
        return read(self, *args, **more)

    assert len(energy.counters("cpu", root=root)) == 2
    monkeypatch.setattr(Path, "read_text", refuse)
    assert energy.counters("cpu", root=root) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_of_roots(root):
    (zone(root, "intel-rapl:0", 0) / "energy_uj").chmod(0)
    assert energy.counters("cpu", root=root) == []


@pytest.mark.parametrize("name", ["energy_uj", "max_energy_range_uj"])
@pytest.mark.parametrize("content", [b"", b"\n", b"much\n", b"\xff\xfe", None])
def test_a_file_without_a_number(root, name, content):
    path = zone(root, "intel-rapl:0", 0) / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert energy.counters("cpu", root=root) == []


def test_a_range_of_nothing(root):
    (zone(root, "intel-rapl:0", 0) / "max_energy_range_uj").write_text("0")
    assert energy.counters("cpu", root=root) == []


# --- what they add up to ---


def test_a_package_goes_round(root):
    package = zone(root, "intel-rapl:0", RANGE - 3_000_000)
    with (meter := Meter(energy.counters("cpu", root=root))):
        say(package, 2_000_000)
    assert meter.joules() == pytest.approx(5)


def test_stretches_add_up_and_what_lies_between_them_does_not_count():
    assert measured(Steps(10, 12, 100, 105), stretches=2) == 7


def test_a_long_stretch_goes_round_more_than_once(monkeypatch):
    """The thread reads often enough to see every round."""

    class Fast:
        span = 100.0  # a round takes a third of a second

        def __init__(self) -> None:
            self.read_at: list[float] = []

        def read(self) -> float:
            self.read_at.append(time.monotonic())
            return 300 * self.read_at[-1] % self.span

    monkeypatch.setattr(energy, "MOST_WATTS", 400.0)
    counter = Fast()
    meter = Meter([counter])
    with meter:
        time.sleep(0.9)
    drawn = 300 * (counter.read_at[-1] - counter.read_at[0])
    assert drawn > 2 * counter.span
    # None where this machine was so busy that the thread came late, which it then says.
    assert meter.joules() in (None, pytest.approx(drawn))


def test_a_thread_that_came_too_late_knows_nothing(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(energy, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def after(seconds: float) -> float | None:
        meter = Meter([Steps(10, 30, span=65_000)])
        with meter:
            now[0] += seconds
        return meter.joules()

    assert after(32) == 20
    assert after(33) is None, "65 kJ at 2 kW: it may have gone round"


@pytest.mark.parametrize(
    "counter",
    [
        pytest.param(Steps(10, OSError("gone")), id="unreadable at the end"),
        pytest.param(Steps(OSError("gone"), 10), id="unreadable at the beginning"),
        pytest.param(Steps(9e6, 5e6), id="the driver was loaded anew"),
        pytest.param(Steps(200_000, 100, span=262_143), id="set back while the machine slept"),
    ],
)
def test_what_cannot_be_is_not_measured(counter):
    assert measured(Steps(1, 2), counter) is None


def test_a_counter_that_stands_still(monkeypatch):
    """Virtual machines have such ones. A stretch shorter than a counter's step is another thing."""
    now = [0.0]
    monkeypatch.setattr(energy, "time", SimpleNamespace(monotonic=lambda: now[0]))
    for seconds, joules in ((0.01, 3), (1, None)):
        meter = Meter([Steps(7, 7), Steps(1, 4)])
        with meter:
            now[0] += seconds
        assert meter.joules() == joules


def test_threads_end():
    meter = Meter([Steps(0, 1, 1, 2)])
    before = threading.active_count()
    meter.start()
    assert threading.active_count() == before + 1
    meter.stop()
    meter.stop()
    assert threading.active_count() == before
    forgotten = Meter([SimpleNamespace(span=2.0, read=lambda: 1.0)])  # read every half millisecond
    forgotten.start()
    thread = forgotten._thread
    del forgotten
    gc.collect()
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_readings_are_on_no_clock():
    class Slow(Steps):
        def read(self) -> float:
            time.sleep(0.2)
            return super().read()

    clock = Clock(meter=(meter := Meter([Slow(0, 4, 10, 11)])))
    for name in ("train", "infer"):
        with clock.phase(name):
            pass
    assert meter.joules() == 5
    assert max(clock.seconds.values()) < 0.2


# --- GPUs ---


def test_a_gpu_and_the_packages(root):
    package = zone(root, "intel-rapl:0", 0)
    nvml = Nvml(**{GPU.replace("-", "_"): 1_000, "GPU_other": 5})
    with (meter := Meter(energy.counters("cuda", [GPU], root, nvml))):
        say(package, 2_000_000)
        nvml.millijoules[GPU] += 40_500
        nvml.millijoules["GPU-other"] += 99_999
    assert meter.joules() == 42.5


def test_all_visible_gpus(root):
    zone(root, "intel-rapl:0", 0)
    nvml = Nvml(GPU_a=0, GPU_b=0)
    assert len(energy.counters("cuda", ["GPU-a", "GPU-b"], root, nvml)) == 3
    assert energy.counters("cuda", ["GPU-a", "GPU-MIG"], root, nvml) == []


def test_a_job_on_the_cpu_asks_no_gpu(root):
    zone(root, "intel-rapl:0", 0)
    assert len(energy.counters("cpu", [GPU], root, None)) == 1


def test_a_gpu_that_cannot_be_read_leaves_nothing(root, monkeypatch):
    zone(root, "intel-rapl:0", 0)
    nvml = Nvml(GPU_a=0)
    assert energy.counters("cuda", [], root, nvml) == []
    assert energy.counters("cuda", ["GPU-a"], root / "nowhere", nvml) == [], "nor the GPU alone"
    monkeypatch.setitem(sys.modules, "pynvml", None)  # as if it were not installed
    assert energy.counters("cuda", ["GPU-a"], root) == []
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert len(energy.counters("cuda", ["GPU-a"], root)) == 2

    def no_driver() -> None:
        raise nvml.NVMLError("Driver Not Loaded")

    def unsupported(handle: str) -> int:
        raise nvml.NVMLError("Not Supported")

    monkeypatch.setattr(nvml, "nvmlInit", no_driver)
    assert energy.counters("cuda", ["GPU-a"], root) == []
    monkeypatch.undo()
    monkeypatch.setattr(nvml, "nvmlDeviceGetTotalEnergyConsumption", unsupported)
    assert energy.counters("cuda", ["GPU-a"], root, nvml) == []
    assert energy.counters("cuda", ["GPU-a"], root, SimpleNamespace(nvmlInit=print)) == [], "an old pynvml"


def test_a_gpu_that_fails_later(root, monkeypatch):
    package = zone(root, "intel-rapl:0", 0)
    nvml = Nvml(GPU_a=0)
    with (meter := Meter(energy.counters("cuda", ["GPU-a"], root, nvml))):
        say(package, 5_000_000)
        del nvml.millijoules["GPU-a"]
    assert meter.joules() is None


def test_gpus_are_named_as_nvml_does(monkeypatch):
    """By UUID, which torch writes without NVML's beginning; older versions do not tell it."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace(uuid=f"5ac8-{number}"))
    assert devices._gpus() == ("GPU-5ac8-0", "GPU-5ac8-1")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: SimpleNamespace())
    assert devices._gpus() == ()


# --- what is recorded ---


class Ticking:
    """Five joules at every reading: a stretch takes five."""

    span = math.inf
    joules = 0.0

    def read(self) -> float:
        Ticking.joules += 5
        return Ticking.joules


@pytest.fixture
def ticking(monkeypatch) -> list[str]:
    """Counters that always tick; the devices that were asked for."""
    asked: list[str] = []

    def counters(device: str, gpus: Any = ()) -> list[energy.Counter]:
        asked.append(device)
        return [Ticking()]

    monkeypatch.setattr(energy, "counters", counters)
    return asked


@pytest.fixture
def place(tmp_path) -> Path:
    tiny.write_folder(tmp_path / "data", 60)
    return tmp_path


@pytest.fixture
def hashing(own_registry, monkeypatch) -> str:
    class Hashing:
        def encode(self, texts: list[str]) -> np.ndarray:
            return np.array([[len(text), sum(map(ord, text)) % 97, 1.0] for text in texts])

    registry.register_llm(name="hashing", dimension=3)(Hashing)
    monkeypatch.setattr(encoding, "SHARD_ROWS", 16)  # 60 texts: four shards
    return "hashing"


SMALL = {"training": {"epochs": 2}, "seeds": 1}
TWO = [{"name": "mlp", "hidden": 4}, {"name": "gcn", "hidden": 4}]
BOTH = [{"name": "both", "members": ["mlp(hidden=4)", "gcn(hidden=4)"], "combine": "mean-logit"}]


def rows(place: Path) -> list[dict[str, Any]]:
    """Rows of runs.csv."""
    folders = running.Folders(place, place / "results", place / "reports")
    plan = running.make_plan(place / "suite.yaml", folders)
    store = Store(place / "results")
    return reporting.rows(plan, store)


def table(place: Path) -> dict[str, dict[str, Any]]:
    """The same by backbone."""
    return {row["backbone"]: row for row in rows(place)}


def test_a_job_alone_on_the_machine(hashing, ticking, place):
    suite = {**SMALL, "llms": [hashing], "backbones": TWO, "ensembles": BOTH}
    assert not tiny.carry_out(place, suite, workers=1)
    by_name = {run.backbone: run for run in tiny.records(place)}
    assert by_name["mlp(hidden=4)"].energy_joules == by_name["gcn(hidden=4)"].energy_joules == 10, "train, infer"
    assert by_name["both"].energy_joules == 20
    for run in by_name.values():
        assert run.embedding == {"joules": 4 * 5}, "of one embedding, which all three share"
    assert [row["energy_joules"] for row in rows(place)] == [10, 10, 20]
    assert [row["embed_joules"] for row in rows(place)] == [20, 20, 20]
    assert all(row["embed_tokens"] is row["embed_dollars"] is None for row in rows(place))


def test_jobs_side_by_side_are_not_measured(ticking, place, monkeypatch):
    """The embedding is, which is made alone."""
    from stage_bench.execution.runner import Runner

    init = Runner.__post_init__

    def as_a_worker(self: Runner) -> None:
        init(self)
        self.side_by_side = 2

    suite = {**SMALL, "features": [{"name": "shallow", "dimension": 4}], "backbones": TWO, "ensembles": BOTH}
    monkeypatch.setattr(Runner, "__post_init__", as_a_worker)
    assert not tiny.carry_out(place, suite)
    assert not ticking
    for run in tiny.records(place):
        assert (run.energy_joules, run.embedding) == (None, {})
    assert all(row["energy_joules"] is row["embed_joules"] is None for row in rows(place))


def test_a_worker_process_does_not_measure(ticking, place):
    suite = {**SMALL, "features": [{"name": "shallow", "dimension": 4}], "backbones": TWO}
    assert not tiny.carry_out(place, suite, workers=2)
    for run in tiny.records(place):
        assert "2 jobs side by side" in run.hardware
        assert run.energy_joules is None
        assert run.embedding == {"joules": 5}, "which was made alone, before them"


def test_no_counters_no_joules(place, monkeypatch):
    monkeypatch.setattr(energy, "POWERCAP", place / "nowhere")
    suite = {**SMALL, "features": [{"name": "shallow", "dimension": 4}], "backbones": TWO, "ensembles": BOTH}
    assert not tiny.carry_out(place, suite)
    for run in tiny.records(place):
        assert (run.energy_joules, run.embedding) == (None, {})
    for path in (place / "results" / "embeddings").glob("*/manifest.json"):
        assert "joules" not in json.loads(path.read_text())


def test_a_run_shorter_than_a_counters_step_is_not_measured(place, monkeypatch):
    monkeypatch.setattr(energy, "counters", lambda device, gpus: [Steps(*[3] * 4)])
    monkeypatch.setattr(energy, "_STILL_SECONDS", 1e9)
    suite = {**SMALL, "features": [{"name": "shallow", "dimension": 4}], "backbones": TWO[:1]}
    assert not tiny.carry_out(place, suite)
    (run,) = tiny.records(place)
    assert (run.energy_joules, run.embedding) == (None, {})


def test_joules_of_an_embedding_add_up_over_sessions(tmp_path):
    cache = EmbeddingCache(tmp_path)
    limit, joules = 8, {"joules": 2.5}

    def compute(shards):
        for shard in shards:
            if shard.start >= limit:
                raise KeyboardInterrupt
            yield shard, np.zeros((shard.stop - shard.start, 2)), {"seconds": 1.0, **joules}

    for id_ in ("known", "unknown"):
        limit, joules = 8, {"joules": 2.5}
        with pytest.raises(KeyboardInterrupt):
            cache.write(id_, 12, 4, compute, {})
        limit = 12
        if id_ == "unknown":
            joules = {}  # as from a session on another machine, or of an older version
        cache.write(id_, 12, 4, compute, {})
    assert cache.manifest("known")["joules"] == 7.5
    assert "joules" not in cache.manifest("unknown")
    assert cache.manifest("unknown")["seconds"] == 3


def test_two_processes_at_one_embedding_do_not_count_each_other(tmp_path):
    cache = EmbeddingCache(tmp_path)
    both = threading.Barrier(2, timeout=30)

    def compute(shards):
        for number, shard in enumerate(shards):
            if number == 0:
                both.wait()  # each has one in its hands
            yield shard, np.zeros((shard.stop - shard.start, 2)), {"seconds": 1.0, "joules": 1.0}

    threads = [threading.Thread(target=cache.write, args=("id", 40, 4, compute, {})) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    manifest = cache.manifest("id")
    assert manifest["seconds"] == 10
    assert "joules" not in manifest


def test_a_manifest_without_joules_stays_readable(hashing, tmp_path):
    """As every one that was written before they were measured."""
    cache, llm = EmbeddingCache(tmp_path), choice(registry.get("llms", hashing))
    _, manifest = encoding.embed(text_graph(40), llm, cache, "cpu")
    assert "joules" not in manifest
    _, again = encoding.embed(text_graph(40), llm, cache, "cpu", meters=lambda device: Meter([Ticking()]))
    assert again == manifest
    assert costs.embedding(manifest) == {}


def test_a_reduction_draws_what_the_whole_embedding_did_and_more(hashing, tmp_path):
    def meters(device: str) -> Meter:
        assert device == "cpu"
        return Meter([Ticking()])

    llm = dataclasses.replace(choice(registry.get("llms", hashing)), reduction=Reduction("svd", 2))
    _, manifest = encoding.embed(text_graph(40), llm, EmbeddingCache(tmp_path / "a"), "cpu", meters=meters)
    assert manifest["joules"] == 3 * 5 + 5
    cache = EmbeddingCache(tmp_path / "b")
    encoding.embed(text_graph(40), dataclasses.replace(llm, reduction=None), cache, "cpu")
    _, manifest = encoding.embed(text_graph(40), llm, cache, "cpu", meters=meters)
    assert "joules" not in manifest, "of the whole one it is not known"


def test_a_pipeline_is_not_measured(own_registry, tmp_path):
    """It may be the end of what an earlier session began."""
    graph = text_graph(20)
    registry.register_features(name="learnt", pipeline=lambda setting, options: Built(np.ones((20, 2))))(None)
    asked: list[str] = []

    def meters(device: str) -> Meter:
        asked.append(device)
        return Meter([Ticking()])

    _, manifest = source.load(
        graph, FeatureChoice("learnt", "learnt", {}), EmbeddingCache(tmp_path), "cpu", meters=meters
    )
    assert not asked
    assert "joules" not in manifest


def test_an_error_in_a_shard_ends_the_thread(own_registry, tmp_path):
    class Failing:
        def encode(self, texts: list[str]) -> np.ndarray:
            raise RuntimeError("out of order")

    registry.register_llm(name="failing", dimension=3)(Failing)
    llm = choice(registry.get("llms", "failing"))
    with pytest.raises(RuntimeError, match="out of order"):
        encoding.embed(text_graph(20), llm, EmbeddingCache(tmp_path), "cpu", meters=lambda device: Meter([Ticking()]))
    assert "energy" not in {thread.name for thread in threading.enumerate()}


# --- tokens and dollars of endpoints ---


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def paid(own_registry, server) -> dict[str, str]:
    """Of a model that costs two dollars for a million tokens, the entry in a suite."""
    facts = {"loader": "endpoint", "max_length": None, "normalize": False}
    registry.register_llm(name="paid", hub_id="some/model", price=2.0, **facts)
    return {"name": "paid", "endpoint": server.url}


def test_tokens_and_dollars_reach_the_record_and_the_row(paid, server, ticking, place):
    suite = {**SMALL, "llms": [paid], "features": [{"name": "shallow", "dimension": 4}]}
    suite |= {"backbones": TWO, "ensembles": BOTH}
    assert not tiny.carry_out(place, suite)
    tokens = sum(len(text.split()) for text in server.texts)
    asked_for = {"tokens": tokens, "dollars": tokens * 2 / 1e6}
    assert tokens > 60
    for run in tiny.records(place):
        if run.llm == "paid":
            assert run.embedding == pytest.approx(asked_for), "of both members together too; what a server draws is not"
            assert run.energy_joules == (20 if run.kind == "ensemble" else 10)
        else:
            assert run.embedding == {"joules": 5}
    for row in rows(place):
        served = row["llm"] == "paid"
        assert row["embed_tokens"] == (tokens if served else None)
        assert row["embed_dollars"] == (pytest.approx(tokens * 2 / 1e6) if served else None)
        assert row["embed_joules"] == (None if served else 5)


def test_a_reduction_costs_what_the_whole_embedding_did(paid, server, tmp_path):
    llm = choice(
        registry.get("llms", "paid"), endpoint=Endpoint(server.url, "some/model"), reduction=Reduction("svd", 2)
    )
    _, manifest = encoding.embed(text_graph(40), llm, EmbeddingCache(tmp_path), "cpu")
    tokens = sum(len(text.split()) for text in text_graph(40).texts)
    assert costs.embedding(manifest) == pytest.approx({"tokens": tokens, "dollars": tokens * 2 / 1e6})


def as_before(place: Path) -> None:
    """Make the records those of version 1."""
    for path in (place / "results" / "runs").glob("*/run.json"):
        value = json.loads(path.read_text())
        for field in ("embedding", "energy_joules", "own_sha256"):
            value.pop(field, None)
        path.write_text(json.dumps({**value, "schema_version": 1}))


def test_results_from_before(paid, server, place):
    """Nothing is run again; what the manifest of an embedding says of its cost is shown; ensembles count it too."""
    suite = {**SMALL, "llms": [paid], "backbones": TWO}
    assert not tiny.carry_out(place, suite)
    tokens = sum(len(text.split()) for text in server.texts)
    as_before(place)
    before = {path: path.stat().st_mtime_ns for path in (place / "results" / "runs").rglob("*") if path.is_file()}
    folders = running.Folders(place, place / "results", place / "reports")
    plan = running.make_plan(place / "suite.yaml", folders)
    assert running.todo(plan, folders, pytest.fail) == []
    for row in rows(place):
        assert (row["embed_tokens"], row["energy_joules"]) == (tokens, None)
    assert not tiny.carry_out(place, {**suite, "ensembles": BOTH})
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    (ensemble,) = [run for run in tiny.records(place) if run.kind == "ensemble"]
    assert ensemble.embedding["tokens"] == tokens, "once, though both members have it"
    assert ensemble.energy_joules is None
    as_before(place)
    assert table(place)["both"]["embed_tokens"] == tokens
    for path in (place / "results" / "embeddings").glob("*/manifest.json"):
        path.unlink()
    assert table(place)["both"]["embed_tokens"] is None


def historic(version: int) -> dict[str, Any]:
    return json.loads((Path(__file__).parent / "historic" / f"run-v{version}.json").read_text())


def test_what_records_of_each_version_know():
    first, second = (RunRecord.from_json(historic(version)) for version in (1, 2))
    assert (first.embedding, first.energy_joules) == ({}, None)
    assert second.embedding == {"tokens": 412345, "dollars": 0.0536, "joules": 1873.25}
    assert second.energy_joules == 214.062
    assert first.schema_version == second.schema_version == SCHEMA_VERSION, "written again it has all fields of today"


# --- what several runs cost together ---


def record(**fields: Any) -> RunRecord:
    return RunRecord.from_json({**historic(2), **fields})


def unknown(id_: str) -> None:
    return None


def test_an_embedding_that_members_share_counts_once():
    paid = {"tokens": 100, "dollars": 0.25}
    members = [
        record(embedding_id="a", embedding=paid),
        record(embedding_id="a", embedding=paid),
        record(embedding_id="b", embedding={"tokens": 10, "dollars": 0.5}),
        record(embedding_id="c", embedding={}),
        record(embedding_id="", embedding={}),  # a method that reads no features
    ]
    assert costs.embeddings_once_each(members, unknown) == {"tokens": 110, "dollars": 0.75}
    assert costs.embeddings_once_each(members[-1:], unknown) == {}


def test_joules_of_embeddings_only_where_all_are_known():
    members = [record(embedding_id=id_, embedding={"joules": 2.0}) for id_ in "aab"]
    assert costs.embeddings_once_each(members, unknown) == {"joules": 4}
    assert costs.embeddings_once_each([*members, record(embedding_id="c", embedding={})], unknown) == {}
    assert costs.embeddings_once_each([*members, record(embedding_id="", embedding={})], unknown) == {"joules": 4}


def test_a_price_that_is_not_known_leaves_no_sum():
    members = [
        record(embedding_id="a", embedding={"tokens": 1, "dollars": 0.1}),
        record(embedding_id="b", embedding={"tokens": 2}),
    ]
    assert costs.embeddings_once_each(members, unknown) == {"tokens": 3}


def test_a_server_that_counts_nothing_leaves_nothing_known():
    assert costs.embedding({"tokens": 0, "requests": 3, "dollars": 0.0}) == {}
    assert costs.embedding(None) == {}


def test_energy_of_members_only_where_all_were_measured():
    assert costs.energy([record(energy_joules=1.5), record(energy_joules=2.0)]) == 3.5
    assert costs.energy([record(energy_joules=1.5), record(energy_joules=None)]) is None
    assert costs.energy([]) is None

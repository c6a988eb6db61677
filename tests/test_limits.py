"""What one job may take, in seconds and in memory: it is ended, the line names the limit, the others go on."""

from __future__ import annotations

import io
import json
import mmap
import os
import re
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from rich.console import Console

import tiny
from stage_bench.errors import StageBenchError
from stage_bench.execution import executor, limits, running
from stage_bench.execution.executor import Options
from stage_bench.suite.schema import Limits

FEATURES = ["noise"]  # which are made at once, however busy the machine is

PLUGIN = """
    import ctypes
    import time
    from pathlib import Path

    import numpy as np
    import torch

    import stage_bench
    from stage_bench.backbones.mlp import MLP
    from stage_bench.backbones.options import MLPOptions


    @stage_bench.register_backbone(name="endless", summary="in C, where no Python looks at a clock", options=MLPOptions)
    class Endless(MLP):
        def forward(self, graph, x):
            if self.options_hidden == 64:
                ctypes.CDLL(None).sleep(3600)
            return super().forward(graph, x)

        def __init__(self, in_dim, num_classes, options):
            super().__init__(in_dim, num_classes, options)
            self.options_hidden = options.hidden


    @stage_bench.register_backbone(name="greedy", summary="holds more and more where it is 64 wide", options=MLPOptions)
    class Greedy(Endless):
        def forward(self, graph, x):
            if self.options_hidden == 64:
                kept = []
                while True:
                    kept.append(torch.ones(4_000_000))
                    time.sleep(0.01)
            return MLP.forward(self, graph, x)


    @stage_bench.register_features(name="noise", summary="")
    def noise(graph, options):
        return np.random.RandomState(0).randn(graph.num_nodes, 8)


    @stage_bench.register_llm(name="tiring", summary="embeds one part, and then no more", dimension=4)
    class Tiring:
        embedded = 0

        def encode(self, texts):
            if Tiring.embedded >= 1024:
                time.sleep(3600)
            Tiring.embedded += len(texts)
            with (Path(__file__).parent / "embedded").open("a") as file:
                file.write(f"{len(texts)}\\n")
            return np.array([[len(text), hash(text) % 97, 1, 2] for text in texts], dtype=np.float32)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    tiny.write_folder(tmp_path / "data", 60)
    (tmp_path / "plugin.py").write_text(dedent(PLUGIN))
    return tmp_path


def carry_out(place: Path, options: Options, workers: int = 1, **suite: Any) -> tuple[list[str], str]:
    standard = {"name": "tiny", "plugins": ["plugin.py"], "datasets": [{"name": "tiny", "path": "data"}], "seeds": 1}
    standard |= {"features": FEATURES, "training": {"epochs": 3}}
    (place / "suite.yaml").write_text(json.dumps({**standard, **suite}))
    folders = running.Folders(place, place / "results", place / "reports")
    plan = running.make_plan(place / "suite.yaml", folders)
    said = io.StringIO()
    jobs = running.todo(plan, folders, lambda line: None)
    console = Console(file=said, width=500)
    return running.carry_out(plan, jobs, folders, "cpu", console, workers, options=options), said.getvalue()


def status(place: Path) -> dict[str, str]:
    return {record.backbone: record.status for record in tiny.records(place)}


# --- what is measured, and which limit holds ---


def test_memory_that_is_held_is_counted_and_mapped_files_are_not(tmp_path):
    before = limits.held_bytes("self")
    assert before is not None
    with mmap.mmap(-1, 200_000_000) as held:  # torch may hand out again what it has kept of earlier tensors
        for start in range(0, len(held), 1_000_000):
            held[start : start + 1_000_000] = b"1" * 1_000_000
        assert 190e6 < limits.held_bytes(os.getpid()) - before < 260e6
    path = tmp_path / "mapped"
    path.write_bytes(b"1" * 100_000_000)
    before = limits.held_bytes("self")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert set(mapped[::4096]) == {ord("1")}, "every page was read"
        assert limits.held_bytes("self") - before < 50e6
    assert limits.held_bytes(2**22 + 1) is None, "no such process"


def test_an_option_comes_before_the_suite_each_by_itself():
    suite = Limits(seconds=60, memory="2GB")
    assert executor.within(Options(), None) == Options()
    assert executor.within(Options(), suite) == Options(seconds=60, memory=2_000_000_000)
    assert executor.within(Options(seconds=5), suite) == Options(seconds=5, memory=2_000_000_000)
    assert executor.within(Options(memory=7, max_failures=1), suite) == Options(seconds=60, memory=7, max_failures=1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--job-memory", "8 apples"), "--job-memory: '8 apples' is no size of memory"),
        (("--job-time", "0"), "job-time"),
    ],
)
def test_a_limit_that_is_none_is_refused(stage_bench, options, said):
    code, _, errors = stage_bench("run", "suite.yaml", *options)
    assert code == 2
    assert said in errors


def test_memory_cannot_be_limited_where_it_cannot_be_read(monkeypatch):
    monkeypatch.setattr(limits, "held_bytes", lambda pid: None)
    with pytest.raises(StageBenchError, match="which is not here; leave it out"):
        limits.check(Options(memory=1))
    limits.check(Options(seconds=1))


# --- jobs ---


@pytest.mark.parametrize("workers", [1, 2])
def test_a_job_that_takes_too_long_fails_and_the_others_go_on(place, own_registry, workers: int):
    backbones = [{"name": "endless", "hidden": 64}, "mlp", {"name": "gcn", "hidden": 8}]
    ensembles = [{"name": "both", "members": ["mlp", "gcn(hidden=8)"]}]
    failed, _ = carry_out(place, Options(seconds=6), workers, backbones=backbones, ensembles=ensembles)
    assert len(failed) == 1
    assert failed[0].startswith("train tiny noise endless(hidden=64) seed 0: stopped after 6 s, the time limit")
    assert "--job-time" in failed[0]
    assert "limits:" in failed[0]
    assert status(place) == {"endless(hidden=64)": "failed", "mlp": "ok", "gcn(hidden=8)": "ok", "both": "ok"}
    (record,) = [record for record in tiny.records(place) if record.status == "failed"]
    assert record.error in failed[0]
    assert record.hardware


def test_a_job_that_holds_too_much_fails_and_the_others_go_on(place, own_registry):
    backbones = [{"name": "greedy", "hidden": 64}, "mlp"]
    failed, _ = carry_out(place, Options(), 1, backbones=backbones, limits={"memory": "1500MB"})
    assert len(failed) == 1
    assert re.search(r"out of memory: stopped at [12]\.\d+GB", failed[0])
    assert "above the memory limit of a job, 1.5GB (--job-memory, or limits: in the suite); choose fewer" in failed[0]
    assert status(place) == {"greedy(hidden=64)": "failed", "mlp": "ok"}


def test_on_the_command_line(place, stage_bench):
    suite = {"name": "tiny", "plugins": ["plugin.py"], "datasets": [{"name": "tiny", "path": "data"}], "seeds": 1}
    backbones = ["mlp", {"name": "endless", "hidden": 64}]
    suite |= {"features": FEATURES, "training": {"epochs": 3}, "backbones": backbones, "limits": {"seconds": 3600}}
    (place / "suite.yaml").write_text(json.dumps(suite))
    where = ("--results", place / "results", "--reports", place / "reports", "--device", "cpu")
    code, _, said = stage_bench("run", place / "suite.yaml", *where, "--job-time", "5")
    assert code == 1
    assert "FAILED: stopped after 5 s" in said, "the option, not the suite's hour"
    assert status(place) == {"mlp": "ok", "endless(hidden=64)": "failed"}


# --- what is kept ---


def test_the_trials_of_a_study_that_took_too_long_are_kept(place, own_registry):
    tuning = {"trials": 3, "sampler": "grid", "space": {"hidden": [8, 64, 16]}}  # drawn in this order: 8, 16, 64
    suite = {"backbones": [{"name": "endless", "tuning": tuning}]}
    failed, _ = carry_out(place, Options(seconds=6), 1, **suite)
    assert len(failed) == 2, "the study, and what was to be trained with its winner"
    assert "the time limit of a job" in failed[0]
    assert failed[0].endswith("; what was done of it is kept")
    (journal,) = (place / "results" / "studies").glob("*.trials.jsonl")
    ended = [row for row in map(json.loads, journal.read_text().splitlines()) if row["state"] == "ok"]
    assert ended, "those that were over"
    assert all(row["values"]["hidden"] in (8, 16) for row in ended)


def test_a_trial_that_holds_too_much_is_a_failed_one_and_the_study_goes_on(place, own_registry):
    tuning = {"trials": 3, "sampler": "grid", "space": {"hidden": [8, 16, 64]}}
    suite = {"backbones": [{"name": "greedy", "tuning": tuning}]}
    failed, said = carry_out(place, Options(memory=1_500_000_000), 1, **suite)
    assert not failed, said
    assert "3 trials, best val" in said
    assert "1 failed" in said
    (summary,) = (place / "results" / "studies").glob("*.json")
    (gone,) = [row for row in json.loads(summary.read_text())["history"] if row["state"] == "failed"]
    assert gone["values"]["hidden"] == 64
    assert re.match(r"out of memory: stopped at [12]\.\d+GB, above the memory limit of a job", gone["error"])


def test_the_parts_of_an_embedding_that_took_too_long_are_kept(tmp_path, own_registry):
    """Each call comes a part further, until all of it is there."""
    tiny.write_folder(tmp_path / "data", 3000)  # three parts
    (tmp_path / "plugin.py").write_text(dedent(PLUGIN))
    suite = {"features": [], "llms": ["tiring"], "backbones": ["mlp"]}
    for done in (1, 2):
        failed, _ = carry_out(tmp_path, Options(seconds=8), 1, **suite)
        assert len(failed) == 2, "the embedding, and what was to be trained on it"
        assert "the time limit of a job" in failed[0]
        assert "what was done of it is kept" in failed[0]
        assert len(list(tmp_path.glob("results/embeddings/*/shards/*.json"))) == done
    failed, _ = carry_out(tmp_path, Options(seconds=8), 1, **suite)
    assert not failed
    assert sum(map(int, (tmp_path / "embedded").read_text().split())) < 3000 + 3 * 256, (
        "not from the beginning each time"
    )


def test_nothing_outlives_the_command(place, own_registry):
    carry_out(place, Options(seconds=3), 2, backbones=[{"name": "endless", "hidden": 64}], seeds=2)
    time.sleep(0.5)
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
            command = (status.parent / "cmdline").read_text()
        except OSError:
            continue
        assert fields["PPid"] != str(os.getpid()) or "spawn_main" not in command or fields["State"].startswith("Z")


def test_reservations_are_for_a_cluster_and_that_is_said(place, own_registry):
    _, said = carry_out(place, Options(), backbones=["mlp"], resources={"cpus": 1})
    assert "resources: are reserved on a cluster; this machine reserves nothing" in said

"""Ctrl-C, SIGTERM and SIGKILL, with real processes, in whatever a command is in the middle of."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from filelock import FileLock

import tiny

SCRIPT = str(Path(sysconfig.get_path("scripts")) / "stage-bench")
LONG = 120.0  # seconds after which something is taken to hang; a stop takes a few, on a machine that is not too busy

PLUGIN = """
    import ctypes
    import time

    import numpy as np
    import torch

    import stage_bench
    from stage_bench.backbones.mlp import MLP
    from stage_bench.backbones.options import MLPOptions


    @stage_bench.register_features(name="noise", summary="")
    def noise(graph, options):
        return np.random.RandomState(0).randn(graph.num_nodes, 8)


    @stage_bench.register_backbone(name="slow", summary="a tenth of a second for each epoch", options=MLPOptions)
    class Slow(MLP):
        def forward(self, graph, x):
            time.sleep(0.1)
            return super().forward(graph, x)


    @stage_bench.register_backbone(name="stuck", summary="in one call of C, as in a large product", options=MLPOptions)
    class Stuck(MLP):
        def forward(self, graph, x):
            logits = super().forward(graph, x)
            if self.training:
                print("stuck", flush=True)
                mutex, lock = ctypes.create_string_buffer(64), ctypes.CDLL(None).pthread_mutex_lock
                lock(mutex)
                lock(mutex)  # waits for itself, and no signal wakes it
            return logits


    @stage_bench.register_llm(name="brief", summary="a little while for each batch", dimension=4)
    class Brief:
        def encode(self, texts):
            time.sleep(0.1)
            return np.array([[len(text), len(text) % 7, 1, 2] for text in texts], dtype=np.float32)


    @stage_bench.register_llm(name="endless", summary="one batch takes an hour", dimension=4)
    class Endless:
        def encode(self, texts):
            print("stuck", flush=True)
            time.sleep(3600)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "plugin.py").write_text(dedent(PLUGIN))
    return tmp_path


class Command:
    """`run` on a suite, in a session of its own; `said` has what it said so far, on both streams."""

    def __init__(self, place: Path, *arguments: str, nodes: int = 60, **suite: Any) -> None:
        self.place = place
        tiny.write_folder(place / "data", nodes)
        standard = {"name": "tiny", "plugins": ["plugin.py"], "datasets": [{"name": "tiny", "path": "data"}]}
        (place / "suite.yaml").write_text(json.dumps({**standard, "seeds": 1, "training": {"epochs": 3}, **suite}))
        self.log = place / f"said-{time.monotonic_ns()}"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [SCRIPT, "run", "suite.yaml", "--device", "cpu", *arguments],
                cwd=place,
                env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self.log.read_text()

    def until(self, text: str, times: int = 1) -> None:
        deadline = time.monotonic() + LONG
        while self.said.count(text) < times:
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)

    def end(self) -> int:
        """The exit code, once nothing is left of it and of what it started."""
        code = self.process.wait(LONG)
        deadline = time.monotonic() + LONG
        while time.monotonic() < deadline:
            try:
                os.killpg(self.process.pid, 0)
            except ProcessLookupError:
                return code
            time.sleep(0.05)
        raise AssertionError("a worker is still there")


@contextmanager
def command(place: Path, *arguments: str, **more: Any) -> Iterator[Command]:
    started = Command(place, *arguments, **more)
    try:
        yield started
    finally:
        with suppress(ProcessLookupError):
            os.killpg(started.process.pid, signal.SIGKILL)
        started.process.wait()


def statuses(place: Path) -> list[str]:
    return sorted(record.status for record in tiny.records(place))


BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
NOISE: dict[str, Any] = {"features": ["noise"]}
STEPS = {"training": {"epochs": 2000, "patience": 2000}}


# --- a clean stop ---


@BOTH
def test_in_the_middle_of_an_embedding(place, number: int):
    with command(place, nodes=3000, llms=[{"name": "brief", "batch_tokens": 2048}], backbones=["mlp"]) as run:
        deadline = time.monotonic() + LONG
        while not list(place.glob("results/embeddings/*/vectors.npy")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(run.process.pid, number)
        assert run.end() == 130
        assert "interrupted; what is done is kept" in run.said
        assert "Traceback" not in run.said
    assert list(place.glob("results/embeddings/*/shards/*.json")), "what was done is kept"
    assert not list(place.glob("results/embeddings/*/manifest.json"))
    assert not list(place.glob("results/claims/*"))


@BOTH
def test_in_the_middle_of_a_study_that_workers_share(place, number: int):
    tuned = {"name": "slow", "tuning": {"trials": 50, "space": {"hidden": [4, 8, 16]}}}
    with command(place, "--workers", "2", **NOISE, backbones=[tuned], seeds=2) as run:
        deadline = time.monotonic() + LONG
        while not any('"ok"' in path.read_text() for path in place.glob("results/studies/*.trials.jsonl")):
            assert time.monotonic() < deadline, run.said
            time.sleep(0.05)
        os.killpg(run.process.pid, number)  # to all of them, as a terminal and a batch system do
        assert run.end() == 130
        assert "interrupted; what is done is kept" in run.said
    assert statuses(place) == [], "nothing is called a failure"
    (journal,) = place.glob("results/studies/*.trials.jsonl")
    assert all(json.loads(line) for line in journal.read_text().splitlines())


def test_in_the_middle_of_epochs_here(place):
    with command(place, "--workers", "1", **NOISE, **STEPS, backbones=["mlp", "slow"]) as run:
        run.until("[2/3]")
        os.kill(run.process.pid, signal.SIGTERM)
        assert run.end() == 130
        assert "interrupted; what is done is kept" in run.said
        assert "1 of 2 runs are not there yet" in run.said, "what is there is reported"
    assert statuses(place) == ["ok"]
    with command(place, "--workers", "1", **NOISE, **STEPS, backbones=["mlp", "gcn"]) as run:
        assert run.end() == 0, run.said
        assert "3 jobs, 1 to do" in run.said


def test_while_waiting_for_another_process_that_has_a_job(place):
    """The claims are held by the test itself."""
    with command(place, "--workers", "1", **NOISE, backbones=["mlp"]) as run:
        assert run.end() == 0
    (done,) = tiny.records(place)
    (place / "results" / "runs" / done.id / "run.json").unlink()
    (place / "results" / "claims").mkdir()
    with (
        FileLock(place / "results" / "claims" / done.id),
        command(place, "--workers", "1", **NOISE, backbones=["mlp"]) as run,
    ):
        run.until("waiting for train tiny noise mlp seed 0, which another process has in hand")
        os.kill(run.process.pid, signal.SIGINT)
        assert run.end() == 130
    assert not list((place / "results" / "runs" / done.id).glob("run.json"))


def test_while_waiting_for_the_lock_of_another_process(place):
    """One part of the embedding is in the test's hands."""
    llms = [{"name": "brief"}]
    with command(place, nodes=3000, llms=llms, backbones=["mlp"]) as run:
        assert run.end() == 0
    (folder,) = place.glob("results/embeddings/*")
    (folder / "manifest.json").unlink()
    (folder / "shards" / "00001.json").unlink()
    for record in place.glob("results/runs/*/run.json"):
        record.unlink()
    with (
        FileLock(folder / "locks" / "00001"),
        command(place, nodes=3000, llms=llms, backbones=["mlp"]) as run,
    ):
        run.until("waiting for another process that embeds the same texts")
        os.kill(run.process.pid, signal.SIGTERM)
        assert run.end() == 130


# --- where Python cannot look at a signal ---


def test_in_one_long_call_of_c_the_process_is_ended_all_the_same(place):
    with command(place, "--workers", "1", **NOISE, backbones=["stuck"]) as run:
        run.until("stuck")
        os.kill(run.process.pid, signal.SIGTERM)
        assert run.end() == 130
        assert (
            "stopped at once (still at work some seconds after it was told to stop); what is done is kept" in run.said
        )


def test_a_second_ctrl_c_ends_it_at_once(place):
    with command(place, "--workers", "1", llms=["endless"], backbones=["mlp"]) as run:
        run.until("stuck")
        os.kill(run.process.pid, signal.SIGINT)
        time.sleep(0.5)
        assert run.process.poll() is None, "the first lets the batch end"
        os.kill(run.process.pid, signal.SIGINT)
        assert run.end() == 130
        assert "stopped at once (told to stop twice)" in run.said


# --- SIGKILL ---


def test_workers_die_with_their_parent_whatever_they_are_in_the_middle_of(place):
    with command(place, "--workers", "2", **NOISE, backbones=["stuck"], seeds=2) as run:
        run.until("stuck", 2)
        (claims,) = place.glob("results/claims")
        assert len(list(claims.iterdir())) == 2
        os.kill(run.process.pid, signal.SIGKILL)
        assert run.end() == -signal.SIGKILL
    for claim in claims.iterdir():
        with FileLock(claim, timeout=0):
            pass  # the system has given it back
    assert statuses(place) == []


def test_a_worker_that_is_told_to_end_is_a_failed_job_and_no_more(place):
    """Of several processes in the group one alone is told."""
    with command(place, "--workers", "2", **NOISE, **STEPS, backbones=["slow", "mlp"], seeds=1) as run:
        run.until("[2/3]")
        workers = [
            int(pid)
            for pid in os.listdir("/proc")
            if pid.isdigit() and f"PPid:\t{run.process.pid}\n" in _status(pid) and "spawn_main" in _line(pid)
        ]
        for worker in workers:
            os.kill(worker, signal.SIGTERM)
        assert run.end() == 1
        assert "its process was killed by signal 15" in run.said
    assert statuses(place) == ["failed", "ok"]


def _status(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""


def _line(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""

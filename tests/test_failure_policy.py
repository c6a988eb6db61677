"""Where some jobs fail, what becomes of the others: the queue, --max-failures, --retry-failed, losses beyond number."""

from __future__ import annotations

import io
import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from rich.console import Console

import tiny
from stage_bench.execution import running
from stage_bench.execution.claims import Claims
from stage_bench.execution.executor import Options
from stage_bench.execution.queue import Queue, needs
from stage_bench.suite.jobs import Job
from stage_bench.suite.planning import Plan

FEATURES = [{"name": "shallow", "dimension": 8}]

PLUGIN = """
    import multiprocessing
    import os
    import signal
    from pathlib import Path

    import stage_bench
    from stage_bench.backbones.mlp import MLP
    from stage_bench.backbones.options import MLPOptions


    def first_time(name):
        path = Path(__file__).parent / name
        before = path.exists()
        path.touch()
        return not before


    @stage_bench.register_backbone(name="bad", summary="", options=MLPOptions)
    class Bad(MLP):
        def forward(self, graph, x):
            raise ValueError("bad as ever")


    @stage_bench.register_backbone(name="moody", summary="dies once", options=MLPOptions)
    class Moody(MLP):
        def __init__(self, *given):
            if multiprocessing.parent_process() is not None and first_time("moody"):
                os.kill(os.getpid(), signal.SIGKILL)
            super().__init__(*given)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    tiny.write_folder(tmp_path / "data", 60)
    (tmp_path / "plugin.py").write_text(dedent(PLUGIN))
    return tmp_path


def write(place: Path, **suite: Any) -> Path:
    standard = {"name": "tiny", "datasets": [{"name": "tiny", "path": "data"}], "features": FEATURES, "seeds": 1}
    (place / "suite.yaml").write_text(json.dumps({**standard, "training": {"epochs": 3}, **suite}))
    return place / "suite.yaml"


def plan_of(place: Path, **suite: Any) -> Plan:
    return running.make_plan(write(place, **suite), running.Folders(place, place / "results", place / "reports"))


def carry_out(place: Path, options: Options = Options(), **suite: Any) -> tuple[list[str], str]:  # noqa: B008
    """In this process; what failed, and what was said."""
    plan = plan_of(place, **suite)
    folders = running.Folders(place, place / "results", place / "reports")
    said = io.StringIO()
    jobs = running.todo(plan, folders, lambda line: None)
    console = Console(file=said, width=500)
    return running.carry_out(plan, jobs, folders, "cpu", console, 1, options=options), said.getvalue()


# --- the queue ---


EVERYTHING: dict[str, Any] = {
    "backbones": ["mlp", {"name": "gcn", "tuning": {"trials": 2, "space": {"hidden": [4, 8]}}}, "sage"],
    "ensembles": [{"name": "both", "members": ["mlp", "sage"]}],
    "seeds": 2,
}


def everything(queue: Queue) -> list[Job]:
    """What the queue gives, each job ended before the next one is begun."""
    given = []
    while (job := queue.first()) is not None:
        assert queue.take()
        given.append(job)
        queue.end(job)
    return given


def test_jobs_come_in_the_plans_order_and_never_before_what_they_need(place):
    jobs = plan_of(place, **EVERYTHING).jobs
    queue = Queue(jobs, Claims(place / "results", jobs))
    assert [job.id for job in everything(queue)] == [job.id for job in jobs]
    assert queue.is_over
    assert not queue.left
    backwards = list(reversed(jobs))
    queue = Queue(backwards, Claims(place / "results", backwards))
    ended: set[str] = set()
    for job in everything(queue):
        assert needs(job) <= ended
        ended.add(job.id)
    assert len(ended) == len(jobs)


def test_what_is_running_is_waited_for(place):
    jobs = plan_of(place, **EVERYTHING).jobs
    queue = Queue(jobs, Claims(place / "results", jobs))
    embed = queue.first()
    assert queue.take()
    assert queue.first() is None, "all others need it"
    assert not queue.is_over
    assert queue.left == list(jobs[1:])
    queue.end(embed)
    assert queue.first() is jobs[1]


def test_a_study_with_more_trials_comes_after_the_one_with_fewer(place):
    tuned = [{"name": "mlp", "tuning": {"trials": trials, "space": {"hidden": [4, 8, 16]}}} for trials in (2, 3)]
    jobs = plan_of(place, backbones=tuned).jobs
    one, other = (job for job in jobs if job.kind == "tune")
    assert one.id == other.id
    queue = Queue(jobs, Claims(place / "results", jobs))
    queue.take()
    queue.end(jobs[0])
    assert queue.first() is one
    queue.take()
    assert queue.first() is None
    queue.end(one, "all trials failed")
    assert queue.first() is other, "it may fare better, and what was to be trained waits for both"
    queue.take()
    queue.end(other)
    assert not queue.broken(queue.first())


def test_jobs_that_need_a_failed_one_are_broken_and_no_failures_of_their_own(place):
    jobs = plan_of(place, **EVERYTHING).jobs
    queue = Queue(jobs, Claims(place / "results", jobs), max_failures=2)
    queue.take()
    queue.end(jobs[0], "no disk")
    broken = []
    while (job := queue.first()) is not None:
        assert queue.broken(job) == "no disk"
        broken.append(job)
        queue.take()
        queue.end(job, "no disk")
    assert len(broken) == len(jobs) - 1
    assert not queue.is_stopped


def test_no_job_is_begun_after_too_many_failures(place):
    jobs = plan_of(place, **EVERYTHING).jobs
    queue = Queue(jobs, Claims(place / "results", jobs), max_failures=1)
    queue.take()
    queue.end(jobs[0])
    queue.take()
    going_on = queue.first()
    queue.take()
    queue.end(jobs[1], "diverged")
    assert queue.is_stopped
    assert queue.first() is None
    assert not queue.is_over, "what runs is finished"
    queue.end(going_on)
    assert queue.is_over
    assert queue.left == [job for job in jobs[1:] if job is not jobs[1] and job is not going_on]


def test_two_queues_on_one_folder_divide_the_jobs(place):
    jobs = plan_of(place, backbones=["mlp", "gcn"], seeds=3).jobs
    one, other = (Queue(jobs, Claims(place / "results", jobs)) for _ in range(2))
    embed = one.first()
    assert one.take()
    assert not other.take(), "features of few nodes are made by one of them"
    assert other.aside == [embed]
    one.end(embed)
    other.look_again()
    assert other.first() is embed
    assert other.take(), "free again; they are found when they are looked for"
    other.end(embed)
    mine, theirs = one.first(), None
    assert one.take()
    assert not other.take()
    theirs = other.first()
    assert theirs is not mine
    assert other.take()
    one.end(mine)
    other.end(theirs)
    assert not list((place / "results" / "claims").iterdir())


# --- max_failures ---


def test_max_failures_starts_no_more_jobs_and_says_which(place, stage_bench):
    suite = write(place, plugins=["plugin.py"], backbones=["bad", "mlp", "gcn"], seeds=2)
    where = ("--results", place / "results", "--reports", place / "reports", "--device", "cpu", "--workers", "1")
    code, _, said = stage_bench("run", suite, *where, "--max-failures", "2")
    assert code == 1
    assert (
        "not started after 2 failed jobs (--max-failures): 4 jobs (train tiny shallow(dimension=8) mlp seed 0" in said
    )
    assert "2 jobs failed:" in said
    assert {record.status for record in tiny.records(place)} == {"failed"}

    code, _, said = stage_bench("run", suite, *where, "--no-retry-failed")
    assert code == 1, "failed ones are rows with their errors still"
    assert "7 jobs, 4 to do" in said
    assert "failed before, and left as they are (--no-retry-failed): 2 runs" in said
    assert sorted(record.status for record in tiny.records(place)) == ["failed"] * 2 + ["ok"] * 4

    code, _, said = stage_bench("run", suite, *where)
    assert code == 1
    assert "7 jobs, 2 to do" in said, "the same command again tries failed jobs again"


def test_a_number_of_failures_is_at_least_one(stage_bench):
    code, _, said = stage_bench("run", "suite.yaml", "--max-failures", "0")
    assert code == 2
    assert "max-failures" in said


# --- retry_failed ---


def test_retry_failed_tries_what_failed_once_more_at_the_end(place, stage_bench):
    """`moody` kills its process, as one does that is out of memory beside others; by itself it goes well."""
    suite = write(place, plugins=["plugin.py"], backbones=["moody", "mlp", "bad"])
    where = ("--results", place / "results", "--reports", place / "reports", "--device", "cpu", "--workers", "2")
    code, _, said = stage_bench("run", suite, *where, "--retry-failed")
    assert code == 1
    again = "trying again what failed, one job after another: 2 jobs (train tiny shallow(dimension=8) moody seed 0"
    assert again in said
    assert "was killed by signal 9; out of memory? choose fewer --workers" in said
    status = {record.backbone: record.status for record in tiny.records(place)}
    assert status == {"moody": "ok", "mlp": "ok", "bad": "failed"}
    assert "1 job failed:" in said, "what went well in the end did not fail"


# --- losses that are no number ---


def test_a_loss_that_is_no_number_is_a_failure_with_its_epoch(place):
    failed, _ = carry_out(place, backbones=[{"name": "mlp", "lr": 1e30}, "gcn"])
    assert len(failed) == 1
    assert "the loss is nan at epoch 2; try a lower lr (here: 1e+30)" in failed[0]
    by_status = {record.status: record for record in tiny.records(place)}
    assert by_status["failed"].backbone == "mlp(lr=1e+30)"
    assert "epoch 2" in by_status["failed"].error
    assert by_status["failed"].metrics == {}, "no number that looks like a result"


def test_trials_whose_loss_is_no_number_are_failed_trials(place):
    tuning = {"trials": 3, "sampler": "grid", "space": {"lr": [0.01, 1e30, 1e35]}}
    failed, said = carry_out(place, backbones=[{"name": "mlp", "tuning": tuning}])
    assert not failed
    assert "3 trials, best val" in said
    assert "2 failed" in said
    (summary,) = (place / "results" / "studies").glob("*.json")
    history = json.loads(summary.read_text())["history"]
    assert sorted(row["state"] for row in history) == ["failed", "failed", "ok"]
    assert all("the loss is nan at epoch 2" in row["error"] for row in history if row["state"] == "failed")


def test_a_study_of_nothing_but_such_trials_fails_and_what_needs_it(place):
    tuning = {"trials": 2, "sampler": "grid", "space": {"lr": [1e33, 1e35]}}
    failed, _ = carry_out(place, backbones=[{"name": "mlp", "tuning": tuning}, "gcn"])
    assert len(failed) == 2
    assert all("all 2 trials failed; the first: the loss is nan at epoch 2" in line for line in failed)
    assert sorted(record.status for record in tiny.records(place)) == ["failed", "ok"]

"""A full disk stops a run in one line, makes no job a failed one, and costs nothing but the rest."""

from __future__ import annotations

import errno
import os

import pytest

import tiny
from stage_bench import full_disk
from stage_bench.errors import DiskFull, JobError
from stage_bench.runs.store import Store
from stage_bench.training import studies, tuning
from studying import FIRST, Objective, choice, search, untimed

SUITE = {"features": [{"name": "shallow", "dimension": 8}], "training": {"epochs": 3}, "seeds": 3}


def no_room() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")


@pytest.fixture
def place(tmp_path):
    tiny.write_folder(tmp_path / "data", 60)
    return tmp_path


def test_nothing_is_begun_that_could_not_be_kept(place, monkeypatch):
    suite = {**SUITE, "backbones": ["mlp"]}
    assert not tiny.carry_out(place, {**suite, "seeds": 1})
    tried = []

    def put(*given):
        tried.append(given)
        raise no_room()

    with monkeypatch.context() as patched:
        patched.setattr(Store, "put", put)
        with pytest.raises(DiskFull, match=r"the disk is full \(somewhere\); make room and run again"):
            tiny.carry_out(place, suite)
    assert len(tried) == 1, "the third run is not begun"
    assert [run.status for run in tiny.records(place)] == ["ok"], "none counts as failed"
    assert not tiny.carry_out(place, suite)
    assert [run.status for run in tiny.records(place)] == ["ok"] * 3


def test_a_trial_does_not_fail_of_it(tmp_path):
    """Else the study would end with another winner than with room enough."""
    undisturbed = search(tmp_path / "other", Objective(), 4)
    with pytest.raises(OSError, match="No space left"):
        search(tmp_path, Objective({2: no_room()}), 4)
    study = studies.Study(tmp_path, "study")
    with study.locked():
        assert [trial.state for trial in study.trials()] == [studies.OK, studies.OK, studies.RUNNING]
    result = tuning.search(tmp_path, "study", choice(4), FIRST, Objective())
    assert untimed(result) == untimed(undisturbed)


def test_what_a_library_makes_of_it_is_still_a_full_disk():
    made = RuntimeError("could not save")
    made.__cause__ = no_room()
    assert full_disk.happened(made)
    assert full_disk.happened(RuntimeError("I/O error: No space left on device (os error 28)"))
    assert not full_disk.happened(JobError("another one"))
    assert not full_disk.happened(PermissionError(errno.EACCES, "no"))

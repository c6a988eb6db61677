"""Studies in several worker processes of one run: those that die of a trial, and one study asked for twice."""

import io
import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from rich.console import Console

import tiny
from stage_bench.execution import running

DEADLY = """
    import multiprocessing
    import os
    import signal

    import stage_bench
    from stage_bench.backbones.mlp import MLP
    from stage_bench.backbones.options import MLPOptions


    @stage_bench.register_backbone(name="deadly", summary="is killed where it is 13 wide", options=MLPOptions)
    class Deadly(MLP):
        def __init__(self, in_dim, num_classes, options):
            if options.hidden == 13 and multiprocessing.parent_process() is not None:
                os.kill(os.getpid(), signal.SIGKILL)
            super().__init__(in_dim, num_classes, options)
"""


@pytest.fixture
def no_longer_than_minutes() -> Iterator[None]:
    def stop(number: int, frame: Any) -> None:
        raise TimeoutError("it goes on for ever")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(300)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def carry_out(place: Path, **suite: Any) -> tuple[list[str], str]:
    """Two workers; what failed, and what was said."""
    tiny.write_folder(place / "data")
    standard = {"name": "tiny", "datasets": [{"name": "tiny", "path": "data"}], "seeds": 2, "training": {"epochs": 2}}
    given = {**standard, "features": [{"name": "shallow", "dimension": 8}], **suite}
    (place / "suite.yaml").write_text(json.dumps(given))
    folders = running.Folders(place, place / "results", place / "reports")
    plan = running.make_plan(place / "suite.yaml", folders)
    said = io.StringIO()
    jobs = running.todo(plan, folders, lambda line: None)
    failed = running.carry_out(plan, jobs, folders, "cpu", Console(file=said, width=500), workers=2)
    return failed, said.getvalue()


def test_a_trial_that_kills_its_process_fails_the_study_in_the_end(tmp_path, own_registry, no_longer_than_minutes):
    (tmp_path / "plugin.py").write_text(dedent(DEADLY))
    tuning = {"trials": 4, "sampler": "grid", "space": {"hidden": [8, 13, 16, 32]}}
    failed, _ = carry_out(tmp_path, plugins=["plugin.py"], backbones=[{"name": "deadly", "tuning": tuning}])
    assert len(failed) == 3  # the study, and what was to be trained with its winner
    assert all("was killed by signal 9; out of memory?" in line for line in failed)


def test_a_study_that_is_asked_for_twice_is_done_twice_and_said_to_be(tmp_path, own_registry, no_longer_than_minutes):
    space = {"hidden": [8, 16, 32, 64]}
    entries = [{"name": "mlp", "tuning": {"trials": trials, "space": space}} for trials in (2, 3)]
    failed, said = carry_out(tmp_path, backbones=entries)
    assert failed == []
    numbers = [(int(done), int(total)) for done, total in re.findall(r"^\[(\d+)/(\d+)\]", said, re.MULTILINE)]
    assert numbers == [(number, 7) for number in range(1, 8)]
    assert "2 trials, best val" in said
    assert "3 trials, best val" in said
    assert len(tiny.records(tmp_path)) == 4

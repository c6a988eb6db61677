"""Ctrl-C and SIGTERM in every phase: a clean end within seconds, and the same command goes on from there."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

import ledger
import moments
import stressed
import watching

pytestmark = pytest.mark.stress

AT_MOST = 10.0  # seconds from the signal to the end
QUIET = 40.0  # seconds of the suite on two cores that nobody else uses; on a machine that is slower a stop is, too
PHASES = ["starting", "embedding", "diffusing", "writing", "tuning", "training", "reporting"]


def has_begun(run: stressed.Run) -> bool:
    """Whether the program is there that a signal is meant for, and not Python alone that is about to read it."""
    status = Path(f"/proc/{run.pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def stop(run: stressed.Run, number: signal.Signals, to_all: bool, twice: bool) -> float:
    """The seconds until it ended."""
    begin = time.monotonic()
    for _ in range(1 + twice):
        (os.killpg if to_all else os.kill)(run.pid, number)
        time.sleep(0.2 if twice else 0.0)
    run.wait(60)
    return time.monotonic() - begin


@pytest.mark.parametrize(
    ("number", "to_all", "twice"),
    [
        pytest.param(signal.SIGINT, True, False, id="ctrl-c"),
        pytest.param(signal.SIGTERM, False, False, id="sigterm"),
        pytest.param(signal.SIGTERM, True, False, id="sigterm-to-all"),
        pytest.param(signal.SIGINT, True, True, id="ctrl-c-twice"),
    ],
)
def test_a_stop_in_each_phase(undisturbed, tmp_path, tell, number, to_all, twice):
    at = random.Random(number + 2 * to_all + 4 * twice)
    root = tmp_path / "root"
    root.mkdir()
    before = ledger.Found()
    for place, phase in enumerate(PHASES):
        moment = moments.draw(phase, at, 0.0, few=True)
        with watching.Watch(root) as watch:
            run = stressed.Run(undisturbed.subject, root, 1 + place % 2)
            while not has_begun(run):
                time.sleep(0.005)
            assert watch.until(moment, lambda run=run: run.process.poll() is not None, stressed.LIMIT), run.said
            seconds = stop(run, number, to_all, twice)
            watch.listen(0.0)
        found = ledger.look(root)
        last = run.said.splitlines()[-1] if run.said else "nothing"
        what = f"{number.name} {'twice ' if twice else ''}{phase:<10}"
        tell(f"{what} ended after {seconds:4.1f} s, saying: {last}; {found}")
        assert run.process.returncode == 130, run.said
        slowness = max(1.0, undisturbed.seconds / QUIET)
        assert seconds < (3.0 if twice else AT_MOST) * slowness, run.said
        assert not run.left(within=1.0)
        assert "Traceback" not in run.said, run.said
        assert not (broken := ledger.kept(before, found)), broken
        before = found
    run = stressed.Run(undisturbed.subject, root, 2)
    assert run.wait() == 0, run.said
    assert not ledger.kept(before, undisturbed.check(root))

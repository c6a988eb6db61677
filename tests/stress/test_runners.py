"""Several calls of `run` on one results folder at once: they share the work, and all end with the same leaderboard."""

from __future__ import annotations

import random
import re
import time
from collections import Counter

import pytest

import ledger
import moments
import stressed
import watching

pytestmark = pytest.mark.stress

_DONE = re.compile(r"results/(runs/\w+/run|embeddings/\w+/shards/\d+|diffusion/\w+/rows/\d+)\.json")


def done_twice(watch: watching.Watch) -> list[str]:
    """What was finished more than once."""
    counts = Counter(event.path for event in watch.events if event.kind == "renamed to" and _DONE.fullmatch(event.path))
    return [path for path, count in counts.items() if count > 1]


def listen(watch: watching.Watch, runs: list[stressed.Run]) -> None:
    """Until they have ended."""
    while any(run.process.poll() is None for run in runs):
        watch.listen(0.1)
        if any(run.seconds > 2 * stressed.LIMIT for run in runs):
            for run in runs:
                run.end()
            raise AssertionError("\n\n".join(run.said for run in runs))


@pytest.mark.parametrize("later", [False, True], ids=["at-once", "one-later"])
def test_two_runners(undisturbed, tmp_path, tell, later):
    root = tmp_path / "root"
    root.mkdir()
    pause = random.Random(3).uniform(0.2, 0.6) * min(60.0, undisturbed.seconds) if later else 0.0
    with watching.Watch(root) as watch:
        runs = [stressed.Run(undisturbed.subject, root, workers=2)]
        until = time.monotonic() + pause
        while time.monotonic() < until:
            watch.listen(0.1)
        runs.append(stressed.Run(undisturbed.subject, root, workers=1))
        listen(watch, runs)
    assert [run.wait() for run in runs] == [0, 0], [run.said for run in runs]
    assert not done_twice(watch)
    found = undisturbed.check(root)
    assert not found.temporary
    tell(f"two runners, the second {pause:.1f} s later: {runs[0].seconds:.1f} s; {found}")


@pytest.mark.parametrize("phase", ["embedding", "diffusing", "tuning"])
def test_one_of_two_runners_is_killed(undisturbed, tmp_path, tell, phase):
    """The other takes over what it had in hand."""
    at = random.Random(phase)
    moment = moments.draw(phase, at, 0.0, few=True)
    root = tmp_path / "root"
    root.mkdir()
    with watching.Watch(root) as watch:
        runs = [stressed.Run(undisturbed.subject, root, workers) for workers in (1, 2)]
        victim, other = at.sample(runs, 2)
        assert watch.until(moment, lambda: victim.process.poll() is not None, stressed.LIMIT), victim.said
        assert victim.kill(whole_group=at.random() < 0.5), "it was done before"
        with other.held():  # a reader and a writer at once would see what neither of them means
            before = ledger.look(root)
        last = watch.events[-1]
        listen(watch, [other])
    assert other.wait() == 0, other.said
    assert not victim.left(within=5.0)
    assert not done_twice(watch)
    found = undisturbed.check(root)
    assert not ledger.kept(before, found)
    tell(f"one of two killed at {last}: the other ended after {other.seconds:.1f} s; {found}")

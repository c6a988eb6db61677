"""A suite is killed at moments that are drawn, and started again each time: nothing is lost, nothing is done twice."""

from __future__ import annotations

import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import ledger
import moments
import stressed
import watching
from undisturbed import Undisturbed

SEED = int(os.environ.get("STRESS_SEED", "0"))
KILLS = {
    **{"starting": 3, "embedding": 7, "diffusing": 5, "tuning": 6, "training": 3, "writing": 7, "reporting": 5},
    moments.AT_ANY_TIME: 14,
}
BOUND = 3600.0  # seconds; on two quiet cores it takes some ten minutes
ROUNDS = 4  # each from an empty folder to a finished leaderboard

Tell = Callable[[str], None]


class Campaign:
    """One results folder after another, until a suite was killed as often as is asked for.

    workers: numbers of them, one of which is drawn for each run. few: a small suite, in which nothing comes often.
    rows: of each kill, the phase that was aimed at and the one that was hit. late: how many moments did not come.
    """

    def __init__(
        self,
        undisturbed: Undisturbed,
        place: Path,
        at: random.Random,
        tell: Tell,
        workers: Sequence[int] = (1, 1, 2),
        few: bool = False,
    ) -> None:
        self.undisturbed, self.place, self.at, self.tell = undisturbed, place, at, tell
        self.workers, self.few = workers, few
        self.rows: list[tuple[str, str]] = []
        self.late = 0
        self.began = time.monotonic()

    def round(self, number: int, phases: list[str]) -> None:
        """From an empty folder: a kill in each of these phases, as far as the run comes through them, and an end."""
        root = self.place / f"round-{number}"
        root.mkdir()
        before = ledger.Found()
        for phase in phases:
            if len(before.jobs) == self.undisturbed.subject.jobs and phase not in ("reporting", moments.AT_ANY_TIME):
                continue  # one of these did not come, and the run came to its end
            before = self._disturbed(root, phase, before)
        run = stressed.Run(self.undisturbed.subject, root, max(self.workers))
        assert run.wait() == 0, run.said
        self._check_announced(run, before)
        found = self.undisturbed.check(root)
        assert not ledger.kept(before, found)
        self.tell(f"round {number}: ended in {run.seconds:.1f} s, equal to the undisturbed one; {found}")

    def _disturbed(self, root: Path, phase: str, before: ledger.Found) -> ledger.Found:
        share = 1 - len(before.jobs) / self.undisturbed.subject.jobs
        moment = moments.draw(phase, self.at, 4.0 + share * min(60.0, self.undisturbed.seconds), self.few)
        whole_group = self.at.random() < 0.7
        with watching.Watch(root) as watch:
            run = stressed.Run(self.undisturbed.subject, root, self.at.choice(self.workers))
            came = watch.until(moment, lambda: run.process.poll() is not None, stressed.LIMIT)
            seconds = run.seconds
            came = came and run.kill(whole_group)
            watch.listen(0.0)
        if not came:  # it was done before
            assert run.wait() == 0, run.said
            self.late += 1
        assert not run.left(within=10.0), "workers end with the process that started them"
        self._check_announced(run, before)
        assert "Traceback" not in run.said, run.said
        found = ledger.look(root)
        assert not (broken := ledger.kept(before, found)), broken
        if came:
            last = str(watch.events[-1]) if watch.events else "no file yet"
            hit = watch.events[-1].phase if watch.events else "starting"
            self.rows.append((phase, hit))
            whom = "all its processes" if whole_group else "the first process"
            self.tell(
                f"kill {len(self.rows):>2} after {seconds:5.1f} s, aimed at {phase}: {hit} ({last}), {whom}; {found}"
            )
        else:
            self.tell(f"        {phase} did not come any more; {found}")
        return found

    def _check_announced(self, run: stressed.Run, before: ledger.Found) -> None:
        """What a run said that is to be done: neither more nor less than what is not there."""
        announced = re.search(r"(\d+) jobs, (\d+) to do", run.said)
        if announced:
            jobs = self.undisturbed.subject.jobs
            assert (int(announced[1]), int(announced[2])) == (jobs, jobs - len(before.jobs)), run.said

    def table(self) -> str:
        seconds = time.monotonic() - self.began
        late = f"; {self.late} more moments did not come" if self.late else ""
        return f"{moments.table(self.rows)}\n{len(self.rows)} kills in {seconds / 60:.1f} min{late}"


@pytest.mark.stress
def test_fifty_kills(undisturbed, tmp_path, tell):
    at = random.Random(SEED)
    campaign = Campaign(undisturbed, tmp_path, at, tell)
    tell(f"\nundisturbed: {undisturbed.seconds:.1f} s; seed {SEED} (STRESS_SEED)")
    for number in range(2 * ROUNDS):
        assert time.monotonic() - campaign.began < BOUND, "this takes too long"
        if left := Counter(KILLS) - Counter(aimed for aimed, _ in campaign.rows):
            share = moments.share(left, max(1, ROUNDS - number))
            campaign.round(number, moments.in_order(share, at))
    assert len(campaign.rows) == sum(KILLS.values()), "moments do not come"
    tell(campaign.table())
    assert {hit for _, hit in campaign.rows} == set(watching.PHASES)


def test_three_kills(small_undisturbed, tmp_path, tell):
    """The same in small, for every day."""
    campaign = Campaign(small_undisturbed, tmp_path, random.Random(SEED), lambda line: None, [1], few=True)
    for number in range(3):  # on a busy machine a moment may not come
        aimed = {aimed for aimed, _ in campaign.rows}
        if left := [phase for phase in ("writing", "diffusing", "tuning") if phase not in aimed]:
            campaign.round(number, left)
    assert len(campaign.rows) == 3, "moments do not come"

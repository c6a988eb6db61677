"""Work on a report that another process does meanwhile."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from stage_bench.errors import StageBenchError
from stage_bench.leaderboard.beside import ROWS, Beside

HERE = os.getpid()


def test_few_rows_are_done_here_and_many_beside() -> None:
    assert Beside(ROWS - 1, os.getpid).result() == HERE
    assert Beside(ROWS, os.getpid).result() != HERE


def test_large_results_arrive() -> None:
    assert Beside(ROWS, lambda size: "x" * size, 10_000_000).result() == "x" * 10_000_000


def test_a_process_that_dies_costs_nothing_but_time() -> None:
    def dies_elsewhere() -> int:
        if os.getpid() != HERE:
            os.kill(os.getpid(), signal.SIGKILL)
        return 7

    assert Beside(ROWS, dies_elsewhere).result() == 7


def test_what_is_wrong_is_said_here(capfd: pytest.CaptureFixture[str]) -> None:
    def wrong(path: Path) -> None:
        raise StageBenchError(f"{path}: no")

    work = Beside(ROWS, wrong, Path("x"))
    with pytest.raises(StageBenchError, match="x: no"):
        work.result()
    assert capfd.readouterr() == ("", "")

"""Work on a report that another process does meanwhile."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import boards
from stage_bench.errors import StageBenchError
from stage_bench.leaderboard import overhead, rows
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


def test_a_killed_program_leaves_no_process_behind(tmp_path: Path) -> None:
    code = (
        "import os, signal, time\n"
        "from pathlib import Path\n"
        "from stage_bench.leaderboard.beside import ROWS, Beside\n"
        "def large():\n"
        "    Path('pid').write_text(str(os.getpid()))\n"
        "    return 'x' * 10_000_000\n"
        "work = Beside(ROWS, large)\n"
        "Beside(ROWS, time.sleep, 1)\n"
        "time.sleep(2)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    assert done.returncode == -signal.SIGKILL
    status = Path("/proc") / (tmp_path / "pid").read_text() / "status"
    until = time.monotonic() + 20
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it is gone
        while "State:\tZ" not in status.read_text():
            assert time.monotonic() < until, "it still waits for somebody to read what it sends"
            time.sleep(0.1)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core: all is done here")
def test_a_report_is_the_same_whoever_makes_it(tmp_path: Path) -> None:
    runs = [
        row | {"id": f"{dataset} {row['id']}"}
        for dataset in ("cora", "pubmed", "wordnet")
        for backbone, level in (("gcn", 0.8), ("sage", 0.82))
        for row in boards.several(backbone, [level, level + 0.01, level - 0.02], dataset=dataset)
    ]
    rows.write_runs(tmp_path / "all.csv", boards.frame(*runs))
    code = (
        "import multiprocessing, sys\n"
        "from stage_bench.cli import app\n"
        "from stage_bench.leaderboard import beside\n"
        "begun, context = [], multiprocessing.get_context\n"
        "multiprocessing.get_context = lambda method: begun.append(method) or context(method)\n"
        "beside.ROWS = int(sys.argv[1])\n"
        "assert app(['report', 'all.csv', '--reports', sys.argv[2]], standalone_mode=False) == 0\n"
        "print(len(begun))\n"
    )
    for at_least, name, processes in ((19, "one", 0), (18, "many", 4)):  # runs.csv, mean ranks, twice half the plots
        command = [sys.executable, "-c", code, str(at_least), name]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == str(processes)
    one, many = (sorted(path for path in (tmp_path / name).rglob("*") if path.is_file()) for name in ("one", "many"))
    assert len(one) > 20
    for alone, together in zip(one, many, strict=True):
        assert alone.relative_to(tmp_path / "one") == together.relative_to(tmp_path / "many")
        assert alone.read_bytes() == together.read_bytes(), alone.name


def test_overhead_is_as_before_afterwards() -> None:
    def blas() -> list[int]:
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    @overhead.less()
    def fails() -> None:
        assert gc.get_threshold() > collector
        assert all(number == 1 for number in blas())
        raise StageBenchError("no")

    with threadpool_limits(2, user_api="blas"):
        collector, threads = gc.get_threshold(), blas()
        with pytest.raises(StageBenchError):
            fails()
        assert (gc.get_threshold(), blas()) == (collector, threads)

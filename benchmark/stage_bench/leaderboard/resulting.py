"""What `compare` compares: a results folder, or a report, read as rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from stage_bench.errors import StageBenchError
from stage_bench.leaderboard import board, facts_file, hits, published
from stage_bench.leaderboard.rows import RUN_COLUMNS, check_runs, read_runs
from stage_bench.leaderboard.samples import Hits
from stage_bench.runs.row import from_record
from stage_bench.runs.store import Store


@dataclass(frozen=True)
class Side:
    """board: rows.COLUMNS. runs: those behind it; None for a leaderboard.csv alone. hits: as of report.make."""

    board: pd.DataFrame
    runs: pd.DataFrame | None = None
    hits: Hits = field(default_factory=dict)


def read(path: Path) -> Side:
    """A results folder (with `runs/`), a report's folder, a runs.csv, or a leaderboard.csv.

    Raises StageBenchError: it is none of these, or is wrong.
    """
    if (path / "runs").is_dir():
        return _of_runs(_of_results(path))
    if path.is_dir():
        for name in ("runs.csv", "leaderboard.csv"):
            if (path / name).is_file():
                return read(path / name)
        raise StageBenchError(f"{path}: neither a report (runs.csv, leaderboard.csv) nor a results folder (runs/)")
    if not path.is_file():
        raise StageBenchError(f"{path}: there is no such file or folder")
    if path.name.startswith("leaderboard"):
        beside = path.with_name("runs.csv")
        if beside.is_file():
            return read(beside)
        facts_file.check(path.parent, [path.name])
        return Side(board.read(path))
    facts_file.check(path.parent, [path.name, hits.NAME])
    return _of_runs(read_runs(path), hits.read(path.parent))


def _of_runs(runs: pd.DataFrame, found: Hits | None = None) -> Side:
    return Side(board.of_checked(runs, published.none(), ""), runs, found or {})


def _of_results(results: Path) -> pd.DataFrame:
    """The records of a results folder, whatever suites they are of, under the names that they were made with."""
    rows = []
    store = Store(results)
    for path in sorted((results / "runs").glob("*/run.json")):
        try:
            record = store.read(path.parent.name)
        except StageBenchError as error:
            raise StageBenchError(f"{error}; `stage-bench run` makes a damaged run again") from None
        if record is not None:
            rows.append(from_record(record))
    if not rows:
        raise StageBenchError(f"{results}: no run is there")
    return check_runs(pd.DataFrame(rows, columns=list(RUN_COLUMNS)), str(results))

"""A report: everything that its files say, computed once from rows; the files are views of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from stage_bench.leaderboard import board as boards
from stage_bench.leaderboard import overhead
from stage_bench.leaderboard import published as published_numbers
from stage_bench.leaderboard.beside import Beside
from stage_bench.leaderboard.costs import Cost, costs
from stage_bench.leaderboard.mean_ranks import MeanRank, mean_ranks
from stage_bench.leaderboard.reproduction import Reproduction, reproductions
from stage_bench.leaderboard.rows import check_runs
from stage_bench.leaderboard.samples import Hits
from stage_bench.leaderboard.samples import Key as Key
from stage_bench.leaderboard.separation import Separation, separations


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What stands beside the rows of a report and cannot be computed from them. Goes to report.json and back.

    suite: its name, and the report's folder. configuration: sentences on how the runs were made; left_out: on what is
    missing; models: facts about the embedding models (wording.MODEL_FACTS); studies: what tuning left
    (training/tuning.py `summary`, with the names of its row); versions: software to version; selection: what a filter
    kept of a larger report, empty for a whole one; other_data: datasets that bear a published dataset's name and are
    another's data, so that published numbers do not stand beside ours; source: what reproduced rows say of where they
    come from.
    """

    suite: str
    description: str = ""
    source: str = ""
    configuration: Sequence[str] = ()
    left_out: Sequence[str] = ()
    compare: Sequence[str] = ()
    models: Sequence[Mapping[str, str]] = ()
    studies: Sequence[Mapping[str, Any]] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    other_data: Sequence[str] = ()
    selection: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """One leaderboard with what belongs to it. Made by `make` from runs; the same runs give the same report.

    runs: rows.RUN_COLUMNS, one row a run. board: rows.COLUMNS, reproduced and published rows, sorted by dataset, then
    accuracy. separations, costs: of each reproduced row, by its KEY. mean_ranks: over the datasets; empty with one.
    reproductions: published numbers with ours beside. published_times: published.TIME_COLUMNS. remarks: sentences on
    what was published and is not shown. hits: what `make` was given.
    details: by run id, what `run.json` holds beyond runs.csv (`configuration`, `environment`, `curve`, `weights`);
    it may lack runs.
    """

    facts: Facts
    runs: pd.DataFrame
    board: pd.DataFrame
    separations: Mapping[Key, Separation]
    costs: Mapping[Key, Cost]
    mean_ranks: Sequence[MeanRank]
    reproductions: Sequence[Reproduction]
    published_times: pd.DataFrame
    details: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    remarks: Sequence[str] = ()
    hits: Hits = field(default_factory=dict)


@overhead.less()
def make(
    facts: Facts,
    runs: pd.DataFrame,
    published: pd.DataFrame | None = None,
    published_times: pd.DataFrame | None = None,
    hits: Hits | None = None,
    details: Mapping[str, Mapping[str, Any]] | None = None,
    checked: bool = False,
) -> Report:
    """The report of `runs` (a frame with rows.RUN_COLUMNS; checked: one that rows.check_runs gave).

    published: rows of published.load; published_times: those of published.times; hits: by run id, bool [test nodes],
    which test nodes the run was right about, for tests where the split is fixed. Versions that `facts` does not give
    are those that the runs recorded.

    Raises StageBenchError for rows that are wrong (rows.check_runs) or cannot share a table (board.build).
    """
    if not checked:
        runs = check_runs(runs)
    if published is None:
        published = published_numbers.none()
    rows, elsewhere = published_numbers.select(
        published_numbers.without(published, facts.other_data), boards.table_keys(runs)
    )
    ranked = Beside(len(runs), mean_ranks, runs)
    board = boards.of_checked(runs, rows, facts.source or f"stage-bench, suite {facts.suite}")
    noun = "row has" if elsewhere == 1 else "rows have"
    return Report(
        facts=facts if facts.versions else replace(facts, versions=_versions(runs)),
        runs=runs,
        board=board,
        separations=separations(runs, board, hits),
        costs=costs(runs, board),
        mean_ranks=ranked.result(),
        reproductions=reproductions(board),
        published_times=published_numbers.no_times() if published_times is None else published_times,
        details=details or {},
        remarks=[f"{elsewhere} published {noun} one of these datasets but another split."] if elsewhere else [],
        hits=hits or {},
    )


def _versions(runs: pd.DataFrame) -> dict[str, str]:
    """The versions and commits that the runs recorded, each once."""
    recorded = {"stage-bench": "version", "commit": "commit"}
    found = {name: sorted(set(runs[column].tolist()) - {""}) for name, column in recorded.items()}
    return {name: " and ".join(values) for name, values in found.items() if values}

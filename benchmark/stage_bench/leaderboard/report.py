"""A report: everything that its files say, computed once from rows; the files are views of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from stage_bench.leaderboard.costs import Cost
from stage_bench.leaderboard.mean_ranks import MeanRank
from stage_bench.leaderboard.reproduction import Reproduction
from stage_bench.leaderboard.separation import Separation

Key = tuple[str, ...]
"""The values of rows.KEY: dataset, split, features, llm, instruction, backbone."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What stands beside the rows of a report and cannot be computed from them. Goes to report.json and back.

    suite: its name, and the report's folder. configuration: sentences on how the runs were made; left_out: on what is
    missing; models: facts about the embedding models (tables.MODEL_FACTS); studies: what tuning left
    (training/tuning.py `summary`, with the names of its row); versions: software to version; selection: what a filter
    kept of a larger report, empty for a whole one.
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
    selection: str = ""


@dataclass(frozen=True, kw_only=True)
class Report:
    """One leaderboard with what belongs to it. Made by `reporting.make` from runs; the same runs give the same report.

    runs: rows.RUN_COLUMNS, one row a run. board: rows.COLUMNS, reproduced and published rows, sorted by dataset, then
    accuracy. separations, costs: of each reproduced row, by its KEY. mean_ranks: over the datasets; empty with one.
    reproductions: published numbers with ours beside. published_times: published.TIME_COLUMNS.
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

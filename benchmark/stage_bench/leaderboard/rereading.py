"""A report made anew from its own folder, or from a runs.csv alone: no results, no datasets, no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from stage_bench.errors import StageBenchError
from stage_bench.leaderboard import details, facts_file, hits, overhead, selecting
from stage_bench.leaderboard.details import Details
from stage_bench.leaderboard.report import Facts, Report
from stage_bench.leaderboard.report import make as make_report
from stage_bench.leaderboard.rows import read_ids, read_runs
from stage_bench.leaderboard.samples import Hits


@dataclass(frozen=True)
class Read:
    """What was read, of the runs that were wanted. file: a runs.csv; hits, details: empty for one alone."""

    file: Path
    facts: Facts
    runs: pd.DataFrame
    hits: Hits
    details: Details


def is_report(path: Path) -> bool:
    """Whether a path is a runs.csv, or a folder (suites are files)."""
    return path.is_dir() or path.suffix.lower() == ".csv"


@overhead.less()
def read(path: Path, compare: Sequence[str] | None = None, wanted: Mapping[str, Sequence[str]] | None = None) -> Read:
    """Read runs.csv, or the folder that holds it, with what lies beside it.

    compare: published tables to show; None: those that report.json names, none without it. wanted: keep only runs with
    these values, by column (selecting.select). Without report.json the report is named after the folder.
    Raises StageBenchError, which names the file.
    """
    file = path / "runs.csv" if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        raise StageBenchError(f"{path}: no runs.csv in this folder; a report has one, and a suite is a YAML file")
    beside = file.parent if file.name == "runs.csv" else None
    if beside:
        facts_file.check(beside, (file.name, hits.NAME, details.NAME))
    runs = read_runs(file)
    name = (file.absolute().parent.name if beside else file.stem) or "report"
    facts = (facts_file.read(beside) if beside else None) or Facts(suite=name)
    if compare is not None:
        facts = replace(facts, compare=list(compare))
    of_runs, said = (hits.read(beside), details.read(beside)) if beside else ({}, {})
    facts, runs = selecting.select(facts, runs, wanted or {})
    kept = set(runs["id"].tolist()) if of_runs or said else set()
    return Read(
        file=file,
        facts=facts,
        runs=runs,
        hits={id_: nodes for id_, nodes in of_runs.items() if id_ in kept},
        details={id_: detail for id_, detail in said.items() if id_ in kept},
    )


def make(read_: Read, published: pd.DataFrame, published_times: pd.DataFrame) -> Report:
    """The report of what was read. Raises StageBenchError, which names the file."""
    try:
        return make_report(read_.facts, read_.runs, published, published_times, read_.hits, read_.details, checked=True)
    except StageBenchError as error:
        raise StageBenchError(f"{read_.file}: {error}") from None


def check_place(source: Path, target: Path, report: Report) -> None:
    """Raises StageBenchError: `target` holds a report of other runs, which one made anew from `source` may not replace.

    What a report of somebody else is called is in its own report.json, and may be the name of one of yours.
    """
    kept = target / "runs.csv"
    if not kept.is_file() or kept.resolve() == (source / "runs.csv" if source.is_dir() else source).resolve():
        return
    theirs = read_ids(kept)
    if theirs and theirs.isdisjoint(report.runs["id"]):
        raise StageBenchError(f"{target} holds a report of other runs; name another place with --reports, or delete it")


def counts(report: Report) -> dict[str, int]:
    """How many runs are done, failed and missing."""
    statuses = report.runs["status"].value_counts()
    names = {"done": "ok", "failed": "failed", "missing": "missing"}
    return {name: int(statuses.get(status, 0)) for name, status in names.items()}

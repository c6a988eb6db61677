"""A part of a report's runs, by the values of some columns: ranks and tests are then among those alone."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from stage_bench.errors import StageBenchError, shown
from stage_bench.leaderboard.report import Facts
from stage_bench.leaderboard.rows import KEY

COLUMNS = (*KEY, "kind", "hardware")
"""Columns to select by."""

_LISTED = 20  # values in a message


def parse(conditions: Sequence[str]) -> dict[str, list[str]]:
    """`column=value`, a column with several values several times. Raises StageBenchError for anything else."""
    wanted: dict[str, list[str]] = {}
    for condition in conditions:
        column, equals, value = condition.partition("=")
        if not equals:
            raise StageBenchError(f"--only {shown(condition)}: write it as column=value, such as backbone=gcn")
        if column not in COLUMNS:
            raise StageBenchError(f"--only {shown(condition)}: {_unknown('column', column, COLUMNS)}")
        wanted.setdefault(column, []).append(value)
    return wanted


def select(facts: Facts, runs: pd.DataFrame, wanted: Mapping[str, Sequence[str]]) -> tuple[Facts, pd.DataFrame]:
    """The runs of a checked frame whose cells are among the wanted values of each column, and facts that say so.

    A selection has a name of its own, so that it does not take the place of the whole report.

    Raises StageBenchError: a value that no run has, or nothing is left.
    """
    if not wanted:
        return facts, runs
    kept = runs
    for column, values in wanted.items():
        present = sorted(set(runs[column]))
        for value in values:
            if value not in present:
                raise StageBenchError(_unknown(column, value, present))
        kept = kept[kept[column].isin(list(values))]
    said = "; ".join(f"{column} {' or '.join(values)}" for column, values in wanted.items())
    if not len(kept):
        raise StageBenchError(f"no run has {said}")
    studies = [
        study
        for study in facts.studies
        if all(study.get(column, "") in values for column, values in wanted.items() if column in KEY)
    ]
    name = "-".join([facts.suite, *(value for values in wanted.values() for value in values)])
    return replace(facts, suite=name, selection=said, studies=studies), kept.reset_index(drop=True)


def _unknown(what: str, value: str, valid: Sequence[str]) -> str:
    near = difflib.get_close_matches(value, valid, n=1)
    hint = f"; did you mean '{shown(near[0])}'?" if near else ""
    more = f", and {len(valid) - _LISTED} more" if len(valid) > _LISTED else ""
    return f"unknown {what} '{shown(value)}'{hint} (valid: {', '.join(map(shown, valid[:_LISTED]))}{more})"

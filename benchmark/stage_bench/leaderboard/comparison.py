"""Two boards row by row: what changed from one to the other, by test rather than by digits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from stage_bench.leaderboard import samples, splits, wording
from stage_bench.leaderboard.resulting import Side
from stage_bench.leaderboard.rows import KEY, records
from stage_bench.leaderboard.samples import Key, Outcome, Protocol, Sample, key_of
from stage_bench.leaderboard.significance import LEVEL, holm, interval_p, summary_t

COMPARISON_COLUMNS = (
    *KEY,
    *("accuracy_a", "ci_low_a", "ci_high_a", "n_runs_a", "seconds_a"),
    *("accuracy_b", "ci_low_b", "ci_high_b", "n_runs_b", "seconds_b"),
    *("difference", "p", "p_holm", "effect", "method", "verdict", "note"),
)
VERDICTS = ("better", "worse", "unchanged", "untested", "failed", "new", "missing")

Row = dict[str, Any]


def compare(a: Side, b: Side) -> pd.DataFrame:
    """Join two boards by their key columns and say what `b` is against `a`; COMPARISON_COLUMNS.

    Only reproduced rows count. `difference` is the test accuracy (a fraction) of `b` less that of `a`. `verdict` is
    `better` or `worse` where a test that suits the protocol (samples.against; Welch's on means and deviations where a
    side has no runs) says so at the 5 % level, corrected by Holm for the rows that both have; else `unchanged`;
    `untested` where accuracies differ and there is no test, `note` says why; `failed` where `b` has the row but no
    accuracy any more; `new` and `missing` where only one of them has the row. Seconds are totals, and not tested. Rows
    keep the order of `a`, followed by those that only `b` has.
    """
    before, after = _reproduced(a), _reproduced(b)
    tests = _Tests(a, b)
    keys = list(dict.fromkeys([*before, *after]))
    both = {
        key: (before[key], after[key])
        for key in keys
        if key in before and key in after and None not in (before[key]["test_accuracy"], after[key]["test_accuracy"])
    }
    outcomes = {key: tests.outcome(key, *rows, len(both)) for key, rows in both.items()}
    tested = [key for key, outcome in outcomes.items() if outcome.p is not None]
    corrected = dict(zip(tested, holm([outcomes[key].p or 0.0 for key in tested]), strict=True))
    rows = [_compared(key, before.get(key), after.get(key), outcomes.get(key), corrected.get(key)) for key in keys]
    table = pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))
    texts = {*KEY, "method", "verdict", "note"}
    counts = dict.fromkeys(("n_runs_a", "n_runs_b"), "Int64")
    reals = [column for column in COMPARISON_COLUMNS if column not in texts and column not in counts]
    return table.astype({**dict.fromkeys(reals, "float64"), **counts})


def shared(changes: pd.DataFrame) -> int:
    """How many rows both sides have."""
    return int((~changes["verdict"].isin(["new", "missing"])).sum())


def regressions(changes: pd.DataFrame) -> int:
    """How many rows are significantly worse, or failed where they did not before."""
    return int(changes["verdict"].isin(["worse", "failed"]).sum())


def summary(changes: pd.DataFrame) -> str:
    """One line: how many rows of each verdict."""
    counts = Counter(changes["verdict"])
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
    return f"{said or 'no rows'} (tests at the {LEVEL:.0%} level, corrected by Holm for the rows that both have)"


def shown(changes: pd.DataFrame) -> list[dict[str, str]]:
    """The table for a terminal."""
    rows = []
    for row in records(changes):
        # Published numbers have no part in it, so these columns are enough for `accuracy`.
        sides = {side: wording.fraction(row[f"accuracy_{side}"]) for side in "ab"}
        rows.append(
            {
                "dataset": wording.plain(row["dataset"]),
                "split": wording.plain(row["split"]),
                "features": wording.plain(wording.inputs(row)),
                "instruction": wording.plain(row["instruction"]),
                "backbone": wording.plain(row["backbone"]),
                **{side: f"{sides[side]} ({row[f'n_runs_{side}']})" if sides[side] else "" for side in "ab"},
                "difference": wording.signed(row["difference"]),
                "p": wording.p_value(row["p_holm"]),
                "verdict": row["verdict"],
                "note": wording.plain(row["note"]),
            }
        )
    return rows


class _Tests:
    """Tests of one side's rows against the other's."""

    def __init__(self, a: Side, b: Side) -> None:
        self._runs: tuple[Mapping[Key, Sample], ...] | None = None
        self._protocols: Mapping[tuple[str, str], Protocol] = {}
        if a.runs is None or b.runs is None:
            return
        self._runs = samples.samples(a.runs), samples.samples(b.runs)
        # An id is of what went in, not of what came out: with other libraries its numbers may be others.
        together = pd.concat([a.runs, b.runs]).drop_duplicates("id")
        self._protocols = samples.protocols(together)
        both = a.hits.keys() & b.hits.keys()
        changed = {id_ for id_ in both if not np.array_equal(a.hits[id_], b.hits[id_])}
        self._hits = {id_: hits for id_, hits in {**a.hits, **b.hits}.items() if id_ not in changed}
        self._data = [_fingerprints(side.runs) for side in (a, b) if side.runs is not None]

    def outcome(self, key: Key, a: Row, b: Row, tests: int) -> Outcome:
        if self._runs is None:
            return _by_summary(a, b)
        before, after = (side[key] for side in self._runs)
        if before.by_id() == after.by_id():
            return Outcome(p=1.0, method="the same runs", n=len(after.ids))
        if reason := _other_data(key, before, after, *self._data):
            return Outcome(reason=reason)
        (found,) = samples.against(before, [after], self._protocols[key[0], key[1]], self._hits, tests)
        return found


def _by_summary(a: Row, b: Row) -> Outcome:
    """From what a leaderboard.csv alone says: deviations, else intervals."""
    if any(side["test_std"] is None or (side["n_runs"] or 0) < 2 for side in (a, b)):
        if None in (a["ci_low"], a["ci_high"], b["ci_low"], b["ci_high"]):
            return Outcome(reason="a single run, and no runs.csv beside the leaderboard")
        return Outcome(
            p=interval_p(
                (a["ci_low"], a["ci_high"]), (b["ci_low"], b["ci_high"]), b["test_accuracy"] - a["test_accuracy"]
            ),
            method="z-test on the 95 % intervals",
        )
    ratio = splits.RATIOS.get(a["split"] or "", 0.0)
    difference = b["test_accuracy"] - a["test_accuracy"]
    p = summary_t(difference, a["test_std"], a["n_runs"], b["test_std"], b["n_runs"], ratio)
    return Outcome(p=p, method="Welch's t-test on means and deviations", n=min(a["n_runs"], b["n_runs"]))


Fingerprints = Mapping[str, tuple[str, str]]


def _fingerprints(runs: pd.DataFrame) -> Fingerprints:
    """Of each run: dataset and split."""
    pairs = zip(runs["dataset_fingerprint"].tolist(), runs["split_fingerprint"].tolist(), strict=True)
    return dict(zip(runs["id"].tolist(), pairs, strict=True))


def _other_data(key: Key, a: Sample, b: Sample, of_a: Fingerprints, of_b: Fingerprints) -> str:
    """Why the runs of two sides cannot be tested against each other, or nothing."""
    datasets = {found[id_][0] for sample, found in ((a, of_a), (b, of_b)) for id_ in sample.ids} - {""}
    if len(datasets) > 1:
        return f"{key[0]} is other data in the two"
    by_seed: dict[float, str] = {}
    for sample, found in ((a, of_a), (b, of_b)):
        for id_, (split_seed, _) in zip(sample.ids, sample.pairs(), strict=True):
            if (split := found[id_][1]) and by_seed.setdefault(split_seed, split) != split:
                return f"the same seed drew different splits of {key[0]} in the two"
    return ""


def _reproduced(side: Side) -> dict[Key, Row]:
    return {key_of(row): row for row in records(side.board) if row["origin"] == "reproduced"}


def _compared(key: Key, a: Row | None, b: Row | None, outcome: Outcome | None, p_holm: float | None) -> Row:
    row: Row = dict.fromkeys(COMPARISON_COLUMNS)
    row.update(zip(KEY, key, strict=True))
    notes = []
    for name, side in (("a", a), ("b", b)):
        if side is None:
            continue
        row[f"accuracy_{name}"], row[f"n_runs_{name}"] = side["test_accuracy"], side["n_runs"]
        row[f"ci_low_{name}"], row[f"ci_high_{name}"] = side["ci_low"], side["ci_high"]
        row[f"seconds_{name}"] = side["total_seconds"]
        if side["status"] != "ok":
            notes.append(f"{side['status']} in {name}")
    if outcome is not None:
        # The CSV has 4 decimals: digits beyond them are no difference.
        row["difference"] = round(row["accuracy_b"] - row["accuracy_a"], 4)
        row.update(p=outcome.p, p_holm=p_holm, effect=outcome.effect)
        notes.append(outcome.reason)
    row["method"] = "" if outcome is None else outcome.method
    row["verdict"] = _verdict(row, a, b, p_holm)
    row["note"] = "; ".join(filter(None, notes))
    return row


def _verdict(row: Row, a: Row | None, b: Row | None, p_holm: float | None) -> str:
    if a is None or (row["accuracy_a"] is None and row["accuracy_b"] is not None):
        return "new"
    if b is None:
        return "missing"
    if row["accuracy_b"] is None:
        return "failed" if row["accuracy_a"] is not None else "unchanged"
    if p_holm is None:
        return "untested" if row["difference"] else "unchanged"
    if p_holm >= LEVEL:
        return "unchanged"
    return "better" if row["difference"] > 0 else "worse"

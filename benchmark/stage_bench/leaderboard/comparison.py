"""Two leaderboards row by row: what changed from one to the other."""

from typing import Any

import pandas as pd

from stage_bench.leaderboard.rows import KEY, records

COMPARISON_COLUMNS = (
    *KEY,
    *("accuracy_a", "ci_low_a", "ci_high_a", "n_runs_a", "accuracy_b", "ci_low_b", "ci_high_b", "n_runs_b"),
    *("difference", "verdict", "note"),
)
VERDICTS = ("better", "worse", "unchanged", "new", "missing")

Row = dict[str, Any]


def compare(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Join two boards (`board.build` or `board.read`) by their key columns and say what `b` is against `a`.

    Only reproduced rows count. `difference` is the test accuracy (a fraction) of `b` less that of `a`. `verdict`
    is `unchanged` where the two 95 % intervals overlap, else `better` or `worse`; `new` where only `b` has an
    accuracy, `missing` where only `a` has one. Overlap is a careful rule and no test: it can miss a real difference
    between runs that share seeds. A row of one run has no interval; its accuracy stands for both ends and `note`
    says so. Rows keep the order of `a`, followed by those that only `b` has.
    """
    before, after = _reproduced(a), _reproduced(b)
    rows = [_compared(key, before.get(key), after.get(key)) for key in dict.fromkeys([*before, *after])]
    table = pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS))
    fractions = [column for column in COMPARISON_COLUMNS if column.startswith(("accuracy", "ci_", "difference"))]
    return table.astype({**dict.fromkeys(fractions, "float64"), "n_runs_a": "Int64", "n_runs_b": "Int64"})


def _reproduced(board: pd.DataFrame) -> dict[tuple[str, ...], Row]:
    rows = [row for row in records(board) if row["origin"] == "reproduced"]
    return {tuple(row[column] or "" for column in KEY): row for row in rows}


def _compared(key: tuple[str, ...], a: Row | None, b: Row | None) -> Row:
    row: Row = dict.fromkeys(COMPARISON_COLUMNS)
    row.update(zip(KEY, key, strict=True))
    notes = []
    for name, side in (("a", a), ("b", b)):
        if side is None:
            continue
        row[f"accuracy_{name}"], row[f"n_runs_{name}"] = side["test_accuracy"], side["n_runs"]
        row[f"ci_low_{name}"], row[f"ci_high_{name}"] = side["ci_low"], side["ci_high"]
        if side["status"] != "ok":
            notes.append(f"{side['status']} in {name}")
        elif side["ci_low"] is None:
            notes.append(f"one run in {name}: no interval")
    row["verdict"] = _verdict(a, b)
    if row["accuracy_a"] is not None and row["accuracy_b"] is not None:
        # The CSV has 4 decimals: digits beyond them are no difference.
        row["difference"] = round(row["accuracy_b"] - row["accuracy_a"], 4)
    row["note"] = "; ".join(notes)
    return row


def _verdict(a: Row | None, b: Row | None) -> str:
    has_a = a is not None and a["test_accuracy"] is not None
    has_b = b is not None and b["test_accuracy"] is not None
    if a is None or (has_b and not has_a):
        return "new"
    if b is None or (has_a and not has_b):
        return "missing"
    if not has_a:
        return "unchanged"  # failed in both
    (low_a, high_a), (low_b, high_b) = _ends(a), _ends(b)
    if low_b > high_a:
        return "better"
    return "worse" if high_b < low_a else "unchanged"


def _ends(row: Row) -> tuple[float, float]:
    ends = [row[name] if row[name] is not None else row["test_accuracy"] for name in ("ci_low", "ci_high")]
    return round(ends[0], 4), round(ends[1], 4)

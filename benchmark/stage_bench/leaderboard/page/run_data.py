"""The runs of a report as the script reads them: by column, every text once; and the table of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from stage_bench.leaderboard.page.cells import SHOWN, Cell, Column, Row, Table, count, fraction, seconds
from stage_bench.leaderboard.repeated import mapped
from stage_bench.leaderboard.report import Key, Report
from stage_bench.leaderboard.rows import ACCURACIES, KEY, SECONDS, plain_cells
from stage_bench.leaderboard.wording import plain

DETAILED_RUNS = 2_000
"""With more runs their curves, configurations and environments stay out of the page."""

_EXACT = 2**53  # beyond it JavaScript's numbers have gaps
_CURVE_DIGITS = 4

Packed = dict[str, Any]
"""One column: `all`, a value that every row has; `of` and `at`, distinct values and each row's place among them; or
`each`, a value a row."""

COLUMNS = (
    Column("id", "Run"),
    Column("dataset", "Dataset", facet="dataset"),
    Column("split", "Split"),
    Column("features", "Features", facet="features"),
    Column("llm", "LLM", facet="llm"),
    Column("instruction", "Instruction"),
    Column("backbone", "Backbone", facet="backbone"),
    Column("kind", "Kind"),
    Column("split_seed", "Split seed", "number"),
    Column("init_seed", "Init. seed", "number"),
    Column("status", "Status"),
    Column("test_accuracy", "Test accuracy", "number"),
    Column("val_accuracy", "Val. accuracy", "number"),
    Column("train_seconds", "Train s", "number"),
    Column("error", "Error", "long"),
)
"""Of the table of all runs. Their keys are columns of runs.csv: by them the script makes the cells that are not in the
document."""

_STYLES = {"failed": "failed", "missing": "partial"}


def keys_of(runs: pd.DataFrame) -> dict[Key, int]:
    """The rows that the runs belong to, in the order of the runs."""
    found = runs[list(KEY)].drop_duplicates()
    return {tuple(row): place for place, row in enumerate(found.itertuples(index=False, name=None))}


def pack(report: Report, keys: Mapping[Key, int]) -> dict[str, Any]:
    """Keys by column, and runs by column with `key`, the place of a run's row among the keys."""
    runs = report.runs
    columns = {name: _packed(runs[name]) for name in runs.columns if name not in KEY}
    every = zip(*(runs[name].tolist() for name in KEY), strict=True)
    columns["key"] = {"each": [keys[key] for key in every]}
    rows = pd.DataFrame(list(keys), columns=list(KEY), dtype="object")
    return {
        "keys": {"length": len(keys), "columns": {name: _packed(rows[name]) for name in KEY}},
        "runs": {"length": len(runs), "columns": columns},
    }


def details(report: Report) -> dict[str, Any]:
    """What `run.json` holds of each run, where there are at most DETAILED_RUNS: values that runs share stand once.

    `shared` holds values; a run's `configuration` and `environment` map names to places in it.
    """
    if len(report.runs) > DETAILED_RUNS:
        return {"shared": [], "runs": {}}
    shared: list[Any] = []
    places: dict[str, int] = {}

    def place(value: Any) -> int:
        value = _clean(value)
        text = json.dumps(value)
        if text not in places:
            places[text] = len(shared)
            shared.append(value)
        return places[text]

    packed = {}
    for id_ in report.runs["id"].tolist():
        if id_ in report.details:
            one = report.details[id_]
            packed[plain(id_)] = {
                **{
                    name: {plain(key): place(value) for key, value in (one.get(name) or {}).items()}
                    for name in ("configuration", "environment")
                },
                "curve": [_clean(value, _CURVE_DIGITS) for value in one.get("curve") or ()],
                "weights": {plain(key): _clean(value, 6) for key, value in (one.get("weights") or {}).items()},
            }
    return {"shared": shared, "runs": packed}


def table(report: Report) -> Table:
    """The table of all runs; only the first rows, the script has the others from the packed columns."""
    first = report.runs.head(SHOWN)
    values = {column.key: [_value(value) for value in first[column.key].tolist()] for column in COLUMNS}
    rows = []
    for place in range(len(first)):
        cells = [_cell(column, values[column.key][place]) for column in COLUMNS]
        rows.append(Row(cells, cells[0].text))
    return Table(
        id="runs-table",
        caption="All runs",
        columns=COLUMNS,
        rows=rows,
        origin="reproduced",
        unit="runs",
        more="runs.csv",
        size=len(report.runs),
    )


def anchor(id_: str) -> str:
    """Where the page shows a run."""
    return "run-" + quote(plain(id_), safe="!'()*")  # as JavaScript's encodeURIComponent


def _cell(column: Column, value: Any) -> Cell:
    if column.key == "id":
        return Cell(plain(value), href=f"#{anchor(value)}")
    if column.key.endswith("_accuracy"):
        return fraction(None if value is None else round(value, 4))
    if column.key.endswith("_seconds"):
        return seconds(None if value is None else round(value, 2))
    if column.key.endswith("_seed"):
        return count(value)._replace(text="" if value is None else str(value))
    return Cell(plain(value), None, "", _STYLES.get(value, "quiet") if column.key == "status" else "")


def _value(value: Any) -> Any:
    return None if value is None or value is pd.NA or value != value else value


def _packed(column: pd.Series[Any]) -> Packed:
    if pd.api.types.is_float_dtype(column.dtype):
        digits = 4 if column.name in ACCURACIES else 2 if column.name in SECONDS else 6
        rounded = np.round(column.to_numpy(dtype=np.float64), digits)
        objects = rounded.astype(object)
        objects[~np.isfinite(rounded)] = None
        values = objects.tolist()
        return {"all": values[0]} if values and values.count(values[0]) == len(values) else {"each": values}
    if column.dtype == "Int64":
        values = mapped(
            lambda value: value if value is None or abs(value) <= _EXACT else str(value), plain_cells(column)
        )
    elif pd.api.types.is_numeric_dtype(column.dtype):
        values = [_clean(value) for value in column.tolist()]
    else:
        values = mapped(_lines, column.tolist())
    distinct = dict.fromkeys(values)
    if len(distinct) == 1:
        return {"all": values[0]}
    if len(distinct) > len(values) / 2:
        return {"each": values}
    places = {value: place for place, value in enumerate(distinct)}
    return {"of": list(distinct), "at": list(map(places.__getitem__, values))}


def _lines(value: object) -> str:
    """Text from data without control characters; its line breaks stay."""
    text = "" if value is None else str(value)
    return "\n".join(plain(line) for line in text.splitlines()) if "\n" in text else plain(text)


def _clean(value: Any, digits: int | None = None) -> Any:
    """A value as JSON can hold it and JavaScript read it: a number that is not finite is None, what is unknown text."""
    if value is None or value is pd.NA or isinstance(value, bool):
        return None if value is pd.NA else value
    if isinstance(value, int | np.integer):
        return int(value) if abs(int(value)) <= _EXACT else str(value)
    if isinstance(value, float | np.floating):
        value = float(value)
        if not math.isfinite(value):
            return None
        value = value if digits is None else round(value, digits)
        return int(value) if value == int(value) and abs(value) < _EXACT else value
    if isinstance(value, Mapping):
        return {plain(key): _clean(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_clean(item) for item in value]
    return plain(value)

"""What the reproduced rows of one (dataset, split) cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stage_bench.leaderboard.costs import Cost
from stage_bench.leaderboard.page.cells import Cell, Column, Row, Table, amount, count, fraction, seconds, words
from stage_bench.leaderboard.page.naming import MODEL, BoardRow, Keys, Place, model_cells, name_of
from stage_bench.leaderboard.report import Key
from stage_bench.leaderboard.samples import key_of
from stage_bench.leaderboard.wording import plain

_PHASES = {
    "answer_seconds": "Answers s",
    "finetune_seconds": "Fine-tune s",
    "embed_seconds": "Embed s",
    "diffuse_seconds": "Diffuse s",
    "tune_seconds": "Tune s",
    "train_seconds": "Train s/run",
    "infer_seconds": "Infer s/run",
    "run_seconds": "Both s/run",
    "total_seconds": "Total s",
}
_DOLLARS = {"dollars": "US dollars"}
_OPTIONAL = ("answer_seconds", "finetune_seconds", "diffuse_seconds", "tune_seconds", "dollars")
"""Columns that are there only where some row has them."""


def table(place: Place, rows: Sequence[BoardRow], found: Mapping[Key, Cost], keys: Keys) -> Table | None:
    """Every phase, energy, money and memory, fastest of the compared class of hardware first; None without a cost.

    Columns that no row has are left out where `remarks` names them.
    """
    pairs = [(row, found[key_of(row)]) for row in rows if row["status"] != "failed" and key_of(row) in found]
    if not pairs:
        return None
    pairs.sort(key=lambda pair: (pair[1].time_rank is None, pair[1].time_rank or 0))
    absent = _absent([cost for _, cost in pairs])
    phases = [name for name in _PHASES if name not in absent]
    money = [name for name in _DOLLARS if name not in absent]
    columns = (
        Column("time_rank", "Time rank", "rank", title="By total seconds, within the compared class of hardware"),
        *MODEL,
        Column("test_accuracy", "Test accuracy", "number"),
        Column("front", "On the front of", title="No other row is as accurate for less total time, or less memory"),
        *(Column(name, _PHASES[name], "number") for name in phases),
        Column("joules", "Energy kJ", "number", title="Of all runs, and of the embedding once"),
        *(Column(name, _DOLLARS[name], "number", title="Paid to endpoints") for name in money),
        Column("peak_memory_mb", "Memory MB", "number"),
        Column("parameters", "Parameters", "number"),
        Column("hardware", "Hardware", "long"),
    )
    made = []
    for row, cost in pairs:
        fronts = [name for name, on in (("time", cost.on_time_front), ("memory", cost.on_memory_front)) if on]
        cells = [
            Cell("" if cost.time_rank is None else str(cost.time_rank), cost.time_rank),
            *model_cells(row),
            fraction(row["test_accuracy"]),
            Cell(f"◆ {' and '.join(fronts)}", style="front") if fronts else Cell(),
            *(seconds(getattr(cost, name)) for name in phases),
            amount(None if cost.joules is None else cost.joules / 1000, "not measured"),
            *(amount(getattr(cost, name)) for name in money),
            count(cost.peak_memory_mb),
            count(cost.parameters),
            words(cost.hardware, "" if cost.compared else "another class: times not ranked"),
        ]
        made.append(Row(cells, name_of(row), keys.get(key_of(row), -1), "" if cost.compared else "apart"))
    return Table(
        id=f"{place.id}-cost",
        caption="Cost",
        columns=columns,
        rows=made,
        head=1,
        sticky=2,
        sorted_by="time_rank",
        dataset=place.dataset,
        split=place.split,
        origin="reproduced",
        rank="time_rank",
        rank_by="total_seconds",
        rank_order="ascending",
    )


def remarks(rows: Sequence[BoardRow], found: Mapping[Key, Cost]) -> list[str]:
    """What the table does not show, and which hardware has no time rank."""
    costs = [found[key_of(row)] for row in rows if row["status"] != "failed" and key_of(row) in found]
    absent = [{**_PHASES, **_DOLLARS}[name] for name in _absent(costs)]
    others = sorted({plain(cost.hardware) for cost in costs if not cost.compared} - {""})
    said = [f"Not measured, or not needed, by any row: {', '.join(absent)}."] if costs and absent else []
    if others:
        said.append(f"Of another class of hardware, so without a time rank: {'; '.join(others)}.")
    return said


def _absent(costs: Sequence[Cost]) -> list[str]:
    return [name for name in _OPTIONAL if all(getattr(cost, name) is None for cost in costs)]

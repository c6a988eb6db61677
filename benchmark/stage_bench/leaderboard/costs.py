"""What a row of the board costs: time by phase, memory, energy, money; ranked only where times were taken alike."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stage_bench.leaderboard import hardware, pareto, shared_work
from stage_bench.leaderboard.rows import Columns, by_row, columns, records
from stage_bench.leaderboard.samples import Key, key_of
from stage_bench.leaderboard.statistics import ranks

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds, joules and dollars of a row; None was not measured (or is not known), never zero.

    answer, finetune, embed, diffuse, tune: seconds of work that runs share, each piece once. train, infer: mean seconds
    a run; run_seconds: both together. total_seconds: as on the board. joules: of all runs, and of the embedding once.
    dollars: paid to endpoints, each piece of work once; None where nothing was paid for or its price is not known.
    hardware: the class of hardware the times belong to. compared: whether it is the one in which times of this table
    are ranked. time_rank: by total_seconds within that class, None otherwise. on_time_front, on_memory_front: no
    other row of the table (of that class, for time) is as accurate for less.
    """

    answer_seconds: float | None
    finetune_seconds: float | None
    embed_seconds: float | None
    diffuse_seconds: float | None
    tune_seconds: float | None
    train_seconds: float | None
    infer_seconds: float | None
    run_seconds: float | None
    total_seconds: float | None
    joules: float | None
    dollars: float | None
    peak_memory_mb: float | None
    parameters: int | None
    hardware: str
    compared: bool
    time_rank: int | None
    on_time_front: bool
    on_memory_front: bool


def costs(runs: pd.DataFrame, board: pd.DataFrame) -> dict[Key, Cost]:
    """What every reproduced row of the board costs. runs: the checked frame that it was built from.

    The times of a (dataset, split) are ranked among the complete rows of one hardware class (hardware.compared). A row
    without a total, or on other hardware, has no time rank and is on no front of time.
    """
    done = runs[runs["status"] == "ok"]
    cells = columns(done, _READ)
    alone = shared_work.known(cells)
    finished = {key: (start, stop) for key, start, stop in by_row(done)}
    tables: dict[Key, list[Row]] = {}
    for row in records(board[board["origin"] != "published"]):
        tables.setdefault(key_of(row)[:2], []).append(row)
    found: dict[Key, Cost] = {}
    for table in tables.values():
        compared = hardware.compared([row["hardware"] or "" for row in table if row["rank"] is not None])
        timed = [
            row
            for row in table
            if row["rank"] is not None and row["total_seconds"] is not None and _is_in(row, compared)
        ]
        measured = [row for row in table if row["rank"] is not None and row["peak_memory_mb"] is not None]
        time_ranks = dict(zip(map(key_of, timed), ranks([-row["total_seconds"] for row in timed]), strict=True))
        on_time, on_memory = _front(timed, "total_seconds"), _front(measured, "peak_memory_mb")
        for row in table:
            key = key_of(row)
            found[key] = Cost(
                **_measured({name: values[slice(*finished.get(key, (0, 0)))] for name, values in cells.items()}, alone),
                **{column: row[column] for column in ("train_seconds", "infer_seconds", "total_seconds")},
                peak_memory_mb=row["peak_memory_mb"],
                parameters=row["parameters"],
                run_seconds=None
                if row["train_seconds"] is None
                else row["train_seconds"] + (row["infer_seconds"] or 0.0),
                hardware=row["hardware"] or "",
                compared=_is_in(row, compared),
                time_rank=time_ranks.get(key),
                on_time_front=key in on_time,
                on_memory_front=key in on_memory,
            )
    return found


_READ = ("energy_joules", *shared_work.NEEDED)
"""Columns of runs.csv that a cost is made of, beside what the board has."""


def _is_in(row: Row, compared: str | None) -> bool:
    return compared is not None and row["hardware"] == compared


def _front(rows: list[Row], column: str) -> set[Key]:
    on_it = pareto.front([row[column] for row in rows], [row["test_accuracy"] for row in rows])
    return {key_of(row) for row, is_on in zip(rows, on_it, strict=True) if is_on}


def _measured(runs: Columns, alone: shared_work.Known) -> dict[str, float | None]:
    once = shared_work.once(runs, alone)
    found = {column: once[column] for column in once if column.endswith("_seconds")}
    paid = [dollars for dollars in (once["answer_dollars"], once["embed_dollars"]) if dollars is not None]
    energies = runs["energy_joules"]
    whole = bool(energies) and None not in energies
    if any(runs["embedding_id"]):
        whole = whole and once["embed_joules"] is not None
    joules = math.fsum([*energies, once["embed_joules"] or 0.0]) if whole else None
    return {**found, "joules": joules, "dollars": math.fsum(paid) if paid else None}

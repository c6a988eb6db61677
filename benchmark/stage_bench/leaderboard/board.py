"""The leaderboard: one row for each (dataset, split, features, llm, instruction, backbone), from run rows."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from stage_bench.errors import StageBenchError, brief
from stage_bench.leaderboard import published as published_numbers
from stage_bench.leaderboard import shared_work, statistics
from stage_bench.leaderboard.files import csv_columns
from stage_bench.leaderboard.repeated import mapped
from stage_bench.leaderboard.rows import (
    BOARD_DECIMALS,
    BOARD_INTEGERS,
    COLUMNS,
    KEY,
    LARGEST,
    Columns,
    board_frame,
    by_row,
    check_runs,
    columns,
    number,
    plain_cells,
    read_csv,
    records,
    seed_order,
)

Row = dict[str, Any]


def build(runs: pd.DataFrame, published: pd.DataFrame, source: str) -> pd.DataFrame:
    """The leaderboard of `runs`, a frame with RUN_COLUMNS, beside `published` rows as `published.load` gives them.

    Accuracies are fractions, times seconds, memory MB. `n_runs` counts finished runs; `train_seconds` and
    `infer_seconds` are means per run; `embed_seconds`, `diffuse_seconds` and `tune_seconds` count what a row
    needs once: each distinct embedding, diffusion or study once, however many runs used it; `embed_seconds` is all
    that the features cost, a chat model's answers and the tuning of a language model included, and empty, as is the
    total, where that is not known; `total_seconds` =
    embed + diffuse + tune + n_runs x (train + infer), where a missing part adds nothing, and is empty where
    `train_seconds` is. A row with failed or missing runs is `partial` and has no rank; one without a finished run is
    `failed`. `source` says in every reproduced row where it comes from. Of `published` only rows on a
    (dataset, split) of the runs are shown.

    Raises StageBenchError where `check_runs` does, where two finished runs of one row have the same seeds, and
    where one split seed of a dataset stands for two different splits: such numbers cannot share a table.
    """
    return of_checked(check_runs(runs), published, source)


def of_checked(runs: pd.DataFrame, published: pd.DataFrame, source: str) -> pd.DataFrame:
    """`build` for a frame that rows.check_runs gave."""
    _check_comparable(runs)
    cells = columns(runs, _READ)
    alone = shared_work.known(cells)
    summaries, finished = [], []
    for key, start, stop in by_row(runs):
        group = {name: values[start:stop] for name, values in cells.items()}
        # A row of which nothing was run yet is not a row.
        if any(status != "missing" for status in group["status"]):
            ok = [place for place, status in enumerate(group["status"]) if status == "ok"]
            whole = len(ok) == stop - start
            done = group if whole else {name: [values[place] for place in ok] for name, values in group.items()}
            summaries.append(_summary(key, group, done, alone, source))
            finished.append(
                _Finished(done["test_accuracy"], list(map(seed_order, done["split_seed"], done["init_seed"])))
            )
    _add_spreads(summaries, finished)
    _add_ranks(summaries, finished)
    shown, _ = published_numbers.select(published, table_keys(runs))
    return board_frame([*summaries, *records(shown)])


def table_keys(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """The (dataset, split) pairs of runs or of a board, sorted: one table each, never mixed."""
    return sorted(set(zip(rows["dataset"].tolist(), rows["split"].tolist(), strict=True)))


def to_csv(board: pd.DataFrame) -> str:
    """The text of leaderboard.csv: fractions with 4 decimals, seconds with 2, MB with none."""
    cells = [mapped(partial(_cell, column), plain_cells(board[column])) for column in COLUMNS]
    return csv_columns(COLUMNS, cells)


def read(path: Path) -> pd.DataFrame:
    """A leaderboard.csv as a board. Raises StageBenchError on a missing column or a cell that cannot be."""
    cells = read_csv(path)
    if missing := [column for column in COLUMNS if column not in cells.columns]:
        raise StageBenchError(f"{path}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)}")
    rows = records(cells[list(COLUMNS)])
    for index, row in enumerate(rows):
        for column in (*BOARD_INTEGERS, *BOARD_DECIMALS):
            try:
                row[column] = _measured(column, row[column])
            except ValueError as error:
                problem = f"{column} is {brief(row[column], 40)!r}, {error}"
                raise StageBenchError(f"{path}: row {index + 1}: {problem}") from None
    return board_frame(rows)


def _measured(column: str, cell: Any) -> float | None:
    """A measurement; None where the cell is empty. Raises ValueError, which says what it is not."""
    try:
        value = number(cell)
    except ValueError:
        raise ValueError("not a number") from None
    if value is None:
        return None
    if value < 0:
        raise ValueError("below zero")
    if column in _FRACTIONS and value > 1:
        raise ValueError("not a fraction between 0 and 1")
    if column not in BOARD_INTEGERS:
        return value
    if value > LARGEST or value != int(value):
        raise ValueError("not a whole number")
    return int(value)


def _cell(column: str, value: Any) -> str:
    if value is None:
        return ""
    if column in BOARD_DECIMALS:
        return f"{value:.{BOARD_DECIMALS[column]}f}"
    return str(int(value)) if column in BOARD_INTEGERS else str(value)


_FRACTIONS = ("test_accuracy", "test_std", "ci_low", "ci_high", "val_accuracy")
_FEATURES = ("answer_seconds", "finetune_seconds", "embed_seconds")
"""What features cost; one column of leaderboard.csv."""
_ALWAYS = ("answer_seconds", "embed_seconds")
"""Of these, what a run with such work has unless it was done elsewhere: then no total can be given."""


_READ = tuple(
    dict.fromkeys(
        (
            *("status", "split_seed", "init_seed", "test_accuracy", "val_accuracy", "train_seconds", "infer_seconds"),
            *("peak_memory_mb", "parameters", "hardware", "error", "note", *shared_work.NEEDED),
        )
    )
)
"""Columns of runs.csv that a row of the board is made of, beside its key."""


class _Finished(NamedTuple):
    """The finished runs of a row: accuracy and seeds of each."""

    accuracies: list[float]
    seeds: list[tuple[float, float]]


def _summary(key: tuple[str, ...], runs: Columns, done: Columns, alone: shared_work.Known, source: str) -> Row:
    """A row of the board from all its runs, and of these the finished ones."""
    row: Row = dict.fromkeys(COLUMNS)
    row.update(zip(KEY, (value or None for value in key), strict=True))
    count, finished = len(runs["status"]), len(done["status"])
    failed = [error for error, status in zip(runs["error"], runs["status"], strict=True) if status == "failed"]
    missing = count - finished - len(failed)
    row.update(origin="reproduced", source=source, n_runs=finished)
    row["status"] = "ok" if finished == count else "partial" if finished else "failed"
    row["test_accuracy"] = statistics.mean(done["test_accuracy"])
    row["val_accuracy"] = statistics.mean(done["val_accuracy"])
    for column in ("train_seconds", "infer_seconds"):
        row[column] = statistics.mean(_values(done[column]))
    once = shared_work.once(done, alone)
    parts = [once[column] for column in _FEATURES if once[column] is not None]
    known = all(
        cost is not None
        for column in _ALWAYS
        for cost, id_ in zip(done[column], done[shared_work.SHARED[column]], strict=True)
        if id_
    )
    row["embed_seconds"] = math.fsum(part for part in parts if part is not None) if parts and known else None
    row |= {column: once[column] for column in ("diffuse_seconds", "tune_seconds")}
    if row["train_seconds"] is not None and known:
        once_seconds = sum(value or 0.0 for column, value in once.items() if column.endswith("_seconds"))
        row["total_seconds"] = once_seconds + finished * (row["train_seconds"] + (row["infer_seconds"] or 0.0))
    for column in ("peak_memory_mb", "parameters"):
        row[column] = max(_values(done[column]), default=None)
    row["hardware"] = "; ".join(sorted(set((done if finished else runs)["hardware"]) - {None}))
    notes = [] if not failed else [f"{len(failed)} of {count} runs failed: {_reason(failed[0])}"]
    if missing:
        notes.append(f"{missing} of {count} runs are not there yet")
    row["note"] = "; ".join(dict.fromkeys([*notes, *filter(None, runs["note"])]))
    return row


def _values(cells: Sequence[float | None]) -> list[float]:
    return [cell for cell in cells if cell is not None]


def _reason(error: str | None) -> str:
    lines = (error or "").strip().splitlines()
    return lines[0].strip() if lines else "no reason recorded"


def _add_spreads(rows: Sequence[Row], finished: Sequence[_Finished]) -> None:
    accuracies = [runs.accuracies for runs in finished]
    found = zip(statistics.stds(accuracies), statistics.intervals(accuracies), strict=True)
    for row, (deviation, bounds) in zip(rows, found, strict=True):
        row["test_std"] = deviation
        row["ci_low"], row["ci_high"] = bounds or (None, None)


def _add_ranks(rows: Sequence[Row], finished: Sequence[_Finished]) -> None:
    """Ranks within a (dataset, split) among complete rows: a mean over fewer seeds is no equal."""
    tables: dict[tuple[str | None, str | None], list[tuple[Row, _Finished]]] = {}
    for row, runs in zip(rows, finished, strict=True):
        if row["status"] == "ok":
            tables.setdefault((row["dataset"], row["split"]), []).append((row, runs))
    for members in tables.values():
        ranks = statistics.ranks([row["test_accuracy"] for row, _ in members])
        bounds = statistics.rank_intervals(
            [runs.accuracies for _, runs in members],
            [runs.seeds for _, runs in members],
            ["\x1f".join(row[column] or "" for column in KEY) for row, _ in members],
        )
        for (row, _), rank, pair in zip(members, ranks, bounds, strict=True):
            row["rank"] = rank
            row["rank_low"], row["rank_high"] = pair or (None, None)


def _check_comparable(runs: pd.DataFrame) -> None:
    done = runs[runs["status"] == "ok"]
    seeded = done.dropna(subset=["split_seed", "init_seed"])
    if (twice := seeded.duplicated([*KEY, "split_seed", "init_seed"], keep=False)).any():
        first, second = seeded[twice].to_dict("records")[:2]  # sorted by row and seeds, so these are one pair
        place = " / ".join(filter(None, (first[column] for column in KEY)))
        raise StageBenchError(
            f"runs {first['id']!r} and {second['id']!r} are one row ({place}) with the same seeds: "
            "two configurations need two names"
        )
    known = done[done["split_fingerprint"] != ""]
    splits = known.groupby(["dataset", "split", "split_seed"], dropna=False, sort=True)["split_fingerprint"]
    found: list[tuple[Any, Any]] = list(splits.unique().items())
    for (dataset, split, seed), fingerprints in found:
        if len(fingerprints) > 1:
            at = (known["dataset"] == dataset) & (known["split"] == split)
            ids = [known.loc[at & (known["split_fingerprint"] == one), "id"].iloc[0] for one in fingerprints[:2]]
            raise StageBenchError(
                f"runs {ids[0]!r} and {ids[1]!r} of {dataset} ({split}, split seed "
                f"{None if pd.isna(seed) else int(seed)}) were scored on different splits: run them again on one"
            )

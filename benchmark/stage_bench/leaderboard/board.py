"""The leaderboard: one row for each (dataset, split, features, llm, instruction, backbone), from run rows."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from stage_bench.errors import StageBenchError
from stage_bench.leaderboard import published as published_numbers
from stage_bench.leaderboard import shared_work, statistics
from stage_bench.leaderboard.files import csv_text
from stage_bench.leaderboard.rows import (
    BOARD_DECIMALS,
    BOARD_INTEGERS,
    COLUMNS,
    KEY,
    board_frame,
    check_runs,
    number,
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
    runs = check_runs(runs)
    rows = records(runs)
    _check_comparable(rows)
    alone = shared_work.known(rows)
    groups: dict[tuple[str, ...], list[Row]] = {}
    for run in rows:
        groups.setdefault(tuple(run[column] for column in KEY), []).append(run)
    # A row of which nothing was run yet is not a row.
    groups = {key: group for key, group in groups.items() if any(run["status"] != "missing" for run in group)}
    summaries = [_summary(key, group, alone, source) for key, group in groups.items()]
    finished = [[run for run in group if run["status"] == "ok"] for group in groups.values()]
    _add_intervals(summaries, finished)
    _add_ranks(summaries, finished)
    shown, _ = published_numbers.select(published, table_keys(runs))
    return board_frame([*summaries, *records(shown)])


def table_keys(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """The (dataset, split) pairs of runs or of a board, sorted: one table each, never mixed."""
    return sorted(set(zip(rows["dataset"].tolist(), rows["split"].tolist(), strict=True)))


def to_csv(board: pd.DataFrame) -> str:
    """The text of leaderboard.csv: fractions with 4 decimals, seconds with 2, MB with none."""
    return csv_text(COLUMNS, ([_cell(column, row[column]) for column in COLUMNS] for row in records(board)))


def read(path: Path) -> pd.DataFrame:
    """A leaderboard.csv as a board. Raises StageBenchError on a missing column or a cell that is no number."""
    cells = read_csv(path)
    if missing := [column for column in COLUMNS if column not in cells.columns]:
        raise StageBenchError(f"{path}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)}")
    rows = records(cells[list(COLUMNS)])
    for index, row in enumerate(rows):
        for column in (*BOARD_INTEGERS, *BOARD_DECIMALS):
            try:
                value = number(row[column])
                row[column] = int(value) if value is not None and column in BOARD_INTEGERS else value
            except ValueError:
                message = f"{path}: row {index + 1}: {column} is {row[column]!r}, not a number"
                raise StageBenchError(message) from None
    return board_frame(rows)


def _cell(column: str, value: Any) -> str:
    if value is None:
        return ""
    if column in BOARD_DECIMALS:
        return f"{value:.{BOARD_DECIMALS[column]}f}"
    return str(int(value)) if column in BOARD_INTEGERS else str(value)


_FEATURES = ("answer_seconds", "finetune_seconds", "embed_seconds")
"""What features cost; one column of leaderboard.csv."""
_ALWAYS = ("answer_seconds", "embed_seconds")
"""Of these, what a run with such work has unless it was done elsewhere: then no total can be given."""


def _summary(key: tuple[str, ...], runs: Sequence[Row], alone: shared_work.Known, source: str) -> Row:
    done = [run for run in runs if run["status"] == "ok"]
    failed = [run for run in runs if run["status"] == "failed"]
    row: Row = dict.fromkeys(COLUMNS)
    row.update(zip(KEY, key, strict=True))
    row.update(origin="reproduced", source=source, n_runs=len(done))
    missing = len(runs) - len(done) - len(failed)
    row["status"] = "ok" if len(done) == len(runs) else "partial" if done else "failed"
    row["test_accuracy"] = statistics.mean([run["test_accuracy"] for run in done])
    row["test_std"] = statistics.std([run["test_accuracy"] for run in done])
    row["val_accuracy"] = statistics.mean([run["val_accuracy"] for run in done])
    for column in ("train_seconds", "infer_seconds"):
        row[column] = statistics.mean(_values(done, column))
    once = shared_work.once(done, alone)
    parts = [once[column] for column in _FEATURES if once[column] is not None]
    known = all(run[column] is not None for run in done for column in _ALWAYS if run[shared_work.SHARED[column]])
    row["embed_seconds"] = math.fsum(part for part in parts if part is not None) if parts and known else None
    row |= {column: once[column] for column in ("diffuse_seconds", "tune_seconds")}
    if row["train_seconds"] is not None and known:
        once_seconds = sum(value or 0.0 for column, value in once.items() if column.endswith("_seconds"))
        row["total_seconds"] = once_seconds + len(done) * (row["train_seconds"] + (row["infer_seconds"] or 0.0))
    for column in ("peak_memory_mb", "parameters"):
        row[column] = max(_values(done, column), default=None)
    row["hardware"] = "; ".join(sorted({run["hardware"] for run in (done or runs)} - {None, ""}))
    notes = [] if not failed else [f"{len(failed)} of {len(runs)} runs failed: {_reason(failed[0])}"]
    if missing:
        notes.append(f"{missing} of {len(runs)} runs are not there yet")
    row["note"] = "; ".join(dict.fromkeys([*notes, *(run["note"] for run in runs if run["note"])]))
    return row


def _values(runs: Sequence[Row], column: str) -> list[float]:
    return [run[column] for run in runs if run[column] is not None]


def _reason(run: Row) -> str:
    lines = (run["error"] or "").strip().splitlines()
    return lines[0].strip() if lines else "no reason recorded"


def _add_intervals(rows: Sequence[Row], finished: Sequence[Sequence[Row]]) -> None:
    bounds = statistics.intervals([[run["test_accuracy"] for run in runs] for runs in finished])
    for row, pair in zip(rows, bounds, strict=True):
        row["ci_low"], row["ci_high"] = pair or (None, None)


def _add_ranks(rows: Sequence[Row], finished: Sequence[Sequence[Row]]) -> None:
    """Ranks within a (dataset, split) among complete rows: a mean over fewer seeds is no equal."""
    complete = [(row, runs) for row, runs in zip(rows, finished, strict=True) if row["status"] == "ok"]
    complete.sort(key=lambda pair: (pair[0]["dataset"], pair[0]["split"]))
    for _, group in itertools.groupby(complete, key=lambda pair: (pair[0]["dataset"], pair[0]["split"])):
        members = list(group)
        ranks = statistics.ranks([row["test_accuracy"] for row, _ in members])
        bounds = statistics.rank_intervals(
            [[run["test_accuracy"] for run in runs] for _, runs in members],
            [[seed_order(run) for run in runs] for _, runs in members],
            ["\x1f".join(row[column] or "" for column in KEY) for row, _ in members],
        )
        for (row, _), rank, pair in zip(members, ranks, bounds, strict=True):
            row["rank"] = rank
            row["rank_low"], row["rank_high"] = pair or (None, None)


def _check_comparable(runs: Sequence[Row]) -> None:
    seeds: dict[tuple[Any, ...], str] = {}
    splits: dict[tuple[Any, ...], tuple[str, str]] = {}
    for run in (run for run in runs if run["status"] == "ok"):
        if run["split_seed"] is not None and run["init_seed"] is not None:
            key = (*(run[column] for column in KEY), run["split_seed"], run["init_seed"])
            if key in seeds:
                place = " / ".join(filter(None, (run[column] for column in KEY)))
                raise StageBenchError(
                    f"runs {seeds[key]!r} and {run['id']!r} are one row ({place}) with the same seeds: "
                    "two configurations need two names"
                )
            seeds[key] = run["id"]
        if run["split_fingerprint"]:
            key = (run["dataset"], run["split"], run["split_seed"])
            other, fingerprint = splits.setdefault(key, (run["id"], run["split_fingerprint"]))
            if fingerprint != run["split_fingerprint"]:
                raise StageBenchError(
                    f"runs {other!r} and {run['id']!r} of {run['dataset']} ({run['split']}, split seed "
                    f"{run['split_seed']}) were scored on different splits: run them again on one"
                )

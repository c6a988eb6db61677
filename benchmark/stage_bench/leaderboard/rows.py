"""The rows that a leaderboard is made of: their columns, and reading, checking and writing runs.csv."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from stage_bench.errors import StageBenchError
from stage_bench.leaderboard.files import csv_text, replace_text

KEY = ("dataset", "split", "features", "llm", "instruction", "backbone")
"""What tells one row of the leaderboard from another."""

RUN_COLUMNS = (
    *("id", "dataset", "split", "features", "llm", "instruction", "backbone", "kind", "split_seed", "init_seed"),
    *("status", "test_accuracy", "val_accuracy", "train_accuracy", "best_epoch", "epochs"),
    *("load_seconds", "answer_seconds", "finetune_seconds", "embed_seconds"),
    *("diffuse_seconds", "tune_seconds", "train_seconds", "infer_seconds"),
    *("answers_id", "embedding_id", "diffusion_id", "study_id", "answer_tokens", "answer_dollars"),
    *("peak_memory_mb", "parameters", "hardware"),
    *("split_fingerprint", "dataset_fingerprint", "version", "commit", "error", "note"),
)
"""Columns of runs.csv, one row a run; seconds and MB, accuracies as fractions, an empty cell is not measured."""

COLUMNS = (
    *("dataset", "split", "features", "llm", "instruction", "backbone", "origin", "n_runs"),
    *("test_accuracy", "test_std", "ci_low", "ci_high", "val_accuracy", "rank", "rank_low", "rank_high"),
    *("embed_seconds", "diffuse_seconds", "tune_seconds", "train_seconds", "infer_seconds", "total_seconds"),
    *("peak_memory_mb", "parameters", "hardware", "status", "source", "note"),
)
"""Columns of leaderboard.csv. Others read the file: the order is a contract."""

BOARD_INTEGERS = ("n_runs", "rank", "rank_low", "rank_high", "parameters")
BOARD_DECIMALS = {
    **dict.fromkeys(("test_accuracy", "test_std", "ci_low", "ci_high", "val_accuracy"), 4),
    **dict.fromkeys(("embed_seconds", "diffuse_seconds", "tune_seconds"), 2),
    **dict.fromkeys(("train_seconds", "infer_seconds", "total_seconds"), 2),
    "peak_memory_mb": 0,
}
"""Measurements of COLUMNS, with the decimals they have in leaderboard.csv."""

ACCURACIES = ("test_accuracy", "val_accuracy", "train_accuracy")
SECONDS = tuple(column for column in RUN_COLUMNS if column.endswith("_seconds"))
_INTEGERS = ("split_seed", "init_seed", "best_epoch", "epochs", "parameters")
_REALS = (*ACCURACIES, *SECONDS, "answer_tokens", "answer_dollars", "peak_memory_mb")
_NEVER_NEGATIVE = (*SECONDS, "answer_tokens", "answer_dollars", "peak_memory_mb", "parameters")
_STATUSES = ("ok", "failed", "missing")  # missing: planned, not run yet
_KINDS = ("train", "ensemble")


def is_empty(value: object) -> bool:
    """Whether a cell holds nothing: None, NaN, pandas' NA or an empty string."""
    return value is None or value is pd.NA or value == "" or (isinstance(value, float) and math.isnan(value))


def text(value: object) -> str:
    """A cell as text, empty where nothing is in it."""
    return "" if is_empty(value) else str(value)


def number(value: object) -> float | None:
    """A cell as a number, None where nothing is in it. Raises ValueError where it is neither."""
    if is_empty(value):
        return None
    try:
        result = float(value)  # type: ignore[arg-type]
    except TypeError as error:
        raise ValueError(f"{value!r} is not a number") from error
    if math.isinf(result):
        raise ValueError(f"{value!r} is not finite")
    return None if math.isnan(result) else result


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as dictionaries of plain Python values; None where a cell is empty, whatever pandas calls it."""
    columns = [[None if is_empty(value) else value for value in frame[name].tolist()] for name in frame.columns]
    return [dict(zip(frame.columns, values, strict=True)) for values in zip(*columns, strict=True)]


def check_runs(runs: pd.DataFrame, place: str = "runs") -> pd.DataFrame:
    """The same runs with RUN_COLUMNS in their order, sorted by row and seeds, each column in one dtype.

    Text columns hold strings (empty, never NaN), counts are nullable Int64, measurements float64 with NaN.
    Raises StageBenchError on a missing column, a duplicated id, an unknown status or kind, a cell that is no
    number, an accuracy outside 0 to 1, a negative time or size, and a finished run without test or validation
    accuracy. `place` begins the messages: a file name.
    """
    if missing := [column for column in RUN_COLUMNS if column not in runs.columns]:
        raise StageBenchError(f"{place}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)}")
    rows = [_checked(row, place) for row in records(runs[list(RUN_COLUMNS)])]
    seen: set[str] = set()
    for row in rows:
        if row["id"] in seen:
            raise StageBenchError(f"{place}: run id {row['id']!r} occurs twice")
        seen.add(row["id"])
    # The order of the input must not show in the output: floating-point means depend on it.
    rows.sort(key=lambda row: (*(row[column] for column in KEY), *seed_order(row), row["id"]))
    return _typed_frame(rows, RUN_COLUMNS, _INTEGERS, _REALS)


def seed_order(run: dict[str, Any]) -> tuple[float, float]:
    """A sort key for a run's (split_seed, init_seed); a missing seed comes last."""
    return tuple(math.inf if run[name] is None else run[name] for name in ("split_seed", "init_seed"))  # type: ignore[return-value]


def read_runs(path: Path) -> pd.DataFrame:
    """runs.csv as `check_runs` leaves it. Raises StageBenchError, which names the file."""
    return check_runs(read_csv(path), str(path))


def write_runs(path: Path, runs: pd.DataFrame) -> Path:
    """Write runs.csv. Numbers keep every digit, so that the leaderboard made from the file is the same."""
    return replace_text(path, runs_csv(runs))


def runs_csv(runs: pd.DataFrame) -> str:
    """The text of runs.csv; the same runs in any order give the same text."""
    return csv_text(RUN_COLUMNS, (_cells(row) for row in records(check_runs(runs))))


def read_csv(path: Path) -> pd.DataFrame:
    """A CSV file with every cell as text, so that an instruction named `none` stays a word."""
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8")
    except FileNotFoundError:
        raise StageBenchError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # pandas' parser errors and UnicodeDecodeError are ValueErrors
        raise StageBenchError(f"{path}: not a readable CSV file: {' '.join(str(error).split())}") from error


def _checked(row: dict[str, Any], place: str) -> dict[str, Any]:
    name = f"{place}: run {text(row['id'])!r}"
    if not text(row["id"]):
        raise StageBenchError(f"{place}: a run without an id")
    result: dict[str, Any] = {}
    for column in RUN_COLUMNS:
        if column not in _REALS and column not in _INTEGERS:
            result[column] = text(row[column])
            continue
        try:
            value = number(row[column])
        except ValueError:
            raise StageBenchError(f"{name}: {column} is {row[column]!r}, not a number") from None
        if value is not None and column in _INTEGERS:
            if value != int(value):
                raise StageBenchError(f"{name}: {column} is {value}, not an integer")
            value = int(value)
        if value is not None and column in _NEVER_NEGATIVE and value < 0:
            raise StageBenchError(f"{name}: {column} is {value}, below zero")
        if value is not None and column in ACCURACIES and not 0 <= value <= 1:
            raise StageBenchError(f"{name}: {column} is {value}, not a fraction between 0 and 1")
        result[column] = value
    for column, valid in (("status", _STATUSES), ("kind", _KINDS)):
        if result[column] not in valid:
            raise StageBenchError(f"{name}: {column} is {result[column]!r}, not one of {', '.join(valid)}")
    for column in ("test_accuracy", "val_accuracy"):
        if result["status"] == "ok" and result[column] is None:
            raise StageBenchError(f"{name}: status is ok but {column} is empty or NaN")
    return result


def board_frame(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Rows as a board: COLUMNS in their order and types, sorted by dataset, then accuracy, then backbone."""
    return _typed_frame(sorted(rows, key=_board_order), COLUMNS, BOARD_INTEGERS, BOARD_DECIMALS)


def _board_order(row: dict[str, Any]) -> tuple[Any, ...]:
    accuracy = row["test_accuracy"]
    ties = ("backbone", "split", "features", "llm", "instruction", "origin", "source", "note")
    # Rounded, because the last bits of a mean must not decide the order.
    value = 0.0 if accuracy is None else -round(accuracy, 12)
    return (text(row["dataset"]), accuracy is None, value, *(text(row[column]) for column in ties))


def _typed_frame(
    rows: list[dict[str, Any]], columns: Iterable[str], integers: Iterable[str], reals: Iterable[str]
) -> pd.DataFrame:
    """A frame of `columns`: `integers` as nullable Int64, `reals` as float64, the others as text."""
    integers, reals = set(integers), set(reals)
    data: dict[str, pd.Series[Any]] = {}
    for column in columns:
        values = [row[column] for row in rows]
        if column in integers:
            data[column] = pd.Series(pd.array(values, dtype="Int64"))
        elif column in reals:
            data[column] = pd.Series([math.nan if value is None else value for value in values], dtype="float64")
        else:
            data[column] = pd.Series([text(value) for value in values], dtype="object")
    return pd.DataFrame(data)


def _cells(row: dict[str, Any]) -> list[str]:
    return ["" if row[column] is None else str(row[column]) for column in RUN_COLUMNS]

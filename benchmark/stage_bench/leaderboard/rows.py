"""The rows that a leaderboard is made of: their columns, and reading, checking and writing runs.csv."""

import csv
import difflib
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stage_bench.errors import StageBenchError, brief
from stage_bench.leaderboard.files import csv_columns, replace_text
from stage_bench.leaderboard.repeated import mapped

KEY = ("dataset", "split", "features", "llm", "instruction", "backbone")
"""What tells one row of the leaderboard from another."""

SCHEMA_VERSION = 2

_FIRST_COLUMNS = (
    *("id", "dataset", "split", "features", "llm", "instruction", "backbone", "kind", "split_seed", "init_seed"),
    *("status", "test_accuracy", "val_accuracy", "train_accuracy", "best_epoch", "epochs"),
    *("load_seconds", "embed_seconds", "diffuse_seconds", "tune_seconds", "train_seconds", "infer_seconds"),
    *("embedding_id", "diffusion_id", "study_id", "peak_memory_mb", "parameters", "hardware"),
    *("split_fingerprint", "dataset_fingerprint", "version", "commit", "error", "note"),
)
"""Columns that every runs.csv has had. A file without `schema_version` may lack the others, which are then empty."""

RUN_COLUMNS = (
    *("id", "dataset", "split", "features", "llm", "instruction", "backbone", "kind", "split_seed", "init_seed"),
    *("status", "test_accuracy", "val_accuracy", "train_accuracy", "best_epoch", "epochs"),
    *("load_seconds", "answer_seconds", "finetune_seconds", "embed_seconds"),
    *("diffuse_seconds", "tune_seconds", "train_seconds", "infer_seconds"),
    *("answers_id", "embedding_id", "diffusion_id", "study_id", "answer_tokens", "answer_dollars"),
    *("embed_tokens", "embed_dollars", "embed_joules", "energy_joules"),
    *("peak_memory_mb", "parameters", "hardware", "train_nodes", "val_nodes", "test_nodes"),
    *("split_fingerprint", "dataset_fingerprint", "version", "commit", "error", "note", "schema_version"),
)
"""Columns of runs.csv, one row a run: seconds, joules, MB and US dollars, accuracies as fractions, counts of nodes in
the split's parts; an empty cell was not measured."""

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
_SIZES = ("train_nodes", "val_nodes", "test_nodes")
_INTEGERS = ("split_seed", "init_seed", "best_epoch", "epochs", "parameters", *_SIZES, "schema_version")
_COSTS = ("answer_tokens", "answer_dollars", "embed_tokens", "embed_dollars", "embed_joules", "energy_joules")
_REALS = (*ACCURACIES, *SECONDS, *_COSTS, "peak_memory_mb")
_NEVER_NEGATIVE = (*SECONDS, *_COSTS, *_SIZES, "peak_memory_mb", "parameters")
LARGEST = 2**53
"""Of whole numbers: beyond, a float does not tell one from the next."""
_MOST = 1e15  # of what was measured: sums of it stay finite
_STATUSES = ("ok", "failed", "missing")  # missing: planned, not run yet
_KINDS = ("train", "ensemble")

Reals = npt.NDArray[np.float64]


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
    except (TypeError, OverflowError) as error:
        raise ValueError(f"{value!r} is not a number") from error
    if math.isinf(result):
        raise ValueError(f"{value!r} is not finite")
    return None if math.isnan(result) else result


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as dictionaries of plain Python values; None where a cell is empty, whatever pandas calls it."""
    names = list(frame.columns)  # pandas' own index takes long to walk through, once a row
    cells = [plain_cells(frame[name]) for name in names]
    return [dict(zip(names, values, strict=True)) for values in zip(*cells, strict=True)]


def plain_cells(column: "pd.Series[Any]") -> list[Any]:
    """A column's cells as plain Python values; None where a cell is empty."""
    # The common cases take a fraction of what asking every cell takes.
    if column.dtype == np.float64:
        return [None if value != value else value for value in column.tolist()]
    if column.dtype == "Int64":
        return [None if value is pd.NA else value for value in column.array.astype(object)]
    return mapped(lambda value: None if is_empty(value) else value, column.tolist())


Columns = dict[str, list[Any]]
"""Names to cells, of the runs of one row or of all; None where a cell is empty."""


def columns(runs: pd.DataFrame, names: Iterable[str]) -> Columns:
    return {name: plain_cells(runs[name]) for name in names}


def by_row(runs: pd.DataFrame) -> list[tuple[tuple[str, ...], int, int]]:
    """The runs of each row of a checked frame: its KEY (empty cells as empty strings), first run, and last but one.

    A checked frame is sorted by row, so each is one stretch.
    """
    keys = list(zip(*(runs[column].tolist() for column in KEY), strict=True))
    starts = [place for place, key in enumerate(keys) if place == 0 or key != keys[place - 1]]
    return [(keys[start], start, stop) for start, stop in itertools.pairwise([*starts, len(keys)])]


def check_runs(runs: pd.DataFrame, place: str = "runs") -> pd.DataFrame:
    """The same runs with RUN_COLUMNS in their order, sorted by row and seeds, each column in one dtype.

    Text columns hold strings (empty, never NaN), counts are nullable Int64, measurements float64 with NaN. Rows of an
    older version, which have no `schema_version`, may lack the columns that came later.
    Raises StageBenchError on a missing or unknown column, a newer version, a duplicated id, an unknown status or kind,
    a cell that is no number, an accuracy outside 0 to 1, a negative time or size, and a finished run without test or
    validation accuracy. `place` begins the messages: a file name.
    """
    _check_version(runs, place)
    _check_columns(runs, place)
    rows = _texts(runs["id"].tolist())
    data: dict[str, Any] = {}
    for column in RUN_COLUMNS:
        values = runs[column].tolist() if column in runs.columns else [None] * len(runs)
        if column in _INTEGERS or column in _REALS:
            data[column] = _numbers(column, values, rows, place)
        else:
            data[column] = _texts(values)
    _check_values(data, place)
    # Every row has gone through this version's checks, so it is one of this version now.
    data["schema_version"] = np.full(len(runs), float(SCHEMA_VERSION))
    frame = pd.DataFrame(
        {
            column: _integers(values)
            if column in _INTEGERS
            else pd.Series(values, dtype="float64" if column in _REALS else "object")
            for column, values in data.items()
        }
    )
    # The order of the input must not show in the output: floating-point means depend on it. A missing seed comes last.
    return frame.sort_values([*KEY, "split_seed", "init_seed", "id"], kind="stable", ignore_index=True)


def seed_order(split_seed: int | None, init_seed: int | None) -> tuple[float, float]:
    """A sort key for a run's seeds; a missing one comes last."""
    return (math.inf if split_seed is None else split_seed, math.inf if init_seed is None else init_seed)


def read_runs(path: Path) -> pd.DataFrame:
    """runs.csv as `check_runs` leaves it. Raises StageBenchError, which names the file."""
    return check_runs(read_csv(path), str(path))


def write_runs(path: Path, runs: pd.DataFrame) -> Path:
    """Write runs.csv. Numbers keep every digit, so that the leaderboard made from the file is the same."""
    return replace_text(path, runs_csv(runs))


def runs_csv(runs: pd.DataFrame) -> str:
    """The text of runs.csv; the same runs in any order give the same text."""
    return checked_csv(check_runs(runs))


def checked_csv(runs: pd.DataFrame) -> str:
    """The text of runs.csv for a frame that `check_runs` gave."""
    return csv_columns(RUN_COLUMNS, [_cells(runs[column]) for column in RUN_COLUMNS])


def read_ids(path: Path) -> set[str]:
    """The ids of the runs in a runs.csv; no other cell of it is looked at but the version.

    Raises StageBenchError: as `read_csv`; no column of ids; a newer version.
    """
    found = read_csv(path, only=("id", "schema_version"))
    _check_version(found, str(path))
    if "id" not in found:
        raise StageBenchError(f"{path}: missing column id")
    return set(found["id"].tolist())


def read_csv(path: Path, only: Sequence[str] | None = None) -> pd.DataFrame:
    """A CSV file with every cell as text, so that an instruction named `none` stays a word.

    only: keep these columns, as far as the file has them.
    Raises StageBenchError, with the line: not CSV in UTF-8, a column twice, a row of another length than the header.
    """
    csv.field_size_limit(2**31 - 1)  # the module's own limit is less than what some errors have
    table: list[list[str]] = []
    # Most cells stand thousands of times: each text is kept once, a third of the memory.
    once = dict[str, str]().setdefault
    line = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if not header:
                raise StageBenchError(f"{path}:1: not a readable CSV file: there is no header")
            if twice := next((name for name, number in Counter(header).items() if number > 1), None):
                raise StageBenchError(f"{path}:1: column '{brief(twice)}' occurs twice")
            line = reader.line_num + 1
            width, kept = len(header), [place for place, name in enumerate(header) if only and name in only]
            for cells in reader:
                if cells and len(cells) != width:
                    raise StageBenchError(f"{path}:{line}: {len(cells)} cells in a row, {width} in the header")
                if cells and only is not None:
                    cells = [cells[place] for place in kept]
                if cells:
                    table.append([once(cell, cell) for cell in cells])
                line = reader.line_num + 1
    except FileNotFoundError:
        raise StageBenchError(f"{path}: no such file") from None
    except OSError as error:
        raise StageBenchError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise StageBenchError(f"{path}:{line}: not UTF-8: {error.reason}") from None
    except csv.Error as error:
        raise StageBenchError(f"{path}:{line}: not a readable CSV file: {error}") from None
    names = header if only is None else [header[place] for place in kept]
    return pd.DataFrame(table, columns=pd.Index(names, dtype=object), dtype=object)


def _check_version(runs: pd.DataFrame, place: str) -> None:
    """Are these rows of a version that can be read?"""
    if "schema_version" in runs.columns:
        for value in set(runs["schema_version"].tolist()):
            try:
                version = number(value)
            except ValueError:
                raise StageBenchError(f"{place}: schema_version is {value!r}, not a number") from None
            if version is not None and version > SCHEMA_VERSION:
                raise StageBenchError(
                    f"{place}: rows of schema version {version:g} are newer than this stage-bench reads "
                    f"({SCHEMA_VERSION}); update stage-bench"
                )


def _check_columns(runs: pd.DataFrame, place: str) -> None:
    """Do these rows have all columns of their version, and no other?"""
    required = RUN_COLUMNS if "schema_version" in runs.columns else _FIRST_COLUMNS
    if missing := [column for column in required if column not in runs.columns]:
        raise StageBenchError(f"{place}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)}")
    for column in runs.columns:
        if column not in RUN_COLUMNS:
            near = difflib.get_close_matches(str(column), RUN_COLUMNS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise StageBenchError(f"{place}: unknown column {brief(column)!r}{hint}")
    if not runs.columns.is_unique:
        twice = runs.columns[runs.columns.duplicated()][0]
        raise StageBenchError(f"{place}: column {twice} occurs twice")


def _texts(values: list[Any]) -> list[str]:
    return mapped(lambda value: value if type(value) is str else text(value), values)


def _numbers(column: str, values: list[Any], rows: Sequence[str], place: str) -> Reals:
    """Cells as numbers, NaN where nothing is in them."""
    try:
        found = np.array(mapped(lambda value: math.nan if value is None or value == "" else float(value), values))
    except (TypeError, ValueError, OverflowError):
        found = np.array([_number(column, value, row, place) for value, row in zip(values, rows, strict=True)])
    found = found.astype(np.float64)

    def refuse(wrong: Any, why: Callable[[float], str]) -> None:
        if (places := np.flatnonzero(wrong)).size:
            first = int(places[0])
            raise StageBenchError(f"{_named(place, rows[first])}: {column} is {why(float(found[first]))}")

    refuse(np.isinf(found), lambda value: f"{value!r}, not a number")
    if column in _INTEGERS:
        refuse(~np.isnan(found) & (found != np.floor(found)), lambda value: f"{value}, not an integer")
        refuse(np.abs(found) > LARGEST, lambda value: f"{value:g}, which is too large")
    if column in _REALS:
        refuse(np.abs(found) > _MOST, lambda value: f"{value:g}, which is too large")
    if column in _NEVER_NEGATIVE:
        refuse(found < 0, lambda value: f"{value}, below zero")
    if column in ACCURACIES:
        refuse((found < 0) | (found > 1), lambda value: f"{value}, not a fraction between 0 and 1")
    return found


def _number(column: str, value: Any, row: str, place: str) -> float:
    try:
        found = number(value)
    except ValueError:
        raise StageBenchError(f"{_named(place, row)}: {column} is {value!r}, not a number") from None
    return math.nan if found is None else found


def _check_values(data: dict[str, Any], place: str) -> None:
    seen: set[str] = set()
    for id_ in data["id"]:
        if not id_:
            raise StageBenchError(f"{place}: a run without an id")
        if id_ in seen:
            raise StageBenchError(f"{place}: run id {id_!r} occurs twice")
        seen.add(id_)
    for column, valid in (("status", _STATUSES), ("kind", _KINDS)):
        if wrong := set(data[column]) - set(valid):
            row = next(index for index, value in enumerate(data[column]) if value in wrong)
            value = data[column][row]
            raise StageBenchError(
                f"{_named(place, data['id'][row])}: {column} is {value!r}, not one of {', '.join(valid)}"
            )
    finished = np.array([status == "ok" for status in data["status"]], dtype=bool)
    for column in ("test_accuracy", "val_accuracy"):
        if (places := np.flatnonzero(finished & np.isnan(data[column]))).size:
            name = _named(place, data["id"][int(places[0])])
            raise StageBenchError(f"{name}: status is ok but {column} is empty or NaN")


def _named(place: str, id_: str) -> str:
    return f"{place}: run {id_!r}"


def _integers(values: Reals) -> Any:
    empty = np.isnan(values)
    return pd.arrays.IntegerArray(np.where(empty, 0, values).astype(np.int64), empty)


def _cells(column: "pd.Series[Any]") -> list[Any]:
    # Every text that a checked frame holds is one already.
    return column.tolist() if column.dtype == object else plain_cells(column)


def board_frame(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """A board of rows, None where a cell is empty: COLUMNS as they are ordered, by dataset, accuracy, then backbone."""
    return _typed_frame(sorted(rows, key=_board_order), COLUMNS, BOARD_INTEGERS, BOARD_DECIMALS)


def _board_order(row: dict[str, Any]) -> tuple[Any, ...]:
    accuracy = row["test_accuracy"]
    ties = ("backbone", "split", "features", "llm", "instruction", "origin", "source", "note")
    # Rounded, because the last bits of a mean must not decide the order.
    value = 0.0 if accuracy is None else -round(accuracy, 12)
    return (row["dataset"] or "", accuracy is None, value, *[row[column] or "" for column in ties])


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
            data[column] = pd.Series(_texts(values), dtype="object")
    return pd.DataFrame(data)

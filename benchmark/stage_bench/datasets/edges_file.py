"""The edges of a folder dataset: `edges.csv` or `edges.parquet`, the columns `src` and `dst` with row numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from stage_bench.datasets.nodes_file import parquet_module
from stage_bench.errors import StageBenchError, brief

ENDINGS = (".csv", ".parquet")
_ENDS = ("src", "dst")
_CHUNK = 1_000_000  # rows at a time, where a file has to be searched for a mistake


def read(path: Path, num_nodes: int) -> np.ndarray:
    """int64 [2, edges in the file], every id checked.

    Raises:
        StageBenchError: the file is no table with these columns, or names what is no node; with the line.
    """
    if path.suffix == ".parquet":
        return _checked(path, _parquet(path), num_nodes)
    edges = _csv(path)
    if edges is None:
        return _csv_searched(path, num_nodes)
    return _checked(path, edges, num_nodes)


def _csv(path: Path) -> np.ndarray | None:
    """All at once, as numbers; None where something is in the way of that."""
    import pandas

    try:
        first = pandas.read_csv(path, dtype=str, encoding="utf-8", nrows=1)
        if _has_surplus(first) or not set(_ENDS) <= set(first.columns):
            return None
        table = pandas.read_csv(path, dtype=dict.fromkeys(_ENDS, np.int64), encoding="utf-8")
    except (ValueError, OverflowError):  # also what pandas and the decoder raise
        return None
    if any(f"{column}.1" in table.columns for column in _ENDS):
        return None
    return np.ascontiguousarray(table[list(_ENDS)].to_numpy().T)


def _csv_searched(path: Path, num_nodes: int) -> np.ndarray:
    """The same for ids that are written in other ways (1.0), and the place where one is none."""
    import pandas

    parts = []
    try:
        with pandas.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8", chunksize=_CHUNK) as chunks:
            for number, table in enumerate(chunks):
                parts.append(_numbers(path, table, number * _CHUNK, num_nodes))
    except (ValueError, pandas.errors.EmptyDataError) as error:
        raise StageBenchError(f"{path}: not a CSV file: {' '.join(str(error).split())}") from None
    return np.concatenate(parts, axis=1) if parts else np.empty((2, 0), dtype=np.int64)


def _numbers(path: Path, table: Any, start: int, num_nodes: int) -> np.ndarray:
    """int64 [2, rows] of a table of texts whose first row is row `start` of the file."""
    import pandas

    missing = [column for column in _ENDS if column not in table.columns]
    if missing:
        raise StageBenchError(f"{path}:1: column '{missing[0]}' is missing (the header is `src,dst`)")
    twice = [column for column in _ENDS if f"{column}.1" in table.columns]  # what pandas calls the second
    if twice:
        raise StageBenchError(f"{path}:1: column '{twice[0]}' stands here twice")
    if _has_surplus(table):
        raise StageBenchError(f"{path}:2: the row has more cells than the header")
    ends = []
    for column in _ENDS:
        cells = table[column].where(~table[column].str.strip().str.lower().isin(("true", "false")), "")
        numbers = pandas.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64)
        wrong = np.flatnonzero(~(np.isfinite(numbers) & (numbers == np.floor(numbers))))
        if len(wrong):
            cell = table[column].iloc[int(wrong[0])]
            place = _place(path, start + int(wrong[0]))
            raise StageBenchError(f"{place}: {column} '{brief(cell, 60)}' is not a row number of a node")
        _check_range(path, numbers, start, num_nodes)
        ends.append(numbers.astype(np.int64))
    return np.stack(ends)


def _has_surplus(table: Any) -> bool:
    """Whether rows of texts have more cells than the header: pandas takes the first for an index.

    It does the same where cells are numbers, but an index 0, 1, 2 is then no other than the usual one.
    """
    import pandas

    return not isinstance(table.index, pandas.RangeIndex)


def _parquet(path: Path) -> np.ndarray:
    parquet = parquet_module(path)
    try:
        names = parquet.read_schema(path).names
        if twice := [column for column in _ENDS if names.count(column) > 1]:
            raise StageBenchError(f"{path}: column '{twice[0]}' stands there twice")
        table = parquet.read_table(path, columns=[column for column in _ENDS if column in names])
    except StageBenchError:
        raise
    except Exception as error:  # pyarrow has many
        raise StageBenchError(f"{path}: not a parquet file: {' '.join(str(error).split())}") from None
    ends = []
    for column in _ENDS:
        if column not in names:
            there = ", ".join(map(brief, names))
            raise StageBenchError(f"{path}: column '{column}' is missing (there are {there})")
        numbers = table.column(column).to_numpy()  # with nulls: floats
        if numbers.dtype.kind not in "iuf":
            raise StageBenchError(f"{path}: column '{column}' holds {table.column(column).type}, not row numbers")
        wrong = np.flatnonzero(numbers != np.floor(numbers))  # what is null too
        if len(wrong):
            row = int(wrong[0])
            raise StageBenchError(f"{_place(path, row)}: {column} '{numbers[row]}' is not a row number of a node")
        ends.append(numbers.astype(np.int64))
    return np.stack(ends)


def _checked(path: Path, edges: np.ndarray, num_nodes: int) -> np.ndarray:
    for ids in edges:
        _check_range(path, ids, 0, num_nodes)
    return edges


def _check_range(path: Path, ids: np.ndarray, start: int, num_nodes: int) -> None:
    if not len(ids) or (ids.min() >= 0 and ids.max() < num_nodes):
        return
    row = int(np.flatnonzero((ids < 0) | (ids >= num_nodes))[0])
    raise StageBenchError(
        f"{_place(path, start + row)}: the edge names node {int(ids[row])}, which does not exist: the nodes are 0 to "
        f"{num_nodes - 1}"
    )


def _place(path: Path, row: int) -> str:
    """Where a row of the table stands; empty lines are no rows."""
    if path.suffix == ".parquet":
        return f"{path}: row {row}"
    with path.open("rb") as file:
        rows = -1  # the header
        for number, line in enumerate(file, 1):
            rows += bool(line.strip())
            if rows > row:
                return f"{path}:{number}"
    return str(path)

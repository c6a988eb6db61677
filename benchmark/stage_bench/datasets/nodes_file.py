"""The nodes of a folder dataset: `nodes.jsonl`, `nodes.csv` or `nodes.parquet`, one row a node.

Rows are read one after another and only what is needed of them is kept, so that millions of nodes cost little more
than their texts.
"""

from __future__ import annotations

import csv
import json
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stage_bench.datasets.templates import Template, is_empty
from stage_bench.errors import StageBenchError, brief

ENDINGS = (".jsonl", ".csv", ".parquet")
_Row = dict[str, Any]


@dataclass
class Column:
    """A column with few different values: `codes` int64 [num_nodes] point into `values`, -1 is an empty cell.

    first: for each value the first node that has it.
    """

    values: list[str] = field(default_factory=list)
    first: list[int] = field(default_factory=list)
    codes: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))


class _Collector:
    """Builds a Column from one cell after another."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self.first: list[int] = []
        self.codes = array("q")

    def add(self, value: Any) -> None:
        if is_empty(value):
            self.codes.append(-1)
            return
        code = self.known.setdefault(str(value), len(self.first))
        if code == len(self.first):
            self.first.append(len(self.codes))
        self.codes.append(code)

    def column(self) -> Column:
        return Column(list(self.known), self.first, np.frombuffer(self.codes, dtype=np.int64).copy())


@dataclass
class Absence:
    """Where a column of the text template has nothing.

    empty: nodes whose value is absent, empty or white space; absent: rows that lack the column; first: one of these.
    """

    empty: int = 0
    absent: int = 0
    first: int = -1


@dataclass(frozen=True)
class NodeTable:
    """What is kept of the nodes.

    columns: every column that a row has, in the order in which they came.
    texts: one a node; None without a template.
    absences: for each column of the template.
    textless: the first node that has none of the template's columns; -1: none.
    """

    path: Path
    num_nodes: int
    columns: tuple[str, ...]
    label: Column
    split: Column
    texts: list[str] | None
    absences: dict[str, Absence]
    textless: int
    lines: array[int] | None = None  # where each row of a CSV file begins

    def place(self, node: int) -> str:
        return _place(self.path, self.lines, node)


def _place(path: Path, lines: array[int] | None, node: int) -> str:
    if path.suffix == ".parquet":
        return f"{path}: row {node}"
    return f"{path}:{node + 1 if lines is None else lines[node]}"


def read(path: Path, template: Template | None) -> NodeTable:
    """Read the nodes and fill in their texts.

    Raises:
        StageBenchError: a row cannot be read, or a label or a text's value is neither text nor number; with the place.
    """
    lines = array("q") if path.suffix == ".csv" else None
    table = _Table(path, template, lines)
    for row in _rows(path, lines):
        table.add(row)
    return table.finish()


class _Table:
    """Takes rows in; `finish` gives the NodeTable."""

    def __init__(self, path: Path, template: Template | None, lines: array[int] | None) -> None:
        self.path, self.template, self.lines = path, template, lines
        self.columns: dict[str, None] = {}
        self.label, self.split = _Collector(), _Collector()
        self.texts: list[str] = []
        wanted = dict.fromkeys(template.columns if template else ())
        self.absences = {column: Absence() for column in wanted}
        self.textless = -1
        self.num_nodes = 0

    def add(self, row: _Row) -> None:
        for name in row:
            if name not in self.columns:
                self.columns[name] = None
        self.label.add(self._label(row.get("label")))
        self.split.add(row.get("split"))
        if self.template is not None:
            self.texts.append(self.template.fill(self._values(row)))
        self.num_nodes += 1

    def _label(self, value: Any) -> Any:
        if isinstance(value, (list, dict, bool, bytes)):
            raise StageBenchError(f"{self._place()}: label {brief(repr(value), 60)} is neither a name nor a number")
        return int(value) if isinstance(value, float) and value.is_integer() else value

    def _values(self, row: _Row) -> dict[str, str]:
        values = {}
        lacking = 0
        for column, absence in self.absences.items():
            value = row.get(column)
            if isinstance(value, (list, dict, bytes)):
                kind = type(value).__name__
                raise StageBenchError(f"{self._place()}: column '{brief(column)}' is a {kind}, not a text")
            text = "" if is_empty(value) else str(value)
            values[column] = text
            if not text or text.isspace():
                absence.empty += 1
            if column not in row:
                lacking += 1
                absence.absent += 1
                if absence.first < 0:
                    absence.first = self.num_nodes
        if lacking == len(self.absences) and self.textless < 0:
            self.textless = self.num_nodes
        return values

    def _place(self) -> str:
        return _place(self.path, self.lines, self.num_nodes)

    def finish(self) -> NodeTable:
        return NodeTable(
            path=self.path,
            num_nodes=self.num_nodes,
            columns=tuple(self.columns),
            label=self.label.column(),
            split=self.split.column(),
            texts=self.texts if self.template is not None else None,
            absences=self.absences,
            textless=self.textless,
            lines=self.lines,
        )


def _rows(path: Path, lines: array[int] | None) -> Iterator[_Row]:
    if path.suffix == ".jsonl":
        return _json_rows(path)
    return _parquet_rows(path) if lines is None else _csv_rows(path, lines)


def _json_rows(path: Path) -> Iterator[_Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                raise StageBenchError(f"{path}:{number}: an empty line; row number is node id, so none may be empty")
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise StageBenchError(f"{path}:{number}: not a JSON object: {error}") from None
            if not isinstance(row, dict):
                raise StageBenchError(f"{path}:{number}: not a JSON object")
            yield row


def _csv_rows(path: Path, lines: array[int]) -> Iterator[_Row]:
    """Appends to `lines` where each row begins: a quoted cell may span lines."""
    csv.field_size_limit(2**31 - 1)  # the module's own limit, 128 KiB, is less than some texts have
    reader = csv.reader(_decoded(path), strict=True)
    line = 1
    try:
        header = next(reader, [])
        for name, number in Counter(header).items():
            if number > 1:
                raise StageBenchError(f"{path}:1: column '{brief(name)}' stands here twice")
        line = reader.line_num + 1
        for cells in reader:
            if not cells:
                raise StageBenchError(f"{path}:{line}: an empty line; row number is node id, so none may be empty")
            if len(cells) != len(header):
                raise StageBenchError(f"{path}:{line}: the row does not have the header's {len(header)} columns")
            lines.append(line)
            yield dict(zip(header, cells, strict=True))
            line = reader.line_num + 1
    except csv.Error as error:
        raise StageBenchError(f"{path}:{line}: not CSV: {error}") from None


def _decoded(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise StageBenchError(f"{path}:{number}: not UTF-8: {error.reason}") from None


def _parquet_rows(path: Path) -> Iterator[_Row]:
    """By pyarrow: unlike a data frame it keeps whole numbers whole where some are missing."""
    parquet = parquet_module(path)
    try:
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=10_000):
            yield from batch.to_pylist()
    except Exception as error:  # pyarrow has many
        raise StageBenchError(f"{path}: not a parquet file: {' '.join(str(error).split())}") from None


def parquet_module(path: Path) -> Any:
    try:
        from pyarrow import parquet
    except ImportError:
        raise StageBenchError(f"{path}: reading parquet needs: pip install 'stage-bench[parquet]'") from None
    return parquet

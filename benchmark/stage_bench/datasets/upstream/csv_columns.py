"""The columns of a CSV file as texts: nothing in it becomes a number, a date or a missing value."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from stage_bench.errors import StageBenchError


def read_columns(path: Path, needed: Sequence[str]) -> dict[str, list[str]]:
    """Every column by name; an empty cell is an empty string, and the word "nan" is that word.

    Raises:
        StageBenchError: it is no UTF-8 CSV file, a row has another number of cells than the header, or one of the
            needed columns is missing; with the line.
    """
    csv.field_size_limit(2**31 - 1)  # the module's own limit, 128 KiB, is less than some texts have
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            for column in needed:
                if column not in header:
                    raise StageBenchError(f"{path}:1: column '{column}' is missing (there are {', '.join(header)})")
            columns: list[list[str]] = [[] for _ in header]
            for cells in reader:
                if len(cells) != len(header):
                    raise StageBenchError(f"{path}:{reader.line_num}: {len(cells)} cells, expected {len(header)}")
                for column_cells, cell in zip(columns, cells, strict=True):
                    column_cells.append(cell)
    except (csv.Error, UnicodeDecodeError) as error:
        raise StageBenchError(f"{path}: not a CSV file: {' '.join(str(error).split())}") from None
    return dict(zip(header, columns, strict=True))

"""Published numbers: CSV files with a source for every figure, as rows that can stand beside reproduced ones."""

import csv
import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from stage_bench.errors import StageBenchError, brief
from stage_bench.leaderboard.rows import COLUMNS, LARGEST, board_frame

PUBLISHED_COLUMNS = (
    *("paper", "version", "dataset", "features", "lm", "backbone", "n_runs", "accuracy", "std", "std_kind"),
    *("split", "evidence", "source", "note"),
)
"""Columns of baselines/published/<name>.csv; accuracy and std are fractions."""

TIME_COLUMNS = ("paper", "dataset", "what", "lm", "seconds", "hardware", "evidence", "source", "note")
"""Columns of baselines/published/time.csv."""

TIMES = "time"
SAMPLE_STD = "std ddof=1"
"""The only kind of ± that may stand in `test_std`, where ours stand."""

_MOST_SECONDS = 1e15
_EVIDENCE = ("primary", "secondary")
_SEPARATOR = "; "


class Source(NamedTuple):
    """Where a published row comes from."""

    paper: str
    version: str
    place: str


class Remark(NamedTuple):
    """What the note of a published row says: grade of evidence, the ± and its kind, the file's own note."""

    evidence: str
    deviation: str
    note: str

    @property
    def suspect(self) -> bool:
        """Whether the file calls the number suspect."""
        return "suspect" in self.note.lower()


def names(folder: Path) -> list[str]:
    """Names of the published tables in `folder`: the files' stems, sorted, without time.csv."""
    return sorted(path.stem for path in folder.glob("*.csv") if path.stem != TIMES)


def load(names: Sequence[str], folder: Path, llm_names: Mapping[str, str] | None = None) -> pd.DataFrame:
    """The published rows of the tables `names` in `folder`, with COLUMNS and origin `published`.

    `llm_names` maps a hub id to the registry's name for it; other models keep the name that the file has.
    `test_std` is filled only where the paper's ± is a standard deviation with ddof 1; any other ± stands in the
    note with its kind, so that unlike things never share a column.

    Raises StageBenchError for an unknown name, and `file:line: message` for a bad file.
    """
    rows: list[dict[str, Any]] = []
    known = {path.stem for path in folder.glob("*.csv")} - {TIMES}
    for name in dict.fromkeys(names):
        if name not in known:  # nor one that leads out of the folder: report.json names what it likes
            raise StageBenchError(_unknown(name, folder))
        path = folder / f"{name}.csv"
        rows += [_row(cells, place, llm_names or {}) for place, cells in _lines(path, PUBLISHED_COLUMNS)]
    return board_frame(rows)


def without(published: pd.DataFrame, datasets: Sequence[str]) -> pd.DataFrame:
    """The rows that are not on one of the datasets."""
    return published[~published["dataset"].isin(list(datasets))].reset_index(drop=True)


def select(published: pd.DataFrame, keys: Iterable[tuple[str, str]]) -> tuple[pd.DataFrame, int]:
    """The rows on one of the (dataset, split) `keys`, and how many have the dataset but on another split."""
    keys = set(keys)
    datasets = {dataset for dataset, _ in keys}
    pairs = list(zip(published["dataset"].tolist(), published["split"].tolist(), strict=True))
    shown = [pair in keys for pair in pairs]
    mismatched = sum(dataset in datasets and (dataset, split) not in keys for dataset, split in pairs)
    return published[pd.Series(shown, index=published.index, dtype=bool)].reset_index(drop=True), mismatched


def none() -> pd.DataFrame:
    """No published rows."""
    return board_frame([])


def no_times() -> pd.DataFrame:
    """No published times."""
    return pd.DataFrame(columns=list(TIME_COLUMNS)).astype({"seconds": "float64"})


def times(folder: Path) -> pd.DataFrame:
    """Published times of time.csv with TIME_COLUMNS, `seconds` as float64 with NaN where none was given.

    Empty where the folder has no such file. Raises StageBenchError `file:line: message` for a bad file.
    """
    path = folder / f"{TIMES}.csv"
    rows = []
    for place, cells in _lines(path, TIME_COLUMNS) if path.is_file() else ():
        _required(cells, ("paper", "dataset", "what", "hardware", "evidence", "source"), place)
        _one_of(cells, "evidence", _EVIDENCE, place)
        seconds = _number(cells, "seconds", place)
        if seconds is not None and seconds > _MOST_SECONDS:
            raise StageBenchError(f"{place}: seconds is {brief(cells['seconds'], 40)}, which is too large")
        if seconds is not None and seconds < 0:
            raise StageBenchError(f"{place}: seconds is {brief(cells['seconds'], 40)}, below zero")
        rows.append({**cells, "seconds": math.nan if seconds is None else seconds})
    table = pd.DataFrame(rows, columns=list(TIME_COLUMNS))
    return table.astype({"seconds": "float64"})


def best(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The best published row of each paper among the rows of one table, best paper first."""
    rows = sorted((row for row in rows if row["origin"] == "published"), key=lambda row: -row["test_accuracy"])
    by_paper: dict[str, dict[str, Any]] = {}
    for row in rows:
        by_paper.setdefault(source_of(row["source"]).paper, row)
    return list(by_paper.values())


def source_of(cell: str | None) -> Source:
    """The parts of a published row's `source`."""
    paper, version, place = [*(cell or "").split(_SEPARATOR, 2), "", ""][:3]
    return Source(paper, version, place)


def remark_of(cell: str | None) -> Remark:
    """The parts of a published row's `note`."""
    evidence, deviation, note = [*(cell or "").split(_SEPARATOR, 2), "", ""][:3]
    return Remark(evidence, deviation, note)


def _row(cells: Mapping[str, str], place: str, llm_names: Mapping[str, str]) -> dict[str, Any]:
    _required(cells, ("paper", "version", "dataset", "features", "backbone", "accuracy", "split", "source"), place)
    _one_of(cells, "evidence", _EVIDENCE, place)
    for column in ("paper", "version", "std_kind"):
        if _SEPARATOR in cells[column]:
            raise StageBenchError(f"{place}: {column} holds {_SEPARATOR!r}, which separates the parts of a cell")
    if cells["dataset"] == "ogbn-products" and cells["split"] == "subset-masks":
        problem = (
            "TAPE's subset of 54,025 nodes is the dataset ogbn-products-subset; its numbers are not the full graph's"
        )
        raise StageBenchError(f"{place}: {problem}")
    accuracy, deviation = _fraction(cells, "accuracy", place), _fraction(cells, "std", place)
    n_runs = _number(cells, "n_runs", place)
    if n_runs is not None and (not 1 <= n_runs <= LARGEST or n_runs != int(n_runs)):
        raise StageBenchError(f"{place}: n_runs is {brief(cells['n_runs'], 40)}, not a whole number of runs")
    if deviation is not None and not cells["std_kind"]:
        raise StageBenchError(f"{place}: std without std_kind: say what the ± is, or `unstated`")
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row.update(
        dataset=cells["dataset"],
        split=cells["split"],
        features=cells["features"],
        llm=llm_names.get(cells["lm"], cells["lm"]),
        backbone=_backbone(cells["backbone"]),
        origin="published",
        n_runs=None if n_runs is None else int(n_runs),
        test_accuracy=accuracy,
        test_std=deviation if cells["std_kind"] == SAMPLE_STD else None,
        status="published",
        source=_SEPARATOR.join((cells["paper"], cells["version"], cells["source"])),
        note=_SEPARATOR.join(filter(None, (cells["evidence"], _deviation(cells), cells["note"]))),
    )
    return row


def _deviation(cells: Mapping[str, str]) -> str:
    return f"± {cells['std']} ({cells['std_kind']})" if cells["std"] else "no ± given"


def _backbone(name: str) -> str:
    """The registry's way to write a backbone: lower case, SIGN's three counts by name."""
    lower = name.lower()
    if match := re.fullmatch(r"sign\((\d+),\s*(\d+),\s*(\d+)\)", lower):
        return "sign(s={},p={},t={})".format(*match.groups())
    return lower


def _lines(path: Path, columns: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """The rows of a CSV file, each with its `file:line`."""
    result = []
    line = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [cell.strip() for cell in next(reader, [])]
            _check_header(header, columns, f"{path}:1")
            line = reader.line_num + 1
            for cells in reader:
                # A quoted cell may span lines: a row's place is the line it begins on.
                place, line = f"{path}:{line}", reader.line_num + 1
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(header):
                    raise StageBenchError(f"{place}: {len(cells)} cells in a row, {len(header)} in the header")
                result.append((place, {name: cell.strip() for name, cell in zip(header, cells, strict=True)}))
    except UnicodeDecodeError as error:
        raise StageBenchError(f"{path}:{line}: not UTF-8: {error.reason}") from error
    except csv.Error as error:
        raise StageBenchError(f"{path}:{line}: not CSV: {error}") from error
    except OSError as error:
        raise StageBenchError(f"{path}: cannot be read: {error.strerror or error}") from error
    return result


def _check_header(header: Sequence[str], columns: Sequence[str], place: str) -> None:
    if missing := [column for column in columns if column not in header]:
        raise StageBenchError(f"{place}: missing column{'s' * (len(missing) > 1)} {', '.join(missing)}")
    for name in header:
        if name not in columns:
            near = difflib.get_close_matches(name, columns, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise StageBenchError(f"{place}: unknown column {brief(name)!r}{hint} (valid: {', '.join(columns)})")
        if header.count(name) > 1:
            raise StageBenchError(f"{place}: column {name} occurs twice")


def _required(cells: Mapping[str, str], columns: Iterable[str], place: str) -> None:
    for column in columns:
        if not cells[column]:
            raise StageBenchError(f"{place}: {column} is empty")


def _one_of(cells: Mapping[str, str], column: str, valid: Sequence[str], place: str) -> None:
    if cells[column] not in valid:
        raise StageBenchError(f"{place}: {column} is {brief(cells[column], 60)!r}, not one of {', '.join(valid)}")


def _number(cells: Mapping[str, str], column: str, place: str) -> float | None:
    if not cells[column]:
        return None
    try:
        value = float(cells[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise StageBenchError(f"{place}: {column} is {brief(cells[column], 40)!r}, not a number")
    return value


def _fraction(cells: Mapping[str, str], column: str, place: str) -> float | None:
    value = _number(cells, column, place)
    if value is not None and not 0 <= value <= 1:
        problem = f"{column} is {brief(cells[column], 40)}, not a fraction between 0 and 1"
        raise StageBenchError(f"{place}: {problem}")
    return value


def _unknown(name: str, folder: Path) -> str:
    valid = names(folder)
    near = difflib.get_close_matches(name, valid, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"no published numbers named {brief(name)!r} in {folder}{hint} (valid: {', '.join(valid) or 'none'})"

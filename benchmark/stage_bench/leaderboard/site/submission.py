"""`check report`: is a report all there, and does it say what its runs say? Asked before it is published."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from stage_bench.checks import Line
from stage_bench.errors import StageBenchError
from stage_bench.leaderboard import board, facts_file, hits, published
from stage_bench.leaderboard.markdown import MOST_ROWS
from stage_bench.leaderboard.report import Facts, Report, make
from stage_bench.leaderboard.rows import KEY, read_runs, records
from stage_bench.leaderboard.site import layout, protocol
from stage_bench.leaderboard.wording import Row, accuracy, ours_first_by_rank, plain
from stage_bench.leaderboard.writing import separation_csv

Load = Callable[[Sequence[str]], tuple[pd.DataFrame, pd.DataFrame]]
"""Published accuracies and times of the tables that a report names. Raises StageBenchError: there is no such table."""

_ANEW = "`stage-bench report` on this folder, with --reports naming the one that it is in, makes it anew"
_NEEDED = tuple(name for name in layout.REPORT_FILES if name not in layout.OPTIONAL)


@dataclass(frozen=True)
class Submission:
    """A report's folder, looked at. report: made anew from its runs; None where that cannot be done."""

    folder: Path
    lines: Sequence[Line]
    report: Report | None

    @property
    def passed(self) -> bool:
        return self.report is not None and all(line.passed for line in self.lines)


def examine(folder: Path, load: Load) -> Submission:
    """What may be asked of a report's folder without the results behind it, a line for each thing.

    Nothing in the folder is run or changed, and no link in it is followed. Raises StageBenchError: no such folder.
    """
    if not folder.is_dir():
        raise StageBenchError(f"{folder}: there is no such folder; a report's folder is wanted, such as reports/quick")
    found = _examined(folder, load)
    # Names and ids are whatever the folder holds, and the lines go to terminals.
    return replace(found, lines=[Line(plain(line.what), line.passed) for line in found.lines])


def _examined(folder: Path, load: Load) -> Submission:
    lines = list(_files(folder))
    if not _is_file(folder / "runs.csv"):
        return Submission(folder, lines, None)
    try:
        runs = read_runs(folder / "runs.csv")
    except StageBenchError as error:
        return Submission(folder, [*lines, _problem(error, folder)], None)
    lines += protocol.check(runs)
    facts, found_lines = _facts(folder)
    lines += found_lines
    try:
        found = hits.read(folder) if _is_file(folder / hits.NAME) else {}
    except StageBenchError as error:
        found = {}
        lines.append(_problem(error, folder))
    try:
        numbers = load(facts.compare)
    except StageBenchError as error:
        numbers = published.none(), published.no_times()
        lines.append(Line(f"report.json: {error}", False))
    try:
        report = make(facts, runs, *numbers, found)
    except StageBenchError as error:
        return Submission(folder, [*lines, Line(f"runs.csv: {error}", False)], None)
    lines += _says_the_same(folder, report)
    lines += _is_as_written(folder, [line.what for line in lines if not line.passed])
    return Submission(folder, lines, report)


def _files(folder: Path) -> Iterator[Line]:
    links = [name for name in (*layout.REPORT_FILES, layout.PLOTS) if (folder / name).is_symlink()]
    for name in links:
        yield Line(f"files: {name} is a symbolic link, which is not followed; put the file itself there", False)
    absent = [name for name in _NEEDED if name not in links and not (folder / name).is_file()]
    if absent:
        what = "is not there" if len(absent) == 1 else "are not there"
        yield Line(f"files: {', '.join(absent)} {what}; {_ANEW}", False)
    if not links and not absent:
        yield Line(f"files: {', '.join(_NEEDED)}")


def _facts(folder: Path) -> tuple[Facts, list[Line]]:
    """What report.json says; where it is not there, which is said elsewhere, what the folder's name tells."""
    unnamed = Facts(suite=folder.resolve().name or "report")
    try:
        facts = facts_file.read(folder) if _is_file(folder / facts_file.NAME) else None
    except StageBenchError as error:
        return unnamed, [_problem(error, folder)]
    if facts is None:
        return unnamed, []
    if facts.selection:
        problem = f"a selection of a larger report ({facts.selection}); publish the whole report, its page filters"
        return facts, [Line(f"report.json: {problem}", False)]
    beside = f", with {', '.join(facts.compare)} beside it" if facts.compare else ""
    return facts, [Line(f"report.json: suite {facts.suite}{beside}")]


def _says_the_same(folder: Path, report: Report) -> Iterator[Line]:
    """Whether the tables are those that the runs give, and what is made for readers shows their numbers."""
    for name, expected in (
        ("leaderboard.csv", board.to_csv(report.board)),
        ("separation.csv", separation_csv(report)),
    ):
        text = _text(folder / name)
        if text is None:
            continue
        if text == expected:
            yield Line(f"{name} is what runs.csv gives")
        else:
            yield Line(f"{name}: {_first_difference(text, expected)}; {_ANEW}", False)
    numbers = [[accuracy(row) for row in rows if accuracy(row)] for rows in _rows(report)]
    for name, most in (("leaderboard.md", MOST_ROWS), ("index.html", None)):
        text = _text(folder / name)
        if text is None:
            continue
        if absent := [number for table in numbers for number in table[:most] if number not in text]:
            yield Line(f"{name} does not show {absent[0]}, which runs.csv gives; {_ANEW}", False)
        else:
            yield Line(f"{name} shows the accuracies that runs.csv gives")


def _is_as_written(folder: Path, problems: Sequence[str]) -> Iterator[Line]:
    """Whether the tables are still those that were written, of which nothing is said yet."""
    try:
        changed = facts_file.changed(folder) if _is_file(folder / facts_file.NAME) else []
    except StageBenchError:  # which is said elsewhere
        changed = []
    for name in changed:
        if not any(problem.startswith(name) for problem in problems):
            yield Line(f"{name}: not what was written, says {facts_file.NAME}; make the report from its results", False)


def _rows(report: Report) -> list[list[Row]]:
    """The reproduced rows of each table, in the order of a reader's."""
    tables: dict[tuple[str, str], list[Row]] = {}
    for row in records(report.board):
        tables.setdefault((row["dataset"], row["split"]), []).append(row)
    return [ours_first_by_rank(rows) for rows in tables.values()]


def _first_difference(text: str, expected: str) -> str:
    """In words, the first row of a CSV file that is not as expected."""
    found, right = (list(csv.reader(io.StringIO(content, newline=""))) for content in (text, expected))
    head = right[0]
    if not found or found[0] != head:
        return "its columns are not those of this stage-bench"
    place = next((i for i, (a, b) in enumerate(zip(found, right, strict=False)) if a != b), min(len(found), len(right)))
    ours, theirs = (rows[place] if place < len(rows) else None for rows in (right, found))
    if ours == theirs:
        return "the cells are those of runs.csv, the bytes are not"
    if theirs is None and ours is not None:
        return f"row {place}, {_named(head, ours)}, is not there, and runs.csv has it"
    if ours is None or theirs is None:
        return f"row {place} is one that runs.csv does not give"
    keys = [head.index(column) for column in KEY]
    if len(theirs) != len(head) or [theirs[key] for key in keys] != [ours[key] for key in keys]:
        return f"row {place} should be {_named(head, ours)}"
    column = next(i for i, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b)
    return plain(
        f"row {place}, {_named(head, ours)}: {head[column]} is {theirs[column] or 'empty'}, and runs.csv gives "
        f"{ours[column] or 'nothing'}"
    )


def _named(head: Sequence[str], cells: Sequence[str]) -> str:
    row = dict(zip(head, cells, strict=True))
    name = protocol.row_name(row)
    return f"{name} of {row['source']}" if row.get("origin") == "published" else name


def _problem(error: StageBenchError, folder: Path) -> Line:
    """Where the folder is, is nobody else's business: the line may stand on the site."""
    return Line(str(error).replace(f"{folder}/", ""), False)


def _text(path: Path) -> str | None:
    """None where there is nothing to compare; that is said elsewhere."""
    if not _is_file(path):
        return None
    return path.read_bytes().decode("utf-8", "replace")


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()

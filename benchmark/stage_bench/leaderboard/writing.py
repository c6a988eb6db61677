"""A report on disk: tables as CSV, Markdown and LaTeX, plots, and one page with all of it."""

from __future__ import annotations

import logging
from pathlib import Path

from stage_bench.files import write_bytes
from stage_bench.leaderboard import board, details, facts_file, hits
from stage_bench.leaderboard.beside import Beside
from stage_bench.leaderboard.files import csv_text, replace_text
from stage_bench.leaderboard.latex import latex
from stage_bench.leaderboard.markdown import markdown
from stage_bench.leaderboard.page.page import html
from stage_bench.leaderboard.plots import drawing
from stage_bench.leaderboard.report import Report
from stage_bench.leaderboard.rows import KEY, checked_csv

_log = logging.getLogger(__name__)

SEPARATION_COLUMNS = (*KEY, "best", "difference", "p", "p_holm", "effect", "method", "n", "separable", "reason")
"""Columns of separation.csv: a row against the best of its table (separation.Separation)."""


def write(folder: Path, report: Report) -> list[Path]:
    """Write a report to `folder`; the paths written, in a fixed order.

    leaderboard.csv, leaderboard.md, leaderboard.tex, runs.csv, separation.csv, index.html, plots/*.svg and *.png,
    hits.npz and details.json where there are some, and report.json, with which the folder can be made anew from its own
    runs.csv. Each file is replaced as a whole, and the same report gives the same bytes. Plots that an earlier report
    left and this one does not have are deleted. Without matplotlib there are no plots, and the log says how to get
    them.
    """
    drawn = drawing.Drawn(report)
    if not drawing.available():
        _log.warning(drawing.ADVICE)
    tables = Beside(len(report.runs), _write_tables, folder, report)
    page = html(report, drawn)
    paths = tables.result()
    paths.insert(1, replace_text(folder / "leaderboard.md", markdown(report, drawn)))
    paths.append(replace_text(folder / "index.html", page))
    for plot in drawn:
        for ending, data in (("svg", plot.svg), ("png", plot.png)):
            path = folder / "plots" / f"{plot.name}.{ending}"
            write_bytes(path, data)
            paths.append(path)
    if report.hits:
        paths.append(hits.write(folder, report.hits))
    if report.details:
        paths.append(details.write(folder, report.details))
    for name, found in ((hits.NAME, report.hits), (details.NAME, report.details)):
        if not found:  # what an earlier report left would be read as this one's
            (folder / name).unlink(missing_ok=True)
    names = [path.name for path in paths if path.parent.name == "plots"]
    for name in set(facts_file.plots(folder)) - set(names):
        (folder / "plots" / name).unlink(missing_ok=True)
    read_again = [path for path in paths if path.parent == folder and path.suffix in (".csv", ".npz", ".json")]
    paths.append(facts_file.write(folder, report.facts, names, read_again))
    return paths


def _write_tables(folder: Path, report: Report) -> list[Path]:
    return [
        replace_text(folder / "leaderboard.csv", board.to_csv(report.board)),
        replace_text(folder / "leaderboard.tex", latex(report)),
        replace_text(folder / "runs.csv", checked_csv(report.runs)),
        replace_text(folder / "separation.csv", separation_csv(report)),
    ]


def separation_csv(report: Report) -> str:
    rows = []
    for key, found in sorted(report.separations.items()):
        values = [getattr(found, column) for column in SEPARATION_COLUMNS[len(KEY) :]]
        rows.append([*key, *(_cell(value) for value in values)])
    return csv_text(SEPARATION_COLUMNS, rows)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)

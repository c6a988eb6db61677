"""A report on disk: tables as CSV, Markdown and LaTeX, plots, and one page with all of it."""

from __future__ import annotations

import logging
from operator import attrgetter
from pathlib import Path

from stage_bench.files import write_bytes
from stage_bench.leaderboard import board, details, facts_file, hits, overhead
from stage_bench.leaderboard.beside import Beside
from stage_bench.leaderboard.files import csv_text, replace_text
from stage_bench.leaderboard.latex import latex
from stage_bench.leaderboard.markdown import markdown
from stage_bench.leaderboard.page.page import html
from stage_bench.leaderboard.plots import drawing
from stage_bench.leaderboard.report import Report
from stage_bench.leaderboard.rows import KEY, checked_csv

_log = logging.getLogger(__name__)

TEXTS = ("leaderboard.csv", "leaderboard.md", "leaderboard.tex", "runs.csv", "separation.csv", "index.html")
"""The files of text that every report has, in the order in which they are written."""

SEPARATION_COLUMNS = (*KEY, "best", "difference", "p", "p_holm", "effect", "method", "n", "separable", "reason")
"""Columns of separation.csv: a row against the best of its table (separation.Separation)."""


@overhead.less()
def write(folder: Path, report: Report, runs_csv: str | None = None) -> list[Path]:
    """Write a report to `folder`; the paths written, in a fixed order.

    leaderboard.csv, leaderboard.md, leaderboard.tex, runs.csv, separation.csv, index.html, plots/*.svg and *.png,
    hits.npz and details.json where there are some, and report.json, with which the folder can be made anew from its own
    runs.csv. Each file is replaced as a whole, and the same report gives the same bytes. Plots that an earlier report
    left and this one does not have are deleted. Without matplotlib there are no plots, and the log says how to get
    them. runs_csv: the text of that file where it is made already (rows.checked_csv of the report's runs).
    """
    text = Beside(len(report.runs), checked_csv, report.runs) if runs_csv is None else None
    drawn = drawing.Drawn(report)
    if not drawing.available():
        _log.warning(drawing.ADVICE)
    texts = {
        "leaderboard.csv": board.to_csv(report.board),
        "leaderboard.tex": latex(report),
        "separation.csv": separation_csv(report),
        "index.html": html(report, drawn),  # which waits for the plots
        "leaderboard.md": markdown(report, drawn),
        "runs.csv": text.result() if text else runs_csv or "",
    }
    paths = [replace_text(folder / name, texts[name]) for name in TEXTS]
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


def separation_csv(report: Report) -> str:
    rows = []
    measured = attrgetter(*SEPARATION_COLUMNS[len(KEY) :])
    for key, found in sorted(report.separations.items()):
        rows.append([*key, *map(_cell, measured(found))])
    return csv_text(SEPARATION_COLUMNS, rows)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)

"""index.html: a report as one file that needs no other, to sort, to filter and to look into every run."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stage_bench.leaderboard import legend, mean_ranks, published, splits, tuning
from stage_bench.leaderboard.files import file_stem
from stage_bench.leaderboard.markdown import TIMES_WARNING, run_counts
from stage_bench.leaderboard.page import cost_rows, overviews, published_rows, run_data, standings
from stage_bench.leaderboard.page.cells import SHOWN, Notes, Table
from stage_bench.leaderboard.page.naming import BoardRow, Keys, Place
from stage_bench.leaderboard.page.prose import inline
from stage_bench.leaderboard.page.templates import environment
from stage_bench.leaderboard.plots.plot import KINDS, Plot
from stage_bench.leaderboard.published import TIME_COLUMNS
from stage_bench.leaderboard.report import Report
from stage_bench.leaderboard.reproduction import Reproduction
from stage_bench.leaderboard.rows import records
from stage_bench.leaderboard.samples import key_of
from stage_bench.leaderboard.wording import MARK, plain, seconds_text

_HEAVY = 1_000
"""Rows in the document from which on the browser lays out only the sections that are in sight."""

_TITLES = {
    "time": "Accuracy against time",
    "memory": "Accuracy against memory",
    "accuracy": "Accuracy",
    "ranks": "Ranks",
    "mean-ranks": "Mean ranks",
    "tuning": "Tuning",
}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A plot in the page. source: a data URI. width, height: in CSS pixels, 0 where the file does not say."""

    title: str
    alt: str
    source: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class Section:
    """What the page shows of one (dataset, split), where; a table that has no rows is None."""

    where: tuple[str, str]
    place: Place
    split_words: str
    board: Table | None
    basis: str
    pictures: Sequence[Picture] = ()
    published: Table | None
    best: str
    suspect: bool
    beside: Table | None
    cost: Table | None
    cost_remarks: Sequence[str]
    notes: Notes

    @property
    def tables(self) -> list[Table]:
        return [table for table in (self.board, self.published, self.beside, self.cost) if table]


def html(report: Report, plots: Sequence[Plot] = ()) -> str:
    """The page of a report with these plots of it; the same arguments give the same text.

    It loads nothing: styles, script, plots and data are inside, and its Content-Security-Policy lets nothing else in.
    All text from data is escaped. Of tables with more than SHOWN rows the first are in the document and the script
    draws the others; with more than DETAILED_RUNS runs what `run.json` holds of each is left out, and the page says so.
    """
    facts = report.facts
    keys = run_data.keys_of(report.runs)
    rows = records(report.board)
    sections = _sections(report, rows, keys)
    times_notes = Notes("times")
    times = _times(report, times_notes)
    studies = tuning.in_order(facts.studies)
    tables = [table for section in sections for table in section.tables]
    over_all = {
        "mean_ranks": overviews.mean_ranks(report.mean_ranks) if report.mean_ranks else None,
        "winners": overviews.winners(studies) if studies else None,
        "trajectories": overviews.trajectories(studies) if studies else None,
        "models": overviews.models(facts.models) if facts.models else None,
        "times": times,
        "runs": run_data.table(report) if len(report.runs) else None,
    }
    tables += [table for name, table in over_all.items() if table and name != "runs"]
    page_data = _data(report, rows, keys, tables)
    for table in tables:
        _ = table.body  # made now, and the plots come last: other processes may still be drawing them
    sections = [replace(section, pictures=_pictures_of(section, plots)) for section in sections]
    return (
        environment()
        .get_template("page.html")
        .render(
            suite=plain(facts.suite),
            description=plain(facts.description),
            counts=run_counts(report),
            figures_row=_figures(report, sections),
            configuration=[plain(line) for line in facts.configuration],
            left_out=[plain(line) for line in (*facts.left_out, *report.remarks)],
            selection=plain(facts.selection),
            facets=_facets(report),
            sections=sections,
            **over_all,
            mean_ranks_note=mean_ranks.NOTE,
            mean_ranks_pictures=_pictures(plot for plot in plots if plot.kind == "mean-ranks"),
            budgets=_budgets(studies),
            tuning_remarks=overviews.remarks(studies) if studies else [],
            tuning_legend=inline(tuning.LEGEND),
            tuning_pictures=_pictures(plot for plot in plots if plot.kind == "tuning"),
            times_notes=times_notes,
            times_warning=TIMES_WARNING,
            reproduction_legend=inline(legend.REPRODUCTION),
            legend=[inline(line) for line in legend.LINES],
            provenance=_provenance(report),
            detailed=len(report.runs) <= run_data.DETAILED_RUNS,
            detailed_runs=run_data.DETAILED_RUNS,
            heavy=sum(min(table.length, SHOWN) for table in tables) > _HEAVY,
            mark=MARK,
            page_data=page_data,
        )
    )


def _sections(report: Report, rows: Sequence[BoardRow], keys: Keys) -> list[Section]:
    """A section for each table, without its pictures."""
    members: dict[tuple[str, str], list[BoardRow]] = {}
    for row in rows:
        members.setdefault((row["dataset"] or "", row["split"] or ""), []).append(row)
    found: dict[tuple[str, str], list[Reproduction]] = {where: [] for where in members}
    for one in report.reproductions:
        found.setdefault((one.ours["dataset"] or "", one.ours["split"] or ""), []).append(one)
    return [_section(report, keys, members[where], found[where]) for where in sorted(members)]


def _pictures_of(section: Section, plots: Sequence[Plot]) -> Sequence[Picture]:
    return _pictures(plot for plot in plots if (plot.dataset, plot.split) == section.where and plot.kind != "tuning")


def _section(
    report: Report,
    keys: Keys,
    rows: Sequence[BoardRow],
    reproductions: Sequence[Reproduction],
) -> Section:
    dataset, split = rows[0]["dataset"] or "", rows[0]["split"] or ""
    place = Place(f"on-{file_stem(f'{dataset}.{split}')}", plain(dataset), plain(split))
    ours = [row for row in rows if row["origin"] != "published"]
    theirs = [row for row in rows if row["origin"] == "published"]
    notes = Notes(place.id)
    return Section(
        where=(dataset, split),
        place=place,
        split_words=splits.NAMES.get(split, ""),
        board=standings.table(place, ours, report.separations, keys, notes) if ours else None,
        basis=_basis(ours),
        published=published_rows.table(place, theirs, notes) if theirs else None,
        best=published_rows.best(ours, theirs) if theirs else "",
        suspect=any(published.remark_of(row["note"]).suspect for row in theirs),
        beside=published_rows.beside_ours(place, reproductions, notes) if reproductions else None,
        cost=cost_rows.table(place, ours, report.costs, keys),
        cost_remarks=cost_rows.remarks(ours, report.costs),
        notes=notes,
    )


def _basis(rows: Sequence[BoardRow]) -> str:
    """What the numbers of a table stand on."""
    counts = sorted({row["n_runs"] for row in rows if row["n_runs"]})
    span = " to ".join(dict.fromkeys(str(count) for count in (counts[:1] + counts[-1:]))) or "0"
    hardware = sorted({row["hardware"] for row in rows if row["hardware"]})
    statistics = "± standard deviation over runs (ddof 1); interval: 95 % bootstrap of the mean"
    shown = "; ".join(hardware) or "not recorded"
    return plain(f"n = {span} finished runs a row; {statistics}; hardware: {shown}.")


def _figures(report: Report, sections: Sequence[Section]) -> list[tuple[str, str]]:
    """The numbers on top: what is counted, and how many."""
    status, origin = report.runs["status"], report.board["origin"]
    found = [
        ("runs", len(report.runs)),
        ("finished", int((status == "ok").sum())),
        ("failed", int((status == "failed").sum())),
        ("not there yet", int((status == "missing").sum())),
        ("tables", len(sections)),
        ("rows", int((origin != "published").sum())),
        ("published rows", int((origin == "published").sum())),
    ]
    return [(name, f"{number:,}") for name, number in found if number or name in ("runs", "finished", "failed")]


def _facets(report: Report) -> list[tuple[str, str, list[str]]]:
    """The filters: key, label and values."""
    board, found = report.board, []
    for key, label in (("dataset", "Dataset"), ("features", "Features"), ("llm", "LLM"), ("backbone", "Backbone")):
        values = {*board[key], *report.runs[key]}
        found.append((key, label, sorted({plain(value) for value in values} - {""})))
    origins = [name for name in ("reproduced", "published") if (board["origin"] == name).any()]
    return [*found, ("origin", "Origin", origins)]


def _times(report: Report, notes: Notes) -> Table | None:
    datasets = set(report.runs["dataset"])
    rows = [row for row in records(report.published_times[list(TIME_COLUMNS)]) if row["dataset"] in datasets]
    return overviews.times(rows, notes) if rows else None


def _budgets(studies: Sequence[tuning.Study]) -> dict[str, Any] | None:
    """Whether every competitor was tuned alike, and how."""
    if not studies:
        return None
    lines = [(plain(budget), [plain(name) for name in names]) for budget, names in tuning.budgets(studies).items()]
    took = seconds_text(tuning.total_seconds(studies))
    return {"lines": lines, "took": took, "warning": tuning.BUDGETS_DIFFER}


def _provenance(report: Report) -> list[tuple[str, str]]:
    """What the numbers were made with: label and text."""
    facts = report.facts
    found = [("Source of the rows", plain(facts.source))]
    found += [(plain(name), plain(version)) for name, version in facts.versions.items()]
    for label, column in (("Runs made by version", "version"), ("Runs made at commit", "commit")):
        counts = report.runs[column].value_counts().sort_index()
        shown = [
            f"{plain(value)} ({number:,})" if len(counts) > 1 else plain(value) for value, number in counts.items()
        ]
        found.append((label, ", ".join(part for part in shown if part)))
    hardware = sorted({plain(value) for value in set(report.runs["hardware"].tolist())} - {""})
    found.append(("Hardware", "; ".join(hardware)))
    return [pair for pair in found if pair[1]]


def _pictures(plots: Iterable[Plot]) -> list[Picture]:
    found = []
    for plot in sorted(plots, key=lambda plot: (KINDS.index(plot.kind), plot.name)):
        width, height = _size(plot.svg)
        source = f"data:image/svg+xml;base64,{base64.b64encode(plot.svg).decode()}"
        found.append(Picture(title=_TITLES[plot.kind], alt=plain(plot.alt), source=source, width=width, height=height))
    return found


def _size(svg: bytes) -> tuple[int, int]:
    """Width and height in CSS pixels, so that the page does not jump as plots appear."""
    found = re.search(rb'<svg[^>]*?\swidth="([\d.]+)pt"[^>]*?\sheight="([\d.]+)pt"', svg[:2000])
    return (round(float(found[1]) * 4 / 3), round(float(found[2]) * 4 / 3)) if found else (0, 0)


def _data(report: Report, rows: Sequence[BoardRow], keys: Keys, tables: Sequence[Table]) -> dict[str, Any]:
    """What the script reads: rows beyond those in the document, what an opened row says, and the runs."""
    facts: list[list[tuple[str, str]]] = [[] for _ in keys]
    for row in rows:
        place = keys.get(key_of(row), -1) if row["origin"] != "published" else -1
        if place >= 0:
            facts[place] = standings.facts(row, report.separations.get(key_of(row)))
    return {
        "tables": {table.id: table.rest for table in tables if len(table.rows) > SHOWN},
        "facts": facts,
        **run_data.pack(report, keys),
        "details": run_data.details(report),
        "detailed": len(report.runs) <= run_data.DETAILED_RUNS,
    }

"""All plots of a report. matplotlib is optional: without it there are none, and ADVICE says how to get it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import NamedTuple, overload

from stage_bench.leaderboard.beside import Beside
from stage_bench.leaderboard.plots import canvas, lanes, standings, trajectories
from stage_bench.leaderboard.plots.canvas import Sheet
from stage_bench.leaderboard.plots.entries import Table, accuracies, tables
from stage_bench.leaderboard.plots.plot import Plot
from stage_bench.leaderboard.plots.scatter import MEMORY, TIME, Scatter
from stage_bench.leaderboard.report import Report
from stage_bench.leaderboard.tuning import key

ADVICE = "plots need: pip install 'stage-bench[plots]'"


class _Task(NamedTuple):
    """A plot to draw: `sheet` draws it, the others are as in Plot."""

    kind: str
    dataset: str
    split: str
    name: str
    alt: str
    sheet: Callable[[], Sheet]


def available() -> bool:
    """Whether matplotlib is installed; asks without importing it."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(report: Report, half: int | None = None) -> list[Plot]:
    """Every plot of the report that has something to show, table by table; then mean ranks, then tuning.

    half: only those of the first half of the tables (0), or all the others (1).
    The same report gives the same bytes, in whatever order its rows are, and whatever the user's matplotlibrc says.
    Empty where matplotlib is not installed.
    """
    if not available():
        return []
    plots = []
    with canvas.style():
        for kind, dataset, split, name, alt, sheet in _tasks(report, half):
            svg, png = sheet().files()
            plots.append(Plot(kind=kind, dataset=dataset, split=split, alt=alt, name=name, svg=svg, png=png))
    return plots


class Drawn(Sequence[Plot]):
    """The plots of a report, drawn while its other files are made if it has many rows; waited for when looked at."""

    def __init__(self, report: Report) -> None:
        self._halves = [Beside(len(report.runs), draw, report, half) for half in (0, 1)]

    @cached_property
    def _plots(self) -> list[Plot]:
        return [plot for half in self._halves for plot in half.result()]

    def __len__(self) -> int:
        return len(self._plots)

    @overload
    def __getitem__(self, place: int) -> Plot: ...
    @overload
    def __getitem__(self, place: slice) -> list[Plot]: ...
    def __getitem__(self, place: int | slice) -> Plot | list[Plot]:
        return self._plots[place]


def _tasks(report: Report, half: int | None) -> Iterator[_Task]:
    every = tables(report, half)
    runs = accuracies(report, {entry.key for table in every for entry in table.entries[: lanes.SHOWN]})
    for table in every:
        for axis in (TIME, MEMORY):
            scatter = Scatter(table, axis)
            if scatter.entries:
                yield _task(axis.kind, table, scatter.alt(), scatter.sheet)
        yield _task("accuracy", table, standings.accuracy_alt(table), partial(standings.accuracy, table, runs))
        if len(standings.ranked(table)) > 1:
            yield _task("ranks", table, standings.ranks_alt(table), partial(standings.ranks, table))
    if half == 0:
        return
    if methods := report.mean_ranks:
        said = standings.mean_ranks_alt(methods)
        yield _Task("mean-ranks", "", "", "mean-ranks", said, partial(standings.mean_ranks, methods))
    for where, name in trajectories.names(report.facts.studies).items():
        studies = [study for study in report.facts.studies if key(study) == where]
        said = trajectories.alt(studies)
        yield _Task("tuning", where[0], where[1], name, said, partial(trajectories.sheet, studies))


def _task(kind: str, table: Table, alt: str, sheet: Callable[[], Sheet]) -> _Task:
    return _Task(kind, table.dataset, table.split, f"{table.stem}.{kind}", alt, sheet)

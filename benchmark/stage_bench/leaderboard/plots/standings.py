"""The rows of a table, best first: their accuracies run by run, or their ranks; and mean ranks over tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stage_bench.leaderboard.mean_ranks import MeanRank
from stage_bench.leaderboard.plots import lanes, legend
from stage_bench.leaderboard.plots.canvas import SOFT, Sheet
from stage_bench.leaderboard.plots.entries import Entry, Table
from stage_bench.leaderboard.plots.lanes import SHOWN, Lane
from stage_bench.leaderboard.report import Key
from stage_bench.leaderboard.wording import plain, short_inputs

_BLUE, _RED, _GREY = "#0072b2", "#d55e00", "#737373"

_VERDICTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "best": ("best", {"marker": "D", "color": _BLUE, "markersize": 6}),
    "as good": ("not separable from the best", {"marker": "o", "color": _BLUE, "markersize": 6}),
    "worse": ("separable from the best", {"marker": "o", "color": _RED, "markerfacecolor": "white", "markersize": 6}),
    "open": ("no test against the best", {"marker": "s", "color": _GREY, "markerfacecolor": "white", "markersize": 5}),
    "partial": (
        "partial: fewer runs than asked for, no rank",
        {"marker": "v", "color": _GREY, "markerfacecolor": "white", "markersize": 6},
    ),
}
"""What a row's mark says: in the legend, and its look. Shape and filling tell all five apart without colour."""


def accuracy(table: Table, runs: Mapping[Key, Sequence[float]]) -> Sheet:
    """Draw every run of each row, the mean and its 95 % interval. runs: the test accuracies of each shown row.

    Within `canvas.style`.
    """
    shown = table.entries[:SHOWN]
    rows = [
        Lane(
            name=table.name(entry) + (" (partial)" if entry.status == "partial" else ""),
            figure=f"{entry.accuracy:.4f}",
            at=entry.accuracy,
            low=entry.low,
            high=entry.high,
            look=_VERDICTS[_verdict(entry)][1],
            dots=runs[entry.key],
        )
        for entry in shown
    ]
    best = next((entry.accuracy for entry in shown if entry.separation.best), None)
    dot = {"linestyle": "", "marker": "o", "markersize": 3, "markeredgewidth": 0, "color": SOFT, "alpha": 0.6}
    bar = {"linewidth": 1.6, "color": SOFT}
    marks = [legend.Entry("one run", dot), legend.Entry("95 % interval of the mean", bar)]
    return lanes.sheet(
        rows,
        title=f"Test accuracy of {_all(len(shown), len(table.entries))}: {table.place}",
        label="test accuracy",
        heading="mean",
        below=legend.legend([[*_legend(shown), *marks]], list(_notes(table))),
        ranks=False,
        line=best,
    )


def accuracy_alt(table: Table) -> str:
    """The plot of `accuracy` in words."""
    shown = table.entries[:SHOWN]
    best = [f"{table.name(entry)} {entry.accuracy:.4f}" for entry in shown[:3]]
    alike = sum(entry.separation.separable is False for entry in table.entries)
    said = f" Not separable from the best: {alike:,}." if alike else ""
    rows = _all(len(shown), len(table.entries))
    return f"Test accuracy of {rows} on {table.place}, run by run: {'; '.join(best)}.{said}"


def ranked(table: Table) -> list[Entry]:
    """The entries that have a rank; with fewer than two there is no plot of ranks."""
    return [entry for entry in table.entries if entry.rank is not None]


def ranks(table: Table) -> Sheet:
    """Draw the rank of each row that has one, with its 95 % interval. Within `canvas.style`."""
    every = ranked(table)
    shown = every[:SHOWN]
    rows = [
        Lane(
            name=table.name(entry),
            figure=f"{entry.accuracy:.4f}",
            at=float(entry.rank or 0),
            low=entry.rank_low,
            high=entry.rank_high,
            look=_VERDICTS[_verdict(entry)][1],
        )
        for entry in shown
    ]
    without = len(table.entries) + table.unfinished - len(every)
    notes = ["The interval is the 95 % interval of the rank under a bootstrap of the seeds."]
    notes += [f"Incomplete, and without a rank: {_rows(without)}."] if without else []
    return lanes.sheet(
        rows,
        title=f"Rank of {_all(len(shown), len(every))}: {table.place}",
        label="rank by mean test accuracy, 95 % interval",
        heading="accuracy",
        below=legend.legend([_legend(shown)], notes),
        ranks=True,
        line=None,
    )


def ranks_alt(table: Table) -> str:
    """The plot of `ranks` in words."""
    every = ranked(table)
    best = [f"{table.name(entry)} {_interval(entry)}" for entry in every[:3]]
    return f"Rank of {_all(len(every[:SHOWN]), len(every))} on {table.place}, with intervals: {'; '.join(best)}."


def mean_ranks(rows: Sequence[MeanRank]) -> Sheet:
    """Draw the mean rank of each method with its 95 % interval. Within `canvas.style`."""
    ordered = _ordered(rows)
    shown = ordered[:SHOWN]
    drawn = [
        Lane(
            name=name,
            figure=f"{row.accuracy:.4f}",
            at=row.rank,
            low=row.low,
            high=row.high,
            look={"marker": "o", "color": _BLUE, "markersize": 6},
        )
        for row, name in zip(shown, _method_names(shown), strict=True)
    ]
    note = "95 % interval under a bootstrap of tables and seeds, among the methods with a complete row in each table."
    return lanes.sheet(
        drawn,
        title=f"Mean rank over {_tables(ordered)} of {_all(len(shown), len(ordered), 'method')}",
        label="mean rank, 95 % interval",
        heading="accuracy",
        below=legend.legend([], [note]),
        ranks=True,
        line=None,
    )


def mean_ranks_alt(rows: Sequence[MeanRank]) -> str:
    """The plot of `mean_ranks` in words."""
    ordered = _ordered(rows)
    shown = ordered[:SHOWN]
    names = _method_names(shown)[:3]
    best = [f"{name} {row.rank:.2f} ({row.low:.2f} to {row.high:.2f})" for row, name in zip(shown, names, strict=False)]
    return f"Mean rank over {_tables(ordered)} of {_all(len(shown), len(ordered), 'method')}: {'; '.join(best)}."


def _verdict(entry: Entry) -> str:
    if entry.status == "partial":
        return "partial"
    if entry.separation.best:
        return "best"
    return {False: "as good", True: "worse", None: "open"}[entry.separation.separable]


def _legend(shown: Sequence[Entry]) -> list[legend.Entry]:
    found = {_verdict(entry) for entry in shown}
    return [legend.Entry(text, {"linestyle": "", **look}) for name, (text, look) in _VERDICTS.items() if name in found]


def _notes(table: Table) -> Iterable[str]:
    alike = sum(entry.separation.separable is False for entry in table.entries)
    if len(table.entries) > SHOWN and alike:
        yield f"Of all rows {alike:,} cannot be told from the best."
    if table.unfinished:
        yield f"Without a finished run, and not shown: {_rows(table.unfinished)}."


def _ordered(rows: Iterable[MeanRank]) -> list[MeanRank]:
    return sorted(rows, key=lambda row: (round(row.rank, 12), row.backbone, row.features, row.llm, row.instruction))


def _method_names(rows: Sequence[MeanRank]) -> list[str]:
    names = short_inputs([{"features": row.features, "llm": row.llm, "instruction": row.instruction} for row in rows])
    several = len(set(names)) > 1
    pairs = zip((row.backbone for row in rows), names, strict=True)
    return [plain(f"{backbone} · {name}" if several and name else backbone) for backbone, name in pairs]


def _interval(entry: Entry) -> str:
    return f"{entry.rank}" if entry.rank_low is None else f"{entry.rank} ({entry.rank_low} to {entry.rank_high})"


def _all(shown: int, every: int, noun: str = "row") -> str:
    if shown < every:
        return f"the best {shown:,} of {every:,} {noun}s"
    return f"{every:,} {noun}{'s' * (every != 1)}"


def _tables(rows: Sequence[MeanRank]) -> str:
    counts = sorted({row.tables for row in rows})
    return f"{' or '.join(map(str, counts))} tables"


def _rows(count: int) -> str:
    return f"{count:,} row{'s' * (count != 1)}"

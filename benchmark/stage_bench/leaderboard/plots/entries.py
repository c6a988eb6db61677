"""The rows of a report as they are drawn: by table, in an order of their own, with what belongs to each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stage_bench.leaderboard.costs import Cost
from stage_bench.leaderboard.plots.stems import stems
from stage_bench.leaderboard.report import Key, Report
from stage_bench.leaderboard.rows import KEY, records
from stage_bench.leaderboard.samples import key_of
from stage_bench.leaderboard.separation import Separation
from stage_bench.leaderboard.wording import plain, short_inputs

Row = dict[str, Any]

_DRAWN = (
    *(*KEY, "origin", "test_accuracy", "ci_low", "ci_high", "rank", "rank_low", "rank_high"),
    *("status", "source", "note"),
)
"""The columns of the board that plots read; the others are left alone, since a board may have ten thousand rows."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A reproduced row that has an accuracy. inputs: what its backbone reads, as short as tells rows apart.

    accuracy, low, high: fractions; low and high, rank and its ends None where the row has none.
    """

    key: Key
    backbone: str
    inputs: str
    status: str
    accuracy: float
    low: float | None
    high: float | None
    rank: int | None
    rank_low: int | None
    rank_high: int | None
    cost: Cost
    separation: Separation


@dataclass(frozen=True, kw_only=True)
class Table:
    """The entries of one (dataset, split): those with a rank first, by it; the others by accuracy.

    stem: how the names of its files begin, `<dataset>`, or `<dataset>.<split>` where the report has several of it.
    published: rows of the board. unfinished: rows without an accuracy.
    """

    dataset: str
    split: str
    stem: str
    entries: Sequence[Entry]
    published: Sequence[Row]
    unfinished: int

    @property
    def place(self) -> str:
        """What the table is of, for headings."""
        return plain(f"{self.dataset}, {self.split}")

    def name(self, entry: Entry) -> str:
        """What tells an entry from the others of the table."""
        several = len({other.inputs for other in self.entries}) > 1
        return f"{entry.backbone} · {entry.inputs}" if several and entry.inputs else entry.backbone


def tables(report: Report, half: int | None = None) -> list[Table]:
    """Every (dataset, split) of the report that has an entry, sorted; whatever order its rows are in.

    half: only the first half of them (0), or the others (1).
    """
    found: dict[tuple[str, str], list[Row]] = {}
    for row in records(report.board[list(_DRAWN)]):
        found.setdefault((row["dataset"] or "", row["split"] or ""), []).append(row)
    splits = Counter(dataset for dataset, _ in found)
    places = sorted(found)
    names = stems({place: place if splits[place[0]] > 1 else place[:1] for place in places})
    middle = (len(places) + 1) // 2
    chosen = places if half is None else places[middle:] if half else places[:middle]
    made = [_table(place, found[place], names[place], report) for place in chosen]
    return [table for table in made if table.entries]


def accuracies(report: Report, keys: set[Key]) -> dict[Key, list[float]]:
    """The test accuracies of the finished runs of these rows, sorted."""
    found: dict[Key, list[float]] = {key: [] for key in keys}
    runs = report.runs[report.runs["status"] == "ok"]
    for place, column in enumerate(KEY):  # most runs of a large report belong to rows that are not asked for
        runs = runs[runs[column].isin({key[place] for key in keys})]
    columns = (runs[column].tolist() for column in KEY)
    for key, accuracy in zip(zip(*columns, strict=True), runs["test_accuracy"].tolist(), strict=True):
        if key in found:
            found[key].append(accuracy)
    return {key: sorted(values) for key, values in found.items()}


def _table(place: tuple[str, str], rows: Sequence[Row], stem: str, report: Report) -> Table:
    ours = [row for row in rows if row["origin"] != "published"]
    finished = [row for row in ours if row["test_accuracy"] is not None]
    inputs = short_inputs(finished)
    entries = [_entry(row, name, report) for row, name in zip(finished, inputs, strict=True)]
    return Table(
        dataset=place[0],
        split=place[1],
        stem=stem,
        # Rounded, because the last bits of a mean must not decide the order.
        entries=sorted(entries, key=lambda one: (one.rank is None, one.rank or 0, -round(one.accuracy, 12), one.key)),
        published=[row for row in rows if row["origin"] == "published"],
        unfinished=len(ours) - len(finished),
    )


def _entry(row: Row, inputs: str, report: Report) -> Entry:
    key = key_of(row)
    return Entry(
        key=key,
        backbone=plain(row["backbone"]),
        inputs=plain(inputs),
        status=row["status"],
        accuracy=row["test_accuracy"],
        low=row["ci_low"],
        high=row["ci_high"],
        rank=row["rank"],
        rank_low=row["rank_low"],
        rank_high=row["rank_high"],
        cost=report.costs[key],
        separation=report.separations[key],
    )

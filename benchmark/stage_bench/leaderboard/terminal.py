"""The leaderboard in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from stage_bench.leaderboard import published, wording
from stage_bench.leaderboard.board import table_keys
from stage_bench.leaderboard.rows import COLUMNS, records
from stage_bench.leaderboard.samples import Key, key_of
from stage_bench.leaderboard.separation import Separation
from stage_bench.leaderboard.wording import MARK, Row, plain, seconds_text, short_inputs

MOST_ROWS = 60
"""Rows of a table that are shown; a terminal scrolls away what is above."""


def terminal(board: pd.DataFrame, separations: Mapping[Key, Separation]) -> RenderableType:
    """The board for a terminal: a rich table for each (dataset, split), with the best published row of each paper.

    The table takes the width that there is: long names fold, numbers do not. The best row is bold; rows that cannot
    be separated from it have a `=` behind their accuracy.
    """
    rows = records(board)
    tables: list[RenderableType] = []
    for dataset, split in table_keys(board):
        members = [row for row in rows if (row["dataset"] or "", row["split"] or "") == (dataset, split)]
        tables.append(_table(f"{dataset}, {split}", members, separations))
    return Group(*tables) if tables else Text("No runs yet.")


def _table(title: str, rows: Sequence[Row], separations: Mapping[Key, Separation]) -> Table:
    table = Table(
        title=Text(plain(title)), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    table.add_column("Rank", no_wrap=True)
    table.add_column("Features", overflow="fold")
    table.add_column("Backbone", overflow="fold")
    table.add_column("Test accuracy", no_wrap=True)
    for heading in ("n", "Total s"):
        table.add_column(heading, justify="right", no_wrap=True)
    whole = wording.ours_first_by_rank(rows)
    ours = whole[:MOST_ROWS]
    alike = False
    for row, features in zip(ours, short_inputs(ours), strict=True):
        style = "bold" if row["rank"] == 1 else "" if row["status"] == "ok" else "yellow"
        separation = separations.get(key_of(row))
        equal = " =" if separation is not None and separation.separable is False else ""
        alike = alike or bool(equal)
        _row(table, row, features, wording.accuracy(row) + equal, style)
    if alike:
        table.caption = Text("= not separable from the best (p >= 0.05, Holm)", style="dim")
        table.caption_justify = "left"
    if len(whole) > len(ours):
        _row(table, dict.fromkeys(COLUMNS), "", f"{len(whole) - len(ours):,} more, in leaderboard.csv", "dim")
    theirs = published.best(rows)
    if ours and theirs:
        table.add_section()
    for row in theirs:
        paper = published.source_of(row["source"]).paper.partition(" (")[0]
        _row(table, row, f"{MARK} {paper}", f"{wording.accuracy(row)} {MARK}", "dim")
    return table


def _row(table: Table, row: Row, features: str, accuracy: str, style: str) -> None:
    rank = row["status"] if row["status"] in ("partial", "failed") else wording.rank(row)
    cells = (
        rank,
        features,
        row["backbone"],
        accuracy,
        wording.count(row["n_runs"]),
        seconds_text(row["total_seconds"]),
    )
    # Text, not str: rich would read `[red]` in a name as markup.
    table.add_row(*(Text(plain(cell)) for cell in cells), style=style)

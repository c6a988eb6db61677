"""What a site says of each board: its tables, what they stand on, and whether it passed the check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from stage_bench.checks import Line
from stage_bench.leaderboard import splits
from stage_bench.leaderboard.board import table_keys
from stage_bench.leaderboard.report import Report
from stage_bench.leaderboard.rows import KEY, records
from stage_bench.leaderboard.site import layout, protocol
from stage_bench.leaderboard.wording import Row, plain

_PAGES = ("index.html", "leaderboard.csv", "runs.csv", "leaderboard.md")


@dataclass(frozen=True, kw_only=True)
class Table:
    """One (dataset, split) of a board. rows: the reproduced ones; best: the first ranked, None where none is.

    data: the dataset's fingerprint, or several, as the runs recorded it.
    """

    dataset: str
    split: str
    split_words: str
    rows: Sequence[Row]
    best: Row | None
    data: str
    published: int

    @property
    def ranked(self) -> int:
        return sum(row["rank"] is not None for row in self.rows)


@dataclass(frozen=True, kw_only=True)
class Board:
    """A report that goes on a site.

    source: its folder here, for messages. lines: what its check found. draft: it goes there although some failed.
    files: what is copied (copying.read), a runs.csv at least.
    """

    source: Path
    report: Report
    lines: Sequence[Line]
    files: Mapping[str, bytes]
    draft: bool = False

    @property
    def name(self) -> str:
        return plain(self.report.facts.suite)

    @property
    def folder(self) -> str:
        return layout.board(self.report.facts.suite)

    @property
    def link(self) -> str:
        """What to open of it, from the site's folder: its page, unless a draft has none."""
        return f"{self.folder}/{next(name for name in _PAGES if name in self.files)}"

    @property
    def downloads(self) -> list[str]:
        """Names of its tables, those that are there."""
        return [name for name in _PAGES[1:] if name in self.files]

    @property
    def failures(self) -> list[str]:
        return [line.what for line in self.lines if not line.passed]

    @cached_property
    def tables(self) -> list[Table]:
        rows, runs = records(self.report.board), records(self.report.runs)
        found = []
        for dataset, split in table_keys(self.report.board):
            members = [row for row in rows if (row["dataset"] or "", row["split"] or "") == (dataset, split)]
            ours = [row for row in members if row["origin"] != "published"]
            data = {run["dataset_fingerprint"] or "" for run in runs if (run["dataset"] or "") == dataset} - {""}
            found.append(
                Table(
                    dataset=plain(dataset),
                    split=plain(split),
                    split_words=splits.NAMES.get(split, ""),
                    rows=ours,
                    best=next((row for row in ours if row["rank"] == 1), None),
                    data=", ".join(sorted(data)),
                    published=len(members) - len(ours),
                )
            )
        return found

    @cached_property
    def seeds(self) -> str:
        """How many seeds a row has: one number, or from the fewest to the most."""
        done: dict[tuple[object, ...], list[Row]] = {}
        for run in records(self.report.runs):
            if run["status"] == "ok":
                done.setdefault(tuple(run[column] for column in KEY), []).append(run)
        counts = [len(protocol.seeds(runs)) for runs in done.values()] or [0]
        return f"{counts[0]}" if len(set(counts)) == 1 else f"{min(counts)} to {max(counts)}"

    @cached_property
    def made_with(self) -> list[str]:
        return protocol.made_with([run for run in records(self.report.runs) if run["status"] != "missing"])

    @cached_property
    def hardware(self) -> list[str]:
        return sorted({plain(value) for value in self.report.runs["hardware"]} - {""})

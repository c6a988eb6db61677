"""What stands under a plot: the key to its marks, and notes on what it shows and what not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stage_bench.leaderboard.plots import letters
from stage_bench.leaderboard.plots.canvas import SMALL, SOFT, WIDTH, Sheet

_ROW = 0.18  # inches, as all here
_LEFT = 0.3
_RIGHT = 0.12
_MARK = 0.3  # from a mark's left end to its text
_SPACE = 0.25  # between columns


@dataclass(frozen=True)
class Entry:
    """A mark (options of matplotlib's Line2D) and what it means."""

    text: str
    look: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Legend:
    """Entries with their places, then lines of notes; made by `legend`, which measures.

    placed: entry, inches from the left, row. height: inches of all.
    """

    placed: Sequence[tuple[Entry, float, int]]
    notes: Sequence[str]
    rows: int

    @property
    def height(self) -> float:
        return (self.rows + len(self.notes)) * _ROW

    def draw(self, sheet: Sheet, top: float) -> None:
        """Put it on the sheet, `top` inches from its upper edge."""
        for entry, x, row in self.placed:
            y = top + (row + 0.5) * _ROW
            sheet.line([x, x + 0.11, x + 0.22], [y] * 3, markevery=[1], **entry.look)
            sheet.write(x + _MARK, y, entry.text)
        for row, line in enumerate(self.notes, self.rows):
            sheet.write(_LEFT, top + (row + 0.5) * _ROW, line, color=SOFT)


def legend(blocks: Sequence[Sequence[Entry]], notes: Sequence[str]) -> Legend:
    """A legend as wide as a sheet: each block in columns of one width, what is too wide cut, notes wrapped."""
    placed: list[tuple[Entry, float, int]] = []
    row = 0
    for block in filter(None, blocks):
        room = WIDTH - _LEFT - _RIGHT
        widest = min(max(letters.width(entry.text, SMALL) for entry in block) + _MARK + _SPACE, room)
        count = int(room / widest)
        for index, entry in enumerate(block):
            cut = Entry(letters.fit(entry.text, widest - _MARK, SMALL), entry.look)
            placed.append((cut, _LEFT + index % count * widest, row + index // count))
        row += -(-len(block) // count)
    lines = [line for note in notes for line in letters.wrapped(note, WIDTH - _LEFT - _RIGHT, SMALL)]
    return Legend(placed, lines, row)

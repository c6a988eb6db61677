"""Tables of a page: columns, rows and cells, as `rows.html` and `tables.js` draw them; numbers as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from markupsafe import Markup

from stage_bench.leaderboard.page.templates import rows_of
from stage_bench.leaderboard.wording import plain, seconds_text

SHOWN = 200
"""Rows of one table that are in the document; the script draws the others when they are asked for."""


class Cell(NamedTuple):
    """One cell.

    value: what its column sorts by where that is not the text, a number in a column of numbers; None: empty, or the
    text. sub: small text behind it. style: a class of the text (best, tied, suspect, partial, failed, quiet).
    notes: numbers of footnotes. href: a place on this page. span: where an interval begins, has its middle and ends,
    from 0 to 100, to be drawn.
    """

    text: str = ""
    value: float | str | None = None
    sub: str = ""
    style: str = ""
    notes: tuple[int, ...] = ()
    href: str = ""
    span: tuple[float, float, float] | None = None


class Column(NamedTuple):
    """A column.

    kind: text; long, a text that needs room to wrap; number; or rank, a number that stands at the left. facet: the
    filter that its text answers to. title: the heading's long form.
    """

    key: str
    heading: str
    kind: str = "text"
    facet: str = ""
    title: str = ""


class Row(NamedTuple):
    """A row: its name for who cannot see it; key: its place among the rows that have runs, -1 for others."""

    cells: Sequence[Cell]
    name: str = ""
    key: int = -1
    style: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of a page.

    id: of the element, unique on the page. head: the column that names a row. sticky: how many columns stay in sight.
    sorted_by, order: how the rows come. dataset, split, origin: what the filters know of all its rows. rank, rank_by,
    rank_order: the column of ranks and the one they are by: a filter ranks anew. unit: what a row is called. more:
    where the rows beyond SHOWN are for a reader without script. size: how many rows there are, where `rows` are only
    the first of them. notes: the `Notes.id` of what its cells' notes are numbers of. counted: whether its rows are
    among those that the page counts.
    """

    id: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    head: int = 0
    sticky: int = 1
    sorted_by: str = ""
    order: str = "ascending"
    dataset: str = ""
    split: str = ""
    origin: str = ""
    rank: str = ""
    rank_by: str = ""
    rank_order: str = "descending"
    unit: str = "rows"
    more: str = "leaderboard.csv"
    size: int = 0
    notes: str = ""
    counted: bool = False

    @property
    def length(self) -> int:
        return self.size or len(self.rows)

    @property
    def shown(self) -> Sequence[Row]:
        """The rows in the document."""
        return self.rows[:SHOWN]

    @cached_property
    def body(self) -> Markup:
        """These rows as HTML, made when they are first asked for."""
        return rows_of(self)

    @property
    def rest(self) -> list[list[Any]]:
        """The other rows for the script: name, key, style, cells; a cell is its text or a list that may end early."""
        return [[row.name, row.key, row.style, [_packed(cell) for cell in row.cells]] for row in self.rows[SHOWN:]]


@dataclass
class Notes:
    """Numbered notes of one section: each distinct text once. id: begins the ids of their elements."""

    id: str
    texts: dict[str, int] = field(default_factory=dict)

    def mark(self, *notes: str) -> tuple[int, ...]:
        """The numbers of these notes, without the empty ones."""
        cleaned = [note for note in map(_plain, notes) if note]
        return tuple(sorted({self.texts.setdefault(note, len(self.texts) + 1) for note in cleaned}))


@lru_cache(1 << 16)  # a name stands in thousands of rows
def words(value: str | None, sub: str = "", style: str = "") -> Cell:
    """A cell of text from data."""
    return Cell(plain(value), None, sub, style)


_plain = lru_cache(1 << 16)(plain)


def fraction(value: float | None, sub: str = "", style: str = "", notes: tuple[int, ...] = ()) -> Cell:
    """An accuracy, with 4 decimals."""
    return Cell("" if value is None else f"{value:.4f}", value, sub, style, notes)


def seconds(value: float | None) -> Cell:
    return Cell(seconds_text(value), value)


def count(value: float | None) -> Cell:
    """A whole number."""
    return Cell("" if value is None else f"{value:,.0f}", value)


def amount(value: float | None, absent: str = "") -> Cell:
    """Energy or money, with three figures; `absent` where nothing is known."""
    if value is None:
        return Cell(absent, None, "", "quiet" if absent else "")
    return Cell(f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}", value)


_DEFAULTS = Cell()


def _packed(cell: Cell) -> str | list[Any]:
    text, value, sub, style, notes, href, span = cell
    if not (sub or style or notes or href or span):  # as most
        return text if value is None else [text, value]
    values = list(cell)
    while values[-1] == _DEFAULTS[len(values) - 1]:
        values.pop()
    return values

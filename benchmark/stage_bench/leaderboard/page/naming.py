"""What names the rows of a report's tables: the model's columns, and where a table stands."""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any, NamedTuple

from stage_bench.leaderboard.page.cells import Cell, Column, words
from stage_bench.leaderboard.report import Key
from stage_bench.leaderboard.wording import inputs, plain

BoardRow = dict[str, Any]
"""A row of the board, None where a cell is empty."""

Keys = Mapping[Key, int]
"""Rows that have runs, by their place in the data of the page."""

MODEL = (
    Column("backbone", "Backbone", facet="backbone"),
    Column("features", "Features", facet="features"),
    Column("llm", "LLM", facet="llm"),
    Column("instruction", "Instruction"),
)


_MODEL_CELLS = itemgetter(*(column.key for column in MODEL))


class Place(NamedTuple):
    """The section of one (dataset, split): what the ids of its elements begin with, and both names as shown."""

    id: str
    dataset: str
    split: str


def model_cells(row: Mapping[str, Any], style: str = "") -> list[Cell]:
    """Cells of the columns MODEL; style: of the backbone."""
    first, *others = _MODEL_CELLS(row)
    return [words(first, "", style), *map(words, others)]


def name_of(row: Mapping[str, Any]) -> str:
    """What a row is called where it stands alone."""
    return plain(", ".join(filter(None, (row["backbone"], inputs(row), row["instruction"]))))

"""The pages of a site as text: its index, and one for each card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup, escape

from stage_bench.leaderboard.page.cells import Table
from stage_bench.leaderboard.page.naming import name_of
from stage_bench.leaderboard.page.templates import environment
from stage_bench.leaderboard.site import citing, protocol, tables
from stage_bench.leaderboard.site.boards import Board
from stage_bench.leaderboard.site.cards import KINDS, Card
from stage_bench.leaderboard.wording import accuracy

_FILTERED = 12
"""Rows of a card's results from which on there is a filter."""


def index(boards: Sequence[Board], cards: Sequence[Card], program: Mapping[str, str]) -> str:
    """The page that lists the boards and the cards. program: `version` and `commit` of what makes the site."""
    by_kind = {kind: [card for card in cards if card.kind == kind] for kind in KINDS}
    best = tables.best(boards)
    models = {kind: tables.models(kind, found) for kind, found in by_kind.items() if found}
    protocols = {table.split: table.split_words for board in boards for table in board.tables}
    return _render(
        "index.html",
        [best, *models.values()],
        boards=boards,
        splits="; ".join(sorted(f"{split} is {words}" for split, words in protocols.items() if words)),
        accuracy=accuracy,
        coded=_coded,
        name_of=name_of,
        drafts=[board for board in boards if board.draft],
        figures=_figures(boards, by_kind),
        best=best,
        models=models,
        bibtex=citing.bibtex(program),
        provenance=_provenance(boards, program),
    )


def card(card: Card) -> str:
    """The page of one model."""
    found = tables.results(card)
    facets = []
    if len(card.results) >= _FILTERED:
        for place, column in enumerate(found.columns):
            values = sorted({row.cells[place].text for row in found.rows} - {""})
            if column.facet and len(values) > 1:
                facets.append((column.facet, column.heading, values))
    return _render(
        "card.html",
        [found],
        card=card,
        kind=KINDS[card.kind],
        results=found,
        filtered=len(card.results) >= _FILTERED,
        facets=facets,
        draft=any(result.board.draft for result in card.results),
    )


def _coded(text: str) -> Markup:
    """The text, escaped, with what stands in backticks as code."""
    parts = [escape(part) for part in text.split("`")]
    coded = [Markup("<code>{}</code>").format(part) if place % 2 else part for place, part in enumerate(parts)]
    return Markup("").join(coded) if len(parts) % 2 else escape(text)


def _render(name: str, tables: Sequence[Table], **values: object) -> str:
    rest = {table.id: table.rest for table in tables if table.rest}
    return environment(Path(__file__).parent).get_template(name).render(rest=rest, **values)


def _figures(boards: Sequence[Board], cards: Mapping[str, Sequence[Card]]) -> list[tuple[str, str]]:
    """The numbers on top: what is counted, and how many."""
    found = [
        ("boards", len(boards)),
        ("datasets", len({table.dataset for board in boards for table in board.tables})),
        ("rows", sum(len(table.rows) for board in boards for table in board.tables)),
        ("runs", sum(len(board.report.runs) for board in boards)),
        ("embedding models", len(cards["llm"])),
        ("backbones", len(cards["backbone"])),
    ]
    return [(name.removesuffix("s") if number == 1 else name, f"{number:,}") for name, number in found]


def _provenance(boards: Sequence[Board], program: Mapping[str, str]) -> list[tuple[str, str]]:
    made = sorted({what for board in boards for what in board.made_with})
    hardware = sorted({what for board in boards for what in board.hardware})
    made_by = protocol.made_with([program]) if program else []
    found = [
        ("Site made by", "; ".join(made_by)),
        ("Runs made by", "; ".join(made)),
        ("Hardware of the runs", "; ".join(hardware)),
    ]
    return [pair for pair in found if pair[1]]

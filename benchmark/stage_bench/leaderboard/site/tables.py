"""The tables on the pages of a site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stage_bench.leaderboard.page.cells import Cell, Column, Row, Table, count, seconds, words
from stage_bench.leaderboard.page.naming import name_of
from stage_bench.leaderboard.site.boards import Board
from stage_bench.leaderboard.site.cards import Card, Result
from stage_bench.leaderboard.wording import accuracy

_ACCURACY = Column("test_accuracy", "Test accuracy", "number", title="Mean ± standard deviation over runs (ddof 1)")
_N = Column("n", "n", "number", title="Finished runs")


def best(boards: Sequence[Board]) -> Table:
    """The best row of each dataset of each board."""
    columns = (
        Column("dataset", "Dataset"),
        Column("split", "Split"),
        _ACCURACY,
        _N,
        Column("best", "Best row", title="The one with rank 1 on that board"),
        Column("board", "Board"),
        Column("rows", "of rows", "number", title="Reproduced rows of that table"),
        Column("data", "Data", title="The dataset's fingerprint: numbers compare where it and the split are the same"),
    )
    found = []
    for board in boards:
        for table in board.tables:
            row = table.best
            found.append(
                Row(
                    [
                        Cell(table.dataset),
                        Cell(table.split),
                        Cell(accuracy(row), row["test_accuracy"])
                        if row
                        else Cell("no complete row", None, "", "quiet"),
                        count(row["n_runs"] if row else None),
                        Cell(name_of(row) if row else ""),
                        _board(board),
                        count(len(table.rows)),
                        Cell(table.data[:8] if "," not in table.data else "several", table.data),
                    ]
                )
            )
    found.sort(key=lambda row: (row.cells[0].text, row.cells[1].text, -_number(row.cells[2])))
    return Table(
        id="best",
        caption="Best row of each dataset and board",
        columns=columns,
        rows=found,
        sorted_by="dataset",
        more=_BOARDS,
    )


_BOARDS = "the boards"


def models(kind: str, cards: Sequence[Card]) -> Table:
    """The cards of one kind."""
    own: tuple[Column, ...] = (
        Column("dimension", "Dimensions", "number"),
        Column("parameters", "Parameters", "number"),
        Column("released", "Released"),
        Column("licence", "Licence"),
    )
    if kind == "backbone":
        own = (Column("family", "Family"), Column("paper", "Paper"))
    columns = (
        Column("name", "Model" if kind == "llm" else "Backbone"),
        Column("summary", "What it is", "long"),
        *own,
        Column("boards", "Boards", "number"),
        Column("rows", "Rows", "number"),
    )
    rows = []
    for card in cards:
        facts = {fact.label: fact.text for fact in card.facts}
        cells = [
            Cell(card.name, href=card.path),
            Cell(card.summary) if card.known else Cell("not in this registry", None, "", "quiet"),
            *(_fact(column, facts) for column in own),
            count(len(card.boards)),
            count(len(card.results)),
        ]
        rows.append(Row(cells))
    caption = "Embedding models" if kind == "llm" else "Backbones"
    return Table(id=f"{kind}s", caption=caption, columns=columns, rows=rows, sorted_by="name", more=_BOARDS)


def _fact(column: Column, facts: Mapping[str, str]) -> Cell:
    text = facts.get(column.heading, "").partition(";")[0]
    if column.kind != "number":
        return Cell(text)
    number = text.replace(",", "")
    return Cell(text, int(number)) if number.isdigit() else Cell()


def results(card: Card) -> Table:
    """How a model did: a row for each of the boards' that has it."""
    paired = (Column("backbone", "Backbone", facet="backbone"), Column("features", "Features", facet="features"))
    if card.kind == "backbone":
        paired = (Column("features", "Features", facet="features"), Column("llm", "LLM", facet="llm"))
    label = "llm" if card.kind == "llm" else "backbone"
    varies = any(one.row[label] != card.name for one in card.results)
    own = (Column("as", "As", title="What the board calls it, with the options that differ from its recipe"),)
    columns = (
        Column("dataset", "Dataset", facet="dataset"),
        Column("split", "Split"),
        *(own if varies else ()),
        *paired,
        Column("instruction", "Instruction"),
        _ACCURACY,
        _N,
        Column("rank", "Rank", "number", title="By mean test accuracy, among the complete rows of that table"),
        Column("total_seconds", "Total s", "number"),
        Column("hardware", "Hardware"),
        Column("board", "Board"),
    )
    order = sorted(
        card.results,
        key=lambda one: (one.table.dataset, one.table.split, -(one.row["test_accuracy"] or 0), one.board.name),
    )
    return Table(
        id="results",
        caption=f"Results of {card.name}",
        columns=columns,
        rows=[Row(_cells(one, ((label,) if varies else ()) + tuple(column.key for column in paired))) for one in order],
        sorted_by="dataset",
        more=_BOARDS,
        counted=True,
    )


def _cells(result: Result, names: Sequence[str]) -> list[Cell]:
    """names: the columns of the board's row that say which one it is."""
    row = result.row
    style = "best" if row["rank"] == 1 else "" if row["status"] == "ok" else row["status"]
    number = accuracy(row) or row["status"]
    subs = {"backbone": "ensemble"} if result.ensemble else {}
    return [
        Cell(result.table.dataset),
        Cell(result.table.split),
        *(words(row[name])._replace(sub=subs.get(name, "")) for name in names),
        words(row["instruction"]),
        Cell(number, row["test_accuracy"], "partial" if row["status"] == "partial" else "", style),
        count(row["n_runs"]),
        Cell(
            "" if row["rank"] is None else f"{row['rank']}",
            row["rank"],
            f"of {result.table.ranked}" if row["rank"] else "",
        ),
        seconds(row["total_seconds"]),
        words(row["hardware"]),
        _board(result.board, "../"),
    ]


def _board(board: Board, up: str = "") -> Cell:
    return Cell(board.name, None, "draft" if board.draft else "", href=f"{up}{board.link}")


def _number(cell: Cell) -> float:
    return cell.value if isinstance(cell.value, (int, float)) else -1.0

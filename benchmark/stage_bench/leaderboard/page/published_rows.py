"""Published numbers of one (dataset, split): alone, and with ours beside."""

from __future__ import annotations

from collections.abc import Sequence

from stage_bench.leaderboard import published
from stage_bench.leaderboard.page.cells import Cell, Column, Notes, Row, Table, count, words
from stage_bench.leaderboard.page.naming import MODEL, BoardRow, Place, model_cells, name_of
from stage_bench.leaderboard.reproduction import Reproduction
from stage_bench.leaderboard.wording import MARK, accuracy, inputs, plain, signed

_COLUMNS = (
    Column("paper", "Paper", "long"),
    *MODEL[:3],
    Column("test_accuracy", f"Test accuracy {MARK}", "number"),
    Column("n", "n", "number"),
    Column("deviation", "± (kind)", "long"),
    Column("evidence", "Evidence", title="primary: the authors' own text or files; secondary: told by others"),
    Column("source", "Source", "long"),
)
_BESIDE = (
    *MODEL[:3],
    Column("paper", "Paper", "long"),
    Column("theirs", "Their model", "long"),
    Column("published", f"Published {MARK}", "number"),
    Column("ours", "Ours", "number"),
    Column("difference", "Ours less theirs", "number"),
    Column("verdict", "Verdict"),
    Column("reason", "Because", "long"),
)
_VERDICTS = {"agrees": "agrees", "cannot tell": "quiet"}


def table(place: Place, rows: Sequence[BoardRow], notes: Notes) -> Table:
    """Published rows, best first; none has a rank."""
    made = []
    for row in rows:
        source, remark = published.source_of(row["source"]), published.remark_of(row["note"])
        number = _number(row["test_accuracy"], remark.suspect, notes.mark(remark.note))
        cells = [
            Cell(plain(source.paper), sub=plain(source.version)),
            *model_cells(row)[:3],
            number,
            count(row["n_runs"]),
            words(remark.deviation),
            words(remark.evidence),
            words(source.place),
        ]
        made.append(Row(cells, name_of(row), style="suspect" if remark.suspect else ""))
    return Table(
        id=f"{place.id}-published",
        caption=f"{MARK} Published, not run here",
        columns=_COLUMNS,
        rows=made,
        sorted_by="test_accuracy",
        order="descending",
        dataset=place.dataset,
        split=place.split,
        origin="published",
        notes=notes.id,
        counted=True,
    )


def beside_ours(place: Place, found: Sequence[Reproduction], notes: Notes) -> Table:
    """Published numbers with the reproduced rows that answer to them."""
    made = []
    for one in found:
        ours, theirs = one.ours, one.published
        source, remark = published.source_of(theirs["source"]), published.remark_of(theirs["note"])
        cells = [
            *model_cells(ours)[:3],
            Cell(plain(source.paper), sub=plain(source.version)),
            words(", ".join(filter(None, (theirs["backbone"], inputs(theirs))))),
            _number(theirs["test_accuracy"], one.suspect, notes.mark(remark.note)),
            Cell(accuracy(ours), ours["test_accuracy"]),
            Cell(signed(one.difference), one.difference),
            Cell(plain(one.verdict), style=_VERDICTS.get(one.verdict, "")),
            words(one.reason),
        ]
        made.append(Row(cells, name_of(ours), style="suspect" if one.suspect else ""))
    return Table(
        id=f"{place.id}-beside",
        caption="Published beside reproduced",
        columns=_BESIDE,
        rows=made,
        dataset=place.dataset,
        split=place.split,
        notes=notes.id,
    )


def best(ours: Sequence[BoardRow], theirs: Sequence[BoardRow]) -> str:
    """A sentence with the best number here and the best of each of the best papers."""
    first = [row for row in ours if row["rank"] == 1][:1]
    here = "".join(f"Best here: {accuracy(row)} ({name_of(row)}). " for row in first)
    there = []
    for row in published.best(theirs)[:3]:
        suspect = ", suspect" if published.remark_of(row["note"]).suspect else ""
        paper = published.source_of(row["source"]).paper
        there.append(f"{paper} {row['test_accuracy']:.4f} {MARK} ({name_of(row)}{suspect})")
    return plain(f"{here}Best published: {'; '.join(there)}.")


def _number(value: float, is_suspect: bool, marks: tuple[int, ...]) -> Cell:
    suspect = "suspect" if is_suspect else ""
    return Cell(f"{value:.4f} {MARK}", value, suspect, suspect, marks)

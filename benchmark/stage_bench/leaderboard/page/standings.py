"""The leaderboard of one (dataset, split): reproduced rows, ranked, and what an opened row says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stage_bench.leaderboard.page.cells import Cell, Column, Notes, Row, Table, count, fraction, seconds
from stage_bench.leaderboard.page.naming import MODEL, BoardRow, Keys, Place, model_cells, name_of
from stage_bench.leaderboard.report import Key
from stage_bench.leaderboard.samples import key_of
from stage_bench.leaderboard.separation import Separation
from stage_bench.leaderboard.wording import accuracy, ours_first_by_rank, p_value, plain

_COLUMNS = (
    Column("rank", "Rank", "rank", title="By mean test accuracy among complete rows; 95 % interval in brackets"),
    *MODEL,
    Column("test_accuracy", "Test accuracy", "number", title="Mean ± standard deviation over runs (ddof 1)"),
    Column("n", "n", "number", title="Finished runs"),
    Column("interval", "95 % interval", "number", title="Bootstrap interval of the mean; sorts by its lower end"),
    Column("p", "p (Holm)", "number", title="Against the best row of this table, corrected by Holm"),
    Column("val_accuracy", "Val. accuracy", "number"),
    Column("train_seconds", "Train s/run", "number"),
    Column("total_seconds", "Total s", "number"),
    Column("peak_memory_mb", "Memory MB", "number"),
    Column("parameters", "Parameters", "number"),
    Column("status", "Status"),
)
_NOT_SEPARABLE = "not separable"
_CANNOT_TELL = "cannot tell"


def table(
    place: Place, rows: Sequence[BoardRow], separations: Mapping[Key, Separation], keys: Keys, notes: Notes
) -> Table:
    """Reproduced rows, complete ones first; the best in bold, underlined what cannot be separated from it."""
    scale = _scale(rows)
    return Table(
        id=f"{place.id}-board",
        caption="Leaderboard",
        columns=_COLUMNS,
        rows=[_row(row, separations.get(key_of(row)), keys, notes, scale) for row in ours_first_by_rank(rows)],
        head=1,
        sticky=2,
        sorted_by="rank",
        dataset=place.dataset,
        split=place.split,
        origin="reproduced",
        rank="rank",
        rank_by="test_accuracy",
        notes=notes.id,
        counted=True,
    )


def facts(row: BoardRow, separation: Separation | None) -> list[tuple[str, str]]:
    """What stands above the runs of an opened row: label and text."""
    found = [("Against the best", _sentence(separation) if separation and row["status"] != "failed" else "")]
    found += [(label, plain(row[column])) for label, column in (("Note", "note"), ("Hardware", "hardware"))]
    return [pair for pair in found if pair[1]]


def _row(row: BoardRow, separation: Separation | None, keys: Keys, notes: Notes, scale: tuple[float, float]) -> Row:
    state = "" if row["status"] == "ok" else row["status"]
    style = "best" if row["rank"] == 1 else "tied" if separation and separation.separable is False else state
    # A partial row has no test because it is partial, which its status says already.
    reason = separation.reason if separation and separation.p is None and not state else ""
    cells = [
        _rank(row),
        *model_cells(row, "best" if style == "best" else ""),
        Cell(accuracy(row) or state, row["test_accuracy"], state if accuracy(row) else "", style),
        count(row["n_runs"]),
        _interval(row, scale),
        _p_cell(row, separation, notes.mark(reason)),
        fraction(row["val_accuracy"]),
        seconds(row["train_seconds"]),
        seconds(row["total_seconds"]),
        count(row["peak_memory_mb"]),
        count(row["parameters"]),
        Cell(plain(row["status"]), style=state or "quiet", notes=notes.mark(row["note"])),
    ]
    return Row(cells, name_of(row), keys.get(key_of(row), -1), state)


def _rank(row: BoardRow) -> Cell:
    if row["rank"] is None:
        return Cell()
    interval = "" if row["rank_low"] is None else f"({row['rank_low']}–{row['rank_high']})"
    return Cell(str(row["rank"]), row["rank"], interval)


def _p_cell(row: BoardRow, separation: Separation | None, notes: tuple[int, ...]) -> Cell:
    if separation is None or row["status"] != "ok":
        return Cell(notes=notes)
    if separation.best:
        return Cell("best", 2.0, "", "best", notes)  # above every p: nothing is less separable from the best
    shown = p_value(separation.p_holm)
    if separation.separable is None:
        return Cell(shown or _CANNOT_TELL, separation.p_holm, _CANNOT_TELL if shown else "", "quiet", notes)
    return Cell(shown, separation.p_holm, "" if separation.separable else _NOT_SEPARABLE, "", notes)


def _sentence(separation: Separation) -> str:
    """What the test against the best row came to."""
    if separation.best:
        return "The best row of this table; the others are tested against it."
    parts = [f"{abs(separation.difference):.4f} below the best" if separation.difference else "as high as the best"]
    if separation.p is not None:
        holm = "" if separation.p_holm is None else f" ({p_value(separation.p_holm)} after Holm)"
        shown = p_value(separation.p)
        parts.append(f"p {shown if shown.startswith('<') else f'= {shown}'}{holm}")
    if separation.method:
        parts.append(f"{plain(separation.method)}{f', n = {separation.n}' if separation.n else ''}")
    if separation.effect is not None:
        parts.append(f"standardised difference {separation.effect:.2f}".replace("-", "\u2212"))
    verdict = {True: "separable from the best", False: f"{_NOT_SEPARABLE} from the best", None: _CANNOT_TELL}
    parts.append(": ".join(filter(None, (verdict[separation.separable], plain(separation.reason)))))
    return "; ".join(parts) + "."


def _scale(rows: Sequence[BoardRow]) -> tuple[float, float]:
    """Where the drawn intervals of a table begin and end, in accuracy."""
    ends = [row[name] for row in rows for name in ("ci_low", "ci_high") if row[name] is not None]
    low, high = min(ends, default=0.0), max(ends, default=1.0)
    return (low, high) if high > low else (low - 0.01, high + 0.01)


def _interval(row: BoardRow, scale: tuple[float, float]) -> Cell:
    if row["ci_low"] is None:
        return Cell()
    low, high = scale
    begin, middle, end = (
        round(100 * (row[name] - low) / (high - low), 1) for name in ("ci_low", "test_accuracy", "ci_high")
    )
    return Cell(f"{row['ci_low']:.4f}–{row['ci_high']:.4f}", row["ci_low"], span=(begin, middle, end))

"""Which rows cannot be told from the best of their table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from stage_bench.leaderboard import samples
from stage_bench.leaderboard.rows import records
from stage_bench.leaderboard.samples import Hits, Key, key_of
from stage_bench.leaderboard.significance import LEVEL, holm


@dataclass(frozen=True, kw_only=True)
class Separation:
    """A row against the best row of its (dataset, split): a paired test that suits the protocol, corrected by Holm.

    difference: this row's mean test accuracy less the best's (a fraction, at most 0). p, p_holm: None where there is
    no test. effect: standardised mean difference. method: the test's name. n: pairs, or runs. separable: False where
    the row may be as good as the best (p_holm >= 0.05); None where no test can tell, then reason says why. The best row
    itself has best=True, difference 0 and no test.
    """

    best: bool
    difference: float
    p: float | None = None
    p_holm: float | None = None
    effect: float | None = None
    method: str = ""
    n: int = 0
    separable: bool | None = None
    reason: str = ""


def separations(runs: pd.DataFrame, board: pd.DataFrame, hits: Hits | None = None) -> dict[Key, Separation]:
    """Every reproduced row of the board against the best complete row of its (dataset, split).

    runs: the checked frame that the board was built from. Holm's correction is over the complete rows of a table that
    could be tested, as they are shown. Of rows that share the best accuracy the first on the board is the best.
    """
    finished = samples.samples(runs)
    protocols = samples.protocols(runs)
    tables: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in records(board[board["origin"] != "published"]):
        tables.setdefault((row["dataset"] or "", row["split"] or ""), []).append(row)
    found: dict[Key, Separation] = {}
    for where, rows in tables.items():
        best = next((row for row in rows if row["rank"] == 1), None)
        if best is None:
            found |= {key_of(row): Separation(best=False, difference=0.0, reason="no row is complete") for row in rows}
            continue
        found[key_of(best)] = Separation(best=True, difference=0.0, n=len(finished[key_of(best)].ids))
        complete = [row for row in rows if row["rank"] is not None and row is not best]
        tested = samples.against(
            finished[key_of(best)], [finished[key_of(row)] for row in complete], protocols[where], hits
        )
        corrected = iter(holm([outcome.p for outcome in tested if outcome.p is not None]))
        for row, outcome in zip(complete, tested, strict=True):
            p_holm = next(corrected) if outcome.p is not None else None
            found[key_of(row)] = Separation(
                best=False,
                difference=round(row["test_accuracy"] - best["test_accuracy"], 12),
                p=outcome.p,
                p_holm=p_holm,
                effect=outcome.effect,
                method=outcome.method,
                n=outcome.n,
                separable=None if p_holm is None else p_holm < LEVEL,
                reason=outcome.reason,
            )
        for row in rows:
            if row["rank"] is None:
                accuracy = row["test_accuracy"]
                difference = 0.0 if accuracy is None else round(accuracy - best["test_accuracy"], 12)
                found[key_of(row)] = Separation(best=False, difference=difference, reason=f"the row is {row['status']}")
    return found

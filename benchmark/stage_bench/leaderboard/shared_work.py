"""Work that several runs share, each piece counted once, whatever number of runs or ensemble members used it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from stage_bench.leaderboard.rows import Columns
from stage_bench.runs.clock import ONCE

SHARED = {
    **{f"{phase}_seconds": identity for phase, identity in ONCE.items()},
    "answer_dollars": "answers_id",
    "embed_dollars": "embedding_id",
    "embed_joules": "embedding_id",
}
"""Columns of runs.csv that say what such work cost, with the column that says which work it was."""

Known = Mapping[str, Mapping[str, float]]
"""For each column of SHARED that some run has measured, what each piece of work cost, as far as a run says it alone."""


NEEDED = tuple(dict.fromkeys((*SHARED, *SHARED.values())))
"""Columns of runs.csv that `known` and `once` read."""


def known(runs: Columns) -> Known:
    """What each piece of work of some runs cost. Re-used results may be recorded as free: the most counts."""
    return {
        column: _known(runs[identity], runs[column])
        for column, identity in SHARED.items()
        if runs[column].count(None) < len(runs[column])
    }


def once(runs: Columns, alone: Known) -> dict[str, float | None]:
    """The cost of the distinct pieces of work of some runs, a value for each column of SHARED; None: not measured.

    alone: what is `known` of these runs and maybe more.
    """
    return {
        column: _once(zip(runs[identity], runs[column], strict=True), alone[column])
        if column in alone and runs[column].count(None) < len(runs[column])
        else None
        for column, identity in SHARED.items()
    }


def _known(ids: Sequence[str | None], values: Sequence[float | None]) -> dict[str, float]:
    costs: dict[str, float] = {}
    for id_, cost in set(zip(ids, values, strict=True)):
        if cost is not None and id_ and "+" not in id_:
            costs[id_] = max(cost, costs.get(id_, cost))
    return costs


def _parts(identity: str | None) -> frozenset[str]:
    """The ids in a cell: an ensemble joins those of its members by `+`."""
    return frozenset(part.strip() for part in (identity or "").split("+")) - {""}


def _once(cells: Iterable[tuple[str | None, float | None]], alone: Mapping[str, float]) -> float | None:
    """The cost of the distinct ids in `cells` of (id, cost), each counted once; None where none was measured.

    A cell of several ids holds their sum. Where two such cells share ids the sums cannot be added: then the
    ids are counted one by one, as far as `alone` knows each, else the overlap counts twice rather than not at all.
    """
    costs: dict[frozenset[str], float] = {}
    for identity, cost in set(cells):
        parts = _parts(identity)
        if parts and cost is not None:
            costs[parts] = max(cost, costs.get(parts, cost))
    if not costs:
        return None
    every = frozenset[str]().union(*costs)
    overlapping = len(every) < sum(len(parts) for parts in costs)
    if overlapping and every <= alone.keys():
        return math.fsum(alone[identity] for identity in every)
    return math.fsum(cost for parts, cost in costs.items() if not any(parts < other for other in costs))

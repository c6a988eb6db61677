"""A report as plain values, for machines."""

from __future__ import annotations

import dataclasses
from typing import Any

from stage_bench.leaderboard.report import Report
from stage_bench.leaderboard.rows import KEY, records


def plain(report: Report) -> dict[str, Any]:
    """JSON can hold it: the board's rows, and for each what stands beside it; None where nothing was measured."""
    return {
        "leaderboard": records(report.board),
        "separations": _keyed(report.separations),
        "costs": _keyed(report.costs),
        "mean_ranks": [dataclasses.asdict(row) for row in report.mean_ranks],
        "reproductions": [dataclasses.asdict(row) for row in report.reproductions],
    }


def _keyed(found: Any) -> list[dict[str, Any]]:
    return [{**dict(zip(KEY, key, strict=True)), **dataclasses.asdict(value)} for key, value in sorted(found.items())]

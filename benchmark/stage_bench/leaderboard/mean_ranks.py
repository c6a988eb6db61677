"""Mean ranks over datasets, of methods that are complete on all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stage_bench.leaderboard.rows import KEY, by_row
from stage_bench.leaderboard.samples import Sample, samples
from stage_bench.leaderboard.statistics import BLOCK, TAILS, drawn_ranks, each, mean, rank_resamples, resampled_means

Method = tuple[str, ...]
"""Features, LLM, instruction and backbone."""

_SEED = 2006  # of the draws of tables


@dataclass(frozen=True, kw_only=True)
class MeanRank:
    """A method's mean rank over the (dataset, split) tables, among the methods that have a complete row in each.

    low, high: 95 % bootstrap interval over datasets and seeds. accuracy: mean over the tables. tables: how many.
    """

    features: str
    llm: str
    instruction: str
    backbone: str
    rank: float
    low: float
    high: float
    accuracy: float
    tables: int


NOTE = (
    "A rank over few datasets separates little: with five datasets, ten methods must lie six mean ranks apart before "
    "a Friedman test with Nemenyi's correction tells them apart. Read the intervals, not the order."
)
"""The sentence that stands wherever mean ranks do."""


def mean_ranks(runs: pd.DataFrame) -> list[MeanRank]:
    """Mean ranks, best first, of the methods (features, llm, instruction, backbone) with a complete row in every table.

    runs: a checked frame (rows.check_runs).

    Ranks are taken anew among these methods, so that a method that misses a dataset shifts no one. The interval draws
    tables with replacement and, within each, the seeds as statistics.resampled_means does. Empty where there are fewer
    than two (dataset, split) tables, or fewer than two such methods.
    """
    finished, statuses = samples(runs), runs["status"].tolist()
    tables: dict[tuple[str, str], dict[Method, Sample]] = {}
    for key, start, stop in by_row(runs):
        found = set(statuses[start:stop])
        if found != {"missing"}:  # a row of which nothing was run yet is not a row
            table = tables.setdefault((key[0], key[1]), {})
            if found == {"ok"}:
                table[key[2:]] = finished[key]
    methods = sorted(set.intersection(*map(set, tables.values()))) if tables else []
    if len(tables) < 2 or len(methods) < 2:
        return []
    compared = [[table[method] for method in methods] for table in tables.values()]
    accuracies = np.array([[mean(sample.accuracies.tolist()) for sample in table] for table in compared])
    ranks = drawn_ranks(accuracies).mean(axis=0)
    low, high = _interval(compared, methods)
    ranked = [
        MeanRank(
            **dict(zip(KEY[2:], method, strict=True)),
            rank=float(ranks[place]),
            low=float(low[place]),
            high=float(high[place]),
            accuracy=float(accuracies[:, place].mean()),
            tables=len(tables),
        )
        for place, method in enumerate(methods)
    ]
    return sorted(
        ranked, key=lambda row: (row.rank, -row.accuracy, row.features, row.llm, row.instruction, row.backbone)
    )


def _interval(tables: Sequence[Sequence[Sample]], methods: Sequence[Method]) -> tuple[Any, Any]:
    """95 % of the mean rank of each method, under a bootstrap of tables and of the seeds in them."""
    means = [
        resampled_means(
            [sample.accuracies.tolist() for sample in table],
            [sample.pairs() for sample in table],
            [f"{place}\x1f" + "\x1f".join(method) for method in methods],
        )
        for place, table in enumerate(tables)
    ]
    resamples = rank_resamples(len(methods))
    chosen = np.random.default_rng(_SEED).multinomial(len(tables), [1 / len(tables)] * len(tables), size=resamples)
    drawn = np.zeros((resamples, len(methods)), dtype=np.float32)

    def draw(start: int) -> None:
        part = slice(start, start + BLOCK)
        for times, table in zip(chosen.T, means, strict=True):
            drawn[part] += times[part, None] * drawn_ranks(table(part.start, part.stop))

    each(draw, range(0, resamples, BLOCK))
    return np.quantile(drawn / len(tables), TAILS, axis=0)  # type: ignore[return-value]

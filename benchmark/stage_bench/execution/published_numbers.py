"""The published numbers of this project, with the models by the registry's names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stage_bench import registry
from stage_bench.suite.folders import folder

if TYPE_CHECKING:
    import pandas as pd


def load(compare: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Accuracies of the tables that a suite compares with, and published times; both empty where it names none.

    Raises StageBenchError: there is no such table, or a file is wrong.
    """
    from stage_bench.leaderboard import published

    if not compare:
        return published.none(), published.no_times()
    numbers = folder("baselines") / "published"
    names = {spec.hub_id: name for name, spec in registry.specs("llms").items() if spec.hub_id}
    return published.load(compare, numbers, names), published.times(numbers)

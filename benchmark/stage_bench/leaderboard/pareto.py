"""Which points are worth their cost: nobody else is as accurate for less."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence


def front(costs: Sequence[float], accuracies: Sequence[float]) -> list[bool]:
    """Whether each point is on the Pareto front of (cost, accuracy), in the order of the arguments.

    A point is on it unless another is at least as accurate at no more cost, and better in one of the two. Equal points
    are on it together. O(n log n). Raises ValueError where the lengths differ or a value is NaN: what was not
    measured is on no front, and the caller leaves it out.
    """
    if len(costs) != len(accuracies):
        raise ValueError(f"{len(costs)} costs and {len(accuracies)} accuracies")
    if any(math.isnan(value) for value in itertools.chain(costs, accuracies)):
        raise ValueError("a cost or an accuracy is NaN")
    result = [False] * len(costs)
    best: float | None = None  # accuracy among all cheaper points
    order = sorted(range(len(costs)), key=lambda index: costs[index])
    for _, equally_dear in itertools.groupby(order, key=lambda index: costs[index]):
        members = list(equally_dear)
        top = max(accuracies[index] for index in members)
        if best is None or top > best:
            for index in members:
                result[index] = accuracies[index] == top
            best = top
    return result

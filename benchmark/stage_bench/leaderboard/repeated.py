"""Columns in which most values stand many times: each distinct one is looked at once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

A = TypeVar("A", bound=Hashable)
B = TypeVar("B")


def mapped(function: Callable[[A], B], values: Sequence[A]) -> list[B]:
    """What a function gives for each value. It is called once for values that are equal, as 1 and 1.0 are."""
    known = {value: function(value) for value in set(values)}
    if len(known) == 1:
        return [*known.values()] * len(values)
    return list(map(known.__getitem__, values))

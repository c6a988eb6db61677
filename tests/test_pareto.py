"""The Pareto front against its definition, and the class of hardware in which times are ranked."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stage_bench.leaderboard import hardware, pareto

# Few values, so that ties in one or both of the two are common.
POINTS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=40)
REALS = st.lists(st.tuples(st.floats(allow_nan=False), st.floats(allow_nan=False)), max_size=40)


def by_definition(points: list[tuple[float, float]]) -> list[bool]:
    def beaten(cost: float, accuracy: float) -> bool:
        return any(
            c <= cost and a >= accuracy and (c < cost or a > accuracy)  # not an equal point
            for c, a in points
        )

    return [not beaten(*point) for point in points]


@example([(0.0, -math.inf)])
@given(POINTS | REALS)
def test_the_front_is_what_nobody_beats(points: list[tuple[float, float]]) -> None:
    costs, accuracies = [cost for cost, _ in points], [accuracy for _, accuracy in points]
    assert pareto.front(costs, accuracies) == by_definition(points)


@given(st.permutations(range(12)))
def test_the_order_of_the_points_does_not_show(order: list[int]) -> None:
    points = [(index % 5, index * 7 % 4) for index in range(12)]
    found = pareto.front(*zip(*points, strict=True))
    moved = pareto.front(*zip(*(points[index] for index in order), strict=True))
    assert moved == [found[index] for index in order]


def test_equal_points_are_on_the_front_together() -> None:
    assert pareto.front([1, 1, 2, 2, 3], [0.8, 0.8, 0.8, 0.9, 0.9]) == [True, True, False, True, False]
    assert pareto.front([], []) == []
    assert pareto.front([5.0], [0.1]) == [True]


def test_what_was_not_measured_is_the_callers_to_leave_out() -> None:
    with pytest.raises(ValueError, match="NaN"):
        pareto.front([1.0, math.nan], [0.5, 0.6])
    with pytest.raises(ValueError, match="2 costs and 1 acc"):
        pareto.front([1.0, 2.0], [0.5])


EPYC = "AMD EPYC, 2 cores, 24 GiB, 1 thread, 2 jobs side by side"
XEON = "Intel(R) Xeon(R) Processor, 2 cores, 24 GiB, 1 thread, 2 jobs side by side"
ALONE = "AMD EPYC, 2 cores, 24 GiB, 2 threads"


def test_classes_of_a_row() -> None:
    assert hardware.classes(EPYC) == [EPYC]
    assert hardware.classes(f"{EPYC}; {XEON}") == [EPYC, XEON]
    assert hardware.classes("") == hardware.classes(" ; ") == []


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([EPYC, XEON, XEON], XEON),
        ([XEON, EPYC], EPYC),  # a tie: the first by name
        ([EPYC, ALONE, ALONE], ALONE),  # other threads, other times
        (["", "", EPYC], EPYC),
        ([f"{EPYC}; {XEON}", f"{EPYC}; {XEON}", XEON], XEON),
        ([f"{EPYC}; {XEON}", ""], None),
        ([], None),
    ],
)
def test_the_class_in_which_times_are_ranked(rows: list[str], expected: str | None) -> None:
    assert hardware.compared(rows) == expected
    assert hardware.compared(rows[::-1]) == expected

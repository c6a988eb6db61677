"""Rows one below the other, each with its name at the left, a scale in the middle and a figure at the right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stage_bench.leaderboard.plots import canvas, letters
from stage_bench.leaderboard.plots.canvas import GRID, PALE, SMALL, SOFT, WIDTH, Sheet
from stage_bench.leaderboard.plots.legend import Legend

SHOWN = 30
"""How many rows have room; the best."""

_LANE = 0.21  # inches, as all here
_TOP = 0.6
_BELOW = 0.56
_GAP = 0.1
_NAMES = (0.9, 3.0)  # the least and the most that names take
_MARK, _DOT = -0.1, 0.26  # of a lane: the dots have a line of their own below the interval, which would hide some


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One row. at: where its mark is; low, high: the ends of its interval, None where it has none.

    look: options of matplotlib's Line2D for the mark, with `color` also for the interval. dots: single values.
    """

    name: str
    figure: str
    at: float
    low: float | None
    high: float | None
    look: Mapping[str, Any]
    dots: Sequence[float] = field(default_factory=tuple)


def sheet(
    lanes: Sequence[Lane], *, title: str, label: str, heading: str, below: Legend, ranks: bool, line: float | None
) -> Sheet:
    """Draw up to SHOWN lanes, the first on top.

    label: what the scale is; heading: what the figures at the right are; ranks: the scale is of ranks;
    line: where a line goes down through all lanes. Within `canvas.style`.
    """
    names = [letters.fit(lane.name, _NAMES[1], SMALL) for lane in lanes]
    left = 0.15 + max([_NAMES[0], *(letters.width(name, SMALL) for name in names)]) + _GAP
    right = max(letters.width(text, SMALL) for text in [heading, *(lane.figure for lane in lanes)]) + _GAP + 0.15
    across, up = WIDTH - left - right, _LANE * (len(lanes) + 0.6)
    page = canvas.sheet(_TOP + up + _BELOW + below.height + 0.1)
    page.heading(title)
    axes = page.axes(left, _TOP, across, up, label, ylim=(len(lanes) - 0.2, -0.8), xlim=_limits(lanes, ranks))
    axes.set_yticks([])
    axes.xaxis.set_major_locator(_locator(ranks))
    axes.grid(True, axis="x", color=GRID, linewidth=0.8)
    if line is not None:
        axes.axvline(line, color=PALE, linewidth=1, linestyle=":", zorder=1.5)
    _marks(axes, lanes)
    page.write(WIDTH - 0.15, _TOP - 0.13, heading, align="right", color=SOFT)
    for index, (lane, name) in enumerate(zip(lanes, names, strict=True)):
        y = _TOP + _LANE * (index + 0.8)
        page.write(left - _GAP, y, name, align="right")
        page.write(WIDTH - 0.15, y, lane.figure, align="right")
    below.draw(page, _TOP + up + _BELOW)
    return page


def _marks(axes: Any, lanes: Sequence[Lane]) -> None:
    dots = [(value, index + _DOT) for index, lane in enumerate(lanes) for value in lane.dots]
    if dots:
        xs, ys = zip(*dots, strict=True)
        small = {"marker": "o", "markersize": 3, "markeredgewidth": 0, "linestyle": ""}
        axes.plot(xs, ys, color=SOFT, alpha=0.6, zorder=2, **small)
    lift = _MARK if dots else 0.0
    found = [(index + lift, lane) for index, lane in enumerate(lanes) if lane.low is not None]
    ends = ([lane.low for _, lane in found], [lane.high for _, lane in found])
    colours = [lane.look["color"] for _, lane in found]
    axes.hlines([index for index, _ in found], *ends, colors=colours, linewidth=1.6, zorder=3)
    looks: dict[tuple[Any, ...], list[tuple[float, float]]] = {}
    for index, lane in enumerate(lanes):
        looks.setdefault(tuple(sorted(lane.look.items())), []).append((lane.at, index + lift))
    for look, places in looks.items():
        xs, ys = zip(*places, strict=True)
        axes.plot(xs, ys, linestyle="", zorder=4, **dict(look))


def _limits(lanes: Sequence[Lane], ranks: bool) -> tuple[float, float]:
    seen = [end for lane in lanes for end in (lane.at, lane.low, lane.high, *lane.dots) if end is not None]
    room = max((max(seen) - min(seen)) * 0.03, 0.4 if ranks else 0.004)
    return max(min(seen) - room, 0.5 if ranks else -room), max(seen) + room


def _locator(ranks: bool) -> Any:
    from matplotlib import ticker

    return ticker.MaxNLocator(8, steps=[1, 2, 5, 10], integer=ranks)

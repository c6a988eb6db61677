"""Test accuracy against what it costs: seconds, or memory; with the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from stage_bench.leaderboard import published
from stage_bench.leaderboard.plots import canvas, labels, legend, letters
from stage_bench.leaderboard.plots.canvas import INK, PALE, SMALL, SOFT, Sheet
from stage_bench.leaderboard.plots.entries import Entry, Row, Table
from stage_bench.leaderboard.plots.looks import UNRANKED, Looks, dark
from stage_bench.leaderboard.wording import MARK, inputs, plain

BEST = 15
"""How many rows are named beside those on the front."""

_NAMED = 40  # rows at most; a longer front is named at its accurate end
_FEW = 60  # rows of which all have their interval drawn
_RASTER = 300  # unnamed points from which on they are an image in the SVG, which else would be too large
_PUBLISHED = 3  # papers
_NAME = 2.2  # inches
_PALE = 0.35

_LEFT, _TOP, _ACROSS, _UP = 0.55, 0.6, 7.3, 4.4  # inches: where the axes are
_BELOW = 0.56  # for the labels of the axis
_LETTER = SMALL * 1.25  # points: the height of a name
_DASHES = ("--", "-.", ":")
_FRONT: Mapping[str, Any] = {"color": INK, "linewidth": 1.1, "zorder": 1.8}

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What accuracy is drawn against. value: None or zero has no place on a log axis.

    on_front: whether a row is on the front. compared: whether it could be. span: the least ratio between the ends of
    the axis; less would make a mountain of a few per cent.
    """

    kind: str
    what: str
    label: str
    value: Callable[[Entry], float | None]
    on_front: Callable[[Entry], bool]
    compared: Callable[[Entry], bool]
    span: float


TIME = Axis(
    kind="time",
    what="total seconds",
    label="total seconds (log scale)",
    value=lambda entry: entry.cost.total_seconds,
    on_front=lambda entry: entry.cost.on_time_front,
    compared=lambda entry: entry.cost.compared,
    span=3,
)
MEMORY = Axis(
    kind="memory",
    what="peak memory",
    label="peak memory, MB (log scale)",
    value=lambda entry: entry.cost.peak_memory_mb,
    on_front=lambda entry: entry.cost.on_memory_front,
    compared=lambda _: True,
    span=2,
)


class Scatter:
    """The entries of a table that have a place on an axis; `entries` may be empty, and then nothing can be drawn."""

    def __init__(self, table: Table, axis: Axis) -> None:
        self.table, self.axis = table, axis
        self.entries = [entry for entry in table.entries if axis.value(entry)]

    def alt(self) -> str:
        """The plot in words: what it is of, and the front from cheap to dear."""
        front = sorted(self._front, key=lambda one: (self._cost(one), one.key))
        words = [f"{self.table.name(one)} {one.accuracy:.4f} at {_figures(self._cost(one))}" for one in front]
        if len(words) > 8:
            words = [*words[:4], f"{len(words) - 8} more", *words[-4:]]
        said = f"Pareto front: {'; '.join(words)}." if words else "No Pareto front."
        return f"Test accuracy against {self.axis.what} of {_rows(len(self.entries))} on {self.table.place}. {said}"

    def sheet(self) -> Sheet:
        """Draw it. Within `canvas.style`."""
        below = self._legend()
        page = canvas.sheet(_TOP + _UP + _BELOW + below.height + 0.1)
        page.heading(f"Test accuracy against {self.axis.what}: {self.table.place}")
        page.write(_LEFT, _TOP - 0.12, "test accuracy, 95 % interval", color=SOFT)
        seen = {"xlim": self._view.across, "ylim": self._view.up}
        axes = page.axes(_LEFT, _TOP, _ACROSS, _UP, self.axis.label, xscale="log", **seen)
        self._scale(axes)
        for style, row in zip(_DASHES, self._papers, strict=False):
            axes.axhline(row["test_accuracy"], linestyle=style, color=PALE, linewidth=1, zorder=1.5)
        axes.plot(*self._steps, **_FRONT)
        self._points(axes)
        self._names(page)
        below.draw(page, _TOP + _UP + _BELOW)
        return page

    def _cost(self, entry: Entry) -> float:
        value = self.axis.value(entry)
        assert value, "only entries with a place on the axis are drawn"
        return value

    @cached_property
    def _front(self) -> list[Entry]:
        """The entries on the front, the most accurate first."""
        return _best_first(entry for entry in self.entries if self.axis.on_front(entry))

    @cached_property
    def _named(self) -> list[Entry]:
        """Those that have their name beside them. The front first: its names stay where there is not room for all."""
        front = self._front[: _NAMED - BEST]
        return list({one.key: one for one in [*front, *_best_first(self.entries)[:BEST]]}.values())

    @cached_property
    def _papers(self) -> list[Row]:
        return published.best(self.table.published)[:_PUBLISHED]

    @cached_property
    def _looks(self) -> Looks:
        return Looks(self.entries)

    @property
    def _crowd(self) -> bool:
        return len(self.entries) > _FEW

    @cached_property
    def _with_interval(self) -> list[Entry]:
        return [entry for entry in (self._named if self._crowd else self.entries) if entry.low is not None]

    @cached_property
    def _any_compared(self) -> bool:
        return any(self.axis.compared(entry) for entry in self.entries)

    def _ranked(self, entry: Entry) -> bool:
        """Whether it is drawn as one that is compared; where none is, nothing would be left to tell apart."""
        return self.axis.compared(entry) or not self._any_compared

    @cached_property
    def _view(self) -> _View:
        ours = [entry.accuracy for entry in self.entries]
        ours += [end for entry in self._with_interval for end in (entry.low, entry.high) if end is not None]
        every = ours + [row["test_accuracy"] for row in self._papers]
        tall = max(max(every) - min(every), 0.02)
        # Names find room over the best rows, where most of them belong.
        head = 0.35 if self._crowd else 0.08 + 0.004 * len(self._named)
        up = min(every) - 0.08 * tall, max(max(every) + 0.08 * tall, max(ours) + head * tall)
        return _View([self._cost(entry) for entry in self.entries], self.axis.span, up)

    @cached_property
    def _steps(self) -> tuple[list[float], list[float]]:
        """The corners of the front: costs and accuracies. From its dearest row on it goes no higher, at any price."""
        xs: list[float] = []
        ys: list[float] = []
        for entry in sorted(self._front, key=lambda one: (self._cost(one), one.accuracy)):
            xs += [self._cost(entry)] * (2 if ys else 1)
            ys += [*ys[-1:], entry.accuracy]
        return ([*xs, self._view.across[1]], [*ys, ys[-1]]) if xs else ([], [])

    def _points(self, axes: Any) -> None:
        names = {entry.key for entry in self._named}
        groups: dict[tuple[Any, ...], list[Entry]] = {}
        looks: dict[tuple[str, bool, bool, bool], tuple[tuple[str, Any], ...]] = {}
        for entry in self.entries:
            kind = (entry.inputs, entry.status == "ok", self._ranked(entry), entry.key in names)
            if kind not in looks:
                looks[kind] = self._look(*kind)
            groups.setdefault(looks[kind], []).append(entry)
        for look_items, members in sorted(groups.items(), key=lambda pair: str(pair[0])):
            xs = [self._cost(entry) for entry in members]
            axes.plot(xs, [entry.accuracy for entry in members], linestyle="", **dict(look_items))
        lines = self._with_interval
        colours = [self._looks.of(one.inputs)["color"] if self._ranked(one) else UNRANKED for one in lines]
        ends = ([one.low for one in lines], [one.high for one in lines])
        axes.vlines([self._cost(one) for one in lines], *ends, colors=colours, linewidth=1, alpha=0.55, zorder=2)

    def _look(self, inputs: str, complete: bool, ranked: bool, named: bool) -> tuple[tuple[str, Any], ...]:
        """How a point is drawn, as sorted items."""
        look = self._looks.of(inputs)
        look["markerfacecolor"] = look["color"] if complete else "white"
        if not ranked:
            look |= {"color": UNRANKED, "markerfacecolor": "white"}
        if named:  # over the others
            look |= {"zorder": 4}
        elif self._crowd:
            raster = len(self.entries) - len(self._named) > _RASTER
            size = look["markersize"] * 0.6
            look |= {"zorder": 2.5, "markersize": size, "alpha": _PALE, "rasterized": raster}
        return tuple(sorted(look.items()))

    def _scale(self, axes: Any) -> None:
        from matplotlib import ticker

        ratio = self._view.across[1] / self._view.across[0]
        # The fewer powers of ten there are, the more round numbers between them are needed to read it by.
        steps = (1.0,) if ratio > 2000 else (1.0, 2.0, 5.0) if ratio > 20 else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
        even = ticker.MaxNLocator(7, steps=[1, 2, 5, 10])
        axes.xaxis.set_major_locator(even if ratio < 3.5 else ticker.LogLocator(subs=steps))
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,g}"))
        axes.xaxis.set_minor_locator(ticker.NullLocator())
        ticks = ticker.MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(*self._view.up)
        axes.set_yticks([tick for tick in ticks if 0 <= tick <= 1 and self._view.up[0] <= tick <= self._view.up[1]])
        axes.grid(True, color=canvas.GRID, linewidth=0.8)

    def _names(self, page: Sheet) -> None:
        """Write each backbone beside its point, where it covers neither a point, an interval nor another name."""
        page.ground([(*_inches(box[0], box[3]), *_inches(box[2], box[1])) for _, box in self._places if box])
        anchors = [(float(x), float(y)) for x, y in self._positions(self._named)]
        for entry, anchor, (words, box) in zip(self._named, anchors, self._places, strict=True):
            if box is None:
                continue
            colour = dark(self._looks.of(entry.inputs)["color"]) if self._ranked(entry) else SOFT
            page.write(*_inches(box[0], (box[1] + box[3]) / 2), words, color=colour)
            end = labels.nearest(box, anchor)
            if math.dist(end, anchor) > 12:
                xs, ys = zip(_inches(*anchor), _inches(*end), strict=True)
                page.line(xs, ys, color=colour, linewidth=0.5, alpha=0.8, zorder=4.5)

    @cached_property
    def _places(self) -> list[tuple[str, labels.Box | None]]:
        """What is written for each named entry, and where; None where there is no room."""
        texts = [letters.fit(_name(entry), _NAME, SMALL) for entry in self._named]
        sizes = [(letters.width(words, SMALL) * 72, _LETTER) for words in texts]
        anchors = [(float(x), float(y)) for x, y in self._positions(self._named)]
        x0, y0, x1, y1 = self._view.frame
        boxes = labels.place(anchors, sizes, self._obstacles(), (x0 + 3, y0 + 3, x1 - 3, y1 - 3))
        return list(zip(texts, boxes, strict=True))

    def _positions(self, entries: Sequence[Entry]) -> Array:
        """Where their points are in the frame, [n, 2]."""
        xs = self._view.x([self._cost(entry) for entry in entries])
        return np.column_stack([xs, self._view.y([entry.accuracy for entry in entries])])

    def _obstacles(self) -> Array:
        """What names keep off: points, intervals, the front, published lines; boxes [n, 4]."""
        view = self._view
        points, named = self._positions(self.entries), self._positions(self._named)
        # Named points count several times: a name over another's point would pass for its name.
        boxes = [np.hstack([found - 4, found + 4]) for found in (points, *[named] * 4)]
        if lines := self._with_interval:
            x = view.x([self._cost(entry) for entry in lines])
            low, high = view.y([entry.low for entry in lines]), view.y([entry.high for entry in lines])
            boxes.append(np.column_stack([x - 1, low, x + 1, high]))
        if self._front:
            x, y = view.x(self._steps[0]), view.y(self._steps[1])
            boxes.append(np.column_stack([x[:-1] - 1, y[:-1] - 1, x[1:] + 1, y[1:] + 1]))
        for row in self._papers:
            y = view.y([row["test_accuracy"]])
            boxes.append(np.array([[view.frame[0], y[0] - 1, view.frame[2], y[0] + 1]]))
        return np.vstack(boxes)

    def _legend(self) -> legend.Legend:
        point = {"linestyle": "", "markersize": 6}
        kinds = [legend.Entry(name or "no inputs", {**point, **self._looks.of(name)}) for name in self._looks.named]
        if self._looks.others:
            kinds.append(legend.Entry(f"{self._looks.others:,} other inputs", {**point, **self._looks.of("\n")}))
        hollow = {**point, "marker": "o", "markerfacecolor": "white"}
        marks = []
        if self._front:
            marks.append(legend.Entry("Pareto front: none is as accurate for less", _FRONT))
        if not all(map(self._ranked, self.entries)):
            said = "other, several or unrecorded hardware: not compared"
            marks.append(legend.Entry(said, {**hollow, "color": UNRANKED}))
        if any(entry.status == "partial" for entry in self.entries):
            marks.append(legend.Entry("partial: fewer runs than asked for, on no front", {**hollow, "color": INK}))
        papers = [
            legend.Entry(_published(row), {"linestyle": style, "color": PALE, "linewidth": 1})
            for style, row in zip(_DASHES, self._papers, strict=False)
        ]
        return legend.legend([kinds, marks, papers], list(self._notes()))

    def _notes(self) -> Iterable[str]:
        if self.axis is TIME:
            if self._any_compared:
                (hardware,) = {entry.cost.hardware for entry in self.entries if self.axis.compared(entry)}
                yield f"Compared are times taken on {plain(hardware)}."
            elif all(entry.rank is None for entry in self.entries):
                yield "No front: no row is complete."
            else:
                yield "No front: what hardware these times were taken on is not recorded, or was several for each row."
        if len(self._named) < len(self.entries):
            intervals = ", and have their interval drawn" if self._crowd else ""
            most = _NAMED - BEST
            front = "the front" if len(self._front) <= most else f"the best {most} of {len(self._front):,} on the front"
            yield f"Of {_rows(len(self.entries))} {front} and the best {BEST} are named{intervals}."
        if unnamed := sum(box is None for _, box in self._places):
            yield f"Without room for their name: {_rows(unnamed)}."
        if missing := len(self.table.entries) - len(self.entries):
            yield f"Without {self.axis.what}, and not shown: {_rows(missing)}."
        if self.table.unfinished:
            yield f"Without a finished run: {_rows(self.table.unfinished)}."


class _View:
    """What part of the plane is seen, and where in it a point is. frame: the axes, in points from their corner."""

    def __init__(self, costs: Sequence[float], span: float, up: tuple[float, float]) -> None:
        low, high = math.log10(min(costs)), math.log10(max(costs))
        middle, half = (low + high) / 2, max(high - low, math.log10(span)) / 2
        self.across = 10 ** (middle - 1.12 * half), 10 ** (middle + 1.2 * half)
        self.up = up
        self.frame: labels.Box = (0.0, 0.0, _ACROSS * 72, _UP * 72)

    def x(self, costs: Sequence[float]) -> Array:
        low, high = np.log10(self.across)
        result: Array = (np.log10(costs) - low) / (high - low) * self.frame[2]
        return result

    def y(self, accuracies: Sequence[float | None]) -> Array:
        low, high = self.up
        result: Array = (np.array(accuracies, dtype=np.float64) - low) / (high - low) * self.frame[3]
        return result


def _inches(x: float, y: float) -> tuple[float, float]:
    """A place in the frame, in points, as one on the sheet."""
    return _LEFT + x / 72, _TOP + _UP - y / 72


def _best_first(entries: Iterable[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda one: (-round(one.accuracy, 12), one.key))


def _name(entry: Entry) -> str:
    return f"{entry.backbone} (partial)" if entry.status == "partial" else entry.backbone


def _published(row: Row) -> str:
    suspect = ", suspect" if published.remark_of(row["note"]).suspect else ""
    what = ", ".join(filter(None, (row["backbone"], inputs(row))))
    return plain(f"{published.source_of(row['source']).paper} {row['test_accuracy']:.4f} {MARK} ({what}{suspect})")


def _rows(count: int) -> str:
    return f"{count:,} row{'s' * (count != 1)}"


def _figures(value: float) -> str:
    return f"{value:,.3g}" if value < 100 else f"{value:,.0f}"

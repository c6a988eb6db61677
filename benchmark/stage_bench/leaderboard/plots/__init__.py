"""Plots of accuracy against time, as SVG. matplotlib is optional and loaded only when a plot is drawn."""

import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from stage_bench.leaderboard import published, svg
from stage_bench.leaderboard.board import table_keys
from stage_bench.leaderboard.files import file_stem
from stage_bench.leaderboard.rows import records
from stage_bench.leaderboard.tables import MARK, inputs, plain, short_inputs

_PUBLISHED_LINES = 3
_MARKERS = "osD^vP*X"
_SIZE = (8.0, 5.0)  # inches
_LETTER = 8  # points

Row = dict[str, Any]
Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels."""


def available() -> bool:
    """Whether matplotlib is installed; asks without importing it."""
    return importlib.util.find_spec("matplotlib") is not None


def file_names(board: pd.DataFrame) -> dict[tuple[str, str], str]:
    """The SVG file of each (dataset, split) of the board that has a row to draw.

    `<dataset>.svg`, or `<dataset>.<split>.svg` where the board has several splits of a dataset: accuracies on
    two splits cannot share a plot.
    """
    keys = table_keys(board)
    drawn = {(row["dataset"], row["split"]) for row in _points(records(board))}
    names = {}
    for dataset, split in keys:
        several = sum(other == dataset for other, _ in keys) > 1
        if (dataset, split) in drawn:
            names[dataset, split] = file_stem(f"{dataset}.{split}" if several else dataset) + ".svg"
    return names


def accuracy_time(board: pd.DataFrame, path: Path) -> str | None:
    """Draw test accuracy with its 95 % interval against total seconds (log axis) to the SVG file `path`.

    `board` holds the rows of one dataset and split. Rows without accuracy or total seconds are left out. The best
    number of up to three papers is a dashed line. The same rows give the same bytes. Returns None, or, where
    matplotlib is not installed, the sentence that says how to install it.
    """
    rows = records(board)
    return svg.write(path, _SIZE, lambda figure: _draw(figure, rows))


def _points(rows: Iterable[Row]) -> list[Row]:
    ours = (row for row in rows if row["origin"] != "published" and row["test_accuracy"] is not None)
    return [row for row in ours if row["total_seconds"]]  # a log axis has no place for zero


def _draw(figure: Any, rows: Sequence[Row]) -> None:
    axes = figure.add_subplot()
    points = _points(rows)
    groups = [plain(name) for name in short_inputs(points)]
    colours = {group: svg.COLOURS[index % len(svg.COLOURS)] for index, group in enumerate(sorted(set(groups)))}
    markers = {group: _MARKERS[index % len(_MARKERS)] for index, group in enumerate(sorted(set(groups)))}
    for row, group in zip(points, groups, strict=True):
        _point(axes, row, colours[group], markers[group])
    for group, colour in colours.items():
        axes.plot([], [], linestyle="", marker=markers[group], color=colour, label=group)
    styles = ("--", "-.", ":")
    for style, row in zip(styles, published.best(rows)[:_PUBLISHED_LINES], strict=False):
        axes.axhline(row["test_accuracy"], linestyle=style, color="0.45", linewidth=1, label=_published(row), zorder=1)
    _scale(axes, points)
    axes.set_xlabel("total seconds (log scale)")
    axes.set_ylabel("test accuracy, 95 % interval")
    if rows:
        axes.set_title(f"{plain(rows[0]['dataset'])}, {plain(rows[0]['split'])}", parse_math=False)
    axes.grid(True, which="major", color="0.92")
    axes.set_axisbelow(True)
    handles, labels = axes.get_legend_handles_labels()
    legend = axes.legend(handles, labels, loc="upper left", bbox_to_anchor=(0, -0.13), fontsize=8, frameon=False)
    for entry in legend.get_texts():
        entry.set_parse_math(False)
    figure.draw_without_rendering()
    _label(figure, axes, points, [colours[group] for group in groups])


def _published(row: Row) -> str:
    suspect = ", suspect" if published.remark_of(row["note"]).suspect else ""
    what = ", ".join(filter(None, (row["backbone"], inputs(row))))
    return plain(f"{published.source_of(row['source']).paper} {row['test_accuracy']:.4f} {MARK} ({what}{suspect})")


def _point(axes: Any, row: Row, colour: str, marker: str) -> None:
    x, y = row["total_seconds"], row["test_accuracy"]
    if row["ci_low"] is not None:
        axes.vlines(x, row["ci_low"], row["ci_high"], color=colour, linewidth=1, alpha=0.6)
    # Hollow where the mean is over fewer runs than were asked for.
    face = colour if row["status"] == "ok" else "white"
    axes.plot([x], [y], marker=marker, color=colour, markerfacecolor=face, markersize=6, linestyle="", zorder=3)


def _scale(axes: Any, points: Sequence[Row]) -> None:
    from matplotlib import ticker

    axes.set_xscale("log")
    seconds = [row["total_seconds"] for row in points] or [1.0]
    low, high = min(seconds), max(seconds)
    # At least a decade: on less a log axis has too few round numbers to read it by.
    widen = max((10 * low / high) ** 0.5, 1.0)
    low, high = low / widen, high * widen
    axes.set_xlim(low / (high / low) ** 0.1, high * (high / low) ** 0.2)
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 2000 else (1.0,)))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())
    axes.margins(y=0.1)


def _label(figure: Any, axes: Any, points: Sequence[Row], colours: Sequence[str]) -> None:
    """Write each backbone beside its point, where it covers neither a point, an interval nor another label."""
    renderer = figure.canvas.get_renderer()
    scale = figure.dpi / 72
    window = axes.get_window_extent(renderer)
    frame = (window.x0, window.y0, window.x1, window.y1)
    centres = [axes.transData.transform((row["total_seconds"], row["test_accuracy"])) for row in points]
    taken = [(x - 4 * scale, y - 4 * scale, x + 4 * scale, y + 4 * scale) for x, y in centres]
    for row, (x, _) in zip(points, centres, strict=True):
        if row["ci_low"] is not None:
            ends = [axes.transData.transform((row["total_seconds"], row[end]))[1] for end in ("ci_low", "ci_high")]
            taken.append((x - scale, ends[0], x + scale, ends[1]))
    for row, centre, colour in zip(points, centres, colours, strict=True):
        label = plain(row["backbone"]) + (" (partial)" if row["status"] == "partial" else "")
        note = axes.annotate(
            label,
            (row["total_seconds"], row["test_accuracy"]),
            xytext=(0, 0),
            textcoords="offset points",
            va="bottom",
            fontsize=_LETTER,
            color=colour,
        )
        note.set_parse_math(False)
        extent = note.get_window_extent(renderer)
        place = _place(centre, extent.width, extent.height, scale, taken, frame)
        taken.append(place)
        offset = ((place[0] - centre[0]) / scale, (place[1] - centre[1]) / scale)
        note.set_position(offset)
        if max(abs(offset[1]), offset[0], -offset[0] - extent.width / scale) > 14:
            nearest = (min(max(centre[0], place[0]), place[2]), min(max(centre[1], place[1]), place[3]))
            start, end = axes.transData.inverted().transform([centre, nearest])
            axes.plot([start[0], end[0]], [start[1], end[1]], color=colour, linewidth=0.4, alpha=0.7, zorder=1)


def _place(
    centre: tuple[float, float], width: float, height: float, scale: float, taken: Sequence[Box], frame: Box
) -> Box:
    """The nearest free place for a label around `centre`; the least covered one where none is free."""
    best, least = (0.0, 0.0, 0.0, 0.0), float("inf")
    for distance in (6, 12, 20, 30, 42, 56):
        gap = distance * scale
        for side in ("right", "left", "above", "below", "right above", "right below", "left above", "left below"):
            x = centre[0] - width / 2
            y = centre[1] - height / 2
            x = centre[0] + gap if "right" in side else centre[0] - gap - width if "left" in side else x
            y = centre[1] + gap * 0.7 if "above" in side else centre[1] - gap * 0.7 - height if "below" in side else y
            box = (x, y, x + width, y + height)
            outside = width * height - _overlap(box, frame)
            # Far places cost a little, so that of two covered ones the nearer wins.
            cost = sum(_overlap(box, other) for other in taken) + 3 * outside
            if cost <= 0.01:
                return box
            if cost + distance < least:
                best, least = box, cost + distance
    return best


def _overlap(one: Box, other: Box) -> float:
    """Area that two boxes share, in square pixels."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0.0) * max(height, 0.0)

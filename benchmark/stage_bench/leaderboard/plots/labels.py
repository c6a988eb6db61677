"""Where the names of points go: beside them, over nothing else. Places only, nothing is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in points (1/72 inch), y upwards."""

_GAPS = (6, 10, 15, 22, 30, 40, 52, 66, 82, 100, 120)
_DIRECTIONS = 16
_FAR = 0.8  # how many covered square points an extra point of distance is worth
_FOREIGN = 30.0  # and how many it is worth not to be nearer to another labelled point

Array = npt.NDArray[np.float64]


def place(
    anchors: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    obstacles: Array,
    frame: Box,
) -> list[Box | None]:
    """A box for each label, inside the frame and clear of the others; None where there is no room for one.

    anchors: the labelled points; sizes: width and height of their labels; earlier ones choose first. obstacles: boxes
    [n, 4] that labels keep off as far as they can, the points themselves among them. Time grows with the labels times
    their candidates, and with the obstacles only once: each is marked on a grid, whose running sums then tell for any
    box how much of it is covered.
    """
    covered = _running_sums(obstacles, frame)
    points = np.array(anchors, dtype=np.float64).reshape(-1, 2)
    taken = np.empty((0, 4))
    result: list[Box | None] = []
    for index, (anchor, size) in enumerate(zip(anchors, sizes, strict=True)):
        boxes, distances = _candidates(anchor, size)
        inside = (boxes[:, 0] >= frame[0]) & (boxes[:, 1] >= frame[1])
        inside &= (boxes[:, 2] <= frame[2]) & (boxes[:, 3] <= frame[3])
        free = inside & ~_overlaps(boxes, taken)
        if not free.any():
            result.append(None)
            continue
        boxes, distances = boxes[free], distances[free]
        cost = _sums(covered, boxes, frame) + _FAR * distances + _FOREIGN * _foreign(boxes, points, index)
        best = boxes[np.argmin(cost)]
        taken = np.vstack([taken, best])
        result.append((float(best[0]), float(best[1]), float(best[2]), float(best[3])))
    return result


def nearest(box: Box, point: tuple[float, float]) -> tuple[float, float]:
    """The point of the box that is nearest to another: where a line to it ends."""
    return min(max(point[0], box[0]), box[2]), min(max(point[1], box[1]), box[3])


def _candidates(anchor: tuple[float, float], size: tuple[float, float]) -> tuple[Array, Array]:
    """Boxes [n, 4] around a point, the nearest first, and how far from it each one is."""
    boxes, distances = [], []
    (x, y), (width, height) = anchor, size
    for gap in _GAPS:
        for step in range(_DIRECTIONS):
            # To the right first, then by turns a little up and a little down from there.
            angle = (step + 1) // 2 * (-1 if step % 2 else 1) * 2 * math.pi / _DIRECTIONS
            across, up = math.cos(angle), math.sin(angle)
            # The edge of the box that faces the point is `gap` away from it.
            left = x + gap * across - width * (1 - across) / 2
            low = y + gap * up * 0.8 - height * (1 - up) / 2
            boxes.append((left, low, left + width, low + height))
            distances.append(gap)
    return np.array(boxes), np.array(distances, dtype=np.float64)


def _foreign(boxes: Array, points: Array, own: int) -> npt.NDArray[np.bool_]:
    """Whether each box is nearer to another point than to its own, and would pass for the other's label, [n]."""
    x, y = points[:, 0], points[:, 1]
    across = np.maximum(np.maximum(boxes[:, 0, None] - x, x - boxes[:, 2, None]), 0)
    up = np.maximum(np.maximum(boxes[:, 1, None] - y, y - boxes[:, 3, None]), 0)
    away = np.hypot(across, up)
    found: npt.NDArray[np.bool_] = np.any(away < away[:, own, None] - 0.01, axis=1)
    return found


def _overlaps(boxes: Array, taken: Array) -> npt.NDArray[np.bool_]:
    """Whether each box shares area with one of `taken`, [n]."""
    one, other = boxes[:, None, :], taken[None, :, :]
    across = (one[..., 0] < other[..., 2]) & (one[..., 2] > other[..., 0])
    up = (one[..., 1] < other[..., 3]) & (one[..., 3] > other[..., 1])
    found: npt.NDArray[np.bool_] = np.any(across & up, axis=1)
    return found


def _running_sums(obstacles: Array, frame: Box) -> Array:
    """Sums over cells of one square point: entry [i, j] counts covered area below row i and left of column j."""
    rows, columns = math.ceil(frame[3] - frame[1]) + 1, math.ceil(frame[2] - frame[0]) + 1
    edges = np.zeros((rows + 1, columns + 1))
    x0, y0, x1, y1 = _cells(obstacles, frame, rows, columns)
    for y, x, sign in ((y0, x0, 1), (y0, x1, -1), (y1, x0, -1), (y1, x1, 1)):
        np.add.at(edges, (y, x), sign)
    cover = edges.cumsum(axis=0).cumsum(axis=1)[:rows, :columns]
    sums = np.zeros((rows + 1, columns + 1))
    sums[1:, 1:] = cover.cumsum(axis=0).cumsum(axis=1)
    return sums


def _sums(sums: Array, boxes: Array, frame: Box) -> Array:
    """The covered area in each box, [n]."""
    x0, y0, x1, y1 = _cells(boxes, frame, sums.shape[0] - 1, sums.shape[1] - 1)
    result: Array = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
    return result


def _cells(boxes: Array, frame: Box, rows: int, columns: int) -> list[npt.NDArray[np.intp]]:
    """The cells that boxes reach into: first and last column and row, the last ones excluded, within the grid."""
    boxes = boxes.reshape(-1, 4)
    sides = []
    for side, (origin, count, up) in enumerate(
        ((frame[0], columns, False), (frame[1], rows, False), (frame[0], columns, True), (frame[1], rows, True))
    ):
        value = boxes[:, side] - origin
        sides.append(np.clip(np.ceil(value) if up else np.floor(value), 0, count).astype(np.intp))
    return sides

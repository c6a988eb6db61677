"""`gpt_preds.csv`: the classes that a chat model named for each node, ranked (TAPE, arXiv 2305.19523)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stage_bench.errors import StageBenchError, brief


@dataclass(frozen=True, eq=False)
class RankedPredictions:
    """classes: int64 [num_nodes, k], class indices, best first, each once, then -1.

    answers: how many lines are not empty.
    unknown: how many ids in the file are no class of the graph, and so are left out.
    """

    classes: np.ndarray
    answers: int
    unknown: int


def count(path: Path) -> int:
    """How many nodes the file speaks of: one a line."""
    return sum(1 for _ in _lines(path))


def read(path: Path, num_nodes: int, label_ids: np.ndarray) -> RankedPredictions:
    """One line a node: label ids separated by commas, best first; a line may be empty, an id stand there again.

    label_ids: int64 [num_classes], the id of each class.

    Raises:
        StageBenchError: a line holds something else, or there are not as many lines as nodes.
    """
    class_of = {int(id_): position for position, id_ in enumerate(label_ids)}
    rows: list[list[int]] = []
    answers = unknown = 0
    for number, line in enumerate(_lines(path), 1):
        try:
            ids = [int(cell) for cell in line.split(",")] if line else []
        except ValueError:
            raise StageBenchError(f"{path}:{number}: '{brief(line, 60)}' is not a list of label ids") from None
        known = [class_of[id_] for id_ in ids if id_ in class_of]
        answers += bool(ids)
        unknown += len(ids) - len(known)
        rows.append(list(dict.fromkeys(known)))
    if len(rows) != num_nodes:
        raise StageBenchError(f"{path}: holds {len(rows)} lines, one a node, but there are {num_nodes} nodes")
    classes = np.full((num_nodes, max(1, max(map(len, rows), default=1))), -1, dtype=np.int64)
    for node, row in enumerate(rows):
        classes[node, : len(row)] = row
    return RankedPredictions(classes, answers, unknown)


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            for line in file:
                yield line.strip()
    except UnicodeDecodeError as error:
        raise StageBenchError(f"{path}: not UTF-8: {error.reason}") from None

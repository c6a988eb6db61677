"""From the `label` column to class indices: names from dataset.yaml, from `label_names.csv`, or the labels' own."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stage_bench.datasets.nodes_file import NodeTable
from stage_bench.errors import StageBenchError, brief

_NUMBER = re.compile(r"-?\d{1,18}")  # what int64 holds


@dataclass(frozen=True)
class Classes:
    """What a model tells apart: `names`, one a class, and `ids` int64 [num_classes], the number the data gives each.

    source: the file that declares them; empty where they are the labels that occur.
    """

    names: list[str]
    ids: np.ndarray
    source: str = ""


def declared(names: Any, source: str) -> Classes:
    """Of a list in dataset.yaml: the number of a class is its position.

    Raises:
        StageBenchError: it is no list of different names.
    """
    if not isinstance(names, list) or not names:
        raise StageBenchError("label_names is a list of names")
    texts = [str(name) for name in names]
    if len(set(texts)) < len(texts):
        raise StageBenchError("label_names holds a name twice")
    return Classes(texts, np.arange(len(texts), dtype=np.int64), source)


def read(path: Path) -> Classes:
    """Of `label_names.csv`: a header, then a number and a name a line; an empty name is the number.

    Raises:
        StageBenchError: a line is not of that form, or a number or name stands there twice; with the line.
    """
    found: dict[int, str] = {}
    taken: set[str] = set()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            next(reader, None)
            for cells in reader:
                place = f"{path}:{reader.line_num}"
                if len(cells) != 2 or not _NUMBER.fullmatch(cells[0].strip()):
                    raise StageBenchError(f"{place}: expected a label's number and its name, such as 3,cs.CL")
                number, name = int(cells[0]), cells[1].strip() or cells[0].strip()
                if number in found or name in taken:
                    twice = number if number in found else brief(repr(name))
                    raise StageBenchError(f"{place}: {twice} stands here twice")
                found[number] = name
                taken.add(name)
    except (csv.Error, UnicodeDecodeError) as error:
        raise StageBenchError(f"{path}: not a CSV file: {' '.join(str(error).split())}") from None
    if not found:
        raise StageBenchError(f"{path}: holds no label after its header")
    return Classes([found[number] for number in sorted(found)], np.array(sorted(found), dtype=np.int64), path.name)


def resolve(table: NodeTable, classes: Classes | None) -> tuple[np.ndarray, Classes]:
    """Labels int64 [num_nodes], -1 where there is none, and the classes; gaps between numbers are closed up.

    Raises:
        StageBenchError: a label is not among the declared ones, or all labels are the same.
    """
    column = table.label
    numbers = all(_NUMBER.fullmatch(value) for value in column.values)
    for value, first in zip(column.values, column.first, strict=True):
        if classes is None and numbers and int(value) < 0:
            raise StageBenchError(
                f"{table.place(first)}: label {value} is below zero; leave it empty where a node has no label"
            )
    if classes is None:
        names = sorted(column.values, key=int if numbers else None)
        ids = np.array([int(name) for name in names] if numbers else range(len(names)), dtype=np.int64)
        classes = Classes(names, ids)
    index = {name: position for position, name in enumerate(classes.names)}
    if numbers and column.values:
        if all(value in index for value in column.values):
            if all(_NUMBER.fullmatch(name) for name in classes.names):
                classes = Classes(classes.names, np.array([int(name) for name in classes.names]), classes.source)
        else:
            index = {str(id_): position for position, id_ in enumerate(classes.ids)}
    for value, first in zip(column.values, column.first, strict=True):
        if value not in index:
            shown = brief(value, 60)
            raise StageBenchError(f"{table.place(first)}: label '{shown}' is not among label_names of {classes.source}")
    if column.values and len(classes.names) < 2:
        shown = brief(classes.names[0], 60)
        raise StageBenchError(f"{table.path}: all labels are '{shown}'; a classification needs two classes")
    positions = np.array([*(index[value] for value in column.values), -1], dtype=np.int64)
    return positions[column.codes], classes  # code -1 is the last position

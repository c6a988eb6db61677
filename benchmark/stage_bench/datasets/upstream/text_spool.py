"""Texts of millions of nodes, kept in a temporary file while they come in in another order."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np


class TextSpool:
    """For each node a few texts. Costs 12 bytes of memory a node; the file is gone when the process ends."""

    def __init__(self, folder: Path, num_nodes: int) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as the texts are used
        self._start = np.full(num_nodes, -1, dtype=np.int64)
        self._length = np.zeros(num_nodes, dtype=np.int32)
        self._end = 0

    def __contains__(self, node: int) -> bool:
        return bool(self._start[node] >= 0)

    def put(self, node: int, texts: Sequence[str]) -> None:
        data = json.dumps(texts).encode()
        self._file.seek(self._end)
        self._file.write(data)
        self._start[node], self._length[node] = self._end, len(data)
        self._end += len(data)

    def get(self, node: int) -> list[str]:
        self._file.seek(int(self._start[node]))
        texts: list[str] = json.loads(self._file.read(int(self._length[node])))
        return texts

    def missing(self) -> np.ndarray:
        """int64: the nodes without texts."""
        return np.flatnonzero(self._start < 0)

    def column(self, position: int, nodes: np.ndarray) -> Sequence[str]:
        """Of each of `nodes` the text at that position, read when it is asked for."""
        return _Column(self, position, nodes)


class _Column(Sequence[str]):
    def __init__(self, spool: TextSpool, position: int, nodes: np.ndarray) -> None:
        self.spool, self.position, self.nodes = spool, position, nodes

    def __len__(self) -> int:
        return len(self.nodes)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[number] for number in range(*row.indices(len(self)))]
        return self.spool.get(int(self.nodes[row]))[self.position]

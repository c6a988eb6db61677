"""What a reader makes of a dataset's upstream files, before it is written as a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from stage_bench.datasets.splits import DEFAULT_RULE
from stage_bench.errors import StageBenchError


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """Nodes, edges and what else the files hold; node i is row i of everything.

    columns: the node columns besides the label, each with one value a node; a text that is missing is an empty string.
    text: the template over the columns.
    labels: int64 [num_nodes], positions in `label_names`; -1 where a node has none.
    edges: int64 [2, num_edges], sources above destinations, as they stand in the files.
    directed: whether the direction of an edge means something.
    parts: the split that the files prescribe, `train`, `val` and `test` with int64 node ids; empty where there is none.
    split: the protocol where they prescribe none.
    features: float32 [num_nodes, dim], the features OGB ships.
    gpt_preds: one line a node, class numbers separated by commas, best first.
    notes: what was found and done, for the card.
    """

    columns: dict[str, Sequence[str | int | None]]
    text: str
    labels: np.ndarray
    label_names: Sequence[str]
    edges: np.ndarray
    origin: str
    directed: bool = True
    parts: dict[str, np.ndarray] = field(default_factory=dict)
    split: str = DEFAULT_RULE
    features: np.ndarray | None = None
    gpt_preds: Sequence[str] | None = None
    licence: str = ""
    notes: Sequence[str] = ()

    @property
    def num_nodes(self) -> int:
        return len(self.labels)

    def check(self) -> None:
        """That everything is about the same nodes.

        Raises:
            StageBenchError: a column, the features or the predictions have another length, or an edge, a label or the
                split names what does not exist.
        """
        sizes = {f"column '{name}'": len(values) for name, values in self.columns.items()}
        if self.features is not None:
            sizes["the features"] = len(self.features)
        if self.gpt_preds is not None:
            sizes["the GPT predictions"] = len(self.gpt_preds)
        for what, size in sizes.items():
            if size != self.num_nodes:
                raise StageBenchError(f"{what}: {size} rows, but there are {self.num_nodes} nodes")
        ranges = {"an edge": (self.edges, 0, self.num_nodes), "a label": (self.labels, -1, len(self.label_names))}
        ranges |= {f"the {part} part": (nodes, 0, self.num_nodes) for part, nodes in self.parts.items()}
        for what, (values, low, high) in ranges.items():
            if values.size and (values.min() < low or values.max() >= high):
                raise StageBenchError(f"{what} is {values.min()} or {values.max()}, outside {low} to {high - 1}")

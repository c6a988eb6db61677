"""TextGraph: a graph whose nodes carry text and, some of them, a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from stage_bench import fingerprint
from stage_bench.datasets.splits import DEFAULT_RULE, Split, random_shares, random_split
from stage_bench.errors import StageBenchError

if TYPE_CHECKING:
    from dgl import DGLGraph


@dataclass(frozen=True, eq=False)
class TextGraph:
    """One dataset in memory; nothing here needs torch until `graph` is asked for.

    texts: one string a node, or None where the data has no text.
    edges: int64 [2, num_edges], sources above destinations: both directions of every edge where `directed` is False,
        each pair once, no self-loops.
    labels: int64 [num_nodes]; -1 means unlabelled.
    fixed_splits: the splits that the data prescribes, by protocol (`official`, `column`, `file`, `public`).
    facts: what the card says besides the counts (origin, licence, policy).
    """

    name: str
    texts: Sequence[str] | None
    edges: np.ndarray
    labels: np.ndarray
    label_names: Sequence[str]
    fixed_splits: dict[str, Split] = field(default_factory=dict)
    default_split: str = DEFAULT_RULE
    instructions: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def num_nodes(self) -> int:
        return len(self.labels)

    @property
    def num_edges(self) -> int:
        return int(self.edges.shape[1])

    @property
    def num_classes(self) -> int:
        return len(self.label_names)

    @cached_property
    def text_fingerprint(self) -> str:
        return "" if self.texts is None else fingerprint.of_texts(self.texts)

    @cached_property
    def graph_fingerprint(self) -> str:
        return fingerprint.of_arrays(self.edges)

    @cached_property
    def label_fingerprint(self) -> str:
        """Of the labels and of how many classes a model has to tell apart, whether or not all of them occur."""
        return fingerprint.of_arrays(self.labels, np.array([self.num_classes], dtype=np.int64))

    @cached_property
    def fingerprint(self) -> str:
        """Of everything that a number depends on; names, licence and origin do not count."""
        return fingerprint.of_json([self.text_fingerprint, self.graph_fingerprint, self.label_fingerprint])

    @cached_property
    def graph(self) -> DGLGraph:
        """As a DGL graph on the CPU, int64 ids."""
        import torch

        from stage_bench.dgl_library import dgl

        return dgl.graph((torch.from_numpy(self.edges[0]), torch.from_numpy(self.edges[1])), num_nodes=self.num_nodes)

    def is_random(self, protocol: str) -> bool:
        return protocol not in self.fixed_splits and random_shares(protocol) is not None

    def split(self, protocol: str, seed: int) -> Split:
        """The split of that protocol; the seed counts only where the protocol is a random one.

        Raises:
            StageBenchError: this dataset has no such split.
        """
        if protocol in self.fixed_splits:
            return self.fixed_splits[protocol]
        if random_shares(protocol) is None:
            valid = ", ".join([*self.fixed_splits, "random-60-20-20 (any three percentages)"])
            raise StageBenchError(f"{self.name} has no split '{protocol}' (valid: {valid})")
        return random_split(self.labels, protocol, seed)


def clean_edges(edges: np.ndarray, num_nodes: int, directed: bool) -> tuple[np.ndarray, dict[str, int]]:
    """Drop self-loops, coalesce duplicates and, unless the graph is to stay directed, add the other direction.

    Returns int64 [2, num_edges] sorted by source, then destination, and what was done, for the card.
    """
    edges = np.asarray(edges, dtype=np.int64).reshape(2, -1)
    proper = edges[0] != edges[1]
    src, dst = edges[0][proper], edges[1][proper]
    keys = np.unique(src * num_nodes + dst)
    done = {
        "edges_in_file": int(edges.shape[1]),
        "self_loops_dropped": int((~proper).sum()),
        "duplicates_dropped": len(src) - len(keys),
    }
    if not directed:
        src, dst = keys // num_nodes, keys % num_nodes
        done["reciprocal_pairs"] = int(np.isin(dst * num_nodes + src, keys).sum()) // 2
        keys = np.unique(np.concatenate([keys, dst * num_nodes + src]))
    return np.stack([keys // num_nodes, keys % num_nodes]), done

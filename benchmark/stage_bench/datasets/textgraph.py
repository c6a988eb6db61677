"""TextGraph: a graph whose nodes carry text and, some of them, a label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stage_bench import fingerprint
from stage_bench.datasets import predictions
from stage_bench.datasets.matrices import open_matrix
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
    label_ids: int64 [num_classes], the number that the data gives each class; by default its index.
    fixed_splits: the splits that the data prescribes, by protocol (`official`, `column`, `file`, `public`).
    facts: what the card says besides the counts (origin, licence, policy).
    blank_text: the text of a node that has nothing to say, which a template need not leave empty.
    predictions_path: a file of ranked class predictions (datasets/predictions.py), read when it is asked for.
    answers_path: a folder of a chat model's responses, `{i}.json` for node i (answers/upstream.py).
    matrix_paths: `.npy`, `.f16` and `.f32` files with a row a node, by file name; each is checked when it is asked for.
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
    label_ids: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    blank_text: str = ""
    predictions_path: Path | None = None
    answers_path: Path | None = None
    matrix_paths: Mapping[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.label_ids) != self.num_classes:
            object.__setattr__(self, "label_ids", np.arange(self.num_classes, dtype=np.int64))

    @property
    def num_nodes(self) -> int:
        return len(self.labels)

    @property
    def num_edges(self) -> int:
        return int(self.edges.shape[1])

    @property
    def num_classes(self) -> int:
        return len(self.label_names)

    @property
    def has_labels(self) -> bool:
        return bool((self.labels >= 0).any())

    @cached_property
    def ranked_predictions(self) -> predictions.RankedPredictions | None:
        """None where the data has none.

        Raises:
            StageBenchError: the file is wrong, or has not one line a node.
        """
        if self.predictions_path is None:
            return None
        return predictions.read(self.predictions_path, self.num_nodes, self.label_ids)

    @property
    def predictions(self) -> np.ndarray | None:
        """int64 [num_nodes, k]: class indices, best first, each once, then -1; None where the data has none."""
        return None if self.ranked_predictions is None else self.ranked_predictions.classes

    def matrix(self, name: str) -> np.ndarray:
        """[num_nodes, dimension], mapped into memory.

        Raises:
            StageBenchError: there is no such matrix, or it is not one of numbers with a row a node.
        """
        if name not in self.matrix_paths:
            there = f"there are {', '.join(self.matrix_paths)}" if self.matrix_paths else "it has none"
            raise StageBenchError(f"dataset '{self.name}' has no matrix '{name}'; {there}")
        return open_matrix(self.matrix_paths[name], self.num_nodes)

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
        """As a DGL graph on the CPU; ids are int32 where they fit, which halves the memory of the edges."""
        import torch

        from stage_bench.dgl_library import dgl

        dtype = torch.int32 if max(self.num_nodes, self.num_edges) < 2**31 - self.num_nodes else torch.int64
        sources, destinations = torch.from_numpy(self.edges).to(dtype)
        return dgl.graph((sources, destinations), num_nodes=self.num_nodes)

    def is_random(self, protocol: str) -> bool:
        return protocol not in self.fixed_splits and random_shares(protocol) is not None

    def split(self, protocol: str, seed: int) -> Split:
        """The split of that protocol; the seed counts only where the protocol is a random one.

        Raises:
            StageBenchError: this dataset has no such split, or no labels.
        """
        if not self.has_labels:
            raise StageBenchError(f"dataset '{self.name}' has no labels: nothing can be trained on it")
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
    del proper
    keys = _distinct(src * num_nodes + dst)
    done = {
        "edges_in_file": int(edges.shape[1]),
        "self_loops_dropped": int(edges.shape[1]) - len(src),
        "duplicates_dropped": len(src) - len(keys),
    }
    if not directed:
        one_way = len(keys)
        del src, dst  # a graph of a hundred million edges has no room for what is not needed
        keys = _distinct(np.concatenate([keys, keys % num_nodes * num_nodes + keys // num_nodes]))
        done["reciprocal_pairs"] = one_way - len(keys) // 2  # such a pair stood there in both directions already
    return np.stack([keys // num_nodes, keys % num_nodes]), done


def _distinct(keys: np.ndarray) -> np.ndarray:
    """Sorted, each once. Sorts its input in place; np.unique needs several times its size."""
    keys.sort()
    first = np.ones(len(keys), dtype=bool)
    np.not_equal(keys[1:], keys[:-1], out=first[1:])
    return keys if first.all() else keys[first]

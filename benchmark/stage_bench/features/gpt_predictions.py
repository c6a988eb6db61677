"""TAPE's P features (arXiv 2305.19523): the classes that a chat model named for a node, in their order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stage_bench import fingerprint
from stage_bench.errors import StageBenchError
from stage_bench.features.options import PredictionOptions

if TYPE_CHECKING:
    from stage_bench.datasets.textgraph import TextGraph


def build(graph: TextGraph, options: PredictionOptions) -> np.ndarray:
    """float32 [num_nodes, k * num_classes]: one-hot, a block of `num_classes` columns for each of the first k ranks.

    A rank at which nothing was named is zero. TAPE embeds the class of each rank and puts a linear layer on the
    embeddings side by side; a linear layer on these features is the same function: its weights for rank r and class c
    are that layer's weights for rank r times the embedding of c.

    Raises:
        StageBenchError: the dataset has no predictions, or none of its classes is named in them.
    """
    ranked = _ranked(graph)
    features = np.zeros((graph.num_nodes, options.k, graph.num_classes), dtype=np.float32)
    nodes, ranks = np.nonzero(ranked[:, : options.k] >= 0)
    features[nodes, ranks, ranked[nodes, ranks]] = 1
    return features.reshape(graph.num_nodes, -1)


def reads(graph: TextGraph, options: PredictionOptions) -> str:
    """Fingerprint of the predictions as class indices."""
    return fingerprint.of_arrays(_ranked(graph))


def _ranked(graph: TextGraph) -> np.ndarray:
    ranked = graph.predictions
    if ranked is None:
        raise StageBenchError(f"dataset '{graph.name}' has no gpt_preds.csv, which 'gpt-predictions' needs")
    if not (ranked >= 0).any():
        raise StageBenchError(f"dataset '{graph.name}': no id in its gpt_preds.csv is a class of it")
    return ranked

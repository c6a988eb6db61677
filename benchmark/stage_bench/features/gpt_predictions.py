"""TAPE's P features (arXiv 2305.19523): the classes that a chat model named for a node, in their order.

They come from a dataset's `gpt_preds.csv`, or from the answers that a suite names (docs/answers.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stage_bench import fingerprint
from stage_bench.errors import StageBenchError
from stage_bench.features.options import PredictionOptions
from stage_bench.features.spec import Built

if TYPE_CHECKING:
    from stage_bench.datasets.textgraph import TextGraph
    from stage_bench.features.spec import Setting


def run(setting: Setting, options: PredictionOptions) -> Built:
    """The features; and scores 1 for the class named first, 1/2 for the second, 1/3 ..., 0 for the others.

    A node without any named class has the same score for all classes: its prediction says nothing, and whoever needs
    one class takes the first of them. How many those are is said and stands in the answers' manifest.

    Raises:
        StageBenchError: there is no prediction, or more ranks are asked for than there are classes.
        JobError: the answers cannot be had.
    """
    _check_ranks(setting.graph, options)  # before answers are paid for
    if setting.answers is None:
        ranked, spent = _ranked(setting.graph), {}
    else:
        from stage_bench.answers.source import load

        answers = load(setting)
        ranked, spent = answers.ranked, answers.spent
    logits = np.zeros((setting.graph.num_nodes, setting.graph.num_classes), dtype=np.float32)
    nodes, ranks = np.nonzero(ranked >= 0)
    logits[nodes, ranked[nodes, ranks]] = 1 / (ranks + 1)
    silent = int((ranked < 0).all(axis=1).sum())
    if silent:
        shown = f"{silent} of {setting.graph.num_nodes} nodes have no prediction"
        setting.say(f"{setting.graph.name}: {shown}, which by itself counts as the first class")
    return Built(_one_hot(ranked, setting.graph, options), logits, spent, elsewhere=setting.answers is None)


def build(graph: TextGraph, options: PredictionOptions) -> np.ndarray:
    """float32 [num_nodes, k * num_classes], from gpt_preds.csv: a block of columns for each of the first k ranks.

    Raises:
        StageBenchError: the dataset has no predictions, or none of its classes is named in them.
    """
    return _one_hot(_ranked(graph), graph, options)


def reads(graph: TextGraph, options: PredictionOptions) -> str:
    """Fingerprint of the predictions as class indices."""
    _check_ranks(graph, options)
    return fingerprint.of_arrays(_ranked(graph))


def _one_hot(ranked: np.ndarray, graph: TextGraph, options: PredictionOptions) -> np.ndarray:
    """float32 [num_nodes, k * num_classes]: one-hot, a block of `num_classes` columns for each of the first k ranks.

    A rank at which nothing was named is zero. TAPE embeds the class of each rank and puts a linear layer on the
    embeddings side by side; a linear layer on these features is the same function: its weights for rank r and class c
    are that layer's weights for rank r times the embedding of c.
    """
    features = np.zeros((graph.num_nodes, options.k, graph.num_classes), dtype=np.float32)
    nodes, ranks = np.nonzero(ranked[:, : options.k] >= 0)
    features[nodes, ranks, ranked[nodes, ranks]] = 1
    return features.reshape(graph.num_nodes, -1)


def _check_ranks(graph: TextGraph, options: PredictionOptions) -> None:
    """A class is named once, so later ranks are empty; the default may be too many, but nobody asked for it."""
    usual = PredictionOptions().k
    if options.k > max(graph.num_classes, usual):
        raise StageBenchError(
            f"gpt-predictions: k: {options.k} ranks, but dataset '{graph.name}' has {graph.num_classes} classes, each "
            "of which is named once"
        )


def _ranked(graph: TextGraph) -> np.ndarray:
    ranked = graph.predictions
    if ranked is None:
        own = "answers: {} reads those in its folder" if graph.answers_path else "or name a chat model's answers:"
        raise StageBenchError(
            f"dataset '{graph.name}' has no gpt_preds.csv, which 'gpt-predictions' needs; {own} (docs/answers.md)"
        )
    if not (ranked >= 0).any():
        raise StageBenchError(f"dataset '{graph.name}': no id in its gpt_preds.csv is a class of it")
    return ranked

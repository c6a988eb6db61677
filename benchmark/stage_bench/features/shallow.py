"""Shallow features: word weights of the node's text, reduced by truncated SVD. Fitted without labels, on all texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stage_bench.errors import JobError
from stage_bench.features.options import ShallowOptions

if TYPE_CHECKING:
    from stage_bench.datasets.textgraph import TextGraph


def build(graph: TextGraph, options: ShallowOptions) -> np.ndarray:
    """float32 [num_nodes, options.dimension].

    Raises:
        JobError: the texts have fewer distinct words than the dimension asked for.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.preprocessing import normalize

    vectorizer = TfidfVectorizer if options.weighting == "tfidf" else CountVectorizer
    words = vectorizer(max_features=options.vocabulary, stop_words="english").fit_transform(graph.texts)
    if words.shape[1] <= options.dimension:
        raise JobError(
            f"shallow features: the texts have {words.shape[1]} words, dimension must be below that "
            f"(here: {options.dimension})"
        )
    vectors = TruncatedSVD(options.dimension, random_state=0).fit_transform(words)
    return np.asarray(normalize(vectors) if options.normalize else vectors, dtype=np.float32)

"""Shallow features: word weights of the node's text, reduced by truncated SVD. Fitted without labels, on all texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from stage_bench.errors import JobError
from stage_bench.features.options import ShallowOptions

if TYPE_CHECKING:
    from stage_bench.datasets.textgraph import TextGraph


def build(graph: TextGraph, options: ShallowOptions) -> np.ndarray:
    """float32 [num_nodes, dimension]: `options.dimension`, or as many as the words and nodes give.

    Raises:
        JobError: the texts hold no words.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.preprocessing import normalize

    vectorizer = TfidfVectorizer if options.weighting == "tfidf" else CountVectorizer
    try:
        words = vectorizer(max_features=options.vocabulary, stop_words="english").fit_transform(graph.texts)
    except ValueError as error:  # an empty vocabulary
        raise JobError(f"shallow features: {error}") from None
    vectors = TruncatedSVD(min(options.dimension, *words.shape), random_state=0).fit_transform(words)
    return np.asarray(normalize(vectors) if options.normalize else vectors, dtype=np.float32)

"""Shallow features: weights of the words of the node's text, all of them or reduced by truncated SVD.

Fitted without labels, on all texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.preprocessing import normalize

from stage_bench.errors import JobError
from stage_bench.features.options import ShallowOptions

if TYPE_CHECKING:
    from stage_bench.datasets.textgraph import TextGraph

_MOST_BYTES = 4 * 2**30  # of a column a word, nearly all of it zeros


def build(graph: TextGraph, options: ShallowOptions) -> np.ndarray:
    """float32 [num_nodes, dimension]: `options.dimension`, or as many as the words and nodes give; null: every word.

    A text without any of the words is a row of zeros.

    Raises:
        JobError: the texts hold no words, or a column a word would take more than 4 GiB.
    """
    made = {"max_features": options.vocabulary, "stop_words": "english"}
    if options.weighting == "tfidf":
        vectorizer = TfidfVectorizer(**made)
    else:
        vectorizer = CountVectorizer(**made, binary=options.weighting == "binary")
    try:
        words = vectorizer.fit_transform(graph.texts)
    except ValueError as error:  # an empty vocabulary
        raise JobError(f"shallow features: {error}") from None
    if options.dimension is not None:
        vectors = TruncatedSVD(min(options.dimension, *words.shape), random_state=0).fit_transform(words)
        return np.asarray(normalize(vectors) if options.normalize else vectors, dtype=np.float32)
    size = words.shape[0] * words.shape[1] * 4
    if size > _MOST_BYTES:
        raise JobError(
            f"shallow features: a column for each of {words.shape[1]:,} words of {words.shape[0]:,} texts takes "
            f"{size / 2**30:.1f} GiB; lower `vocabulary`, or give a `dimension` in place of null"
        )
    if options.normalize:
        words = normalize(words.astype(np.float64))
    columns: np.ndarray = words.astype(np.float32).toarray()
    return columns

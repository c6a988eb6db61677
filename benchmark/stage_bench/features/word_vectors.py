"""The mean of the vectors of a text's words, from a file in GloVe's or word2vec's format. Fitted without labels."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stage_bench import files
from stage_bench.errors import JobError, StageBenchError
from stage_bench.features import vector_files
from stage_bench.features.options import WordVectorOptions

if TYPE_CHECKING:
    from stage_bench.datasets.textgraph import TextGraph

FOLDER = "STAGE_BENCH_VECTORS"


def build(graph: TextGraph, options: WordVectorOptions) -> np.ndarray:
    """float32 [num_nodes, dimension], the file's dimension.

    A word is a run of letters, digits and underscores; it counts as often as it stands in the text, with `idf` times
    ln((1 + texts) / (1 + texts that have it)) + 1. Words that the file does not have are left out. A text without any
    that it has is a row of zeros.

    Raises:
        StageBenchError: the file is absent.
        JobError: it is damaged or of another format; or fewer of the words, or of the texts, are known than
            `min_coverage` asks for, or none.
    """
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.preprocessing import normalize

    path = _path(options)
    vectorizer = CountVectorizer(lowercase=options.lowercase, token_pattern=r"\w+")
    try:
        counts = vectorizer.fit_transform(graph.texts).tocsc()
    except ValueError as error:  # an empty vocabulary
        raise JobError(f"word vectors: {error}") from None
    found = vector_files.read(path, {word.encode(): column for word, column in vectorizer.vocabulary_.items()})
    if not found:
        raise JobError(f"{path} has a vector of no word of the dataset: is it of another language or format?")
    known = counts[:, list(found)].tocsr()
    _check(path, known.sum() / counts.sum(), float((np.diff(known.indptr) > 0).mean()), options.min_coverage)
    vectors = np.stack(list(found.values())).astype(np.float64)
    idf = np.ones(len(vectors))
    if options.weighting == "idf":
        idf = np.log((1 + known.shape[0]) / (1 + np.bincount(known.indices, minlength=len(vectors)))) + 1
    sums, weights = known @ (idf[:, None] * vectors), (known @ idf)[:, None]
    means = np.divide(sums, weights, out=np.zeros_like(sums), where=weights > 0)
    return np.asarray(normalize(means) if options.normalize else means, dtype=np.float32)


def reads(graph: TextGraph, options: WordVectorOptions) -> str:
    """sha256 of the file."""
    path = _path(options)
    there = path.stat()
    return _sha256(path, there.st_size, there.st_mtime_ns)


@lru_cache
def _sha256(path: Path, size: int, changed: int) -> str:
    """Files of word vectors have gigabytes: hashed once a process, unless they change."""
    return files.sha256(path)


def _path(options: WordVectorOptions) -> Path:
    folder = os.environ.get(FOLDER, "")
    if not options.file or Path(options.file).name != options.file:
        raise StageBenchError(
            f"'word-vectors' needs `file`, the name of a file of word vectors in the folder ${FOLDER}, "
            "such as glove.6B.300d.txt"
        )
    if not folder:
        raise StageBenchError(f"'word-vectors' looks for {options.file} in ${FOLDER}: set it to the folder that has it")
    path = Path(folder) / options.file
    if not path.is_file():
        raise StageBenchError(f"'word-vectors': {path} does not exist (${FOLDER} and `file`)")
    return path


def _check(path: Path, words: float, texts: float, least: float) -> None:
    if min(words, texts) < least:
        raise JobError(
            f"{path.name} knows {words:.1%} of the dataset's words, and {texts:.1%} of its texts have one that it "
            f"knows; min_coverage is {least:g}: is it of another language, or of cased words and `lowercase` true?"
        )

"""Features without a language model: words by hand, word vectors in every format, matrices of each split seed."""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.preprocessing import normalize

import tiny
from stage_bench.datasets import folder
from stage_bench.datasets.splits import Split, random_split
from stage_bench.datasets.textgraph import TextGraph
from stage_bench.errors import JobError, StageBenchError
from stage_bench.features import matrix, shallow, source, vector_files, word_vectors
from stage_bench.features.options import MatrixOptions, ShallowOptions, WordVectorOptions
from stage_bench.features.spec import FeatureChoice
from stage_bench.llms.cache import EmbeddingCache

TEXTS = ["Cats chase mice; cats sleep", "mice and dogs", "DOGS chase cats", "the of and"]


def graph_of(texts: list[str]) -> TextGraph:
    return tiny.text_graph(len(texts), texts=texts)


# --- words ---


@pytest.mark.parametrize(("weighting", "vectorizer"), [("tfidf", TfidfVectorizer), ("counts", CountVectorizer)])
def test_the_defaults_are_what_they_were(weighting, vectorizer):
    graph = tiny.text_graph()
    words = vectorizer(max_features=20_000, stop_words="english").fit_transform(graph.texts)
    vectors = TruncatedSVD(min(256, *words.shape), random_state=0).fit_transform(words)
    assert np.array_equal(
        shallow.build(graph, ShallowOptions(weighting=weighting)), np.asarray(normalize(vectors), dtype=np.float32)
    )


def test_words_by_hand():
    """The columns are the words in alphabetical order; stop words are left out."""
    graph = graph_of(TEXTS)
    counts = np.array(
        [[2, 1, 0, 1, 1], [0, 0, 1, 1, 0], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]]
    )  # cats chase dogs mice sleep

    def build(weighting: Any, normalize: bool = False) -> np.ndarray:
        return shallow.build(graph, ShallowOptions(weighting=weighting, dimension=None, normalize=normalize))

    assert build("counts").dtype == np.float32
    assert build("counts").tolist() == counts.tolist()
    assert build("binary").tolist() == (counts > 0).tolist()
    lengths = np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1)
    np.testing.assert_allclose(build("counts", True), counts / lengths, atol=1e-6)
    idf = np.log(5 / (1 + (counts > 0).sum(axis=0))) + 1
    weighted = counts * idf
    weighted /= np.maximum(np.linalg.norm(weighted, axis=1, keepdims=True), 1e-9)
    np.testing.assert_allclose(build("tfidf"), weighted, atol=1e-6)
    np.testing.assert_allclose(build("tfidf", True), weighted, atol=1e-6)


def test_all_words_are_the_reduced_ones_turned():
    """Truncated SVD with as many dimensions as words keeps every inner product."""
    graph = tiny.text_graph(20)
    plain = {"vocabulary": 12, "normalize": False, "weighting": "binary"}
    every = shallow.build(graph, ShallowOptions(dimension=None, **plain))
    reduced = shallow.build(graph, ShallowOptions(dimension=12, **plain))
    assert every.shape == (20, 12)
    np.testing.assert_allclose(every @ every.T, reduced @ reduced.T, atol=1e-4)


def test_more_columns_than_memory_are_refused(monkeypatch):
    monkeypatch.setattr(shallow, "_MOST_BYTES", 4 * 4 * 5)
    graph = graph_of(TEXTS)
    assert shallow.build(graph, ShallowOptions(dimension=None)).shape == (4, 5)
    monkeypatch.setattr(shallow, "_MOST_BYTES", 4 * 4 * 5 - 1)
    with pytest.raises(JobError, match=r"a column for each of 5 words of 4 texts takes .* GiB; lower `vocabulary`"):
        shallow.build(graph, ShallowOptions(dimension=None))
    assert shallow.build(graph, ShallowOptions(dimension=None, vocabulary=4)).shape == (4, 4)
    assert shallow.build(graph, ShallowOptions()).shape == (4, 4)


# --- word vectors ---

VECTORS: dict[str, list[float]] = {
    "cats": [1.0, 0.0, 2.0],
    "dogs": [0.5, -1.0, 0.0],
    "mice": [0.25, 4.0, -8.0],
    "and": [1.0, 1.0, 1.0],
    "of": [-1.0, 0.5, 0.125],
    "Cats": [9.0, 9.0, 9.0],
    "unheard": [7.0, 7.0, 7.0],
}


def as_text(vectors: Mapping[str, list[float]], header: bool = False, end: str = "\n") -> bytes:
    lines = [f"{len(vectors)} 3"] if header else []
    lines += [" ".join([word, *(f"{value:.6f}" for value in vector)]) for word, vector in vectors.items()]
    return "".join(line + end for line in lines).encode()


def as_binary(vectors: Mapping[str, list[float]], between: bytes = b"\n") -> bytes:
    """As word2vec writes it; gensim leaves out the line breaks."""
    rows = [word.encode() + b" " + np.array(vector, dtype="<f4").tobytes() for word, vector in vectors.items()]
    return f"{len(vectors)} 3\n".encode() + b"".join(row + between for row in rows)


FILES = {
    "glove.txt": as_text(VECTORS),
    "glove.txt.gz": gzip.compress(as_text(VECTORS)),
    "word2vec.vec": as_text(VECTORS, header=True, end=" \n"),
    "windows.txt": as_text(VECTORS, end="\r\n"),
    "spaces.txt": as_text(VECTORS) + b"cats at home 1 2 3\n. . . 4 5 6\n",
    "latin.txt": b"caf\xe9 1 2 3\n" + as_text(VECTORS),
    "google.bin": as_binary(VECTORS),
    "gensim.bin": as_binary(VECTORS, b""),
    "google.bin.gz": gzip.compress(as_binary(VECTORS)),
}


@pytest.fixture
def vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Writes a file of word vectors where they are looked for, and returns its name."""
    monkeypatch.setenv(word_vectors.FOLDER, str(tmp_path))

    def write(data: bytes, name: str = "vectors.txt") -> str:
        (tmp_path / name).write_bytes(data)
        return name

    return write


def means(**options: Any) -> np.ndarray:
    return word_vectors.build(graph_of(TEXTS), WordVectorOptions(**options))


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_same(vectors, name):
    found = means(file=vectors(FILES[name], name), normalize=False)
    cats, dogs, mice, and_, of = (np.array(VECTORS[word]) for word in ("cats", "dogs", "mice", "and", "of"))
    expected = [(2 * cats + mice) / 3, (mice + and_ + dogs) / 3, (dogs + cats) / 2, (of + and_) / 2]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_file_is_read_in_parts(vectors, monkeypatch, tmp_path):
    name = vectors(FILES["google.bin"], "google.bin")
    monkeypatch.setattr(vector_files, "_CHUNK", 5)
    found = vector_files.read(tmp_path / name, {word.encode(): i for i, word in enumerate(VECTORS)})
    assert {word: found[i].tolist() for i, word in enumerate(VECTORS)} == VECTORS


def test_rare_words_count_more(vectors):
    found = means(file=vectors(as_text(VECTORS)), weighting="idf", normalize=False)
    # texts that have it, of 4: cats 2, mice 2, and 2, dogs 2, of 1
    often, once = math.log(5 / 3) + 1, math.log(5 / 2) + 1
    vector = {word: np.array(VECTORS[word]) for word in VECTORS}
    np.testing.assert_allclose(found[3], (once * vector["of"] + often * vector["and"]) / (once + often), atol=1e-6)
    np.testing.assert_allclose(found[0], (2 * vector["cats"] + vector["mice"]) / 3, atol=1e-6)
    scaled = means(file="vectors.txt", weighting="idf")
    np.testing.assert_allclose(scaled, found / np.linalg.norm(found, axis=1, keepdims=True), atol=1e-6)


def test_words_as_they_are_written(vectors):
    found = means(file=vectors(as_text(VECTORS)), lowercase=False, normalize=False, min_coverage=0.1)
    np.testing.assert_allclose(found[0], (np.array([9, 9, 9]) + VECTORS["mice"] + VECTORS["cats"]) / 3, atol=1e-6)
    np.testing.assert_allclose(found[2], VECTORS["cats"], atol=1e-6)  # DOGS is another word than dogs


def test_the_first_of_two_vectors_counts(vectors):
    found = means(file=vectors(as_text(VECTORS) + b"cats 50 50 50\n"), normalize=False)
    np.testing.assert_allclose(found[2], np.mean([VECTORS["dogs"], VECTORS["cats"]], axis=0), atol=1e-6)


def test_too_few_known_words_are_an_error(vectors):
    """Of 14 words the file knows 3 (cats), and of 4 texts 2 have one; the others are rows of zeros."""
    name = vectors(as_text({"cats": VECTORS["cats"]}))
    words, texts = 3 / 14, 2 / 4
    problem = f"knows {words:.1%} of the dataset's words, and {texts:.1%} of its texts have one"
    for least in (0.5, 0.22):
        with pytest.raises(JobError, match=re.escape(problem)):
            means(file=name, min_coverage=least)
    found = means(file=name, min_coverage=0.2)
    assert found.any(axis=1).tolist() == [True, False, True, False]
    many = [*TEXTS[:1] * 6, *["unheard of things"] * 4]
    with pytest.raises(JobError, match=r"and 60\.0% of its texts"):
        word_vectors.build(graph_of(many), WordVectorOptions(file=name, min_coverage=0.61))


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("a.txt", b"", "a.txt:1: neither a word and its numbers, nor two numbers"),
        ("a.txt", as_text({"whale": [1, 2, 3]}), "a.txt has a vector of no word of the dataset"),
        ("a.txt", b"x 1 2 3\ncats 1 2\n", "a.txt:2: a word with 2 numbers, not 3"),
        ("a.txt", b"1 3\ncats 1 two 3\n", "a.txt:2: not a word and its numbers"),
        ("a.txt", b"x 1 2 3\ncats 1 nan 3\n", "the vector of 'cats' is not finite"),
        ("a.txt", b"3 3\ncats 1 2 3\nx 1 2 3\n", "a.txt: holds 2 words; its first line says 3"),
        ("a.txt", b"cats 1 2 3\nx 1 2", "a.txt:2: the last line is not whole"),
        ("a.bin", as_binary(VECTORS)[:-5], "a.bin: ends after 6 words; its first line says 7"),
        ("a.bin", as_text(VECTORS), "a.bin: not in word2vec's binary format"),
        ("a.txt.gz", gzip.compress(as_text(VECTORS))[:40], "a.txt.gz cannot be read: Compressed file ended"),
        ("a.txt.gz", as_text(VECTORS), "a.txt.gz cannot be read: Not a gzipped file"),
    ],
)
def test_damaged_files(vectors, name, data, problem):
    with pytest.raises(JobError, match=re.escape(problem)):
        means(file=vectors(data, name))


def test_where_word_vectors_are_looked_for(vectors, monkeypatch, tmp_path):
    def reads(file: str) -> str:
        return word_vectors.reads(graph_of(TEXTS), WordVectorOptions(file=file))

    name = vectors(as_text(VECTORS))
    before = reads(name)
    assert len(before) == 64
    assert reads(vectors(as_text(VECTORS), "copy.txt")) == before
    vectors(as_text({**VECTORS, "more": [1.0, 2.0, 3.0]}), name)
    assert reads(name) != before, "a file that changed is read anew"
    for wrong in ("", f"../{tmp_path.name}/{name}", str(tmp_path / name)):
        with pytest.raises(StageBenchError, match="needs `file`, the name of a file of word vectors in the folder"):
            reads(wrong)
    with pytest.raises(StageBenchError, match=r"absent\.txt does not exist"):
        reads("absent.txt")
    monkeypatch.delenv(word_vectors.FOLDER)
    with pytest.raises(StageBenchError, match=r"looks for vectors\.txt in \$STAGE_BENCH_VECTORS: set it"):
        reads(name)


def test_a_run_on_word_vectors(vectors, tmp_path):
    state = np.random.RandomState(0)
    words = {word: state.randn(3).tolist() for line in tiny.WORDS for word in line}
    tiny.write_folder(tmp_path / "data")
    vectors(as_text(words), "tiny.txt")
    suite = {"features": [{"name": "word-vectors", "file": "tiny.txt", "min_coverage": 0.1}]}
    assert tiny.carry_out(tmp_path, {**suite, "backbones": ["mlp"], "seeds": 1, "training": {"epochs": 3}}) == []
    (record,) = tiny.records(tmp_path)
    assert record.features == "word-vectors(file=tiny.txt,min_coverage=0.1)"


# --- raw matrices, and one of each split seed ---


@pytest.fixture
def seeded(tmp_path: Path) -> Path:
    """120 nodes with x_seed0.f16, x_seed3.f16 and plain.f32."""
    path = tiny.write_folder(tmp_path / "data")
    for seed in (0, 3):
        values(seed).astype("<f2").tofile(path / f"x_seed{seed}.f16")
    values(9).astype("<f4").tofile(path / "plain.f32")
    return path


def values(seed: int) -> np.ndarray:
    return np.random.RandomState(seed).randn(120, 4)


def test_raw_files_are_rows_of_numbers(seeded):
    graph = folder.load(seeded)
    assert list(graph.matrix_paths) == ["plain.f32", "x_seed0.f16", "x_seed3.f16"]
    assert np.array_equal(graph.matrix("plain.f32"), values(9).astype(np.float32))
    assert np.array_equal(matrix.build(graph, MatrixOptions(file="x_seed0.f16")), values(0).astype(np.float16))
    scaled = matrix.build(graph, MatrixOptions(file="plain.f32", standardize=True))
    np.testing.assert_allclose(scaled, (values(9) - values(9).mean(0)) / values(9).std(0), atol=1e-5)


@pytest.mark.parametrize("size", [0, 1, 120 * 2 * 4 + 2])
def test_a_raw_file_of_another_size_is_refused(seeded, size):
    (seeded / "x_seed0.f16").write_bytes(b"\0" * size)
    with pytest.raises(
        StageBenchError, match=f"its {size} bytes are not rows of float16 of equal length for 120 nodes"
    ):
        matrix.reads(folder.load(seeded), MatrixOptions(file="x_seed0.f16"))


def split_of(graph: TextGraph, seed: int, protocol: str = "random-60-20-20") -> Split:
    return random_split(graph.labels, protocol, seed)


def test_each_split_seed_has_its_own_file(seeded, tmp_path):
    graph, cache = folder.load(seeded), EmbeddingCache(tmp_path / "results" / "embeddings")
    options = MatrixOptions(file="x_seed{seed}.f16")
    choice = FeatureChoice("matrix", "matrix", options.model_dump())
    assert source.per_split(choice)
    assert not source.per_split(FeatureChoice("matrix", "matrix", MatrixOptions(file="plain.f32").model_dump()))
    for seed in (0, 3):
        loaded, manifest = source.load(graph, choice, cache, "cpu", split=split_of(graph, seed))
        assert np.array_equal(loaded, values(seed).astype(np.float16))
        assert manifest["seconds"] > 0
    ids = {str(source.identity(graph, choice, split_of(graph, seed))) for seed in (0, 3)}
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ("x_seed{seed}.f16", "has no x_seed1000.f16: these features exist for seeds 0, 3"),
        ("y_{seed}.f16", "has no y_1000.f16: nor of any other seed"),
    ],
)
def test_a_seed_without_a_file(seeded, file, problem):
    (seeded / "x_seed007.f16").write_bytes(b"")  # of no seed: 7 is written otherwise
    graph = folder.load(seeded)
    with pytest.raises(StageBenchError, match=f"^dataset 'tiny' {re.escape(problem)}$"):
        matrix.reads(graph, MatrixOptions(file=file), split_of(graph, 1000))


def test_features_of_a_split_seed_are_refused_on_other_splits(seeded):
    """They know test labels there."""
    graph, options = folder.load(seeded), MatrixOptions(file="x_seed{seed}.f16")
    fixed = Split("public", None, *(np.arange(start, start + 40) for start in (0, 40, 80)))
    for split in (fixed, split_of(graph, 0, "random-20-40-40")):
        with pytest.raises(StageBenchError, match=f"on '{split.protocol}' they would know test labels"):
            matrix.reads(graph, options, split)


def test_tapes_embeddings_of_cora(real_data: Path):
    """Their rows are the nodes: the nearest mean of the training nodes' classes is mostly right."""
    graph = folder.load(real_data / "cora")
    options = MatrixOptions(file="deberta_seed{seed}.f16")
    with pytest.raises(StageBenchError, match=r"has no deberta_seed1000\.f16: .* for seeds 0, 1, 2, 3$"):
        matrix.reads(graph, options, split_of(graph, 1000))
    for seed in range(4):
        features = matrix.build(graph, options, seed)
        stored = np.fromfile(real_data / "cora" / f"deberta_seed{seed}.f16", dtype="<f2")
        assert np.array_equal(features.ravel(), stored)
        split = split_of(graph, seed)
        train, test = split.train, split.test
        centres = np.stack([features[train][graph.labels[train] == label].mean(axis=0) for label in range(7)])
        nearest = ((features[test][:, None] - centres[None]) ** 2).sum(axis=2).argmin(axis=1)
        assert (nearest == graph.labels[test]).mean() > 0.6

"""Options of an LLM's entry: they reach what they configure, or say what is wrong with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from stage_bench import registry
from stage_bench.errors import JobError, StageBenchError
from stage_bench.llms import encoders, encoding
from stage_bench.llms.cache import EmbeddingCache
from stage_bench.llms.reducing import reduce
from stage_bench.llms.spec import Endpoint, LLMChoice, LLMSpec, Reduction
from stage_bench.suite.choices import choose
from stage_bench.suite.reading import read
from tiny import choice, text_graph


@pytest.fixture
def chosen(suite_file):
    """The choice that a suite makes of one entry."""

    def make(**entry: object) -> LLMChoice:
        suite = {"name": "s", "datasets": ["api-docs"], "llms": [entry], "backbones": ["mlp"]}
        return choose(*read(suite_file(suite))).llms[0]

    return make


@pytest.mark.parametrize(
    ("entry", "label", "field", "value"),
    [
        ({"pca": 32}, "minilm(pca=32)", "reduction", Reduction("pca", 32)),
        ({"svd": 32}, "minilm(svd=32)", "reduction", Reduction("svd", 32)),
        ({"name": "qwen3-embedding-0.6b", "dimensions": 256}, None, "reduction", Reduction("truncate", 256)),
        ({"batch_tokens": 99}, "minilm", "batch_tokens", 99),
        ({"device": "cpu"}, "minilm", "device", "cpu"),
        ({"allow_pickled_weights": True}, "minilm", "allow_pickle", True),
        (
            {"endpoint": "http://localhost:8000/v1/"},
            "minilm(endpoint=true)",
            "endpoint",
            Endpoint("http://localhost:8000/v1", "sentence-transformers/all-MiniLM-L6-v2"),
        ),
        (
            {"endpoint": True, "endpoint_model": "mine"},
            "minilm(endpoint=true,endpoint_model=mine)",
            "endpoint",
            Endpoint("", "mine"),
        ),
    ],
)
def test_an_option_reaches_the_choice(chosen, entry, label, field, value):
    made = chosen(**{"name": "minilm", **entry})
    assert getattr(made, field) == value
    if label is not None:
        assert made.label == label


def test_a_server_is_told_a_length_only_where_the_suite_asks_for_one(chosen):
    registered = registry.get("llms", "minilm").max_length
    assert chosen(name="minilm", endpoint=True).max_length is None
    assert chosen(name="minilm", endpoint=True, max_length=registered).max_length == registered


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"pca": 32, "svd": 32}, "pca and svd: choose one"),
        ({"pca": 385}, "pca: 385 is more than the 384 dimensions of 'minilm'"),
        ({"dimensions": 64}, "first dimensions are an embedding by themselves .* use pca: 64 or svd: 64"),
        ({"pca": 0}, "greater than or equal to 1"),
        ({"endpoint_model": "x"}, "set endpoint: too"),
        ({"endpoint": "localhost:8000"}, "'localhost:8000' is no base URL"),
        ({"endpoint": True, "pooling": "cls"}, "pooling: has no effect on a model that a server embeds"),
        ({"endpoint": True, "dtype": "bfloat16"}, "dtype: has no effect"),
        ({"device": "tpu"}, "device"),
        ({"endpoint": "https://me:secret@host/v1"}, "an address with a name or password in it"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(chosen, entry, message):
    with pytest.raises(StageBenchError, match=rf"suite\.yaml:\d+:\d+: .*{message}") as caught:
        chosen(**{"name": "minilm", **entry})
    assert "\n" not in str(caught.value)


# --- fewer dimensions ---


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    random = np.random.RandomState(0)
    return (random.randn(60, 12) * np.linspace(3, 0.1, 12) + 1).astype(np.float32)


def test_truncation_keeps_the_first_dimensions(vectors):
    cut = reduce(vectors, Reduction("truncate", 5), normalize=False)
    assert np.array_equal(cut, vectors[:, :5])
    unit = reduce(vectors, Reduction("truncate", 5), normalize=True)
    np.testing.assert_allclose(unit, cut / np.linalg.norm(cut, axis=1, keepdims=True), rtol=1e-6)


@pytest.mark.parametrize("kind", ["pca", "svd"])
def test_projections_agree_with_a_dense_svd(vectors, kind):
    whole = vectors.astype(np.float64)
    centred = whole - whole.mean(axis=0) if kind == "pca" else whole
    left, scale, _ = np.linalg.svd(centred, full_matrices=False)
    made = reduce(vectors, Reduction(kind, 4), normalize=True)
    assert made.dtype == np.float32
    assert made.shape == (60, 4)
    np.testing.assert_allclose(np.abs(made), np.abs(left * scale)[:, :4], atol=2e-4)


@pytest.mark.parametrize("kind", ["pca", "svd"])
def test_projections_are_the_same_bytes_on_any_number_of_cores(kind):
    from threadpoolctl import threadpool_limits

    made = []
    vectors = np.random.RandomState(1).randn(9000, 96).astype(np.float32)
    for threads in (1, 2):
        with threadpool_limits(threads):
            made.append(reduce(vectors, Reduction(kind, 8), normalize=True).tobytes())
    assert made[0] == made[1]


def test_pca_stands_a_large_mean():
    random = np.random.RandomState(2)
    vectors = (random.randn(500, 6) * [0.01, 1, 2, 0.5, 0.1, 3] + [50, 0, 0, 0, 0, 0]).astype(np.float32)
    made = reduce(vectors, Reduction("pca", 6), normalize=False)
    expected = np.linalg.svd(vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64))[1] / np.sqrt(499)
    np.testing.assert_allclose(made.std(axis=0, ddof=1), expected, rtol=1e-3)


def test_more_dimensions_than_there_are_is_an_error(vectors):
    for kind, rows in (("truncate", 60), ("pca", 8), ("svd", 8)):
        with pytest.raises(JobError, match=f"{kind}: 13 .* is the most"):
            reduce(vectors[:rows], Reduction(kind, 13), normalize=True)


class Counting:
    calls = 0

    def encode(self, texts: list[str]) -> np.ndarray:
        Counting.calls += 1
        return np.array([[len(text), sum(map(ord, text)) % 97, text.count("a"), 1.0] for text in texts])


def test_a_reduction_is_made_from_the_whole_embedding_which_is_embedded_once(own_registry, tmp_path):
    registry.register_llm(name="counting", dimension=4)(Counting)
    cache, graph = EmbeddingCache(tmp_path), text_graph(40)
    base = choice(registry.get("llms", "counting"))
    small, manifest = encoding.embed(graph, replace(base, reduction=Reduction("svd", 2)), cache, "cpu")
    once = Counting.calls
    whole, whole_manifest = encoding.embed(graph, base, cache, "cpu")
    again, _ = encoding.embed(graph, replace(base, reduction=Reduction("svd", 2)), cache, "cpu")
    assert Counting.calls == once > 0
    assert (small.shape, whole.shape) == ((40, 2), (40, 4))
    assert np.array_equal(small, again)
    np.testing.assert_allclose(small, reduce(np.array(whole), Reduction("svd", 2), True), atol=1e-6)
    assert manifest["seconds"] >= whole_manifest["seconds"]
    assert manifest["content"]["reduction"] == ["svd", 2]


# --- what would be silent otherwise ---


def test_one_vector_for_all_texts_is_an_error(own_registry, tmp_path):
    class Constant:
        def encode(self, texts: list[str]) -> np.ndarray:
            return np.ones((len(texts), 2))

    registry.register_llm(name="constant")(Constant)
    with pytest.raises(JobError, match="'constant' gave one and the same vector for 40 different texts"):
        encoding.embed(text_graph(40), choice(registry.get("llms", "constant")), EmbeddingCache(tmp_path), "cpu")


def test_code_that_ends_the_program_fails_its_job_only(own_registry, tmp_path):
    class Leaving:
        def encode(self, texts: list[str]) -> np.ndarray:
            raise SystemExit(3)

    registry.register_llm(name="leaving")(Leaving)
    with pytest.raises(JobError, match="ended the program"):
        encoding.embed(text_graph(40), choice(registry.get("llms", "leaving")), EmbeddingCache(tmp_path), "cpu")


def test_a_prompt_without_the_text_is_refused():
    for key in ("prompt", "plain_prompt"):
        with pytest.raises(StageBenchError, match=f"'mine': {key} has no {{text}}"):
            LLMSpec(name="mine", **{key: "Sort this."})


def test_a_folder_without_a_tokenizer_or_with_broken_weights_is_refused(tmp_path):
    words = sorted({word for text in tiny.texts(20)[0] for word in text.split()})
    folder = tiny.save_bert(tmp_path, words)
    spec = LLMSpec(name="mine", max_length=40)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:1000])
    with pytest.raises(JobError, match=r"'mine': .* cannot be loaded: "):
        encoders.load(choice(spec, folder), "cpu")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(JobError, match=r"'mine': .* holds no tokenizer"):
        encoders.load(choice(spec, folder), "cpu")


def test_cuda_that_is_not_there_is_one_line(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    minilm = choice(registry.get("llms", "minilm"), device="cuda")
    with pytest.raises(JobError, match="device: cuda, but torch sees no CUDA device"):
        encoding.embed(text_graph(10), minilm, EmbeddingCache(tmp_path), "cpu")


# --- options of the loop and of the loaders ---


def test_batch_tokens_is_the_budget(own_registry, tmp_path):
    sizes: list[int] = []

    class Sizes:
        def encode(self, texts: list[str]) -> np.ndarray:
            sizes.append(sum(map(len, texts)))
            return np.array([[len(text), sum(map(ord, text))] for text in texts])

    registry.register_llm(name="sizes")(Sizes)
    small = choice(registry.get("llms", "sizes"), batch_tokens=200)
    encoding.embed(text_graph(40), small, EmbeddingCache(tmp_path), "cpu")
    assert len(sizes) > 5
    assert max(sizes) <= 200


def test_the_entrys_device_goes_before_the_commands(own_registry, tmp_path, monkeypatch):
    """Texts are embedded on the CPU though the command chose CUDA, which is not there."""
    seen = []
    monkeypatch.setattr(encoders, "load", lambda choice, device: seen.append(device) or Stub())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    spec = LLMSpec(name="stub", dimension=2)
    encoding.embed(text_graph(10), choice(spec, device="cpu"), EmbeddingCache(tmp_path), "cuda")
    encoding.embed(text_graph(11), choice(spec), EmbeddingCache(tmp_path), "cuda")
    assert seen == ["cpu", "cuda"]


class Stub:
    threads = 1

    def tokenize(self, prompts, text_starts):
        return prompts

    def lengths(self, items):
        return np.ones(len(items), dtype=np.int64)

    def forward(self, items):
        return np.array([[len(item), sum(map(ord, item))] for item in items], dtype=np.float32)

    def spent(self):
        return {}

    def close(self):
        pass


def test_pickled_weights_are_read_where_the_suite_says_so(tmp_path):
    """And read without running anything in them."""
    words = sorted({word for text in tiny.texts(20)[0] for word in text.split()})
    safe = tiny.save_bert(tmp_path / "safe", words)
    from safetensors.torch import load_file

    pickled = tmp_path / "pickled"
    pickled.mkdir()
    for path in safe.iterdir():
        if path.suffix != ".safetensors":
            (pickled / path.name).write_bytes(path.read_bytes())
    torch.save(load_file(safe / "model.safetensors"), pickled / "pytorch_model.bin")
    spec = LLMSpec(name="mine", max_length=40)
    text = ["neuron layer gradient"]
    expected = encoders.encode(encoders.load(choice(spec, safe), "cpu"), text, [0])
    allowed = choice(spec, pickled, allow_pickle=True)
    assert np.array_equal(encoders.encode(encoders.load(allowed, "cpu"), text, [0]), expected)
    assert encoding.identity(text_graph(10), allowed)["model"]
    with pytest.raises(JobError, match="allow_pickled_weights: true"):
        encoders.load(choice(spec, pickled), "cpu")

    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    torch.save({"embeddings": Evil()}, pickled / "pytorch_model.bin")
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever transformers makes of torch's refusal
        encoders.load(allowed, "cpu")
    assert not (tmp_path / "ran").exists()

"""The embedding cache: resumed, damaged, shared and unfinished embeddings; what an embedding's identity is made of."""

import dataclasses
import errno
import json
import mmap
import os
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from stage_bench import fingerprint, registry
from stage_bench.errors import JobError, StageBenchError
from stage_bench.features import source
from stage_bench.features.spec import FeatureChoice
from stage_bench.llms import encoding
from stage_bench.llms.cache import EmbeddingCache
from stage_bench.llms.encoding import batches
from stage_bench.llms.spec import Endpoint, LLMChoice, LLMSpec, Reduction
from tiny import choice, text_graph

NODES, SHARD = 50, 16


class Hashing:
    """Counts what it is asked for; a text's vector says which text it is."""

    seen: list[str]

    def encode(self, texts: list[str]) -> np.ndarray:
        self.seen.extend(texts)
        return np.array([[len(text), sum(map(ord, text)) % 997, 1.0] for text in texts])


@pytest.fixture
def hashing(own_registry) -> LLMChoice:
    Hashing.seen = []
    registry.register_llm(name="hashing", dimension=3, normalize=False)(Hashing)
    return choice(registry.get("llms", "hashing"))


@pytest.fixture
def cache(tmp_path, monkeypatch) -> EmbeddingCache:
    monkeypatch.setattr(encoding, "SHARD_ROWS", SHARD)
    return EmbeddingCache(tmp_path / "embeddings")


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    words = dict.fromkeys(word for text in tiny.texts(NODES)[0] for word in text.split())
    return tiny.save_bert(tmp_path_factory.mktemp("bert"), list(words))


def vectors_of(folder: Path) -> bytes:
    return (folder / "vectors.npy").read_bytes()


def notes_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of every finished shard's note."""
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted((folder / "shards").iterdir())}


def only_folder(cache: EmbeddingCache) -> Path:
    (folder,) = cache.root.iterdir()
    return folder


# --- embedding through the cache ---


def test_every_node_has_its_texts_vector(hashing, cache):
    graph = text_graph(NODES)
    matrix, manifest = encoding.embed(graph, hashing, cache, "cpu")
    expected = [[len(text), sum(map(ord, text)) % 997, 1] for text in graph.texts]
    assert matrix.dtype == np.float32
    assert np.array_equal(matrix, np.array(expected, dtype=np.float32))
    assert sorted(Hashing.seen) == sorted(graph.texts)
    assert (manifest["rows"], manifest["dimension"]) == (NODES, 3)
    assert manifest["seconds"] >= 0
    assert len(notes_of(only_folder(cache))) == 4  # 16 + 16 + 16 + 2


def test_a_second_call_computes_nothing(hashing, cache):
    graph = text_graph(NODES)
    first, _ = encoding.embed(graph, hashing, cache, "cpu")
    Hashing.seen.clear()
    second, _ = encoding.embed(graph, hashing, EmbeddingCache(cache.root), "cpu")
    assert not Hashing.seen
    assert np.array_equal(first, second)


def test_identical_texts_are_embedded_once(hashing, cache):
    texts = ["same", "other", "same", "", "same", ""] * 8
    graph = text_graph(48, texts=texts)
    matrix, manifest = encoding.embed(graph, hashing, cache, "cpu")
    assert sorted(Hashing.seen) == ["", "other", "same"]
    assert manifest["rows"] == 3
    assert matrix[:, 0].tolist() == [4, 5, 4, 0, 4, 0] * 8


def test_progress_counts_texts(hashing, cache):
    steps = []
    encoding.embed(text_graph(NODES), hashing, cache, "cpu", lambda done, total: steps.append((done, total)))
    done = [step[0] for step in steps]
    assert done == sorted(set(done))
    assert steps[-1] == (NODES, NODES)
    assert {total for _, total in steps} == {NODES}


def test_resumed_after_an_interruption(bert, cache, tmp_path):
    """Whole shards stay as they are, and the end is byte for byte that of an undisturbed embedding."""
    graph, model = text_graph(NODES), choice(LLMSpec(name="bert", max_length=20), bert)
    undisturbed = EmbeddingCache(tmp_path / "undisturbed")
    expected, _ = encoding.embed(graph, model, undisturbed, "cpu")

    def interrupt(done: int, total: int) -> None:
        if done > 2 * SHARD:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encoding.embed(graph, model, cache, "cpu", interrupt)
    folder = only_folder(cache)
    before = notes_of(folder)
    assert list(before) == ["00000.json", "00001.json"]
    assert cache.read(folder.name) is None, "unfinished"
    assert cache.manifest(folder.name) is None

    steps = []
    resumed, _ = encoding.embed(graph, model, cache, "cpu", lambda done, total: steps.append(done))
    assert min(steps) > 2 * SHARD, "only the missing shards were computed"
    assert {name: note for name, note in notes_of(folder).items() if name in before} == before
    assert np.array_equal(resumed, expected)
    assert vectors_of(folder) == vectors_of(only_folder(undisturbed))


def test_the_number_of_threads_changes_no_byte(bert, tmp_path, monkeypatch):
    graph, model = text_graph(NODES), choice(LLMSpec(name="bert", max_length=20), bert)
    monkeypatch.setitem(encoding.TOKENS_PER_BATCH, "cpu", 64)  # many small batches
    made = []
    for workers in (1, 2, 5):
        monkeypatch.setattr(encoding, "cores", lambda workers=workers: workers)
        cache = EmbeddingCache(tmp_path / str(workers))
        encoding.embed(graph, model, cache, "cpu")
        made.append(vectors_of(only_folder(cache)))
    assert made[0] == made[1] == made[2]


@pytest.mark.parametrize("byte", range(0, 120, 7))
def test_a_damaged_header_is_mended(hashing, cache, byte):
    graph = text_graph(NODES)
    encoding.embed(graph, hashing, cache, "cpu")
    path = only_folder(cache) / "vectors.npy"
    before = path.read_bytes()
    for other in (b"9", b"(", b"\xff"):
        path.write_bytes(before[:byte] + other + before[byte + 1 :])
        encoding.embed(graph, hashing, cache, "cpu")
        assert np.load(path).tobytes() == before[-NODES * 3 * 4 :]


def test_a_file_that_cannot_be_read_is_not_made_anew(hashing, cache, monkeypatch):
    """No memory or no more open files: an error, and what was embedded stays."""
    graph = text_graph(NODES)
    encoding.embed(graph, hashing, cache, "cpu")
    before = vectors_of(only_folder(cache))

    def refuse(*args, **kwargs):
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(np, "load", refuse)
    with pytest.raises(OSError, match="Cannot allocate"):
        encoding.embed(graph, hashing, cache, "cpu")
    assert vectors_of(only_folder(cache)) == before


def test_a_file_larger_than_memory_is_mapped_for_reading_only(hashing, cache, monkeypatch):
    graph, real = text_graph(NODES), np.load
    expected, _ = encoding.embed(graph, hashing, cache, "cpu")

    def load(path, mmap_mode=None, **more):
        if mmap_mode == "c":
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return real(path, mmap_mode=mmap_mode, **more)

    monkeypatch.setattr(np, "load", load)
    again, _ = encoding.embed(graph, hashing, cache, "cpu")
    assert np.array_equal(again, expected)
    assert not again.flags.writeable


def test_cut_texts_are_counted_where_they_are(bert, cache):
    graph = text_graph(NODES, texts=[f"{'neuron ' * 30}{n}" if n < 20 else f"neuron {n}" for n in range(NODES)])
    model = choice(LLMSpec(name="bert", max_length=20), bert)

    def interrupt(done: int, total: int) -> None:
        if done > SHARD:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encoding.embed(graph, model, cache, "cpu", interrupt)
    _, manifest = encoding.embed(graph, model, cache, "cpu")
    assert manifest["cut"] == 20


@pytest.mark.parametrize("damage", ["flipped", "absent", "cut off", "no note", "other rows", "no header"])
def test_a_damaged_shard_is_found_and_done_again(hashing, cache, damage):
    graph = text_graph(NODES)
    expected, _ = encoding.embed(graph, hashing, cache, "cpu")
    expected, folder = np.array(expected), only_folder(cache)
    before = vectors_of(folder)
    note, other = (folder / "shards" / f"{number:05d}.json" for number in (1, 2))
    data = bytearray(before)
    row = SHARD * 3 * 4  # bytes of one shard
    first = len(data) - NODES * 3 * 4
    redone = graph.texts[SHARD : 2 * SHARD]
    if damage == "flipped":
        data[first + row] ^= 1
    elif damage == "no note":
        note.write_text("{")
    elif damage == "other rows":  # sound in themselves, but not these
        data[first + row : first + 2 * row] = data[first + 2 * row : first + 3 * row]
        note.write_bytes(other.read_bytes())
    else:  # the file itself cannot be used: everything is done again
        redone = graph.texts
        data = {"absent": bytearray(), "cut off": data[:-8], "no header": data[first:]}[damage]
    (folder / "vectors.npy").write_bytes(data)
    if damage == "absent":
        (folder / "vectors.npy").unlink()
    assert cache.read(folder.name) is None
    Hashing.seen.clear()
    mended, _ = encoding.embed(graph, hashing, cache, "cpu")
    assert np.array_equal(mended, expected)
    assert sorted(Hashing.seen) == sorted(redone)
    assert vectors_of(folder) == before


def test_it_is_mapped_and_a_reader_cannot_change_it(hashing, cache):
    graph = text_graph(NODES)
    matrix, _ = encoding.embed(graph, hashing, cache, "cpu")
    assert isinstance(matrix.base, mmap.mmap) or isinstance(matrix, np.memmap)
    before = vectors_of(only_folder(cache))
    matrix[:] = 0
    assert vectors_of(only_folder(cache)) == before


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema_version": 99}'])
def test_a_manifest_that_is_none_is_unfinished(hashing, cache, text):
    graph = text_graph(NODES)
    expected, _ = encoding.embed(graph, hashing, cache, "cpu")
    manifest = only_folder(cache) / "manifest.json"
    manifest.write_text(text)
    assert cache.read(manifest.parent.name) is None
    Hashing.seen.clear()
    again, _ = encoding.embed(graph, hashing, cache, "cpu")
    assert np.array_equal(again, expected)
    assert not Hashing.seen, "the shards were sound"


def test_unknown_is_none(cache):
    assert cache.read("0123456789abcdef") is None
    assert cache.manifest("0123456789abcdef") is None


def test_what_was_spent_adds_up_over_an_interruption(cache):
    def compute(shards):
        for shard in shards:
            if shard.start >= limit:
                raise KeyboardInterrupt
            spent = {"seconds": 10.0 + shard.start, **({"tokens": 7} if shard.start else {})}
            yield shard, np.zeros((shard.stop - shard.start, 2)), spent

    limit = 8
    with pytest.raises(KeyboardInterrupt):
        cache.write("id", 12, 4, compute, {})
    limit = 12
    manifest = cache.write("id", 12, 4, compute, {})
    assert (manifest["seconds"], manifest["tokens"]) == (10 + 14 + 18, 14)


def test_several_at_once_share_the_work(cache):
    """Processes, here threads, take a shard each, and wait at the end for those that others have in their hands."""
    calls = []
    everyone = threading.Barrier(4, timeout=30)

    def compute(shards):
        for number, shard in enumerate(shards):
            if number == 0:
                everyone.wait()  # all four are at work before one goes on
            calls.append((threading.get_ident(), shard.start))
            yield shard, np.full((shard.stop - shard.start, 2), shard.start, dtype=np.float32), {"seconds": 0.1}

    threads = [threading.Thread(target=cache.write, args=("id", 40, 4, compute, {})) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(start for _, start in calls) == list(range(0, 40, 4))
    assert len({thread for thread, _ in calls}) == 4
    assert cache.read("id")[:, 0].tolist() == [4.0 * (row // 4) for row in range(40)]


def test_a_process_that_holds_a_shard_is_waited_for(cache):
    started, release = threading.Event(), threading.Event()
    calls, waited = [], []

    def slow(shards):
        for shard in shards:
            started.set()
            release.wait(30)
            calls.append("slow")
            yield shard, np.ones((4, 2)), {"seconds": 1.0}

    def quick(shards):
        for shard in shards:
            calls.append("quick")
            yield shard, np.zeros((4, 2)), {"seconds": 1.0}

    def wait(line: str) -> None:
        waited.append(line)
        release.set()

    thread = threading.Thread(target=cache.write, args=("id", 4, 4, slow, {}))
    thread.start()
    assert started.wait(30)
    EmbeddingCache(cache.root, wait).write("id", 4, 4, quick, {})
    thread.join()
    assert calls == ["slow"]
    assert len(waited) == 1
    assert cache.read("id")[0].tolist() == [1, 1]


def test_a_full_disk_keeps_what_is_there(cache, monkeypatch):
    """Simulated where the rows are written; tests/test_disk_full.py fills a real small disk."""
    real = os.fsync
    calls = []

    def compute(shards):
        for shard in shards:
            yield shard, np.full((4, 2), shard.start), {"seconds": 1.0}

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(JobError, match=r"is full: make room and run again \(1 of 3 parts"):
        cache.write("id", 12, 4, compute, {})
    monkeypatch.setattr(os, "fsync", real)
    cache.write("id", 12, 4, compute, {})
    assert cache.read("id")[:, 0].tolist() == [0] * 4 + [4] * 4 + [8] * 4


# --- models that misbehave ---


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (lambda n: np.zeros((n + 1, 3)), "shape"),
        (lambda n: np.zeros(n), "shape"),
        (lambda n: np.full((n, 3), np.nan), "not finite"),
        (lambda n: np.full((n, 3), np.inf), "not finite"),
    ],
)
def test_an_encoder_that_gives_nonsense_is_an_error(own_registry, cache, result, message):
    class Broken:
        def encode(self, texts: list[str]) -> np.ndarray:
            return result(len(texts))

    registry.register_llm(name="broken")(Broken)
    with pytest.raises(JobError, match=f"'broken'.*{message}"):
        encoding.embed(text_graph(NODES), choice(registry.get("llms", "broken")), cache, "cpu")
    assert cache.read(only_folder(cache).name) is None


# --- identity ---


def id_of(graph, model: LLMChoice) -> str:
    return fingerprint.of_json(encoding.identity(graph, model))


def test_the_same_texts_are_the_same_embedding_under_any_name():
    spec = registry.get("llms", "minilm")
    graph = text_graph(NODES)
    assert id_of(graph, choice(spec)) == id_of(text_graph(NODES, name="renamed"), choice(spec))
    relabelled = dataclasses.replace(graph, labels=graph.labels[::-1].copy(), edges=graph.edges[:, :0])
    assert id_of(relabelled, choice(spec)) == id_of(graph, choice(spec)), "labels and edges are not embedded"


def test_the_order_of_texts_counts():
    """Rows belong to nodes: text i is node i's, so the same texts in another order are another embedding."""
    spec, texts = registry.get("llms", "minilm"), tiny.texts(NODES)[0]
    ids = {id_of(text_graph(NODES, texts=order), choice(spec)) for order in (texts, texts[::-1])}
    assert len(ids) == 2


def test_every_option_that_changes_vectors_changes_the_id(bert):
    spec = LLMSpec(name="mine", hub_id="someone/model", prompt="{instruction} {text}")
    graph = text_graph(NODES, instructions={"default": "Sort it."})
    base = choice(spec, instruction="default")
    changes = {
        "instruction": {"instruction": "none"},
        "pooling": {"pooling": "cls"},
        "max_length": {"max_length": 17},
        "dtype": {"dtype": "bfloat16"},
        "normalize": {"normalize": False},
        "path": {"path": bert},
        "trust_remote_code": {"trust_remote_code": True},
        "reduction": {"reduction": Reduction("pca", 8)},
        "endpoint": {"endpoint": Endpoint("http://localhost/v1", "someone/model")},
        "spec": {"spec": dataclasses.replace(spec, revision="abc")},
    }
    without_effect = {
        "label": {"label": "renamed"},
        "allow_pickle": {"allow_pickle": True},
        "batch_tokens": {"batch_tokens": 64},
        "device": {"device": "cpu"},
    }
    assert set(changes) | set(without_effect) == {field.name for field in dataclasses.fields(LLMChoice)}
    ids = {name: id_of(graph, dataclasses.replace(base, **values)) for name, values in changes.items()}
    assert len({*ids.values(), id_of(graph, base)}) == len(changes) + 1
    for values in without_effect.values():
        assert id_of(graph, dataclasses.replace(base, **values)) == id_of(graph, base)
    for more in ({"version": 2}, {"hub_id": "someone/else"}, {"prompt": "{instruction}{text}"}, {"loader": "other"}):
        assert id_of(graph, dataclasses.replace(base, spec=dataclasses.replace(spec, **more))) != id_of(graph, base)


def test_a_dataset_without_texts_is_an_error():
    with pytest.raises(StageBenchError, match="'tiny' has no texts"):
        source.identity(text_graph(NODES, texts=None), choice(registry.get("llms", "minilm")))


def test_the_manifest_says_what_it_holds(hashing, cache):
    graph = text_graph(NODES)
    encoding.embed(graph, hashing, cache, "cpu")
    folder = only_folder(cache)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert folder.name == fingerprint.of_json(manifest["content"]) == manifest["id"]
    assert (manifest["llm"], manifest["dataset"], manifest["schema_version"]) == ("hashing", "tiny", 3)


# --- other features, through the same door ---


def test_features_are_built_once(own_registry, cache):
    built = []

    @registry.register_features(name="counts")
    def build(graph, options):
        built.append(graph.name)
        return np.array([[len(text)] for text in graph.texts])

    counts = FeatureChoice("counts", "counts", {})
    graph = text_graph(NODES)
    first, _ = source.load(graph, counts, cache, "cpu")
    second, manifest = source.load(graph, counts, cache, "cpu")
    assert built == ["tiny"]
    assert first.dtype == np.float32
    assert first[:, 0].tolist() == second[:, 0].tolist() == [len(text) for text in graph.texts]
    assert manifest["rows"] == NODES


def test_shallow_features_are_the_same_twice_and_finite(cache, tmp_path):
    from stage_bench.features.options import ShallowOptions

    for options in (ShallowOptions(dimension=8), ShallowOptions(dimension=8, weighting="counts", normalize=False)):
        shallow = FeatureChoice("shallow", "shallow", options.model_dump())
        one, _ = source.load(text_graph(NODES), shallow, cache, "cpu")
        two, _ = source.load(text_graph(NODES), shallow, EmbeddingCache(tmp_path / "other"), "cpu")
        assert one.shape == (NODES, 8)
        assert np.array_equal(one, two)
    assert len(list(cache.root.iterdir())) == 2, "options are part of the identity"


def test_shallow_features_have_as_many_dimensions_as_words_and_nodes_give(cache):
    shallow = FeatureChoice("shallow", "shallow", {"dimension": 4000})
    matrix, manifest = source.load(text_graph(NODES), shallow, cache, "cpu")
    assert 1 < manifest["dimension"] == matrix.shape[1] <= NODES
    with pytest.raises(JobError, match="shallow features: empty vocabulary"):
        source.load(replace(text_graph(2), texts=["the", "of"]), shallow, cache, "cpu")


# --- batches ---


@settings(deadline=None)
@given(lengths=st.lists(st.integers(0, 300), max_size=60), tokens=st.integers(1, 1000))
def test_batches_cover_every_text_once_within_the_budget(lengths, tokens):
    made = list(batches(np.array(lengths, dtype=np.int64), tokens))
    assert sorted(position for batch in made for position in batch) == list(range(len(lengths)))
    for batch in made:
        longest = max(lengths[position] for position in batch)
        assert len(batch) == 1 or len(batch) * longest <= tokens
    longest_first = [lengths[position] for batch in made for position in batch]
    assert longest_first == sorted(lengths, reverse=True)


def test_batches_are_filled():
    assert [len(batch) for batch in batches(np.full(10, 8), 32)] == [4, 4, 2]
    assert [list(batch) for batch in batches(np.array([1, 100, 1, 1]), 10)] == [[1], [0, 2, 3]]

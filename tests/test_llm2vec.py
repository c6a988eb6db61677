"""LLM2Vec on a tiny Llama and two LoRA adapters, as the hub has them; the real weights never ran here."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import dense
import tiny
from stage_bench import registry
from stage_bench.errors import JobError
from stage_bench.llms import encoders, weights
from stage_bench.llms.llm2vec import chain
from stage_bench.llms.prompts import render
from tiny import choice

pytest.importorskip("peft", reason="no peft: pip install 'stage-bench[peft]'")

WORDS = [*dict.fromkeys(word for words in tiny.WORDS for word in words)]
TEXTS = ["neuron layer gradient", "reward policy", "", " ".join(WORDS[:20]), "agent\n"]
SENTENCE = "the study paper"
SPEC = registry.get("llms", "llm2vec-llama-3-8b-instruct")
SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
SCALE = 32 / 16  # alpha / r


def save_tokenizer(path: Path) -> None:
    """Llama 3's kind: byte-level BPE, special tokens for the chat, one at the beginning and none at the end."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([" ".join(WORDS)], trainer)
    begin = processors.TemplateProcessing(single=f"{SPECIAL[0]} $A", special_tokens=[(SPECIAL[0], 0)])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), begin])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=SPECIAL[0], eos_token=SPECIAL[4]).save_pretrained(
        path
    )


def save_adapter(path: Path, model, seed: int, base: str) -> None:
    """A LoRA adapter with matrices that are not zero, saved by peft."""
    from peft import LoraConfig, get_peft_model

    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    adapted = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules=targets))
    torch.manual_seed(seed)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    adapted.save_pretrained(path)
    adapted.unload()
    config = json.loads((path / "adapter_config.json").read_text())
    # What is on the hub names code that does not run here, and the model at the bottom instead of the next one.
    config["auto_mapping"] = {"base_model_class": "LlamaEncoderModel", "parent_library": "modeling_llama_encoder"}
    (path / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": base}))


@pytest.fixture(scope="module")
def repositories(tmp_path_factory) -> dict[str, Path]:
    """The three repositories: the supervised adapter, the mntp adapter with a tokenizer, the Llama."""
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel

    place = tmp_path_factory.mktemp("hub")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=500, num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-6, **sizes)
    LlamaForCausalLM(config).save_pretrained(place / "llama")  # with a head, as published
    save_tokenizer(place / "llama")
    model = LlamaModel.from_pretrained(place / "llama")
    for seed, name in enumerate(("mntp", "supervised"), 1):
        save_adapter(place / name, model, seed, "meta-llama/Meta-Llama-3-8B-Instruct")
    save_tokenizer(place / "mntp")
    (place / "mntp" / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "modeling.LlamaEncoderModel"}}))
    return {name: place / name for name in ("supervised", "mntp", "llama")}


@pytest.fixture(scope="module")
def folder(repositories, tmp_path_factory) -> Path:
    """For `path:`: what an adapter is put on is its subfolder `base`."""
    place = tmp_path_factory.mktemp("local") / "supervised"
    shutil.copytree(repositories["supervised"], place)
    shutil.copytree(repositories["mntp"], place / "base")
    shutil.copytree(repositories["llama"], place / "base" / "base")
    return place


def encoder(folder: Path, **changes):
    return encoders.load(choice(SPEC, folder, **{"dtype": "float32", **changes}), "cpu")


def rendered(instruction: str | None = SENTENCE, texts: list[str] = TEXTS) -> tuple[list[str], list[int]]:
    pairs = [render(SPEC, instruction, text) for text in texts]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


@pytest.fixture(scope="module")
def merged(repositories) -> dict[str, np.ndarray]:
    """W + 2 B A + 2 B' A', by hand."""
    whole = dense.tensors(repositories["llama"], "model.")
    for name in ("mntp", "supervised"):
        whole = dense.add_lora(whole, dense.tensors(repositories[name]), SCALE)
    return whole


def by_hand(merged: dense.Tensors, tokenizer, instruction: str | None, text: str) -> np.ndarray:
    """The mean over the text's tokens and <|eot_id|>, every token having seen every other."""
    text = text.rstrip()
    before = f"{SPECIAL[0]}<|start_header_id|>user<|end_header_id|>\n\n{instruction or ''}"
    between = " " if instruction else ""
    head, tail = (
        tokenizer(part, add_special_tokens=False)["input_ids"] for part in (before, f"{between}{text}<|eot_id|>")
    )
    if instruction and not text:  # the space before no text is the prompt's
        head, tail = [*head, tail[0]], tail[1:]
    return dense.decoder(merged, [*head, *tail], 4, 2)[len(head) :].mean(axis=0)


@pytest.mark.parametrize("instruction", [SENTENCE, None])
def test_as_numpy_computes_it(folder, merged, instruction):
    model = encoder(folder)
    vectors = encoders.encode(model, *rendered(instruction))
    assert vectors.dtype == np.float32
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_allclose(vector, by_hand(merged, model.tokenizer, instruction, text), atol=2e-5)


def test_both_adapters_count(folder, merged, repositories, tmp_path):
    """Without the one in between, which no file of the hub's names, the vectors are others."""
    shutil.copytree(repositories["supervised"], tmp_path / "one")
    shutil.copytree(repositories["llama"], tmp_path / "one" / "base")
    ours = encoders.encode(encoder(folder), *rendered())
    assert np.abs(ours - encoders.encode(encoder(tmp_path / "one"), *rendered())).max() > 1e-3
    assert np.abs(ours - encoders.encode(encoder(repositories["llama"]), *rendered())).max() > 1e-3


def test_the_bytes_that_are_sent():
    """prepare_for_tokenization and _convert_to_str of the authors' llm2vec.py, with the separator taken out."""
    head = "<|start_header_id|>user<|end_header_id|>\n\n"
    assert render(SPEC, "Sort", "a text") == (head + "Sort a text<|eot_id|>", len(head) + 5)
    assert render(SPEC, None, "a text") == (head + "a text<|eot_id|>", len(head))


def test_the_text_and_the_end_count_the_instruction_does_not(folder):
    model = encoder(folder)
    for instruction in (SENTENCE, None):
        (item,) = model.tokenize(*rendered(instruction, ["neuron layer \n"]))
        tokens = model.tokenizer.convert_ids_to_tokens(item.ids)
        counted = "".join(token for token, counts in zip(tokens, item.counted, strict=True) if counts)
        assert counted.replace("Ġ", " ").strip() == "neuron layer<|eot_id|>"
        assert "".join(tokens).startswith("<|begin_of_text|><|start_header_id|>user<|end_header_id|>ĊĊ")
        assert tokens.count("<|eot_id|>") == 1


def test_a_text_that_is_cut_keeps_its_end(folder):
    model = encoder(folder, max_length=30)
    long, short = model.tokenize(*rendered(texts=[" ".join(WORDS), "agent"]))
    assert len(long) == 30
    assert long.ids[-1] == short.ids[-1] == 4
    assert long.counted[-1]
    assert 0 < long.counted.sum() < len(long)


def test_the_first_token_sees_the_last(folder):
    model = encoder(folder, pooling="cls")
    first = encoders.encode(model, *rendered(texts=["neuron layer gradient", "neuron layer policy"]))
    assert np.abs(first[0] - first[1]).max() > 1e-3


def test_alone_or_in_a_batch_padded_on_either_side(folder):
    model = encoder(folder)
    prompts, starts = rendered()
    together = encoders.encode(model, prompts, starts)
    alone = [encoders.encode(model, [prompt], [start])[0] for prompt, start in zip(prompts, starts, strict=True)]
    assert np.abs(np.array(alone) - together).max() < 5e-6
    model.padding_side = "left"
    assert np.abs(encoders.encode(model, prompts, starts) - together).max() < 5e-6


def test_bfloat16_is_near(folder):
    exact = encoders.encode(encoder(folder), *rendered())
    near = encoders.encode(encoder(folder, dtype="bfloat16"), *rendered())
    cosine = (exact * near).sum(axis=1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(near, axis=1)
    assert cosine.min() > 0.995
    assert np.abs(exact - near).max() > 1e-4


# --- where the three are ---


def into_cache(hub: Path, source: Path, hub_id: str, revision: str = "") -> Path:
    commit = revision or "0123456789abcdef0123456789abcdef01234567"
    place = hub / f"models--{hub_id.replace('/', '--')}"
    shutil.copytree(source, place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    return place / "snapshots" / commit


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """An empty cache of the hub, and no network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_the_hubs_three_repositories(hub, repositories, folder):
    cached = [
        into_cache(hub, repositories["supervised"], SPEC.hub_id, SPEC.revision),
        into_cache(hub, repositories["mntp"], *SPEC.base),
        into_cache(hub, repositories["llama"], "meta-llama/Meta-Llama-3-8B-Instruct"),
    ]
    found = chain(SPEC, weights.find(SPEC))
    assert [place.resolve() for place in found] == [place.resolve() for place in cached]
    ours = encoders.encode(encoders.load(choice(SPEC, dtype="float32"), "cpu"), *rendered())
    np.testing.assert_array_equal(ours, encoders.encode(encoder(folder), *rendered()))


def test_what_is_missing_is_one_line(hub, repositories):
    into_cache(hub, repositories["supervised"], SPEC.hub_id, SPEC.revision)
    with pytest.raises(JobError, match=f"hf download {SPEC.base[0]} --revision {SPEC.base[1]}") as caught:
        encoders.load(choice(SPEC), "cpu")
    assert "\n" not in str(caught.value)
    into_cache(hub, repositories["mntp"], *SPEC.base)
    with pytest.raises(JobError, match="hf download meta-llama/Meta-Llama-3-8B-Instruct, or"):
        encoders.load(choice(SPEC), "cpu")


def test_what_lies_beneath_an_adapter_is_part_of_a_folders_fingerprint(folder, tmp_path):
    other = tmp_path / "supervised"
    shutil.copytree(folder, other)
    assert weights.fingerprint(other) == weights.fingerprint(folder)
    file = other / "base" / "adapter_model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert weights.fingerprint(other) != weights.fingerprint(folder)


def test_a_folder_within_itself_ends(folder, tmp_path):
    other = tmp_path / "supervised"
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns("base"))
    (other / "base").symlink_to(other)
    with pytest.raises(JobError, match="adapters on adapters without end"):
        encoder(other)


def test_an_adapter_as_a_pickle_is_refused(folder, tmp_path):
    from safetensors.torch import load_file

    other = tmp_path / "supervised"
    shutil.copytree(folder, other)
    pickled = load_file(other / "base" / "adapter_model.safetensors")
    (other / "base" / "adapter_model.safetensors").unlink()
    torch.save(pickled, other / "base" / "adapter_model.bin")
    with pytest.raises(JobError, match=r"base holds no \.safetensors weights \(pickled ones are refused"):
        encoder(other)


def test_an_adapter_of_another_model_is_refused(folder, tmp_path):
    """peft would pass over what fits nowhere, and the model would be used without it."""
    from safetensors.torch import load_file, save_file

    other = tmp_path / "supervised"
    shutil.copytree(folder, other)
    file = other / "adapter_model.safetensors"
    renamed = {key.replace("model.layers", "model.model.layers"): tensor for key, tensor in load_file(file).items()}
    save_file(renamed, file)
    with pytest.raises(JobError, match=r"is not of this model: .* tensors have no counterpart") as caught:
        encoder(other)
    assert "\n" not in str(caught.value)


def test_without_peft_it_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(JobError, match=r"needs peft: pip install 'stage-bench\[peft\]'"):
        encoder(folder)


def test_an_end_that_the_tokenizer_does_not_know_is_refused(tmp_path):
    path = tiny.save_llama(tmp_path, WORDS)
    with pytest.raises(JobError, match=r"its prompt ends with <\|eot_id\|>, no token of its tokenizer"):
        encoder(path)

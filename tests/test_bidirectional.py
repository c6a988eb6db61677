"""Decoders without their causal mask, and end tokens that transformers 5 would lose."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import dense
import tiny
from stage_bench.llms import encoders
from stage_bench.llms.bidirectional import padding_mask
from stage_bench.llms.spec import LLMSpec
from tiny import choice

WORDS = [*dict.fromkeys(word for words in tiny.WORDS for word in words)]
TEXTS = ["neuron layer gradient", "reward policy", "", " ".join(WORDS[:20]), "agent"]
END = "<|endoftext|>"
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}


@pytest.fixture(scope="module")
def qwen(tmp_path_factory) -> Path:
    """A tiny Qwen2, with biases that are not zero, whose config names code that is not there."""
    from transformers import Qwen2Config, Qwen2Model

    path = tmp_path_factory.mktemp("qwen")
    tokenizer = tiny.byte_tokenizer([" ".join(WORDS)] * 2, eos=END)
    torch.manual_seed(0)
    model = Qwen2Model(Qwen2Config(vocab_size=len(tokenizer), **SHAPE))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    config = json.loads((path / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "modeling_qwen.Qwen2Model"}
    (path / "config.json").write_text(json.dumps(config))
    return path


def encoder(path: Path, **fields):
    spec = LLMSpec(**{"name": "mine", "loader": "bidirectional", "pooling": "last-token", "normalize": False, **fields})
    return encoders.load(choice(spec, path), "cpu")


def ids(path: Path, text: str) -> list[int]:
    """Of the words, and the end token."""
    tokenizer = encoder(path).tokenizer
    return [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.convert_tokens_to_ids(END)]


def test_as_a_dense_computation_without_a_mask(qwen):
    weights = dense.tensors(qwen)
    for pooling, by_hand in (
        ("last-token", lambda h: h[-1]),
        ("mean", lambda h: h.mean(axis=0)),
        ("cls", lambda h: h[0]),
    ):
        model = encoder(qwen, pooling=pooling)
        vectors = encoders.encode(model, TEXTS, [0] * len(TEXTS))
        for text, vector in zip(TEXTS, vectors, strict=True):
            states = dense.decoder(weights, ids(qwen, text), heads=4, kv_heads=2)
            np.testing.assert_allclose(vector, by_hand(states), atol=2e-5)


def test_the_first_token_sees_the_last(qwen):
    texts = ["neuron layer gradient", "neuron layer policy"]
    blind = encoder(qwen, loader="transformers", pooling="cls")
    first = encoders.encode(blind, texts, [0, 0])
    assert np.abs(first[0] - first[1]).max() < 1e-6, "a causal model's first token sees nothing"
    first = encoders.encode(encoder(qwen, pooling="cls"), texts, [0, 0])
    assert np.abs(first[0] - first[1]).max() > 1e-3


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_mask_reaches_either_attention(qwen, attention):
    """torch's attention drops to causal where it gets no mask: in a batch without padding too."""
    model = encoder(qwen, pooling="mean")
    model.model.set_attn_implementation(attention)
    texts = ["neuron layer gradient", "reward policy agent"]
    expected = [dense.decoder(dense.tensors(qwen), ids(qwen, text), 4, 2).mean(axis=0) for text in texts]
    np.testing.assert_allclose(encoders.encode(model, texts, [0, 0]), expected, atol=2e-5)


def test_alone_or_in_a_batch_padded_on_either_side(qwen):
    model = encoder(qwen)
    together = encoders.encode(model, TEXTS, [0] * len(TEXTS))
    alone = np.concatenate([encoders.encode(model, [text], [0]) for text in TEXTS])
    assert np.abs(alone - together).max() < 5e-6
    model.padding_side = "left"
    assert np.abs(encoders.encode(model, TEXTS, [0] * len(TEXTS)) - together).max() < 5e-6


def test_padding_as_a_query_is_a_number():
    mask = padding_mask(torch.tensor([[1, 1, 0], [1, 0, 0]]), torch.float16)
    assert mask.shape == (2, 1, 3, 3)
    assert mask[1, 0, 2].tolist() == [0, torch.finfo(torch.float16).min, torch.finfo(torch.float16).min]
    assert torch.isfinite(torch.softmax(mask.float(), dim=-1)).all()


def test_every_text_ends_with_the_end_token_also_one_that_is_cut(qwen):
    model = encoder(qwen, max_length=5)
    items = model.tokenize(["neuron layer", " ".join(WORDS), ""], [0, 0, 0])
    end = model.tokenizer.convert_tokens_to_ids(END)
    assert [item.ids[-1] for item in items] == [end] * 3
    assert [list(item.ids).count(end) for item in items] == [1] * 3
    assert list(model.lengths(items)) == [3, 5, 1]


def test_mean_text_counts_the_text_and_the_end_token(qwen):
    model = encoder(qwen, pooling="mean-text")
    (item,) = model.tokenize(["the study neuron layer"], [10])
    prompt, text = len(ids(qwen, "the study")) - 1, len(ids(qwen, " neuron layer"))
    assert item.counted.tolist() == [False] * prompt + [True] * text


# --- end tokens that only tokenizer_config.json asks for ---


def asking(source: Path, place: Path, **config) -> Path:
    """A copy whose tokenizer_config.json says more."""
    for file in source.iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    old = json.loads((place / "tokenizer_config.json").read_text())
    (place / "tokenizer_config.json").write_text(json.dumps({**old, **config}))
    return place


def last_ids(path: Path, text: str = "neuron layer", **fields) -> list[str]:
    model = encoder(path, loader="transformers", **fields)
    return model.tokenizer.convert_ids_to_tokens(model.tokenize([text], [0])[0].ids)


def test_an_end_token_that_the_configuration_asks_for_is_added(qwen, tmp_path):
    """As SFR-Embedding-Mistral's does, whose tokenizer.json adds only the token at the beginning."""
    from transformers import AutoTokenizer

    path = asking(qwen, tmp_path, add_eos_token=True)
    bare = AutoTokenizer.from_pretrained(path)("neuron layer")["input_ids"]
    assert len(bare) == 2, "transformers adds it again; the workaround can go"
    assert last_ids(path) == ["neuron", "Ġlayer", END]
    assert last_ids(path, " ".join(WORDS), max_length=4)[-1] == END
    assert last_ids(qwen) == ["neuron", "Ġlayer"], "nobody asked for it"


def test_an_end_token_is_not_added_twice(qwen, tmp_path):
    from tokenizers import Tokenizer, processors

    path = asking(qwen, tmp_path, add_eos_token=True)
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    end = tokenizer.token_to_id(END)
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, end)])
    tokenizer.save(str(path / "tokenizer.json"))
    for loader in ("transformers", "bidirectional"):
        model = encoder(path, loader=loader)
        assert list(model.tokenize(["neuron layer"], [0])[0].ids).count(end) == 1
    (item,) = encoder(path, pooling="mean-text").tokenize(["the neuron"], [4])
    assert item.ids[-1] == end
    prompt = len(ids(qwen, "the")) - 1
    assert item.counted.tolist() == [False] * prompt + [True] * (len(item) - prompt)

"""NV-Embed with random weights in the published layout, against numpy; the real weights never ran here."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

import dense
import tiny
from stage_bench import registry
from stage_bench.errors import JobError
from stage_bench.llms import encoders
from stage_bench.llms.prompts import render
from tiny import choice

WORDS = [*dict.fromkeys(word for words in tiny.WORDS for word in words)]
TEXTS = ["neuron layer gradient", "reward policy", "", " ".join(WORDS[:20]), "agent"]
SPEC = registry.get("llms", "nv-embed-v2")
HEADS, KV_HEADS = 4, 2
LATENT_HEADS, WIDTH, LATENTS, DIMENSION = 3, 10, 7, 32
BLOCKS = "latent_attention_model.cross_attend_blocks"
# The names in the repository's model.safetensors.index.json, as modeling_nvembed.py makes them.
LATENT_SHAPES = {
    "latent_attention_model.latents": (LATENTS, DIMENSION),
    f"{BLOCKS}.0.fn.to_q.weight": (LATENT_HEADS * WIDTH, DIMENSION),
    f"{BLOCKS}.0.fn.to_kv.weight": (2 * LATENT_HEADS * WIDTH, DIMENSION),
    f"{BLOCKS}.0.fn.to_out.weight": (DIMENSION, LATENT_HEADS * WIDTH),
    f"{BLOCKS}.0.norm.weight": (DIMENSION,),
    f"{BLOCKS}.0.norm.bias": (DIMENSION,),
    f"{BLOCKS}.0.norm_context.weight": (DIMENSION,),
    f"{BLOCKS}.0.norm_context.bias": (DIMENSION,),
    f"{BLOCKS}.1.fn.net.0.weight": (8 * DIMENSION, DIMENSION),
    f"{BLOCKS}.1.fn.net.0.bias": (8 * DIMENSION,),
    f"{BLOCKS}.1.fn.net.2.weight": (DIMENSION, 4 * DIMENSION),
    f"{BLOCKS}.1.fn.net.2.bias": (DIMENSION,),
    f"{BLOCKS}.1.norm.weight": (DIMENSION,),
    f"{BLOCKS}.1.norm.bias": (DIMENSION,),
}


def save(path: Path, change=lambda tensors: None, **latent: int) -> Path:
    """A repository's folder: config.json as published but for the sizes, two safetensors files, Mistral's tokenizer."""
    from safetensors.torch import save_file
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import MistralConfig, MistralModel, PreTrainedTokenizerFast

    path.mkdir(parents=True, exist_ok=True)
    marked = [f"▁{word}" for word in [*WORDS, "Instruct:", "Sort", "them", "Query:"]]
    ids = {word: number for number, word in enumerate(["<unk>", "<s>", "</s>", "▁", "\n", *marked])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("▁[^▁\n]*|\n"), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(path)
    text = {
        "vocab_size": len(ids),
        "hidden_size": DIMENSION,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-6,
        "rope_theta": 500.0,
    }
    torch.manual_seed(0)
    mistral = MistralModel(MistralConfig(**text)).state_dict()
    tensors = {f"embedding_model.{key}": tensor.clone() for key, tensor in mistral.items()}
    tensors |= {key: 0.3 * torch.randn(shape) for key, shape in LATENT_SHAPES.items()}
    change(tensors)
    halves = sorted(tensors)[::2], sorted(tensors)[1::2]
    for number, keys in enumerate(halves, 1):
        save_file({key: tensors[key] for key in keys}, path / f"model-0000{number}-of-00002.safetensors")
    sizes = {
        "num_latents_value": LATENTS,
        "num_cross_heads": LATENT_HEADS,
        "hidden_dim": DIMENSION,
        "latent_dim": DIMENSION,
        "cross_dim_head": WIDTH,
    }
    config = {
        "model_type": "nvembed",
        "auto_map": {"AutoModel": "modeling_nvembed.NVEmbedModel"},
        "latent_attention_config": {"model_type": "latent_attention", **sizes, **latent},
        "text_config": {**text, "model_type": "bidir_mistral", "sliding_window": 3, "max_length": 20, "top_k": 50},
    }
    (path / "config.json").write_text(json.dumps(config))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save(tmp_path_factory.mktemp("nv"))


def encoder(folder: Path, **changes):
    return encoders.load(choice(SPEC, folder, **{"dtype": "float32", **changes}), "cpu")


def latent_attention(x: np.ndarray, weights: dense.Tensors) -> np.ndarray:
    """NV-Embed, section 3.1: the states attend to the latents, then a gated layer; both with residuals."""
    at = {key.removeprefix("cross_attend_blocks."): value for key, value in weights.items()}
    normed = dense.layer_norm(x, at["0.norm.weight"], at["0.norm.bias"])
    context = dense.layer_norm(at["latents"], at["0.norm_context.weight"], at["0.norm_context.bias"])
    query = normed @ at["0.fn.to_q.weight"].T
    key, value = np.split(context @ at["0.fn.to_kv.weight"].T, 2, axis=1)
    heads = [
        dense.attention(*(part[:, head * WIDTH : (head + 1) * WIDTH] for part in (query, key, value)))
        for head in range(LATENT_HEADS)
    ]
    x = x + np.concatenate(heads, axis=1) @ at["0.fn.to_out.weight"].T
    normed = dense.layer_norm(x, at["1.norm.weight"], at["1.norm.bias"])
    values, gates = np.split(normed @ at["1.fn.net.0.weight"].T + at["1.fn.net.0.bias"], 2, axis=1)
    error = np.vectorize(math.erf)
    inner = values * gates * (1 + error(gates / np.sqrt(2))) / 2
    return x + inner @ at["1.fn.net.2.weight"].T + at["1.fn.net.2.bias"]


def by_hand(folder: Path, ids: list[int], left_out: int) -> np.ndarray:
    states = dense.decoder(dense.tensors(folder, "embedding_model."), ids, HEADS, KV_HEADS, theta=500.0)
    mean = latent_attention(states, dense.tensors(folder, "latent_attention_model."))[left_out:].mean(axis=0)
    return mean / np.linalg.norm(mean)


def test_as_numpy_computes_it(folder):
    model = encoder(folder)
    for instruction in ("Sort them", None):
        prompts, starts = zip(*(render(SPEC, instruction, text) for text in TEXTS), strict=True)
        vectors = encoders.encode(model, prompts, starts)
        assert vectors.dtype == np.float32
        for text, vector in zip(TEXTS, vectors, strict=True):
            head = ["<s>", *(["▁Instruct:", "▁Sort", "▁them", "\n", "Query:"] if instruction else [])]
            blank = ["▁"] if instruction and not text else []  # what is left of "Query: "
            ids = model.tokenizer.convert_tokens_to_ids([*head, *blank, *(f"▁{word}" for word in text.split()), "</s>"])
            left_out = len(head + blank) if instruction else 0
            np.testing.assert_allclose(vector, by_hand(folder, ids, left_out), atol=2e-5)


def test_the_text_and_the_end_token_count_the_instruction_does_not(folder):
    model = encoder(folder)
    prompt, start = render(SPEC, "Sort them", "neuron layer")
    (item,) = model.tokenize([prompt], [start])
    tokens = model.tokenizer.convert_ids_to_tokens(item.ids)
    assert [t for t, counts in zip(tokens, item.counted, strict=True) if counts] == ["▁neuron", "▁layer", "</s>"]
    (item,) = model.tokenize(["neuron layer"], [0])
    assert item.counted.all(), "without an instruction <s> counts too, as in the authors' code"
    assert model.tokenizer.convert_ids_to_tokens(item.ids)[0] == "<s>"


def test_a_text_that_is_cut_keeps_its_end_token(folder):
    model = encoder(folder, max_length=6)
    (item,) = model.tokenize([" ".join(WORDS)], [0])
    assert model.tokenizer.convert_ids_to_tokens(item.ids)[-1] == "</s>"
    assert len(item) == 6


def test_alone_or_in_a_batch_padded_on_either_side(folder):
    model = encoder(folder)
    prompts, starts = zip(*(render(SPEC, "Sort them", text) for text in TEXTS), strict=True)
    together = encoders.encode(model, prompts, starts)
    alone = [encoders.encode(model, [prompt], [start])[0] for prompt, start in zip(prompts, starts, strict=True)]
    assert np.abs(np.array(alone) - together).max() < 5e-6
    model.padding_side = "left"
    assert np.abs(encoders.encode(model, prompts, starts) - together).max() < 5e-6


def test_options_reach_the_model(folder):
    ours = encoders.encode(encoder(folder), TEXTS, [0] * len(TEXTS))
    for changes in ({"pooling": "last-token"}, {"pooling": "cls"}, {"normalize": False}):
        other = encoders.encode(encoder(folder, **changes), TEXTS, [0] * len(TEXTS))
        assert np.abs(other - ours).max() > 1e-3, changes
    near = encoder(folder, dtype="bfloat16")
    assert {parameter.dtype for parameter in near.model.parameters()} == {torch.bfloat16}
    vectors = encoders.encode(near, TEXTS, [0] * len(TEXTS))
    assert (vectors * ours).sum(axis=1).min() > 0.99
    assert np.abs(vectors - ours).max() > 1e-5


def test_the_published_sizes_where_config_json_is_silent():
    from stage_bench.llms.nv_embed import _LATENT_DEFAULTS, LatentAttention

    with torch.device("meta"):
        shapes = {key: tuple(tensor.shape) for key, tensor in LatentAttention(**_LATENT_DEFAULTS).state_dict().items()}
    assert shapes.keys() == {key.removeprefix("latent_attention_model.") for key in LATENT_SHAPES}
    assert shapes["latents"] == (512, 4096)
    assert shapes["cross_attend_blocks.0.fn.to_kv.weight"] == (2 * 8 * 4096, 4096)
    assert shapes["cross_attend_blocks.1.fn.net.0.weight"] == (2 * 4 * 4096, 4096)
    latent = sum(int(np.prod(shape)) for shape in shapes.values())
    assert 7_110_660_096 + latent == SPEC.parameters, "Mistral 7B without its head, and the latent attention"


def drop(key):
    return lambda tensors: tensors.pop(key)


def rename(old, new):
    return lambda tensors: tensors.update({new: tensors.pop(old)})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop("latent_attention_model.latents"), r"1 missing, such as latent_attention_model\.latents"),
        (drop("embedding_model.layers.1.mlp.up_proj.weight"), r"1 missing, such as embedding_model\.layers\.1"),
        (rename("latent_attention_model.latents", "lm_head.weight"), r"1 missing, .*; 1 left over, such as lm_head"),
        (
            lambda tensors: tensors.update({"latent_attention_model.latents": torch.zeros(LATENTS, DIMENSION + 1)}),
            r"1 of another shape, such as latent_attention_model\.latents",
        ),
    ],
)
def test_weights_that_do_not_fit_are_one_error(tmp_path, change, said):
    with pytest.raises(JobError, match=rf"'nv-embed-v2': the weights do not fit the model: .*{said}") as caught:
        encoder(save(tmp_path, change))
    assert "\n" not in str(caught.value)


def test_the_heads_are_those_of_config_json(folder, tmp_path):
    """The tensors are the same whatever the number of heads; what they mean is not."""
    other = save(tmp_path, num_cross_heads=5, cross_dim_head=6)
    apart = [encoders.encode(encoder(place), ["neuron layer"], [0]) for place in (folder, other)]
    assert np.abs(apart[0] - apart[1]).max() > 1e-4


def test_another_models_folder_is_refused(tmp_path):
    path = tiny.save_llama(tmp_path, WORDS)
    with pytest.raises(JobError, match="no text_config and latent_attention_config: not an NV-Embed"):
        encoder(path)

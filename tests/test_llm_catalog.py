"""The registry's embedding models: that their facts are well-formed, agree with each other and with the code."""

import re

import pytest

from stage_bench import registry
from stage_bench.llms.catalog import SPECS
from stage_bench.llms.encoders import _LOADERS
from stage_bench.llms.spec import DTYPES, LOADERS, POOLINGS, LLMSpec

NAMES = [spec.name for spec in SPECS]
LOCAL = [spec for spec in SPECS if spec.loader != "endpoint"]
# What people would choose today, and what the field's papers used.
REQUIRED = {
    "sfr-embedding-mistral",
    "gte-qwen1.5-7b-instruct",
    "llm2vec-llama-3-8b-instruct",
    "e5-mistral-7b-instruct",
    "linq-embed-mistral",
    "qwen3-embedding-0.6b",
    "qwen3-embedding-4b",
    "qwen3-embedding-8b",
    "gte-qwen2-1.5b-instruct",
    "gte-qwen2-7b-instruct",
    "nv-embed-v2",
    "bge-large",
    "bge-m3",
    "e5-large",
    "e5-large-v2",
    "gte-large",
    "all-mpnet-base-v2",
    "all-roberta-large-v1",
    "minilm",
    "deberta-v3-base",
    "specter2",
    "nomic-embed",
    "snowflake-arctic",
    "potion-base-8m",
    "text-embedding-3-small",
    "text-embedding-3-large",
}
MATRYOSHKA = {
    "qwen3-embedding-0.6b",
    "qwen3-embedding-4b",
    "qwen3-embedding-8b",
    "nomic-embed",
    "snowflake-arctic-m-v1.5",
    "snowflake-arctic-l-v2.0",
    "wordllama",
    "text-embedding-3-small",
    "text-embedding-3-large",
}
# stage.md, Embedding models: hub id, revision, parameters, dtype, pooling, normalised, licence
PAPER = {
    "sfr-embedding-mistral": (
        "Salesforce/SFR-Embedding-Mistral",
        "938c560d1c236aa563b2dbdf084f28ab28bccb11",
        7_110_660_096,
        "float16",
        "last-token",
        True,
        "cc-by-nc-4.0",
    ),
    "gte-qwen1.5-7b-instruct": (
        "Alibaba-NLP/gte-Qwen1.5-7B-instruct",
        "07d27e5226328010336563bc1b564a5e3436a298",
        7_098_994_688,
        "float16",
        "last-token",
        True,
        "apache-2.0",
    ),
    "llm2vec-llama-3-8b-instruct": (
        "McGill-NLP/LLM2Vec-Meta-Llama-3-8B-Instruct-mntp-supervised",
        "baa8ebf04a1c2500e61288e7dad65e8ae42601a7",
        7_546_867_712,
        "bfloat16",
        "mean-text",
        False,
        "mit",
    ),
}


def test_no_name_twice_and_all_in_the_registry():
    assert len(set(NAMES)) == len(NAMES)
    assert set(NAMES) >= REQUIRED
    assert all(registry.get("llms", spec.name) == spec for spec in SPECS)


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_three(name):
    spec = registry.get("llms", name)
    facts = (spec.hub_id, spec.revision, spec.parameters, spec.dtype, spec.pooling, spec.normalize, spec.licence)
    assert facts == PAPER[name]
    assert (spec.dimension, spec.max_length) == (4096, 2048)


@pytest.mark.parametrize("spec", SPECS, ids=NAMES)
def test_facts_are_well_formed(spec: LLMSpec):
    assert re.fullmatch(r"[a-z0-9][a-z0-9.-]*", spec.name)
    assert spec.loader in LOADERS
    assert spec.pooling in POOLINGS
    assert spec.dtype in DTYPES
    assert spec.summary
    assert spec.dimension
    assert spec.released == "" or re.fullmatch(r"20(19|2\d)-(0[1-9]|1[0-2])", spec.released)
    for hub_id, revision in ((spec.hub_id, spec.revision), spec.base):
        assert hub_id == "" or re.fullmatch(r"[\w.-]+/[\w.-]+", hub_id)
        assert revision == "" or re.fullmatch(r"[0-9a-f]{40}", revision)
    assert "\n" not in spec.summary + spec.trained_on + spec.licence
    assert not spec.needs, "every model of the list can be used"
    assert not spec.remote_code, "no model of the list needs its repository's code"
    assert not spec.encoder


@pytest.mark.parametrize("spec", SPECS, ids=NAMES)
def test_prompts_have_their_places(spec: LLMSpec):
    for template in (spec.prompt, spec.plain_prompt):
        assert template.count("{text}") == 1
        assert not re.search(r"\{(?!instruction\}|text\})", template)
    assert spec.prompt.count("{instruction}") <= 1
    assert "{instruction}" not in spec.plain_prompt
    if spec.takes_instruction:
        assert spec.prompt.index("{instruction}") < spec.prompt.index("{text}"), (
            "what comes before the text is left out"
        )
        assert spec.prompt.partition("{text}")[2] == spec.plain_prompt.partition("{text}")[2]


@pytest.mark.parametrize("spec", LOCAL, ids=[spec.name for spec in LOCAL])
def test_a_model_that_runs_here(spec: LLMSpec):
    module, _, attribute = _LOADERS[spec.loader].partition(":")
    assert hasattr(__import__(module, fromlist=[attribute]), attribute)
    assert spec.hub_id
    assert spec.licence
    assert spec.max_length
    assert spec.parameters
    assert spec.price is None
    assert 10 * spec.dimension < spec.parameters
    assert bool(spec.base[0]) == (spec.loader == "llm2vec")


@pytest.mark.parametrize("name", ["text-embedding-3-small", "text-embedding-3-large"])
def test_a_model_behind_an_endpoint(name):
    spec = registry.get("llms", name)
    assert (spec.loader, spec.hub_id, spec.parameters, spec.max_length) == ("endpoint", "", None, None)
    assert (spec.dimension, spec.price, spec.released) == (
        {"small": (1536, 0.02), "large": (3072, 0.13)}[name.rpartition("-")[2]] + ("2024-01",)
    )


def test_which_first_dimensions_are_an_embedding():
    assert {spec.name for spec in SPECS if spec.matryoshka} == MATRYOSHKA


@pytest.mark.parametrize("spec", SPECS, ids=NAMES)
def test_training_data_comes_with_its_source(spec: LLMSpec):
    assert spec.trained_on == "" or re.search(r"\((arXiv \d{4}\.\d{5}|model card|Salesforce's blog)", spec.trained_on)


def test_training_data_is_said_where_it_overlaps():
    """Models that saw texts with their labels, or the citation graph: whoever reads a leaderboard has to know."""
    for name in ("sfr-embedding-mistral", "nv-embed-v2"):
        said = registry.get("llms", name).trained_on
        assert "arXiv" in said
        assert "category" in said
    for name in ("minilm", "all-mpnet-base-v2", "all-roberta-large-v1", "specter2", "e5-large", "nomic-embed"):
        assert re.search("citation", registry.get("llms", name).trained_on)


def parameters(spec: LLMSpec) -> int:
    """Counted on the architecture, whose published sizes stand here; no memory is used."""
    import torch
    import transformers as t

    large = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    roberta = {"max_position_embeddings": 514, "type_vocab_size": 1}
    qwen3 = {"vocab_size": 151669 if spec.name.endswith("0.6b") else 151665, "head_dim": 128, "num_key_value_heads": 8}
    made = {
        "bert-large": lambda: t.BertModel(t.BertConfig(**large)),
        "bert-base": lambda: t.BertModel(t.BertConfig()),
        "minilm": lambda: t.BertModel(
            t.BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
        ),
        "scibert": lambda: t.BertModel(t.BertConfig(vocab_size=31090)),
        "xlm-r-long": lambda: t.XLMRobertaModel(
            t.XLMRobertaConfig(vocab_size=250002, **large, **{**roberta, "max_position_embeddings": 8194})
        ),
        "roberta-large": lambda: t.RobertaModel(t.RobertaConfig(vocab_size=50265, **large, **roberta)),
        "mpnet": lambda: t.MPNetModel(t.MPNetConfig(vocab_size=30527, max_position_embeddings=514)),
        "mistral": lambda: t.MistralModel(t.MistralConfig(vocab_size=32000)),
        "qwen1.5-7b": lambda: t.Qwen2Model(t.Qwen2Config(vocab_size=151936, intermediate_size=11008)),
        "qwen2-1.5b": lambda: t.Qwen2Model(
            t.Qwen2Config(
                vocab_size=151646,
                hidden_size=1536,
                intermediate_size=8960,
                num_hidden_layers=28,
                num_attention_heads=12,
                num_key_value_heads=2,
            )
        ),
        "qwen2-7b": lambda: t.Qwen2Model(
            t.Qwen2Config(
                vocab_size=151646,
                hidden_size=3584,
                intermediate_size=18944,
                num_hidden_layers=28,
                num_attention_heads=28,
                num_key_value_heads=4,
            )
        ),
        "qwen3-0.6b": lambda: t.Qwen3Model(
            t.Qwen3Config(
                hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16, **qwen3
            )
        ),
        "qwen3-4b": lambda: t.Qwen3Model(
            t.Qwen3Config(
                hidden_size=2560, intermediate_size=9728, num_hidden_layers=36, num_attention_heads=32, **qwen3
            )
        ),
        "qwen3-8b": lambda: t.Qwen3Model(
            t.Qwen3Config(
                hidden_size=4096, intermediate_size=12288, num_hidden_layers=36, num_attention_heads=32, **qwen3
            )
        ),
    }[ARCHITECTURES[spec.name]]
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in made().parameters())


ARCHITECTURES = {
    "minilm": "minilm",
    "sfr-embedding-mistral": "mistral",
    "e5-mistral-7b-instruct": "mistral",
    "linq-embed-mistral": "mistral",
    "gte-qwen1.5-7b-instruct": "qwen1.5-7b",
    "gte-qwen2-1.5b-instruct": "qwen2-1.5b",
    "gte-qwen2-7b-instruct": "qwen2-7b",
    "qwen3-embedding-0.6b": "qwen3-0.6b",
    "qwen3-embedding-4b": "qwen3-4b",
    "qwen3-embedding-8b": "qwen3-8b",
    "bge-large": "bert-large",
    "e5-large": "bert-large",
    "e5-large-v2": "bert-large",
    "gte-large": "bert-large",
    "snowflake-arctic": "bert-large",
    "snowflake-arctic-m-v1.5": "bert-base",
    "bge-m3": "xlm-r-long",
    "snowflake-arctic-l-v2.0": "xlm-r-long",
    "all-mpnet-base-v2": "mpnet",
    "all-roberta-large-v1": "roberta-large",
    "specter2": "scibert",
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_number_of_parameters_is_the_architectures(name):
    spec = registry.get("llms", name)
    assert parameters(spec) == spec.parameters

"""The exact bytes that a model receives, for every model of the registry and the published instructions."""

import pytest

from stage_bench import registry
from stage_bench.errors import StageBenchError
from stage_bench.llms import encoding
from stage_bench.llms.catalog import SPECS
from stage_bench.llms.prompts import VARIANTS, instruction_text, render
from stage_bench.llms.spec import LLMSpec
from tiny import choice, text_graph

# To the letter, as the published experiments used them: inputs to reproduce.
PAPERS = "Identify the main and secondary category of Arxiv papers based on the titles and abstracts"
PAPERS_AWARE = (
    PAPERS + ". Your predictions will be used in a downstream graph-based prediction that for each paper can learn "
    "from your predictions of neighboring papers in a graph as well as the predictions for the paper in question. "
    "Papers in the graph are connected if one cites the other."
)
PRODUCTS = "Identify the main and secondary category of this product based on the titles and description"
PRODUCTS_AWARE = (
    PRODUCTS + ". Your predictions will be used in a downstream graph-based prediction that for each product can "
    "learn from your predictions of neighboring products in a graph as well as the predictions for the product in "
    "question. Products in the graph are connected if they are purchased together."
)
SENTENCES = {
    ("cora", "default"): PAPERS,
    ("cora", "graph-aware"): PAPERS_AWARE,
    ("ogbn-products-subset", "default"): PRODUCTS,
    ("ogbn-products-subset", "graph-aware"): PRODUCTS_AWARE,
}
TEXT = "Title: Learning to learn\nAbstract: We {learn} to learn."
AWKWARD = [
    "{instruction}",
    "{text}",
    "{}",
    "{0}",
    "a {b} \\1 \\g<0> %s",
    "{{text}}",
    "",
    " \n",
    "Query: {text}",
    "</s>",
]

# What stands before the text with an instruction (None: the model takes none) and without one, and after it.
INSTRUCT = ("Instruct: {}\nQuery: ", "", "")
QWEN3 = ("Instruct: {}\nQuery:", "", "")
LLAMA3 = (
    "<|start_header_id|>user<|end_header_id|>\n\n{} ",
    "<|start_header_id|>user<|end_header_id|>\n\n",
    "<|eot_id|>",
)
BARE = (None, "", "")
FRAMES = {
    "sfr-embedding-mistral": INSTRUCT,
    "gte-qwen1.5-7b-instruct": INSTRUCT,
    "llm2vec-llama-3-8b-instruct": LLAMA3,
    "e5-mistral-7b-instruct": INSTRUCT,
    "linq-embed-mistral": INSTRUCT,
    "qwen3-embedding-0.6b": QWEN3,
    "qwen3-embedding-4b": QWEN3,
    "qwen3-embedding-8b": QWEN3,
    "gte-qwen2-1.5b-instruct": INSTRUCT,
    "gte-qwen2-7b-instruct": INSTRUCT,
    "nv-embed-v2": INSTRUCT,
    "minilm": BARE,
    "bge-large": BARE,
    "bge-m3": BARE,
    "e5-large": (None, "query: ", ""),
    "e5-large-v2": (None, "query: ", ""),
    "gte-large": BARE,
    "all-mpnet-base-v2": BARE,
    "all-roberta-large-v1": BARE,
    "deberta-base": BARE,
    "deberta-v3-base": BARE,
    "specter2": BARE,
    "nomic-embed": (None, "classification: ", ""),
    "snowflake-arctic": BARE,
    "snowflake-arctic-m-v1.5": BARE,
    "snowflake-arctic-l-v2.0": BARE,
    "potion-base-8m": BARE,
    "wordllama": BARE,
    "smollm2-135m-instruct-q4": INSTRUCT,
    "gemma-3-270m-q4": INSTRUCT,
    "text-embedding-3-small": BARE,
    "text-embedding-3-large": BARE,
}
TAKE_INSTRUCTIONS = [name for name, frame in FRAMES.items() if frame[0] is not None]


def prompt(llm: str, dataset: str, instruction: str, text: str = TEXT) -> tuple[str, int]:
    variants = registry.get("datasets", dataset).instructions
    return render(registry.get("llms", llm), instruction_text(instruction, dataset, variants), text)


# --- the sentences ---


@pytest.mark.parametrize("dataset", ["cora", "pubmed", "ogbn-arxiv", "tape-arxiv23"])
def test_the_published_instructions_for_papers(dataset):
    variants = registry.get("datasets", dataset).instructions
    assert instruction_text("default", dataset, variants) == PAPERS
    assert instruction_text("graph-aware", dataset, variants) == PAPERS_AWARE


@pytest.mark.parametrize("dataset", ["ogbn-products", "ogbn-products-subset"])
def test_the_published_instructions_for_products(dataset):
    variants = registry.get("datasets", dataset).instructions
    assert instruction_text("default", dataset, variants) == PRODUCTS
    assert instruction_text("graph-aware", dataset, variants) == PRODUCTS_AWARE


@pytest.mark.parametrize("dataset", sorted(registry.specs("datasets")))
def test_every_dataset_has_a_sentence_of_its_own(dataset):
    variants = registry.get("datasets", dataset).instructions
    own = instruction_text("dataset", dataset, variants)
    assert own not in (None, "", instruction_text("default", dataset, variants))
    assert "None" not in own


def test_an_instruction_of_ones_own_is_itself():
    assert instruction_text("Find the topic", "cora", {}) == "Find the topic"
    assert instruction_text("none", "cora", {"none": "a trap"}) is None


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_that_the_dataset_lacks_is_an_error(variant):
    with pytest.raises(StageBenchError, match=f"'mine' has no instruction '{variant}'"):
        instruction_text(variant, "mine", {})


# --- the paper's three, as a table ---

PAPER = "Title: Graphs\nAbstract: We draw them."
PRODUCT = "Title:\nA pen\nContent:\n It writes."
TABLE = [
    ("sfr-embedding-mistral", "cora", "default", PAPER, f"Instruct: {PAPERS}\nQuery: {PAPER}"),
    ("sfr-embedding-mistral", "cora", "graph-aware", PAPER, f"Instruct: {PAPERS_AWARE}\nQuery: {PAPER}"),
    ("sfr-embedding-mistral", "cora", "none", PAPER, PAPER),
    ("sfr-embedding-mistral", "ogbn-products-subset", "default", PRODUCT, f"Instruct: {PRODUCTS}\nQuery: {PRODUCT}"),
    (
        "sfr-embedding-mistral",
        "ogbn-products-subset",
        "graph-aware",
        PRODUCT,
        f"Instruct: {PRODUCTS_AWARE}\nQuery: {PRODUCT}",
    ),
    ("sfr-embedding-mistral", "ogbn-products-subset", "none", PRODUCT, PRODUCT),
    ("gte-qwen1.5-7b-instruct", "cora", "default", PAPER, f"Instruct: {PAPERS}\nQuery: {PAPER}"),
    ("gte-qwen1.5-7b-instruct", "cora", "graph-aware", PAPER, f"Instruct: {PAPERS_AWARE}\nQuery: {PAPER}"),
    ("gte-qwen1.5-7b-instruct", "cora", "none", PAPER, PAPER),
    ("gte-qwen1.5-7b-instruct", "ogbn-products-subset", "default", PRODUCT, f"Instruct: {PRODUCTS}\nQuery: {PRODUCT}"),
    (
        "gte-qwen1.5-7b-instruct",
        "ogbn-products-subset",
        "graph-aware",
        PRODUCT,
        f"Instruct: {PRODUCTS_AWARE}\nQuery: {PRODUCT}",
    ),
    ("gte-qwen1.5-7b-instruct", "ogbn-products-subset", "none", PRODUCT, PRODUCT),
    (
        "llm2vec-llama-3-8b-instruct",
        "cora",
        "default",
        PAPER,
        f"<|start_header_id|>user<|end_header_id|>\n\n{PAPERS} {PAPER}<|eot_id|>",
    ),
    (
        "llm2vec-llama-3-8b-instruct",
        "cora",
        "graph-aware",
        PAPER,
        f"<|start_header_id|>user<|end_header_id|>\n\n{PAPERS_AWARE} {PAPER}<|eot_id|>",
    ),
    (
        "llm2vec-llama-3-8b-instruct",
        "cora",
        "none",
        PAPER,
        f"<|start_header_id|>user<|end_header_id|>\n\n{PAPER}<|eot_id|>",
    ),
    (
        "llm2vec-llama-3-8b-instruct",
        "ogbn-products-subset",
        "default",
        PRODUCT,
        f"<|start_header_id|>user<|end_header_id|>\n\n{PRODUCTS} {PRODUCT}<|eot_id|>",
    ),
    (
        "llm2vec-llama-3-8b-instruct",
        "ogbn-products-subset",
        "graph-aware",
        PRODUCT,
        f"<|start_header_id|>user<|end_header_id|>\n\n{PRODUCTS_AWARE} {PRODUCT}<|eot_id|>",
    ),
    (
        "llm2vec-llama-3-8b-instruct",
        "ogbn-products-subset",
        "none",
        PRODUCT,
        f"<|start_header_id|>user<|end_header_id|>\n\n{PRODUCT}<|eot_id|>",
    ),
]


@pytest.mark.parametrize(("llm", "dataset", "instruction", "text", "sent"), TABLE)
def test_the_papers_three_models(llm, dataset, instruction, text, sent):
    assert prompt(llm, dataset, instruction, text) == (sent, sent.index(text))


# --- every model ---


def test_every_model_is_in_the_table():
    assert set(FRAMES) == {spec.name for spec in SPECS}
    assert {spec.name for spec in SPECS if spec.takes_instruction} == set(TAKE_INSTRUCTIONS)


@pytest.mark.parametrize("llm", FRAMES)
def test_without_an_instruction(llm):
    _, before, after = FRAMES[llm]
    for text in (TEXT, *AWKWARD):
        made, start = prompt(llm, "cora", "none", text)
        assert (made, start) == (before + text + after, len(before))
        assert made[start : len(made) - len(after)] == text


@pytest.mark.parametrize("llm", TAKE_INSTRUCTIONS)
@pytest.mark.parametrize(("dataset", "variant"), SENTENCES)
def test_with_a_published_instruction(llm, dataset, variant):
    frame, _, after = FRAMES[llm]
    before = frame.format(SENTENCES[dataset, variant])
    for text in (TEXT, *AWKWARD):
        assert prompt(llm, dataset, variant, text) == (before + text + after, len(before))


@pytest.mark.parametrize("llm", TAKE_INSTRUCTIONS)
def test_with_a_datasets_own_instruction(llm):
    frame, _, after = FRAMES[llm]
    for dataset in registry.specs("datasets"):
        before = frame.format(registry.get("datasets", dataset).instructions["dataset"])
        assert prompt(llm, dataset, "dataset") == (before + TEXT + after, len(before)), dataset


@pytest.mark.parametrize("llm", TAKE_INSTRUCTIONS)
@pytest.mark.parametrize("sentence", ["Sort {text} into {classes}, \\1, {instruction}", "None", "{text}", "{}"])
def test_an_instruction_of_ones_own_is_literal(llm, sentence):
    frame, _, after = FRAMES[llm]
    before = frame.replace("{}", sentence)
    assert prompt(llm, "cora", sentence) == (before + TEXT + after, len(before))


@pytest.mark.parametrize("llm", TAKE_INSTRUCTIONS)
def test_no_instruction_sends_nothing_of_the_instructions_frame(llm):
    """Not "Instruct: None", not an empty "Instruct: ", not the sentence of another variant."""
    made, _ = prompt(llm, "cora", "none")
    assert "Instruct" not in made
    assert "None" not in made
    assert not any(sentence in made for sentence in SENTENCES.values())


def test_what_follows_the_text_stays():
    spec = LLMSpec(name="mine", prompt="<{instruction}> {text} </s>", plain_prompt="[{text}]")
    assert render(spec, "do", "it") == ("<do> it </s>", 5)
    assert render(spec, "", "it") == ("<> it </s>", 3)
    assert render(spec, None, "it") == ("[it]", 1)


def test_a_prefix_stays_where_the_model_takes_no_instruction():
    spec = LLMSpec(name="mine", prompt="query: {text}")
    assert render(spec, None, "it") == ("query: it", 7)


def test_the_instruction_is_part_of_the_embeddings_identity():
    spec = registry.get("llms", "sfr-embedding-mistral")
    graph = text_graph(6, instructions=registry.get("datasets", "cora").instructions)
    contents = {
        instruction: encoding.identity(graph, choice(spec, instruction=instruction))
        for instruction in ("none", "default", "graph-aware", "dataset", "my own")
    }
    assert contents["none"]["instruction"] is None
    assert contents["graph-aware"]["instruction"] == PAPERS_AWARE
    assert len({str(content) for content in contents.values()}) == len(contents)
    assert contents["default"] == encoding.identity(graph, choice(spec, instruction=PAPERS)), "the sentence counts"

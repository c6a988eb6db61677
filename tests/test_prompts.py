"""The exact bytes that a model receives, for the registry's models and the published instructions."""

import pytest

from stage_bench import registry
from stage_bench.errors import StageBenchError
from stage_bench.llms import encoding
from stage_bench.llms.prompts import VARIANTS, instruction_text, render
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
TEXT = "Title: Learning to learn\nAbstract: We {learn} to learn."

MISTRALS = ("sfr-embedding-mistral", "gte-qwen1.5-7b-instruct", "e5-mistral-7b-instruct", "linq-embed-mistral")
ALL_LLMS = sorted(registry.specs("llms"))
TAKE_INSTRUCTIONS = [name for name in ALL_LLMS if registry.get("llms", name).takes_instruction]


def prompt(llm: str, dataset: str, instruction: str, text: str = TEXT) -> tuple[str, int]:
    variants = registry.get("datasets", dataset).instructions
    return render(registry.get("llms", llm).prompt, instruction_text(instruction, dataset, variants), text)


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


@pytest.mark.parametrize("llm", MISTRALS)
@pytest.mark.parametrize(("instruction", "sentence"), [("default", PAPERS), ("graph-aware", PAPERS_AWARE)])
def test_instruct_and_query(llm, instruction, sentence):
    before = f"Instruct: {sentence}\nQuery: "
    assert prompt(llm, "cora", instruction) == (before + TEXT, len(before))


def test_qwen3_has_no_space_after_query():
    before = f"Instruct: {PAPERS}\nQuery:"
    assert prompt("qwen3-embedding-0.6b", "cora", "default") == (before + TEXT, len(before))


def test_llm2vec_is_a_pair():
    assert prompt("llm2vec-llama-3-8b-instruct", "cora", "graph-aware") == (PAPERS_AWARE + TEXT, len(PAPERS_AWARE))


@pytest.mark.parametrize("llm", ["e5-large", "e5-large-v2"])
def test_e5_marks_every_text_as_a_query(llm):
    assert not registry.get("llms", llm).takes_instruction
    assert prompt(llm, "cora", "none") == ("query: " + TEXT, 7)


@pytest.mark.parametrize("llm", TAKE_INSTRUCTIONS)
def test_no_instruction_is_the_text_alone(llm):
    assert prompt(llm, "cora", "none") == (TEXT, 0)
    assert prompt(llm, "cora", "none", text="") == ("", 0)


@pytest.mark.parametrize("llm", ALL_LLMS)
@pytest.mark.parametrize("instruction", ["none", *VARIANTS])
def test_every_model_receives_the_text_where_it_says(llm, instruction):
    if instruction != "none" and llm not in TAKE_INSTRUCTIONS:
        instruction = "none"
    made, start = prompt(llm, "cora", instruction)
    assert made[start:] == TEXT
    assert "None" not in made
    assert "{instruction}" not in made
    assert "{text}" not in made


@pytest.mark.parametrize(
    "text", ["{instruction}", "{text}", "{}", "{0}", "a {b} \\1 \\g<0> %s", "{{text}}", "", "Query: {text}"]
)
def test_braces_in_a_text_are_literal(text):
    before = f"Instruct: {PAPERS}\nQuery: "
    assert prompt("sfr-embedding-mistral", "cora", "default", text) == (before + text, len(before))


def test_braces_in_an_instruction_are_literal():
    sentence = "Sort {text} into {classes}, \\1, {instruction}"
    made = render("Instruct: {instruction}\nQuery: {text}", sentence, "body")
    assert made == (f"Instruct: {sentence}\nQuery: body", len(sentence) + 18)


def test_what_follows_the_text_stays():
    assert render("<{instruction}> {text} </s>", "do", "it") == ("<do> it </s>", 5)


def test_an_instruction_of_ones_own_is_itself():
    assert instruction_text("Find the topic", "cora", {}) == "Find the topic"
    assert instruction_text("none", "cora", {"none": "a trap"}) is None


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_that_the_dataset_lacks_is_an_error(variant):
    with pytest.raises(StageBenchError, match=f"'mine' has no instruction '{variant}'"):
        instruction_text(variant, "mine", {})


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

"""What a suite says under `answers:`: what it means, what it may not say, and what is asked then."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from stage_bench import fingerprint, located_yaml
from stage_bench.answers import choice as choices
from stage_bench.answers import prompts
from stage_bench.answers.choice import AnswersChoice, AnswersEntry
from stage_bench.datasets.upstream.categories import ARXIV
from stage_bench.errors import StageBenchError
from stage_bench.suite.reading import validate
from tiny import save_llama, text_graph

CORA = [
    *("Case_Based", "Genetic_Algorithms", "Neural_Networks", "Probabilistic_Methods"),
    *("Reinforcement_Learning", "Rule_Learning", "Theory"),
]
PUBMED = ["Diabetes Mellitus, Experimental", "Diabetes Mellitus Type 1", "Diabetes Mellitus Type 2"]


def choose(place: Path, answers: str) -> AnswersChoice:
    """As the suite reads `answers:`, in a suite that lies in that folder."""
    document = located_yaml.parse(f"name: x\nanswers: {answers}\n", place / "suite.yaml")
    entry = validate(AnswersEntry, document.value["answers"], document, ["answers"])
    return choices.choose(entry, document, ["answers"])


def refusal(place: Path, answers: str) -> str:
    with pytest.raises(StageBenchError) as caught:
        choose(place, answers)
    message = str(caught.value)
    assert message.startswith(f"{place / 'suite.yaml'}:2:")
    return message.partition(": ")[2]


# --- prompts, to the letter ---


def test_the_prompt_for_cora_is_tapes():
    asked = prompts.question("any name", CORA).about("Title: T\nAbstract: A")
    assert asked == (
        "Title: T\nAbstract: A \n Question: Which of the following sub-categories of AI does this paper belong to: "
        "Case Based, Genetic Algorithms, Neural Networks, Probabilistic Methods, Reinforcement Learning, Rule "
        "Learning, Theory? If multiple options apply, provide a comma-separated list ordered from most to least "
        "related, then for each choice you gave, explain how it is present in the text. \n \n Answer:"
    )


def test_the_prompt_for_pubmed_is_tapes():
    assert prompts.question("pubmed", PUBMED).about("X") == (
        "X \n Question: Does the paper involve any cases of Type 1 diabetes, Type 2 diabetes, or Experimentally "
        "induced diabetes? Please give one or more answers of either Type 1 diabetes, Type 2 diabetes, or "
        "Experimentally induced diabetes; if multiple options apply, provide a comma-separated list ordered from most "
        "to least related, then for each choice you gave, give a detailed explanation with quotes from the text "
        "explaining why it is related to the chosen option. \n \n Answer:"
    )


@pytest.mark.parametrize("names", [ARXIV, [f"arxiv cs {name[3:].lower()}" for name in ARXIV], ARXIV[1:]])
def test_the_prompt_for_arxiv_is_tapes(names):
    assert prompts.question("ogbn-arxiv", names).about("X") == (
        "X \n Question: Which arXiv CS subcategory does this paper belong to? Give 5 likely arXiv CS sub-categories as "
        "a comma-separated list ordered from most to least likely, in the form “cs.XX”, and provide your reasoning. "
        "\n \n Answer:"
    )


def test_any_other_dataset_has_the_general_prompt():
    asked = prompts.question("mine", ["red", "D&#233;cor", "blue"]).about("a {text} with {classes}")
    assert asked.startswith(
        "a {text} with {classes}\n\nWhich of these classes does the text above belong to?\n- red\n- Décor\n- blue\n\n"
        "Name up to 3 of them, the most likely first. Write each on a line of its own that begins with `Class:`"
    )
    assert "up to 2 of them" in prompts.question("mine", ["red", "green", "blue"], top=2).template
    assert "up to 5 of them" in prompts.question("mine", list("abcdefgh")).template


def test_a_prompt_of_ones_own():
    question = prompts.question("x", ["a, b", "c"], "Of {classes} name {top}: {text} {other} {text}", top=1)
    assert question.about("T {top}") == "Of a, b; c name 1: T {top} {other} T {top}"
    assert prompts.question("x", ["a", "c"], "{text}? {classes}").about("T") == "T? a, c"


def test_classes_without_names_cannot_be_asked_for():
    with pytest.raises(StageBenchError, match="dataset 'x': its classes are called 0, 1, 2 and so on"):
        prompts.question("x", ["0", "1", "2"])
    with pytest.raises(StageBenchError, match="has no classes"):
        prompts.question("x", [])


def test_a_number_of_classes_that_nothing_asks_for():
    with pytest.raises(StageBenchError, match="top: 3, but TAPE's prompt, which fits the classes of 'cora'"):
        prompts.question("cora", CORA, top=3)


# --- entries ---


def test_nothing_is_the_datasets_own(tmp_path):
    chosen = choose(tmp_path, "{}")
    assert (chosen.kind, chosen.folder, chosen.label) == ("upstream", None, "upstream")


def test_a_folder_is_relative_to_the_suite(tmp_path):
    (tmp_path / "gpt" / "cora").mkdir(parents=True)
    chosen = choose(tmp_path, "{upstream: gpt/cora}")
    assert (chosen.kind, chosen.folder, chosen.label) == ("upstream", tmp_path / "gpt" / "cora", "cora")


def test_every_option_of_an_endpoint_reaches_the_choice(tmp_path):
    chosen = choose(
        tmp_path,
        "{endpoint: 'https://h/v1/', model: org/m, prompt: 'Is {text} of {classes}, {top}?', top: 2, temperature: 0.5, "
        "max_tokens: 9, most_tokens: 100, most_dollars: 1.5, price_prompt: 1, price_completion: 2}",
    )
    own = fingerprint.of_json("Is {text} of {classes}, {top}?")[:6]  # of two prompts of one's own, which it is
    assert chosen == AnswersChoice(
        label=f"org/m(temperature=0.5,max_tokens=9,top=2,prompt={own})",
        kind="endpoint",
        url="https://h/v1",
        model="org/m",
        prompt="Is {text} of {classes}, {top}?",
        top=2,
        temperature=0.5,
        max_tokens=9,
        most_tokens=100,
        most_dollars=1.5,
        price_prompt=1,
        price_completion=2,
    )
    assert choose(tmp_path, "{endpoint: true, model: m, prompt: dataset}").prompt is None
    assert choose(tmp_path, "{endpoint: true, model: m}").url == ""


def test_every_option_of_a_local_model_reaches_the_choice(tmp_path):
    (tmp_path / "weights").mkdir()
    chosen = choose(tmp_path, "{local: weights, dtype: bfloat16, trust_remote_code: true}")
    assert (chosen.kind, chosen.folder, chosen.dtype) == ("local", tmp_path / "weights", "bfloat16")
    assert chosen.trust_remote_code
    assert chosen.label == "weights(dtype=bfloat16)"
    hub = choose(tmp_path, "{local: Org/Chat-1B@abc123}")
    assert (hub.folder, hub.model, hub.revision, hub.label) == (
        None,
        "Org/Chat-1B",
        "abc123",
        "Chat-1B(revision=abc123)",
    )


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ("{upstream: gone}", "there is no folder 'gone'"),
        ("{upstream: x, local: y}", "upstream and local: choose one"),
        ("{endpoint: true}", "an endpoint needs model: NAME"),
        ("{model: m}", "model: has no effect on answers that are there already"),
        ("{temperature: 1}", "temperature: has no effect on answers that are there already"),
        ("{temperature: 0}", "temperature: has no effect on answers that are there already"),
        ("{top: 2}", "top: has no effect on answers that are there already"),
        ("{endpoint: true, model: m, dtype: float32}", "dtype: has no effect on a model that a server runs"),
        ("{local: a/b, model: m}", "model: has no effect on a model that runs here"),
        ("{local: a/b, most_tokens: 5}", "most_tokens: has no effect on a model that runs here"),
        ("{local: ./gone}", "'./gone' is neither a folder nor a hub id"),
        ("{local: gone}", "'gone' is neither a folder nor a hub id"),
        ("{endpoint: host/v1, model: m}", "'host/v1' is no base URL"),
        ("{endpoint: 'http://me:hunter2@host/v1', model: m}", "an address with a name or password in it"),
        ("{endpoint: true, model: m, prompt: dataste}", "unknown prompt 'dataste'; did you mean 'dataset'?"),
        ("{endpoint: true, model: m, prompt: what is it}", "a prompt without {text}"),
        (
            "{endpoint: true, model: m, prompt: 'what is {text}', top: 2}",
            "top: has no effect on a prompt without {top}",
        ),
        ("{endpoint: true, model: m, most_dollars: 1}", "most_dollars needs price_prompt and price_completion"),
        ("{endpoint: true, model: m, price_prompt: 1}", "price_prompt and price_completion go together"),
        ("{endpoint: true, model: m, temperature: 3}", "temperature: "),
        ("{endpoint: true, model: m, most_tokens: 0}", "most_tokens: "),
        ("{endpoint: true, modle: m}", "unknown key 'modle'; did you mean 'model'?"),
    ],
)
def test_what_a_suite_may_not_say(tmp_path, answers, says):
    message = refusal(tmp_path, answers)
    assert says in message
    assert "hunter2" not in message


# --- identity ---


def test_what_counts_in_an_identity_and_what_does_not():
    graph = text_graph(6)
    chosen = AnswersChoice(label="m", kind="endpoint", model="m", url="http://a/v1")
    identity = choices.identity(graph, chosen)

    def changed(**fields: object) -> bool:
        return choices.identity(graph, dataclasses.replace(chosen, **fields)) != identity

    assert changed(model="n")
    assert changed(temperature=0.5)
    assert changed(max_tokens=9)
    assert changed(prompt="Is {text} so?")
    assert changed(top=2)
    assert not changed(url="http://b/v1")
    assert not changed(label="x", most_tokens=5, most_dollars=1.0, price_prompt=1.0, price_completion=1.0)
    assert "http" not in str(identity)
    unlabelled = dataclasses.replace(graph, labels=np.full_like(graph.labels, -1))
    assert choices.identity(unlabelled, chosen) == identity, "labels have no part in what is asked"
    other = dataclasses.replace(graph, texts=["x", *graph.texts[1:]])
    assert choices.identity(other, chosen) != identity


def test_a_local_models_content_is_its_identity(tmp_path):
    graph = text_graph(6)
    for name in "ab":
        save_llama(tmp_path / name, ["one", "two"])
    identities = [
        choices.identity(graph, AnswersChoice(label=name, kind="local", model=name, folder=tmp_path / name))
        for name in "ab"
    ]
    assert identities[0] == identities[1]
    assert str(tmp_path) not in str(identities[0])
    (tmp_path / "b" / "chat_template.jinja").write_text("{{ messages[0].content }}")
    assert choices.identity(graph, AnswersChoice(label="b", kind="local", folder=tmp_path / "b")) != identities[0]


def test_no_texts_no_questions():
    graph = text_graph(6, texts=None)
    with pytest.raises(StageBenchError, match="dataset 'tiny' has no texts, which a chat model could be asked about"):
        choices.identity(graph, AnswersChoice(label="m", kind="endpoint", model="m"))


def test_importing_it_imports_nothing_heavy():
    code = (
        "import sys, stage_bench.answers.choice as c; "
        "assert not {'torch', 'transformers', 'requests'} & set(sys.modules), sorted(sys.modules)"
    )
    assert os.spawnlp(os.P_WAIT, "python", "python", "-c", code) == 0
